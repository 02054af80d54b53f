"""`kit model quantize` inside a notebook: a program for the quantiser's own Python.

    python -I make_program.py REQUEST EVENTS

REQUEST is a JSON file: the fields of an Order, with the task as `Task.to_json` gives it. EVENTS is the number of a file
descriptor to which one JSON object a line is written: what the work reports, and at the end `done` or `failed`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def main() -> None:
    """Do what the request says."""
    # Run by its path and isolated, it finds nothing of kit by itself.
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from kaggle_kit.errors import KitError

    # Without the notebook nobody reads what it would make.
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    descriptor = int(sys.argv[2])
    with os.fdopen(os.dup(descriptor), "w", encoding="utf-8", buffering=1) as stream:
        # What libraries print goes to standard error.
        os.dup2(2, descriptor)

        def tell(event: dict[str, Any]) -> None:
            stream.write(json.dumps(event) + "\n")

        try:
            tell({"event": "done", "provenance": make(request, tell)})
        except KitError as error:
            tell({"event": "failed", "message": str(error), "foreseen": True})
        except Exception as error:
            tell({"event": "failed", "message": f"{type(error).__name__}: {error}"})
            raise


def make(request: dict[str, Any], tell: Any) -> dict[str, Any]:
    """The manifest's words about the model that was made."""
    from kaggle_kit.model.calibration import CalibrationSource
    from kaggle_kit.model.quantize import Order, quantize
    from kaggle_kit.runtime.job import Task

    calibration = request["calibration"]
    paths = {"task": Task(**calibration["task"]), "table": Path(calibration["table"])}
    source = CalibrationSource(**(calibration | paths))
    order = Order(
        source=Path(request["source"]),
        out=Path(request["out"]),
        calibration=source,
        adapter=Path(request["adapter"]) if request["adapter"] else None,
        group_size=request["group_size"],
        split=request.get("split", 1),
    )
    return dict(quantize(order, python=Path(sys.executable), tell=tell).provenance)


if __name__ == "__main__":
    main()
