"""Where Kaggle is: the real service, or a server on this machine's own loopback; never anywhere else."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kaggle_kit.errors import CredentialsError, RemoteError
from kaggle_kit.secrets.redaction import without_login

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "KAGGLE_API_ENVIRONMENT"
PRODUCTION = "https://api.kaggle.com"
LOOPBACK = "http://localhost"


@dataclass(frozen=True)
class Endpoint:
    """The address that the official client asks, and the proxy on loopback that stands for it in a rehearsal."""

    url: str
    loopback: bool
    proxy: str | None = field(default=None, repr=False)
    """With its user name and password, where it has any."""

    @property
    def name(self) -> str:
        """What distinguishes this server from another: `https://api.kaggle.com`, `http://127.0.0.1:8080`."""
        return without_login(self.proxy) if self.proxy else self.url

    @property
    def api(self) -> str:
        """The address below which remote calls and REST paths lie (facts, section 2)."""
        return f"{self.url}/api/v1" if self.loopback else f"{self.url}/v1"

    def guard(self, url: str, proxies: Mapping[str, str] | None) -> None:
        """Raise RemoteError where a request with the login in it would leave this endpoint."""
        asked, mine = urlsplit(url), urlsplit(self.url)
        if (asked.scheme, asked.hostname, asked.port) != (mine.scheme, mine.hostname, mine.port):
            raise RemoteError(
                f"{self.name} sent kit on to {asked.scheme}://{asked.hostname}: the login is not sent there. "
                "Check the network that this machine is in, then try again"
            )
        if self.loopback and not self._is_asked_through(url, proxies):
            raise RemoteError(
                f"{VARIABLE}=LOCALHOST was to be asked at {self.name}, but the proxy variables changed since: "
                "set http_proxy for the whole run"
            )

    def _is_asked_through(self, url: str, proxies: Mapping[str, str] | None) -> bool:
        """Whether requests would go through this endpoint's own proxy."""
        try:
            return _proxy_of(url, proxies) == self.proxy
        except ValueError:
            return False

    def allows_transfer(self, url: str) -> bool:
        """Whether file contents may be sent to, or fetched from, an address that the server named.

        The real service: https only. The loopback: loopback only, so that a rehearsal stays on this machine.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # no address: an open bracket, a port beyond all ports
            return False
        if self.loopback:
            return parts.scheme == "http" and is_loopback(parts.hostname) and port != 0
        return parts.scheme == "https" and bool(parts.hostname) and port != 0

    def transfer_proxies(self, url: str) -> dict[str, str]:
        """The proxies for a transfer: `localhost` is the loopback server's own name behind its proxy."""
        parts = urlsplit(url)
        if self.proxy and parts.hostname == "localhost" and parts.port is None:
            return {"http": self.proxy}
        return {}


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is this machine's loopback."""
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def endpoint_from_environment() -> Endpoint:
    """The endpoint that `KAGGLE_API_ENVIRONMENT` and the proxy variables name.

    Unset or PROD is the real service. LOCALHOST is a server on loopback: behind `http_proxy` where that is set, else
    port 80. The official client takes any other value for production, silently (facts, section 2): here it is refused.
    Raises CredentialsError.
    """
    value = os.environ.get(VARIABLE, "")
    if value in {"", "PROD"}:
        _refuse_unusable_proxy(PRODUCTION)
        return Endpoint(PRODUCTION, loopback=False)
    if value != "LOCALHOST":
        raise CredentialsError(
            f"{VARIABLE}={value!r}: kit knows PROD and LOCALHOST, and the official client would use the real service "
            f"for anything else. Unset it, or set it to LOCALHOST for a server on this machine"
        )
    try:
        return Endpoint(LOOPBACK, loopback=True, proxy=_loopback_proxy())
    except ValueError:
        # Its text may hold the proxy's password.
        raise CredentialsError(
            f"{VARIABLE}=LOCALHOST, but http_proxy is no address: set it to http://127.0.0.1:PORT, or unset it"
        ) from None


def _refuse_unusable_proxy(url: str) -> None:
    """Raise CredentialsError where the proxy for an address is no address itself. Its text may hold a password."""
    from requests.utils import get_environ_proxies

    try:
        proxy = _proxy_of(url, get_environ_proxies(url))
        usable = proxy is None or (bool((parts := urlsplit(proxy)).hostname) and parts.port != 0)
    except ValueError:
        usable = False
    if not usable:
        raise CredentialsError(
            "The proxy for Kaggle in https_proxy (or all_proxy) is no address: set it to http://HOST:PORT, with a "
            "user name and password as http://USER:PASSWORD@HOST:PORT (other signs than letters and digits as %XX)"
        )


def _loopback_proxy() -> str | None:
    """The loopback proxy that stands for `localhost`, or None where port 80 is meant."""
    from requests.utils import get_environ_proxies

    wanted = os.environ.get("http_proxy") or os.environ.get("HTTP_PROXY")
    used = _proxy_of(LOOPBACK, get_environ_proxies(LOOPBACK))
    if used is None:
        if wanted and is_loopback(urlsplit(wanted).hostname):
            raise CredentialsError(
                f"{VARIABLE}=LOCALHOST with a loopback http_proxy, but no_proxy lists localhost: the server behind "
                "the proxy would not be asked. Take localhost out of no_proxy"
            )
        return None
    if not is_loopback(urlsplit(used).hostname):
        raise CredentialsError(
            f"{VARIABLE}=LOCALHOST, but http_proxy names another machine, which would get the login. "
            "Set http_proxy to the server on 127.0.0.1, or add localhost to no_proxy for a server on port 80"
        )
    return used


def _proxy_of(url: str, proxies: Mapping[str, str] | None) -> str | None:
    """The proxy that requests would choose for an address. Raises ValueError, without the proxy's text, for none."""
    from requests.utils import prepend_scheme_if_needed, select_proxy

    chosen = select_proxy(url, dict(proxies or {}))
    try:
        return prepend_scheme_if_needed(chosen, "http").rstrip("/") if chosen else None
    except (ValueError, TypeError):
        raise ValueError("the proxy is no address") from None
