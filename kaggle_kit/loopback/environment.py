"""The environment in which the official client speaks to the loopback Kaggle, and to nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# A port on which nothing listens: what would go to the real service over TLS ends there.
DEAD_END = "http://127.0.0.1:9"
_UNWANTED_PREFIXES = ("KAGGLE", "XDG_")
_UNWANTED = {"NETRC", "PYTHONPATH", "PYTHONSTARTUP"}


def variables(port: int, home: Path, tmp: Path, *, token: str) -> dict[str, str]:
    """Exactly the variables that point the client to a loopback Kaggle on `port`.

    The client honours LOCALHOST only, and then speaks to http://localhost, port 80: a proxy for plain HTTP brings it to
    any port. `home` must hold no `.kaggle` of its own. `tmp` must belong to this rehearsal: the client keeps unfinished
    uploads there, and would take them up at another server.
    """
    return {
        "HOME": str(home),
        "TMPDIR": str(tmp),
        "KAGGLE_API_TOKEN": token,
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "http_proxy": f"http://127.0.0.1:{port}",
        "https_proxy": DEAD_END,
        "no_proxy": "127.0.0.1",
    }


def environment(
    port: int, home: Path, tmp: Path, *, token: str, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """A whole environment: `base` (this process's one) without what `unwanted` names, with `variables`."""
    known = dict(os.environ) if base is None else dict(base)
    kept = {name: value for name, value in known.items() if not unwanted(name)}
    return kept | variables(port, home, tmp, token=token)


def unwanted(name: str) -> bool:
    """Whether a variable could lead the client elsewhere: other logins, proxies, configuration and code."""
    return name.startswith(_UNWANTED_PREFIXES) or name in _UNWANTED or name.lower().endswith("_proxy")
