"""`kit rehearse quantize`: a notebook with internet is pushed, makes a model by real AutoAWQ, and brings it here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from kaggle_kit.runtime.manifest import read_manifest, verify_files

ROOT = Path(__file__).parents[2]


def test_a_model_is_made_at_kaggle_and_brought_home(tmp_path):
    """Pushed with internet on, run in the seal, fetched, each file as its manifest says; and never handed in."""
    for name in ("kit.toml", "notebooks_src/quantize.py", "wheels/pylock.local-cpu.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    for name in ("full", "data"):
        shutil.copytree(ROOT / "tests" / "demo" / name, tmp_path / "tests" / "demo" / name)
    kit = [sys.executable, "-m", "kaggle_kit.cli.main"]
    command = [*kit, "rehearse", "quantize", "-p", "rows=8", "--project", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "each with the SHA-256 of its manifest" in done.stderr
    records = tmp_path / "runs" / "rehearsal-quantize"
    model = records / "runs" / "quantize-v1" / "demo-awq"
    manifest = read_manifest(model / "manifest.json")
    verify_files(model, manifest)
    assert len(manifest.extra["quantisation"]["calibration"]["row_digests"].split()) == 8
    receipt = json.loads((records / "receipts" / "quantize-v1.json").read_text())
    (internet,) = [check for check in receipt["checks"] if check["what"] == "internet"]
    assert (internet["asked"], internet["found"]) == (True, True)
    assert receipt["submission"] == {}
    submit = [*kit, "submit", "quantize", "--records", str(records), "--project", str(tmp_path)]
    refused = subprocess.run(submit, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "ran with internet on" in refused.stderr
