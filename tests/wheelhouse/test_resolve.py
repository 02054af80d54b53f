"""From a target to a lock by a real uv, against a real index; the choice among wheels; overlays."""

import dataclasses
from pathlib import Path

import pytest
from fake_index import Index, make_wheel
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

from kaggle_kit.errors import UsageError, WheelhouseError
from kaggle_kit.targets import Target, load_target
from kaggle_kit.wheelhouse.index import (
    certificates,
    locate,
    pip_find_links,
    pip_index_url,
    torch_sources,
    uv_environment,
)
from kaggle_kit.wheelhouse.lock import Lock, Preinstalled, dump_lock, read_lock
from kaggle_kit.wheelhouse.resolve import _moment, best_wheel, replaced, resolve, target_tags, this_host


def _cpu_torch(target: Target) -> Target:
    return target.model_copy(update={"engine": "torch==2.0+cpu", "extras": (), "torch_backend": "cpu"})


def _put(folder: Path, file: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(make_wheel(file))
    return folder


def test_lock_holds_one_wheel_a_package(lock: Lock) -> None:
    """Of each package the best wheel for the target is locked, and only that one."""
    assert [wheel.file for wheel in lock.wheels] == [
        "binary-2.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "child-0.1-py3-none-any.whl",
        "engine-1.0-py3-none-any.whl",
        "helper-1.5-py3-none-any.whl",
    ]


def test_excluded_package_is_left_out(lock: Lock) -> None:
    """An excluded package is not in the lock, though the engine asks for it."""
    assert "unwanted" not in {wheel.name for wheel in lock.wheels}


def test_sizes_are_found(lock: Lock, stocked: Index) -> None:
    """Sizes are those of the files, also where the index does not list them."""
    assert {wheel.file: wheel.size for wheel in lock.wheels} == {
        wheel.file: len(stocked.files[wheel.file]) for wheel in lock.wheels
    }


def test_other_python(stocked: Index, target: Target) -> None:
    """The same target resolves for another Python than its own and than the running one."""
    lock = resolve(target, python="3.12").lock
    assert stocked.port
    assert lock.python == "3.12"
    assert "binary-2.0-cp312-cp312-manylinux_2_28_x86_64.whl" in {wheel.file for wheel in lock.wheels}


def test_unknown_engine(stocked: Index, target: Target) -> None:
    """A requirement that nothing satisfies is an error with uv's own reason."""
    assert stocked.port
    with pytest.raises(WheelhouseError, match=r"uv cannot resolve engine==7.*Python 3\.11[\s\S]*engine"):
        resolve(target.model_copy(update={"engine": "engine==7"}))


def test_sdist_only(index: Index, target: Target) -> None:
    """A package that exists only as source is an error: nothing can be built offline."""
    index.files["engine-1.0.tar.gz"] = b"not opened"
    with pytest.raises(WheelhouseError, match="no usable wheels"):
        resolve(target.model_copy(update={"extras": ()}))


def test_index_down(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that cannot be reached is an error, not a traceback."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(WheelhouseError, match="uv cannot resolve"):
        resolve(target)


def test_locate_finds_all(lock: Lock, stocked: Index) -> None:
    """The addresses of a lock's files are found again from the lock alone."""
    assert locate(lock.wheels, lock) == {wheel.file: stocked.url(wheel.file) for wheel in lock.wheels}


def test_locate_refuses_another_hash(lock: Lock) -> None:
    """A file that the index offers with another hash is not taken, and the error shows both."""
    other = dataclasses.replace(lock.wheels[1], sha256="0" * 64)
    with pytest.raises(WheelhouseError, match=rf"child-0\.1.*SHA-256 {lock.wheels[1].sha256}.*wants 0000"):
        locate([other], lock)


def test_locate_names_what_is_gone(lock: Lock, stocked: Index) -> None:
    """A file that left the index is named."""
    del stocked.files["child-0.1-py3-none-any.whl"]
    with pytest.raises(WheelhouseError, match=r"child-0\.1-py3-none-any\.whl cannot be had"):
        locate(lock.wheels[1:2], lock)


def test_torch_from_pips_folder(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU build of torch is found in the folder that pip is configured to look in."""
    folder = _put(tmp_path / "links", "torch-2.0+cpu-py3-none-any.whl")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    made = resolve(_cpu_torch(target))
    wheel = made.lock.wheels[0]
    assert wheel.file == "torch-2.0+cpu-py3-none-any.whl"
    assert wheel.size == (folder / wheel.file).stat().st_size
    assert locate([wheel], made.lock) == dict(made.urls)


def test_no_find_links_without_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target for GPUs never sees pip's folders: a +cpu build there would win over the CUDA one."""
    monkeypatch.setenv("PIP_FIND_LINKS", "/somewhere")
    assert torch_sources(None) == [()]


def test_backend_without_find_links() -> None:
    """Where pip names no folder, uv is told of PyTorch's own index."""
    assert torch_sources("cpu") == [("--torch-backend", "cpu")]


def test_backend_after_find_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pip's folder has no answer, PyTorch's own index is asked next."""
    monkeypatch.setenv("PIP_FIND_LINKS", "/a https://b.test/c")
    assert torch_sources("cpu") == [
        ("--find-links", "/a", "--find-links", "https://b.test/c"),
        ("--torch-backend", "cpu"),
    ]


def test_pip_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's settings are read from its file where no variable gives them."""
    (tmp_path / "pip.conf").write_text("[global]\nfind-links =\n  /one\n  /two\nindex-url = http://i.test/%20\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert pip_find_links() == ("/one", "/two")
    assert pip_index_url() == "http://i.test/%20"


def test_broken_pip_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration file that pip itself could not read is passed over."""
    (tmp_path / "pip.conf").write_bytes(b"\xff[[[")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pip_find_links() == ()


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"])
def test_certificates(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CA bundle that the environment names for any of three tools serves uv and the downloads."""
    for other in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"):
        monkeypatch.delenv(other, raising=False)
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    monkeypatch.setenv(name, str(bundle))
    assert certificates() == str(bundle)
    assert uv_environment()["SSL_CERT_FILE"] == str(bundle)


def test_pips_index_serves_uv(stocked: Index, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's index is used where nothing tells uv of one."""
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", stocked.simple)
    assert len(resolve(target).lock.wheels) == 4


def _both(target: Target) -> Target:
    return target.model_copy(update={"pythons": ("3.11", "3.12")})


def test_two_pythons_share_what_they_can(stocked: Index, target: Target) -> None:
    """One lock serves two Pythons: pure wheels once, binary ones side by side."""
    assert stocked.port
    assert {wheel.file: wheel.pythons for wheel in resolve(_both(target)).lock.wheels} == {
        "binary-2.0-cp311-cp311-manylinux_2_28_x86_64.whl": ("3.11",),
        "binary-2.0-cp312-cp312-manylinux_2_28_x86_64.whl": ("3.12",),
        "child-0.1-py3-none-any.whl": (),
        "engine-1.0-py3-none-any.whl": (),
        "helper-1.5-py3-none-any.whl": (),
    }


def test_two_pythons_take_one_version(stocked: Index, target: Target) -> None:
    """The second Python keeps to the first's versions where they will do, though it could have newer ones."""
    stocked.add("binary-2.5-cp312-cp312-manylinux_2_28_x86_64.whl")
    assert {wheel.version for wheel in resolve(_both(target)).lock.wheels if wheel.name == "binary"} == {"2.0"}


def test_locate_for_two_pythons(stocked: Index, target: Target) -> None:
    """The files of a lock of two Pythons are all found again, each package's two files among them."""
    lock = resolve(_both(target)).lock
    assert locate(lock.wheels, lock) == {wheel.file: stocked.url(wheel.file) for wheel in lock.wheels}


def test_no_wheel_for_one_of_two(stocked: Index, target: Target) -> None:
    """A package without a wheel for one of the Pythons is an error that names that Python."""
    for file in ("binary-2.0-cp312-cp312-manylinux_2_28_x86_64.whl", "binary-2.0-py3-none-any.whl"):
        del stocked.files[file]
    with pytest.raises(WheelhouseError, match=r"Python 3\.12"):
        resolve(_both(target))


def test_no_plus_where_there_is_a_choice(index: Index, target: Target) -> None:
    """Of a version with and without `+local`, the one without is locked: Kaggle takes the plus out of names."""
    index.add("engine-1.0-py3-none-any.whl")
    index.add("engine-1.0+cu128-py3-none-any.whl")
    made = resolve(target.model_copy(update={"extras": ()}))
    assert [wheel.file for wheel in made.lock.wheels] == ["engine-1.0-py3-none-any.whl"]


def test_plus_where_there_is_none(index: Index, target: Target) -> None:
    """A version that exists with `+local` only is locked as it is."""
    index.add("engine-1.0+cu128-py3-none-any.whl")
    made = resolve(target.model_copy(update={"extras": ()}))
    assert [wheel.file for wheel in made.lock.wheels] == ["engine-1.0+cu128-py3-none-any.whl"]


def test_exclude_newer_keeps_out_what_is_dated_later(stocked: Index, target: Target) -> None:
    """With a date the lock is the same byte for byte after newer releases came, and with a later date it is not."""
    stocked.uploaded = dict.fromkeys(stocked.files, "2026-11-20T10:00:00Z")
    before = dump_lock(resolve(target, exclude_newer="2026-11-20").lock)
    stocked.add("helper-1.6-py3-none-any.whl")
    stocked.uploaded["helper-1.6-py3-none-any.whl"] = "2026-11-21T00:00:00Z"
    assert dump_lock(resolve(target, exclude_newer="2026-11-20").lock) == before
    assert "helper-1.6" in dump_lock(resolve(target, exclude_newer="2026-11-21").lock)


def test_exclude_newer_does_not_repeat_what_an_index_lacked(stocked: Index, target: Target) -> None:
    """A release that the index shows late, dated before the limit, changes the answer: only the lock is the same."""
    stocked.uploaded = dict.fromkeys(stocked.files, "2026-11-20T10:00:00Z")
    before = resolve(target, exclude_newer="2026-11-20").lock
    stocked.add("helper-1.6-py3-none-any.whl")
    stocked.uploaded["helper-1.6-py3-none-any.whl"] = "2026-11-19T00:00:00Z"
    assert "helper-1.6" in dump_lock(resolve(target, exclude_newer="2026-11-20").lock)
    assert locate(before.wheels, before) == {wheel.file: stocked.url(wheel.file) for wheel in before.wheels}


def test_a_date_is_the_whole_day_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare date means the same moment in every time zone: the end of that day in UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert _moment("2026-11-20") == "2026-11-21T00:00:00+00:00"
    assert _moment("2026-11-20T12:00:00Z") == "2026-11-20T12:00:00+00:00"


def test_a_date_that_is_none(target: Target) -> None:
    """What is no date is wrong use, with an example of a right one."""
    with pytest.raises(UsageError, match=r"'yesterday' is no date like 2026-11-24"):
        resolve(target, exclude_newer="yesterday")


def test_another_engine(stocked: Index, target: Target) -> None:
    """An engine named on the command line takes the place of the target's, and the lock says so."""
    stocked.add("engine-0.9-py3-none-any.whl")
    lock = resolve(target, engine="engine==0.9").lock
    assert (lock.engine, lock.engine_given) == ("engine==0.9", True)
    assert "engine-0.9-py3-none-any.whl" in {wheel.file for wheel in lock.wheels}


def test_an_engine_that_cannot_run_is_refused_unasked(index: Index, target: Target) -> None:
    """A pair that cannot work is refused before the index is asked for anything."""
    card = target.model_copy(update={"gpus": 1, "compute_capability": "6.0", "engine": "vllm==0.32.0"})
    with pytest.raises(WheelhouseError, match=r"no code for sm_60"):
        resolve(card)
    assert index.requests == []


def test_an_open_requirement_is_judged_by_its_answer(index: Index, target: Target) -> None:
    """A requirement of several versions is checked by the version that came of it."""
    index.add("vllm-0.32.5-py3-none-any.whl")
    card = {"gpus": 1, "compute_capability": "6.0", "engine": "vllm>=0.30", "extras": ()}
    with pytest.raises(WheelhouseError, match=r"vllm 0\.32\.5 cannot run on tiny: it has no code for sm_60"):
        resolve(target.model_copy(update=card))


def test_a_version_that_breaks_the_engine_is_not_taken(index: Index, target: Target) -> None:
    """What the table of engines says of other packages' versions holds, though metadata would allow them."""
    index.add("vllm-0.32.0-py3-none-any.whl", requires=("cuda-python",))
    index.add("cuda_python-12.6.2-py3-none-any.whl")
    card = target.model_copy(update={"gpus": 1, "engine": "vllm==0.32.0", "extras": ()})
    with pytest.raises(WheelhouseError, match=r"cuda-python"):
        resolve(card)
    index.add("cuda_python-13.4.4-py3-none-any.whl")
    assert "13.4.4" in {wheel.version for wheel in resolve(card).lock.wheels}


_TAGS = target_tags(python="3.11", glibc="2.35", machine="x86_64")


@pytest.mark.parametrize(
    ("files", "best"),
    [
        (["a-1-py3-none-any.whl", "a-1-cp311-cp311-manylinux_2_28_x86_64.whl"], 1),
        (["a-1-cp311-cp311-manylinux_2_17_x86_64.whl", "a-1-cp311-cp311-manylinux_2_28_x86_64.whl"], 1),
        (["a-1-cp311-cp311-manylinux_2_36_x86_64.whl", "a-1-cp311-cp311-manylinux1_x86_64.whl"], 1),
        (["a-1-cp38-abi3-manylinux2014_x86_64.whl", "a-1-cp311-cp311-manylinux2014_x86_64.whl"], 1),
        (["a-1-cp38-abi3-manylinux2014_x86_64.whl", "a-1-cp39-abi3-manylinux2014_x86_64.whl"], 1),
        (["a-1-cp312-cp312-manylinux2014_x86_64.whl", "a-1-py2.py3-none-any.whl"], 1),
        (["a-1-cp311-cp311-musllinux_1_2_x86_64.whl", "a-1-cp311-none-any.whl"], 1),
        (["a-1-1-py3-none-any.whl", "a-1-2-py3-none-any.whl"], 1),
        (["a-1-cp312-abi3-manylinux2014_x86_64.whl"], None),
        (["a-1-cp311-cp311-manylinux2014_aarch64.whl"], None),
        (["a-1.tar.gz", "not a wheel"], None),
        (["a-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", "a-1-py3-none-any.whl"], 0),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_best(files: list[str], best: int | None, turned: bool) -> None:
    """The wheel that an installer on the target would take is taken, in whatever order they are offered."""
    offered = files[::-1] if turned else files
    assert best_wheel(offered, _TAGS) == (None if best is None else files[best])


def test_arm_begins_at_2_17() -> None:
    """No manylinux older than 2014 exists for other machines than x86."""
    tags = {str(tag) for tag in target_tags(python="3.11", glibc="2.35", machine="aarch64")}
    assert "cp311-cp311-manylinux2014_aarch64" in tags
    assert not [tag for tag in tags if "manylinux1_" in tag or "manylinux_2_5_" in tag]


def test_this_machine_agrees() -> None:
    """For this machine the list of tags is that of `packaging` itself, less the generic Linux places."""
    host = this_host()
    if host.glibc is None:
        pytest.skip("this machine has no glibc")
    ours = target_tags(python=host.python, glibc=host.glibc, machine=host.machine)
    theirs = [tag for tag in sys_tags() if not tag.interpreter.startswith("pp")]
    assert set(theirs) == set(ours)


@pytest.mark.parametrize("python", ["3", "three.eleven", "", "3.11.7"])
def test_version_that_is_none(python: str) -> None:
    """A Python version of any other form is refused."""
    with pytest.raises(WheelhouseError, match="is not two numbers"):
        target_tags(python=python, glibc="2.35", machine="x86_64")


def test_order_is_that_of_packaging() -> None:
    """No tag is listed twice, and the first is the exact one."""
    assert len(_TAGS) == len(set(_TAGS))
    assert _TAGS[0] in parse_wheel_filename("a-1-cp311-cp311-manylinux_2_35_x86_64.whl")[3]


_LOCKS = Path(__file__).parents[2] / "wheels"


def _over(target: Target, **installed: str) -> Target:
    return target.model_copy(update={"mode": "overlay", "installed": {"3.11": installed}})


def _files(lock: Lock) -> list[str]:
    return [wheel.file for wheel in lock.wheels]


def test_what_the_image_has_stays_out(stocked: Index, target: Target) -> None:
    """A package that the image has in the resolved version is not in the lock, which records that it stands on it."""
    assert stocked.port
    lock = resolve(_over(target, child="0.1")).lock
    assert "child-0.1-py3-none-any.whl" not in _files(lock)
    assert lock.preinstalled == (Preinstalled(name="child", version="0.1"),)
    assert lock.mode == "overlay"


def test_an_older_version_that_will_do_is_kept(stocked: Index, target: Target) -> None:
    """The image's version is kept though the index has a newer one."""
    stocked.add("helper-1.2-py3-none-any.whl")
    lock = resolve(_over(target, helper="1.2")).lock
    assert not [wheel for wheel in lock.wheels if wheel.name == "helper"]


def test_a_version_that_will_not_do_is_laid_over(stocked: Index, target: Target) -> None:
    """A version of the image that the engine refuses is in the lock in another one, and is named as replaced."""
    assert stocked.port
    over = _over(target, binary="1.0")
    lock = resolve(over).lock
    assert "binary-2.0-cp311-cp311-manylinux_2_28_x86_64.whl" in _files(lock)
    assert replaced(lock, over) == (("binary", "1.0", "2.0"),)


def test_a_local_version_counts_as_its_public_one(stocked: Index, target: Target) -> None:
    """The image's `2.0+cu130` is the index's 2.0, and is recorded as the image calls it."""
    assert stocked.port
    lock = resolve(_over(target, binary="2.0+cu130")).lock
    assert lock.preinstalled == (Preinstalled(name="binary", version="2.0+cu130"),)


def test_the_same_overlay_twice(stocked: Index, target: Target) -> None:
    """The same image and index give the same lock, byte for byte."""
    assert stocked.port
    over = _over(target, child="0.1", binary="1.0")
    assert dump_lock(resolve(over).lock) == dump_lock(resolve(over).lock)


def test_without_a_freeze(stocked: Index, target: Target) -> None:
    """An overlay for an image that nobody knows is refused, with the way to tell and the other mode."""
    with pytest.raises(
        WheelhouseError, match=r"what its image has for Python 3\.11[\s\S]*pip freeze[\s\S]*--mode isolated"
    ):
        resolve(target, mode="overlay")
    assert stocked.requests == []


def test_isolated_takes_no_notice_of_the_image(stocked: Index, target: Target) -> None:
    """The mode `isolated` locks everything, whatever the image has."""
    assert stocked.port
    lock = resolve(_over(target, child="0.1"), mode="isolated").lock
    assert "child-0.1-py3-none-any.whl" in _files(lock)
    assert (lock.mode, lock.preinstalled) == ("isolated", ())


def test_the_real_overlay_leaves_torch_alone() -> None:
    """The committed overlay for the H200 brings neither torch nor any CUDA library, and stands on the image's."""
    lock = read_lock(_LOCKS / "pylock.offline-h200.toml")
    names = {wheel.name for wheel in lock.wheels}
    assert not {name for name in names if name in {"torch", "triton"} or name.startswith("nvidia-")}
    assert Preinstalled(name="torch", version="2.11.0+cu130") in lock.preinstalled


def test_the_real_overlay_and_the_image_share_no_version() -> None:
    """No wheel of the committed overlay repeats what the image has already."""
    target, lock = load_target("offline-h200"), read_lock(_LOCKS / "pylock.offline-h200.toml")
    assert not [wheel for wheel in lock.wheels if target.installed["3.12"].get(wheel.name) == wheel.version]
