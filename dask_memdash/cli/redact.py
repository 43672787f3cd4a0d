"""Names that are nobody's business, taken out of what is pasted into a report.

Covers what ``dask memdash info`` writes: home directories, the user's name, hosts and
addresses.  Secrets go first, by :mod:`dask_memdash.redact` as everywhere else.  One
host keeps one stand-in within a report, so that two workers on one machine are still
seen to be.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from dask_memdash.redact import HIDDEN, in_text, is_secret

#: An address: a scheme, and all up to what cannot be in one.
_ADDRESS = re.compile(r"\b([a-z][a-z0-9+.-]*)://([^\s'\"<>,;]+)", re.IGNORECASE)

#: An IPv4 address that stands by itself.
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")

#: Hosts that say nothing about anybody.
_PLAIN = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1", "[::1]"})


class Redaction:
    """Takes names out of texts, one and the same stand-in for one and the same host.

    Parameters
    ----------
    home, user, host
        What is to be taken out; this process's own unless given.
    """

    def __init__(
        self, home: str | None = None, user: str | None = None, host: str | None = None
    ) -> None:
        self._home = os.path.expanduser("~") if home is None else home  # noqa: PTH111
        self._user = _own_user() if user is None else user
        self._hosts: dict[str, str] = {}
        own = socket.gethostname() if host is None else host
        if own and own not in _PLAIN:
            self._hosts[own] = "this-host"

    def text(self, text: str) -> str:
        """Return a text without names."""
        text = _ADDRESS.sub(self._address, in_text(text))
        text = _IPV4.sub(lambda found: self._host(found.group()), text)
        if len(self._home) > 1:
            text = text.replace(self._home, "~")
        for name, instead in (*self._hosts.items(), (self._user, "user")):
            if len(name) > 1:
                text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", instead, text)
        return text

    def value(self, value: Any, name: str = "") -> Any:
        """Return a value of texts, lists and mappings without names."""
        if value is not None and is_secret(name):
            return HIDDEN
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(v, str(key)) for key, v in value.items()}
        if isinstance(value, Sequence):
            return [self.value(item) for item in value]
        return value

    def _address(self, found: re.Match[str]) -> str:
        scheme, rest = found.group(1), found.group(2)
        try:
            parts = urlsplit(f"//{rest}")
            port = parts.port
        except ValueError:
            return f"{scheme}://{HIDDEN}"
        host, path = parts.hostname or "", parts.path
        if scheme.lower() in ("file", "local"):
            return f"{scheme}://{rest}"
        shown = self._host(host) + (f":{port}" if port else "")
        return f"{scheme}://{shown}{path}"

    def _host(self, host: str) -> str:
        if not host or host in _PLAIN:
            return host
        if host not in self._hosts:
            self._hosts[host] = f"host-{len(self._hosts) + 1}"
        return self._hosts[host]


def _own_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""
