"""Events as plain data, for the way over the network: written, read and checked.

Workers and nannies send parts of events with :func:`to_dict`.  The scheduler makes
events of them with :func:`from_dict`, which checks every field, since what arrives
comes from other versions and from other people's machines.

Only types that occur in such events can be read: `_SIMPLE`, dataclasses of them, and
their mappings, tuples and None.

Imports the standard library only.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import types
import typing
from collections.abc import Callable, Mapping, Sized
from functools import cache
from typing import Any, TypeVar, Union

from dask_memdash.errors import EventError
from dask_memdash.model.event_parts import StorageRow
from dask_memdash.model.quantiles import QuantileSketch

T = TypeVar("T")

#: Turns plain data into a value of one type, or raises EventError.
Reader = Callable[[Any], Any]

#: Types that are plain data already.
_PLAIN = frozenset({int, float, str, bool, type(None)})

_LISTS = (tuple, list)

#: Whole numbers are at least the one, and less than the other.
_LEAST, _BEYOND = -(2**63), 2**63

_MISSING: Any = object()

#: What one list or mapping, and one text, may hold at most.  Our own senders cut what
#: they send well below: more comes from somebody else, and is refused whole, so that
#: no event can be built that makes the scheduler's loop late.
MAX_ITEMS = 2_000
MAX_TEXT = 4_000
#: Characters of a name in a mapping: our own senders cut keys and prefixes to these.
MAX_NAME = 1_000


def to_dict(value: Any) -> Any:
    """Turn an event, or a part of one, into dicts, lists, numbers and strings."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if kind is QuantileSketch:
        return value.to_dict()
    names = _names_of(kind)
    if names:
        return {
            name: part if type(part) in _PLAIN else to_dict(part)
            for name in names
            for part in (getattr(value, name),)
        }
    if isinstance(value, Mapping):
        return {key: to_dict(item) for key, item in value.items()}
    if isinstance(value, _LISTS):
        return [to_dict(item) for item in value]
    return value


@cache
def _names_of(kind: type) -> tuple[str, ...]:
    """Return the names of a dataclass's fields; none of another type."""
    if not dataclasses.is_dataclass(kind):
        return ()
    return tuple(field.name for field in dataclasses.fields(kind))


def from_dict(cls: type[T], data: object) -> T:
    """Rebuild an event, or a part of one, from plain data.

    Unknown fields are ignored, so that a newer sender is understood; missing ones
    without a default, and values of a wrong type, are errors.

    Raises
    ------
    EventError
        Says which field is wrong.
    """
    try:
        return typing.cast(T, _rebuild(cls, data, cls.__name__))
    except RecursionError:
        raise EventError(f"{cls.__name__} is nested too deeply") from None


def read_field(cls: type, name: str, data: object) -> Any:
    """Rebuild one field of an event from plain data.

    Raises
    ------
    EventError
        Says what is wrong.
    """
    try:
        return _field_of(cls, name)(data)
    except RecursionError:
        raise EventError(f"{cls.__name__}.{name} is nested too deeply") from None


@cache
def _field_of(cls: type, name: str) -> Reader:
    return _reader(typing.get_type_hints(cls)[name], f"{cls.__name__}.{name}")


def _rebuild(kind: Any, data: object, where: str) -> Any:
    return _reader(kind, where)(data)


@cache
def _reader(kind: Any, where: str) -> Reader:
    """Make what reads values of a type, once for each place that they occur in.

    Type hints are walked here only: a scheduler reads hundreds of heartbeats a second.

    Parameters
    ----------
    kind
        The type, or a type hint.
    where
        The place as errors name it, such as ``WorkerReported.reading.rss``.
    """
    if kind in _SIMPLE:
        return _simple_reader(kind, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(typing.cast(type, kind), where)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, Union):
        (inner,) = (arg for arg in args if arg is not type(None))
        return _optional_reader(inner, where)
    if origin is dict:
        return _dict_reader(args[1], where)
    if origin is tuple and args[-1] is Ellipsis:
        return _list_reader(args[0], where)
    if origin is tuple:
        return _tuple_reader(args, where)
    raise EventError(f"{where} cannot be of type {kind!r}")


