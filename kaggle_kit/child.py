"""What a child process gets of this process's environment: the variables on a list, and nothing else.

Kaggle's login, other services' keys and whatever else a shell holds stay here: a child is given what it needs by name.
"""

import os
from collections.abc import Mapping

_PLAIN = ("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER")
_PLAIN_PREFIXES = ("LC_",)
_NETWORK = ("REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NETRC")
_PROXIES = ("all_proxy", "http_proxy", "https_proxy", "no_proxy")


def child_environment(added: Mapping[str, str] | None = None, *, network: bool = False) -> dict[str, str]:
    """The environment of a child process: home, path, language and temporary folder of this one, and `added`.

    With `network` also proxies and certificates, for a child that speaks to a package index or to Kaggle.
    """
    kept = {name: value for name, value in os.environ.items() if _is_kept(name, network=network)}
    return kept | dict(added or {})


def _is_kept(name: str, *, network: bool) -> bool:
    if name in _PLAIN or name.startswith(_PLAIN_PREFIXES):
        return True
    return network and (name in _NETWORK or name.lower() in _PROXIES)
