"""Configuration: the only reader of ``dask.config`` → frozen :class:`Settings`.

The keys, their defaults and what they mean stand in ``memdash.yaml`` and
``memdash-schema.yaml`` beside this file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import dask.config
import yaml
from dask.utils import parse_bytes, parse_timedelta

from dask_memdash.errors import ConfigError
from dask_memdash.redact import in_text

#: Settings that stay on the scheduler.
NOT_SENT = {"notify_targets", "record_to", "record_server", "storage_url"}


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """How MemDash runs; one value per configuration key."""

    #: Seconds between two samples of a worker's RSS.
    sample_interval: float
    #: Which tally counts: ``auto``, ``native``, ``python`` or ``off``.
    tally: str
    #: Share of a core that MemDash may cost on a worker, nanny or scheduler.
    budget: float
    #: Directory of the flight recorders, ``None`` to choose one.
    recorder_directory: str | None
    #: Tasks that a flight recorder holds at once, ``None`` to choose.
    recorder_slots: int | None
    #: Seconds after which a cluster in which nothing moves is stuck.
    stuck_after: float
    #: Seconds between two updates of an open page.
    page_refresh: float
    #: Pages that may be open at once.
    page_limit: int
    #: Points of history for the cluster and for each worker.
    history_points: int
    #: Incidents kept.
    incidents_keep: int
    #: Address of the memory that a cluster is given, ``None`` for none.
    storage_url: str | None = None
    #: Share of RAM, or size, that stored values may take on a worker.
    storage_ram: str | float | None = None
    #: Age from which stored values that no name pins may be deleted.
    storage_ttl: str | float | None = "7d"
    #: Version of the user's own code or data.
    storage_version: str | None = None
    #: Directory or URL that runs are recorded into, ``None`` for none.
    record_to: str | None = None
    #: Size that the record of a run may have, in bytes.
    record_limit: int = 2 * 2**30
    #: Rows of the record that may wait to be written.
    record_queue: int = 50_000
    #: Name of the run, and tags of it.
    record_run: str | None = None
    record_tags: Mapping[str, str] | None = None
    #: Address of a server of runs that serves what is recorded, ``None`` for none.
    record_server: str | None = None
    #: Whether the line that allocated a task's largest block is known.
    lines: bool = True
    #: Whether tasks start only when they fit: ``off``, ``on`` or ``dry-run``.
    guard: str = "off"
    #: Whether Dask's pages of Prometheus metrics have MemDash's figures too.
    metrics: bool = True
    #: Where alerts go (:mod:`dask_memdash.notify.targets`).
    notify_targets: tuple[Any, ...] = ()
    #: Failures that are told of in an hour at most.
    notify_most_per_hour: int = 20
    #: Seconds that a target may be silent.
    notify_timeout: float = 10.0

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{k}={v!r}' for k, v in self.shown().items())})"

    def shown(self) -> dict[str, Any]:
        """Return the settings as they may be shown: addresses without their secrets."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["notify_targets"] = [target.name for target in self.notify_targets]
        return {
            name: in_text(value) if isinstance(value, str) else value
            for name, value in values.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a plain dict, to be sent to workers.

        Addresses that may hold keys or tokens stay where they are: no worker uses them.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {f.name: f.default for f in fields(self) if f.name in NOT_SENT}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Rebuild settings from :meth:`to_dict`; unknown names are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{k: v for k, v in values.items() if k in known})


