"""What a quantiser tells, as a person reads it: a line for each stage and layer, and the seconds of each stage."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kaggle_kit.runtime.progress import duration

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Stages:
    """Hears the events; `tell` hears the lines, each with the time since this was made."""

    tell: Callable[[str], None]
    seconds: dict[str, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)
    _name: str | None = None
    _since: float = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        match event["event"]:
            case "stage":
                self.end()
                self._name, self._since = str(event["name"]), time.monotonic()
                self.say(self._name)
            case "layer":
                self.say(self._layer(int(event["done"]), int(event["total"])))
            case other:
                self.say(str(event.get("message", other)))

    def say(self, text: str) -> None:
        """A line, with the time."""
        self.tell(f"[{duration(time.monotonic() - self._started):>7}] {text}")

    def end(self) -> None:
        """The stage that runs is over."""
        if self._name is not None:
            self.seconds[self._name] = round(time.monotonic() - self._since, 3)
        self._name = None

    def _layer(self, done: int, total: int) -> str:
        if self._name != "layers":
            # They are a stage of their own, though none is told.
            self.end()
            self._name, self._since = "layers", time.monotonic()
        left = (time.monotonic() - self._since) / done * (total - done) if done else 0.0
        return f"layer {done}/{total}" + (f"  {duration(left)} left" if left else "")
