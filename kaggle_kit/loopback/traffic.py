"""What came in: requests and bytes per route, and the hosts that clients meant to reach."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Traffic:
    """Counts of one server since it was made, or since `reset`.

    Routes are `SERVICE/METHOD`, "PUT upload", "PUT upload query", "GET log stream", "GET file". `bytes` counts the
    bodies that came. `strangers` are requests for hosts other than this one: each was refused, none was passed on.
    """

    requests: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    strangers: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, route: str, size: int = 0, *, requests: int = 1) -> None:
        """Note a request, or some bytes of one."""
        with self._lock:
            self.requests[route] += requests
            self.bytes[route] += size

    @property
    def uploaded(self) -> int:
        """The bytes of all uploads' bodies, those of cut and repeated ones included."""
        return self.bytes["PUT upload"]

    def reset(self) -> None:
        """Begin to count anew."""
        with self._lock:
            for counter in (self.requests, self.bytes, self.hosts, self.strangers):
                counter.clear()
