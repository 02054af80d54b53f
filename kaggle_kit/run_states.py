"""Kaggle's words for how far the run of a notebook is, and what kit takes them for."""

COMPLETE = "COMPLETE"
ENDED = frozenset({COMPLETE, "ERROR", "CANCEL_ACKNOWLEDGED"})
GOING_ON = frozenset({"QUEUED", "RUNNING", "CANCEL_REQUESTED", "NEW_SCRIPT"})
UNKNOWN = "UNKNOWN"
"""No word, or one that kit does not know; kit's own."""
