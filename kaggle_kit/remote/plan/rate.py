"""How fast uploads were from this machine, to say how long the next will take."""

from __future__ import annotations

import json
import math

from kaggle_kit.files import user_cache, write_atomic

_FILE = "upload-rate.json"
_LEAST_BYTES = 10_000_000
"""Less than this tells of waits, not of the line."""


def remember_rate(sent_bytes: int, seconds: float) -> None:
    """Note an upload's rate; a small upload or a cache that cannot be written changes nothing."""
    if sent_bytes < _LEAST_BYTES or seconds <= 0:
        return
    try:
        write_atomic(user_cache() / _FILE, json.dumps({"bytes_a_second": sent_bytes / seconds}) + "\n")
    except OSError:
        return


def measured_rate() -> float | None:
    """Bytes a second of the last large upload; None where there was none."""
    try:
        rate = float(json.loads((user_cache() / _FILE).read_text(encoding="utf-8"))["bytes_a_second"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rate if rate > 0 and math.isfinite(rate) else None