def load(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings from Dask's configuration.

    Parameters
    ----------
    overrides
        Values that go before the configuration, by key with dots
        (``{"page.refresh": "2s"}``).

    Raises
    ------
    ConfigError
        A value that cannot be used, or an unknown key.
    """
    values = {**_flat(dask.config.get("memdash", None) or {}), **(overrides or {})}
    defaults = _defaults()
    unknown = sorted(set(values) - set(defaults))
    if unknown:
        raise ConfigError(
            unknown[0], values[unknown[0]], f"one of the keys {', '.join(defaults)}"
        )
    merged = {**defaults, **values}
    return Settings(**{_name(key): check(merged[key]) for key, check in CHECKS.items()})


def load_usable(
    overrides: Mapping[str, Any] | None = None,
) -> tuple[Settings, list[ConfigError]]:
    """Read the settings; what cannot be used has its default, and is told.

    Parameters
    ----------
    overrides
        As for :func:`load`.
    """
    wrong: list[ConfigError] = []
    try:
        values = {**_flat(dask.config.get("memdash", None) or {}), **(overrides or {})}
    except ConfigError as error:
        wrong, values = [error], {}
    known = {}
    for key, value in values.items():
        try:
            if key not in CHECKS:
                raise ConfigError(key, value, f"one of the keys {', '.join(CHECKS)}")
            known[_name(key)] = CHECKS[key](value)
        except ConfigError as error:
            wrong.append(error)
    return replace(defaults(), **known), wrong


def defaults() -> Settings:
    """Return the settings that hold when nothing is configured."""
    return Settings(
        **{_name(key): check(_defaults()[key]) for key, check in CHECKS.items()}
    )


def terminate_fraction() -> float | None:
    """Fraction of the limit at which a nanny terminates its worker; None if off."""
    value = dask.config.get("distributed.worker.memory.terminate", None)
    return None if value in (None, False) else float(value)


def scratch_directory() -> str:
    """Return the directory that workers spill to unless they are told otherwise."""
    return str(dask.config.get("temporary-directory", None) or tempfile.gettempdir())


def _name(key: str) -> str:
    return key.replace(".", "_").replace("-", "_")


#: Keys whose values may be mappings.
MAPPINGS = {"record.tags", "notify.targets"}

#: Arguments of ``MemDash`` with a short name → the key of the configuration.
SHORT = {
    "record": "record.to",
    "run": "record.run",
    "tags": "record.tags",
    "notify": "notify.targets",
}


def _flat(tree: object, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        raise ConfigError(path or "*", tree, "a mapping of keys to values")
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{path}.{key}" if path else str(key)
        name = name.replace("_", "-")
        if isinstance(value, Mapping) and name not in MAPPINGS:
            flat.update(_flat(value, name))
        else:
            flat[name] = value
    return flat


def _in_file() -> dict[str, Any]:
    text = Path(__file__).with_name("memdash.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@cache
def _defaults() -> dict[str, Any]:
    return _flat(_in_file()["memdash"])


def _seconds(key: str, least: float, most: float) -> Callable[[Any], float]:
    expected = f"a time between {least:g} s and {most:g} s, such as '{least * 2:g}s'"

    def check(value: Any) -> float:
        try:
            seconds = float(parse_timedelta(value))
        except (AttributeError, LookupError, TypeError, ValueError):
            raise ConfigError(key, value, expected) from None
        if not least <= seconds <= most:
            raise ConfigError(key, value, expected)
        return seconds

    return check


def _integer(
    key: str, least: int, most: int, *, optional: bool = False
) -> Callable[[Any], Any]:
    expected = f"a whole number from {least} to {most}"
    if optional:
        expected += ", or null"

    def check(value: Any) -> int | None:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(key, value, expected)
        if not least <= value <= most:
            raise ConfigError(key, value, expected)
        return value

    return check


def _fraction(key: str) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value <= 1:
            raise ConfigError(key, value, "a fraction above 0 up to 1, such as 0.02")
        return float(value)

    return check


#: What ``memdash.tally`` may be, from the least to the most that is done in a process.
TALLIES = ("off", "python", "native", "auto")


def tally_allowed(asked: str) -> str:
    """Return which tally this process may have: what was asked for, or less.

    Whoever runs the workers can forbid it in their configuration or environment
    (``DASK_MEMDASH__TALLY=off``), whatever the client asks for.
    """
    for own in _own("tally"):
        try:
            asked = min(asked, str(CHECKS["tally"](own)), key=TALLIES.index)
        except ConfigError:
            continue
    return asked


def lines_allowed(asked: bool) -> bool:
    """Return whether this process may tell lines: asked for, and not forbidden here.

    Whoever runs the workers forbids it by ``DASK_MEMDASH__LINES=false``.
    """
    return asked and False not in _own("lines")


def _own(key: str) -> list[Any]:
    """Return what this process's configuration and its environment say of a key.

    A nanny gives its worker all of its own configuration, which knows the defaults:
    that hides what only the worker's environment says.
    """
    environment = dask.config.collect_env().get("memdash")
    said = [dask.config.get(f"memdash.{key}", None)]
    if isinstance(environment, Mapping):
        said.append(environment.get(key))
    return [value for value in said if value is not None]


def _truth(key: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise ConfigError(key, value, "true or false")

    return check


def _mode(key: str) -> Callable[[Any], str]:
    """Check which tally is asked for; true and false are what they always were."""

    def check(value: Any) -> str:
        if isinstance(value, bool):  # YAML reads a bare off as false, too
            return "auto" if value else "off"
        if value not in TALLIES:
            raise ConfigError(key, value, f"one of {', '.join(reversed(TALLIES))}")
        return str(value)

    return check


#: What ``memdash.guard`` may be.
GUARDS = ("off", "on", "dry-run")


def _guard(key: str) -> Callable[[Any], str]:
    """Check what the guard is to do; YAML reads a bare on and off as true and false."""

    def check(value: Any) -> str:
        if isinstance(value, bool):
            return "on" if value else "off"
        if value not in GUARDS:
            raise ConfigError(key, value, f"one of {', '.join(GUARDS)}")
        return str(value)

    return check


def _directory(key: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if value is None or (isinstance(value, str) and value):
            return value
        raise ConfigError(key, value, "the path of a directory, or null")

    return check


def _text(key: str, expected: str, *also: type) -> Callable[[Any], Any]:
    """Check a text whose meaning its reader checks; numbers where `also` has them."""

    def check(value: Any) -> str | float | None:
        if value is None or (isinstance(value, str) and value):
            return value
        if also and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        raise ConfigError(key, value, expected)

    return check


def _targets(key: str) -> Callable[[Any], tuple[Any, ...]]:
    """Check where alerts go; the error shows nothing of it, for it holds secrets."""

    def check(value: Any) -> tuple[Any, ...]:
        if value is None:
            return ()
        from dask_memdash.notify.targets import EXPECTED, targets_of

        try:
            return targets_of(value)
        except ValueError as error:
            raise ConfigError(key, Hidden(str(error)), EXPECTED) from None

    return check


class Hidden:
    """Stands for a value that must not be shown: says what is wrong with it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return f"not usable ({self._text})"


def _web_address(key: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if value is None:
            return None
        if isinstance(value, str) and value.startswith(("http://", "https://")):
            return value
        raise ConfigError(key, value, "an address such as http://host:8800, or null")

    return check


def _size(key: str, least: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        try:
            size = int(parse_bytes(value))
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
            size = -1
        if isinstance(value, bool) or size < least:
            raise ConfigError(key, value, f"a size of at least {least} bytes")
        return size

    return check


def _tags(key: str) -> Callable[[Any], dict[str, str] | None]:
    """Check tags: a mapping, or as text 'branch=main, commit=1a2b'."""

    def check(value: Any) -> dict[str, str] | None:
        if value is None:
            return None
        if isinstance(value, Mapping):
            return {str(name): str(text) for name, text in value.items()}
        pairs = [pair.partition("=") for pair in str(value).split(",")]
        if not isinstance(value, str) or not all(name and eq for name, eq, _ in pairs):
            raise ConfigError(key, value, "such as 'branch=main, commit=1a2b', or null")
        return {name.strip(): text.strip() for name, _, text in pairs}

    return check


#: Key → what turns its configured value into the setting, or raises.
CHECKS: dict[str, Callable[[Any], Any]] = {
    "sample-interval": _seconds("sample-interval", 0.005, 10),
    "tally": _mode("tally"),
    "lines": _truth("lines"),
    "guard": _guard("guard"),
    "metrics": _truth("metrics"),
    "budget": _fraction("budget"),
    "recorder.directory": _directory("recorder.directory"),
    "recorder.slots": _integer("recorder.slots", 1, 4096, optional=True),
    "stuck-after": _seconds("stuck-after", 2, 3600),
    "page.refresh": _seconds("page.refresh", 0.1, 3600),
    "page.limit": _integer("page.limit", 1, 10_000),
    "history.points": _integer("history.points", 20, 100_000),
    "incidents.keep": _integer("incidents.keep", 1, 1_000_000),
    "storage.url": _text("storage.url", "the address of a store, or null"),
    "storage.ram": _text("storage.ram", "such as '25%' or '2GiB', or null", float),
    "storage.ttl": _text("storage.ttl", "an age such as '7d', or null", float),
    "storage.version": _text("storage.version", "a short text, or null"),
    "record.to": _text("record.to", "a directory or a URL, or null"),
    "record.limit": _size("record.limit", 10**6),
    "record.queue": _integer("record.queue", 1000, 10_000_000),
    "record.run": _text("record.run", "a short text, or null"),
    "record.tags": _tags("record.tags"),
    "record.server": _web_address("record.server"),
    "notify.targets": _targets("notify.targets"),
    "notify.most-per-hour": _integer("notify.most-per-hour", 1, 1000),
    "notify.timeout": _seconds("notify.timeout", 1, 120),
}


def register_defaults() -> None:
    """Tell Dask's configuration the defaults, so that ``dask config get`` shows them.

    Whatever is configured goes before them, now and after ``dask.config.refresh()``.
    """
    dask.config.update_defaults(_in_file())


register_defaults()