def _simple_reader(kind: Any, where: str) -> Reader:
    """Read numbers and texts, the most of all, with one look at the usual ones."""
    check = _SIMPLE[kind]

    def read(data: Any) -> Any:
        return check(data, where)

    def read_integer(data: Any) -> Any:
        usual = type(data) is int and _LEAST <= data < _BEYOND
        return data if usual else check(data, where)

    def read_text(data: Any) -> Any:
        usual = type(data) is str and len(data) <= MAX_TEXT
        return data if usual else check(data, where)

    def read_truth(data: Any) -> Any:
        return data if type(data) is bool else check(data, where)

    usual = {int: read_integer, str: read_text, bool: read_truth}
    return usual.get(kind, read)


#: What a value of a type must be to be taken as it is, of what nearly all values are.
_AS_IT_IS = {
    int: "type({0}) is int and LEAST <= {0} < BEYOND",
    float: "type({0}) is float and {0} - {0} == 0.0",  # neither infinite nor no number
    str: "type({0}) is str and len({0}) <= MAX_TEXT",
    bool: "{0} is True or {0} is False",
}


def _dataclass_reader(kind: type, where: str) -> Reader:
    """Write out a function that reads a dataclass, as `dataclasses` does for its own.

    A loop over the fields with a call for each took twice as long, and that is most of
    what a heartbeat costs the scheduler.
    """
    hints = typing.get_type_hints(kind)
    known: dict[str, Any] = {
        "kind": kind,
        "Mapping": Mapping,
        "MISSING": _MISSING,
        "where": where,
        "LEAST": _LEAST,
        "BEYOND": _BEYOND,
        "MAX_TEXT": MAX_TEXT,
        "wrong": _wrong,
    }
    lines = [
        "def read(data):",
        " if type(data) is not dict and not isinstance(data, Mapping):",
        "  raise wrong(where, data, 'a mapping')",
        " get = data.get",
    ]
    names = []
    for number, field in enumerate(dataclasses.fields(kind)):
        value, slow = f"v{number}", f"f{number}"
        known[slow] = _field_reader(hints[field.name], field, where)
        usual = _as_it_is(hints[field.name], value)
        lines += [
            f" {value} = get({field.name!r}, MISSING)",
            f" if not ({usual}):",
            f"  {value} = {slow}({value})",
        ]
        names.append(value)
    lines.append(f" return kind({', '.join(names)})")
    exec("\n".join(lines), known)  # of names of our own fields, and nothing that came
    return typing.cast(Reader, known["read"])


def _as_it_is(hint: Any, name: str) -> str:
    """Return the condition on which a field's value needs no reader."""
    if hint in _AS_IT_IS:
        return _AS_IT_IS[hint].format(name)
    if typing.get_origin(hint) in (types.UnionType, Union):
        (inner,) = (a for a in typing.get_args(hint) if a is not type(None))
        return f"{name} is None or {_as_it_is(inner, name)}"
    return "False"


def _field_reader(hint: Any, field: dataclasses.Field[Any], where: str) -> Reader:
    """Read what is not as usual: a part of parts, what is missing or wrong."""
    inner, default = _reader(hint, f"{where}.{field.name}"), _default_of(field)

    def read(value: Any) -> Any:
        if value is not _MISSING:
            return inner(value)
        if default is None:
            raise EventError(f"{where}.{field.name} is missing")
        return default()

    return read


def _default_of(field: dataclasses.Field[Any]) -> Callable[[], Any] | None:
    """Return what makes a field's default, None if it has none."""
    if field.default is not dataclasses.MISSING:
        value = field.default
        return lambda: value
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory
    return None


def _optional_reader(kind: Any, where: str) -> Reader:
    inner = _reader(kind, where)

    def read(data: Any) -> Any:
        return None if data is None else inner(data)

    def read_integer(data: Any) -> Any:
        if data is None or (type(data) is int and _LEAST <= data < _BEYOND):
            return data
        return inner(data)

    return read_integer if kind is int else read


