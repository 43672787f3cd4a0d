"""What of an address, or of a value, may be shown: never a password, key or token.

Imports the standard library only.
"""

from __future__ import annotations

import re

#: An address in a text, up to white space or a quote.
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]+")

#: Names of values that are secrets whatever they hold: where alerts go is one, too.
_SECRET = re.compile(r"(?i)^notify|pass|secret|token|credential|api[-_]?key|auth")

#: What stands for a secret.
HIDDEN = "…"


def without_secrets(url: str) -> str:
    """Return a URL without what stands before its host, or in its query.

    A key may hold slashes and an ``@``: where a colon comes before the last ``@``, all
    that is before it goes.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    rest = rest.split("?", 1)[0].split("#", 1)[0]
    before, at, after = rest.rpartition("@")
    if at and ":" in before:
        return f"{scheme}{mark}{after}"
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


def without_path(url: str) -> str:
    """Return of a URL where it leads and no more: its path is a secret too."""
    shown = without_secrets(url)
    scheme, mark, rest = shown.partition("://")
    host = re.split(r"[/\\]", rest, maxsplit=1)[0]
    return f"{scheme}{mark}{host}/{HIDDEN}" if mark else HIDDEN


def in_text(text: str) -> str:
    """Return a text with every address in it without secrets."""
    if "://" not in text:
        return text
    return _URL.sub(lambda found: without_secrets(found.group()), text)


def is_secret(name: str) -> bool:
    """Say whether a value of this name is not shown at all."""
    return _SECRET.search(name) is not None


def shown(name: str, value: object) -> str:
    """Return an argument as it may be printed."""
    return HIDDEN if is_secret(name) else in_text(repr(value))
