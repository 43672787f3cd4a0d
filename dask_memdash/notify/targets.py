"""Where alerts go: a webhook, a command, or the log.

Addresses, headers and arguments hold tokens, so none of them is ever printed: each
target has a name that may be.

Imports the standard library only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from urllib.parse import urlsplit

from dask_memdash.redact import without_path
from dask_memdash.text import plain

#: Formats of a webhook's message.
STYLES = ("json", "slack")

#: Targets at most.
MOST = 20

LEVELS = ("debug", "info", "warning", "error", "critical")

#: What each may be, for whoever got it wrong.
EXPECTED = (
    'a list of targets, each "log", a webhook\'s address, or a mapping such as '
    "{webhook: https://…, format: slack}, {command: [program, argument]} or "
    "{log: error}"
)


@dataclass(frozen=True, slots=True, repr=False)
class Webhook:
    """An address that messages are posted to."""

    url: str
    style: str = "json"
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """What it is called where people read it."""
        return f"webhook {plain(without_path(self.url), 100)}"

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(frozen=True, slots=True, repr=False)
class Command:
    """A program that gets a message as JSON on its standard input."""

    argv: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is called where people read it."""
        return f"command {plain(PurePath(self.argv[0]).name, 60)}"

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(frozen=True, slots=True)
class Log:
    """Python's log, logger ``dask_memdash.alerts``."""

    level: int = logging.WARNING

    @property
    def name(self) -> str:
        """What it is called where people read it."""
        return "log"


Target = Webhook | Command | Log


def targets_of(value: object) -> tuple[Target, ...]:
    """Return the targets that a setting names.

    Raises
    ------
    ValueError
        It cannot be used; the text says what is wrong, and holds no secret.
    """
    if value is None:
        return ()
    if isinstance(value, str | Mapping):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise ValueError(f"it is a {type(value).__name__}, no list")
    if len(value) > MOST:
        raise ValueError(f"it has {len(value)} targets; {MOST} is the most")
    found = []
    for number, one in enumerate(value, 1):
        try:
            found.append(_target(one))
        except ValueError as error:
            raise ValueError(f"target {number}: {error}") from None
    return tuple(found)


def _target(one: object) -> Target:
    if isinstance(one, Webhook | Command | Log):
        return one
    if isinstance(one, str):
        return Log() if one == "log" else _webhook({"webhook": one})
    if not isinstance(one, Mapping):
        raise ValueError("it is neither a text nor a mapping")
    kinds = [kind for kind in _KINDS if kind in one]
    if len(kinds) != 1:
        raise ValueError(f"it must have one of {', '.join(_KINDS)}")
    unknown = sorted(set(map(str, one)) - _KINDS[kinds[0]])
    if unknown:
        may = ", ".join(sorted(_KINDS[kinds[0]]))
        raise ValueError(f"{plain(unknown[0], 40)!r} is none of {may}")
    if kinds[0] == "webhook":
        return _webhook(one)
    return _command(one) if kinds[0] == "command" else _log(one)


#: Kind of target → keys that it may have.
_KINDS = {
    "webhook": {"webhook", "format", "headers"},
    "command": {"command"},
    "log": {"log"},
}


def _webhook(one: Mapping[object, object]) -> Webhook:
    url = one["webhook"]
    if not isinstance(url, str) or not url.isprintable() or " " in url:
        raise ValueError("webhook must be an address in one piece")
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
        sound = sound and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("webhook must begin with http:// or https:// and name a host")
    default = "slack" if parts.hostname == "hooks.slack.com" else "json"
    style = one.get("format") or default
    if style not in STYLES:
        raise ValueError(f"format must be one of {', '.join(STYLES)}")
    headers = one.get("headers") or {}
    if not isinstance(headers, Mapping):
        raise ValueError("headers must be a mapping of names to texts")
    for name, text in headers.items():
        if not isinstance(name, str) or not name.isascii() or not name.isprintable():
            raise ValueError("a header's name must be plain text")
        if not name or any(letter in name for letter in ' :"'):
            raise ValueError("a header's name must be one word")
        if not isinstance(text, str) or not text.isprintable() or not text.isascii():
            raise ValueError(f"header {plain(name, 40)!r} must be one line of ASCII")
    return Webhook(url, str(style), tuple((str(k), str(v)) for k, v in headers.items()))


def _command(one: Mapping[object, object]) -> Command:
    argv = one["command"]
    if isinstance(argv, str | bytes) or not isinstance(argv, Sequence) or not argv:
        raise ValueError("command must be a list: the program, then its arguments")
    if not all(isinstance(part, str) and "\0" not in part for part in argv):
        raise ValueError("command must be a list of texts")
    if not argv[0]:
        raise ValueError("command names no program")
    return Command(tuple(str(part) for part in argv))


def _log(one: Mapping[object, object]) -> Log:
    level = str(one["log"]).lower()
    if level not in LEVELS:
        raise ValueError(f"log must be one of {', '.join(LEVELS)}")
    return Log(int(getattr(logging, level.upper())))