def _dict_reader(kind: Any, where: str) -> Reader:
    inner = _reader(kind, where)

    def read(data: Any) -> Any:
        if type(data) is not dict and not isinstance(data, Mapping):
            raise _wrong(where, data, "a mapping")
        _count(data, where)
        return {_name(key, where): inner(item) for key, item in data.items()}

    return read


def _list_reader(kind: Any, where: str) -> Reader:
    inner = _reader(kind, where)

    def read(data: Any) -> Any:
        if not isinstance(data, _LISTS):
            raise _wrong(where, data, "a list")
        _count(data, where)
        return tuple([inner(item) for item in data])

    return read


def _tuple_reader(kinds: tuple[Any, ...], where: str) -> Reader:
    inners = [_reader(kind, where) for kind in kinds]

    def read(data: Any) -> Any:
        if not isinstance(data, _LISTS):
            raise _wrong(where, data, "a list")
        if len(data) != len(inners):
            raise _wrong(where, data, f"{len(inners)} values")
        return tuple([inner(item) for inner, item in zip(inners, data, strict=True)])

    return read


def _wrong(where: str, data: object, expected: str) -> EventError:
    return EventError(f"{where} is {shown(data)}; it must be {expected}")


def shown(data: object) -> str:
    """Show the beginning of a value, at a cost that does not grow with it."""
    if isinstance(data, str | bytes):
        return repr(data[:80])
    return repr(reprlib.repr(data)[:80])


def _integer(data: object, where: str) -> int:
    if isinstance(data, bool) or not isinstance(data, int):
        raise _wrong(where, data, "a whole number")
    if not _LEAST <= data < _BEYOND:
        raise EventError(f"{where} is beyond what 64 bits hold")
    return data


def _number(data: object, where: str) -> float:
    if type(data) is float and math.isfinite(data):
        return data
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise _wrong(where, data, "a number")
    if isinstance(data, int):
        return _integer(data, where)
    if not math.isfinite(data):
        raise _wrong(where, data, "a finite number")
    return data


def _text(data: object, where: str) -> str:
    if not isinstance(data, str):
        raise _wrong(where, data, "a text")
    if len(data) > MAX_TEXT:
        raise EventError(f"{where} has {len(data):,} characters; {MAX_TEXT:,} at most")
    return data


def _name(data: object, where: str) -> str:
    if type(data) is str and len(data) <= MAX_NAME:
        return data
    text = _text(data, where)
    if len(text) > MAX_NAME:
        raise EventError(f"{where} has a name of {len(text):,} characters")
    return text


def _count(data: Sized, where: str) -> None:
    if len(data) > MAX_ITEMS:
        raise EventError(f"{where} has {len(data):,} entries; {MAX_ITEMS:,} at most")


def _truth(data: object, where: str) -> bool:
    if not isinstance(data, bool):
        raise _wrong(where, data, "true or false")
    return data


def _row(data: object, where: str) -> StorageRow:
    if not isinstance(data, _LISTS) or len(data) != len(StorageRow._fields):
        raise _wrong(where, data, f"{len(StorageRow._fields)} whole numbers")
    for value in data:
        if type(value) is not int or not 0 <= value < _BEYOND:
            _integer(value, where)
            if value < 0:
                raise _wrong(where, data, "whole numbers of at least 0")
    return StorageRow._make(data)


def _sketch(data: object, where: str) -> QuantileSketch:
    if type(data) is not dict and not isinstance(data, Mapping):
        raise _wrong(where, data, "a quantile sketch")
    if isinstance(buckets := data.get("buckets"), Mapping):
        _count(buckets, where)
    try:
        return QuantileSketch.from_dict(data)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise EventError(f"{where} is no quantile sketch: {error}") from error


_SIMPLE: dict[Any, Any] = {
    int: _integer,
    float: _number,
    str: _text,
    bool: _truth,
    StorageRow: _row,
    QuantileSketch: _sketch,
}
