"""A hostile notebook in a whole run, by papermill in the sealed image: what comes out, and what is outside after it."""

import json
from pathlib import Path

import nbformat
import pytest
from sealed_bench import working_seal

from kaggle_kit.evaluation.run_files import parameters_of
from kaggle_kit.runtime.record import EXECUTED, LOG
from kaggle_kit.sandbox.execute import Execution, execute, failed_cell, run_pushed
from kaggle_kit.sandbox.image import Image, ready_image
from kaggle_kit.sandbox.kaggle_layout import kaggle_sandbox
from kaggle_kit.sandbox.seal import Seal
from kaggle_kit.sandbox.watch import SpaceWatch

pytestmark = pytest.mark.end_to_end
PLACES = ["/kaggle/out/executed.ipynb", "/kit/out/executed.ipynb", "submission.csv", "log.txt", "report.json"]


@pytest.fixture(scope="module")
def image() -> Image:
    return ready_image(progress=lambda _: None)


def notebook_of(*sources: str) -> bytes:
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})).encode()


def linking(secret: Path) -> str:
    """A cell that puts a link to `secret` at every place that the host has ever read or written."""
    return f"""
import contextlib, os
for place in {PLACES}:
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place)
        os.symlink({str(secret)!r}, place)
print("links are there")
"""


def run_given(given: Path, image: Image, seal: Seal, scratch: Path, results: Path) -> Execution:
    """Run a notebook without inputs."""
    sandbox = kaggle_sandbox(given, inputs=(), image=image, scratch=scratch, working_bytes=20 << 20)
    return execute(
        seal,
        sandbox,
        python=image.python,
        results=results,
        log=results / LOG,
        limit_seconds=120,
        show=lambda _: None,
        space=SpaceWatch(scratch),
    )


@pytest.mark.parametrize("seal_name", ["bwrap", "unshare"])
def test_links_everywhere_reach_no_file_outside(image: Image, seal_name: str, tmp_path: Path) -> None:
    """Nothing outside is written, nothing from outside lands in the results, and kit's own files are its own."""
    seal = working_seal(seal_name)
    secret = tmp_path / "token"
    secret.write_text("a made-up token")
    scratch, results = tmp_path / "scratch", tmp_path / "results"
    scratch.mkdir()
    results.mkdir()
    given = scratch / "given.ipynb"
    given.write_bytes(notebook_of("open('kit-run.json', 'w').write('[' * 200_000)", linking(secret)))
    execution = run_given(given, image, seal, scratch, results)
    assert secret.read_text() == "a made-up token"
    assert not any(path.is_symlink() for path in results.rglob("*"))
    assert {path.name for path in results.iterdir()} <= {LOG, EXECUTED, "kit-run.json"}
    assert not any("made-up token" in path.read_text() for path in results.iterdir())
    assert "links are there" in (results / LOG).read_text()
    assert execution.exit_code != 0 or execution.failed, "an executed notebook that is a link is a failure"


@pytest.mark.parametrize("seal_name", ["bwrap", "unshare"])
def test_a_pushed_notebook_reaches_no_file_outside(seal_name: str, tmp_path: Path) -> None:
    """What the loopback Kaggle keeps of a run as its output holds no file of this machine."""
    seal = working_seal(seal_name)
    secret = tmp_path / "token"
    secret.write_text("a made-up token")
    said: list[str] = []
    run_pushed(
        notebook_of("open('kept.csv', 'w').write('id')", linking(secret)),
        sources=(),
        out=tmp_path / "out",
        working_bytes=20 << 20,
        limit_seconds=120,
        seal=seal,
        say=said.append,
    )
    assert secret.read_text() == "a made-up token"
    assert (tmp_path / "out/kept.csv").read_text() == "id"
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_symlink()
        assert "made-up token" not in path.read_text()


def test_an_executed_notebook_of_another_shape_is_read_as_far_as_it_goes(image: Image, tmp_path: Path) -> None:
    """A notebook that writes over its own file chooses what is in it, and the readers bear it."""
    seal = working_seal("bwrap")
    results, scratch = tmp_path / "results", tmp_path / "scratch"
    scratch.mkdir()
    results.mkdir()
    body = json.dumps({"cells": [5, {"metadata": [], "outputs": {"a": 1}}, {"metadata": {"tags": [{}]}, "source": 7}]})
    # Papermill would write its own file after the cell: it is ended first.
    cell = f"""
import os, signal
open("/kit/out/executed.ipynb", "w").write({body!r})
os.kill(os.getppid(), signal.SIGKILL)
"""
    given = scratch / "given.ipynb"
    given.write_bytes(notebook_of(cell))
    execution = run_given(given, image, seal, scratch, results)
    assert execution.exit_code != 0
    assert failed_cell(results / EXECUTED) is None
    assert parameters_of(results / EXECUTED) == {}
