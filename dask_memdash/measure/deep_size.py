"""How much memory hangs on an object: a bounded look into it.

Covers what ``sizeof`` does not see: closures, defaults, partials and used globals of
functions that were sent by value, attributes and slots of objects, the whole array that
a view is of.  Looks at most so long and at so many objects, takes an evenly spread
sample of long containers, and counts everything once.  Does not follow references into
the host (distributed, asyncio, threads), modules, or functions and classes that a
module of this process holds, since those were not sent.

Imports the standard library only; NumPy and pandas are known by name.
"""

from __future__ import annotations

import functools
import math
import sys
import time
import types
from collections import deque
from collections.abc import Container, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

#: Items of a long container that are looked at.
SAMPLE = 64

#: Objects between two looks at the clock.
CHUNK = 32

#: Objects of these are not looked into: they hold on to all of the process.
FOREIGN = frozenset(
    {
        *("_asyncio", "_thread", "asyncio", "concurrent", "distributed", "logging"),
        *("multiprocessing", "selectors", "socket", "ssl", "threading", "tornado"),
        *("weakref", "dask_memdash"),
    }
)

_ATOMS = (int, float, complex, bool, str, bytes, bytearray, range, type(None))
_CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset, deque)


#: What a look at an object may raise: it changes meanwhile, or is only half there.
UNREADABLE = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Size(NamedTuple):
    """What a look into an object found."""

    #: In bytes; at least that where not `whole`.
    bytes: int
    #: Whether there was time to follow every reference.
    whole: bool


def deep_size(
    roots: Iterable[Any], *, most: int, seconds: float, known: Container[int] = ()
) -> Size:
    """Sum the sizes of objects and of all that hangs on them.

    Parameters
    ----------
    roots
        Where to begin.
    most
        Objects looked at, at most.
    seconds
        How long that may take.  One look at an object more is always made.
    known
        Addresses of objects that are left out: others count them.
    """
    deadline = time.perf_counter() + seconds
    todo: list[tuple[Any, float]] = [(root, 1.0) for root in roots]
    seen: dict[int, Any] = {}  # keeps what it names, so that no address comes twice
    total = 0.0
    while todo:
        thing, weight = todo.pop()
        if id(thing) in seen or id(thing) in known:
            continue
        if len(seen) >= most or (
            len(seen) % CHUNK == CHUNK - 1 and time.perf_counter() > deadline
        ):
            return Size(int(total), False)
        seen[id(thing)] = thing
        try:
            own, parts = _look_into(thing)
        except UNREADABLE:
            continue  # it counts as nothing, and all else goes on
        total += weight * own
        todo += [(part, weight * share) for part, share in parts]
    return Size(int(total), True)


_Parts = list[tuple[Any, float]]


def _look_into(thing: Any) -> tuple[int, _Parts]:
    """Return an object's own bytes, and what it refers to, each with its weight."""
    kind = type(thing)
    if kind in _ATOMS:
        return sys.getsizeof(thing), []
    if issubclass(kind, dict):
        items = dict.items(thing)
        pairs = [part for pair in islice(items, SAMPLE) for part in pair]
        inside = _scaled(pairs, 2 * dict.__len__(thing))
        return _own(thing), inside + _attributes(thing)
    for base in _CONTAINERS:
        if issubclass(kind, base):
            return _own(thing), _items(thing, base) + _attributes(thing)
    if kind is types.FunctionType:
        return _function(thing)
    if issubclass(kind, type):
        return (0, []) if _is_known_here(thing) else _class(thing)
    if issubclass(kind, types.ModuleType):
        return 0, []
    if kind is types.MethodType:
        return _own(thing), _once(thing.__self__, thing.__func__)
    if kind is types.CellType:
        return _own(thing), _once(*_contents(thing))
    if issubclass(kind, functools.partial):
        inside = _once(thing.func, thing.args, thing.keywords)
        return _own(thing), inside + _attributes(thing)
    if kind is memoryview:
        return _own(thing), _once(thing.obj)
    return _other(thing, kind)


def _other(thing: Any, kind: type) -> tuple[int, _Parts]:
    home = str(getattr(kind, "__module__", "")).partition(".")[0]
    if home in FOREIGN:
        return _own(thing), []
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.ndarray):
        return _array(thing, numpy)
    if home == "pandas" and hasattr(thing, "memory_usage"):
        return _table(thing)
    if home in ("pyarrow", "polars", "cupy"):
        size = getattr(thing, "nbytes", None)
        if size is None and home == "polars":
            size = thing.estimated_size()
        return int(size or 0) + _own(thing), []
    parts = _attributes(thing)
    if parts and type(parts[0][0]) is dict and "__qualname__" in parts[0][0]:
        # A function in disguise: what it wraps came with its module.
        return (0, []) if _is_known_here(thing) else (_own(thing), parts)
    return _own(thing), parts


def _array(array: Any, numpy: Any) -> tuple[int, _Parts]:
    """Look into an array; of a view, at the whole array that it keeps.

    Of a view into a buffer only what it shows counts: buffers of messages that hold
    many arrays are told apart by nobody.
    """
    owner = array
    while issubclass(type(owner.base), numpy.ndarray):
        owner = owner.base
    if owner is not array and owner.base is None:
        return _own(array), _once(owner)
    size = 0
    if array.size and not issubclass(type(owner), numpy.memmap):
        steps = zip(array.shape, array.strides, strict=True)
        size = sum((n - 1) * abs(stride) for n, stride in steps) + array.itemsize
    objects: _Parts = []
    if array.dtype.hasobject and array.dtype.names is None:
        step = max(1, math.ceil(array.size / SAMPLE))
        flat = array.reshape(-1) if array.flags.c_contiguous else array.ravel(order="K")
        objects = _scaled(flat[::step].tolist(), array.size)
    return size + 112, objects + _attributes(array)


def _table(table: Any) -> tuple[int, _Parts]:
    """Look into a pandas object: its blocks, and a sample of its Python objects."""
    used = table.memory_usage(deep=False)
    size = int(used if isinstance(used, int) else used.sum())
    columns = [table[name] for name in table] if table.ndim == 2 else [table]
    objects: _Parts = []
    for column in columns[:SAMPLE]:
        if getattr(column.dtype, "kind", "") == "O" and column.dtype == object:
            step = max(1, math.ceil(len(column) / SAMPLE))
            values = column.to_numpy()[::step].tolist()
            objects += _scaled(values, len(column))
    return size, objects


def _function(function: types.FunctionType) -> tuple[int, _Parts]:
    """Look into a function that was sent whole: closure, defaults, used globals."""
    if _is_known_here(function):
        return 0, []
    code = function.__code__
    size = sys.getsizeof(function) + sys.getsizeof(code) + len(code.co_code)
    parts = _once(code.co_consts, code.co_names, code.co_varnames, code.co_linetable)
    parts += _once(*(function.__closure__ or ()))
    parts += _once(function.__defaults__, function.__kwdefaults__)
    known = function.__globals__
    if known is not getattr(sys.modules.get(function.__module__), "__dict__", None):
        size += sys.getsizeof(known)
        parts += _once(*(known[name] for name in code.co_names if name in known))
    return size, parts + _attributes(function)


def _class(kind: type) -> tuple[int, _Parts]:
    values = [v for name, v in vars(kind).items() if name not in ("__dict__",)]
    return _own(kind), _once(*values)


def _is_known_here(thing: Any) -> bool:
    """Whether a function or class is what a module of this process holds."""
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    found: Any = module
    for name in getattr(thing, "__qualname__", "").split("."):
        if found is None:
            return False
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
        if isinstance(found, staticmethod | classmethod):
            found = found.__func__
    return found is thing


def _contents(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # it is empty
        return ()


def _attributes(thing: Any) -> _Parts:
    """Return what an object's attributes and slots refer to, reading none by code."""
    try:
        attributes = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        attributes = None
    parts: list[Any] = []
    if isinstance(attributes, dict):
        parts.append(attributes)
    for kind in type(thing).__mro__[:-1]:
        for member in vars(kind).values() if "__slots__" in vars(kind) else ():
            if type(member) is types.MemberDescriptorType:
                try:
                    parts.append(member.__get__(thing, kind))
                except AttributeError:  # not set
                    continue
    return _once(*parts)


def _once(*parts: Any) -> _Parts:
    return [(part, 1.0) for part in parts if part is not None]


def _own(thing: Any) -> int:
    """Return the size of an object alone: what a class says in Python may be of all."""
    for kind in type(thing).__mro__:
        if "__sizeof__" in vars(kind):
            if type(vars(kind)["__sizeof__"]) is types.FunctionType:
                return object.__sizeof__(thing)
            return sys.getsizeof(thing)
    return object.__sizeof__(thing)


def _items(thing: Any, base: Any) -> _Parts:
    """Return the items of a container; of a long one, some for all."""
    total = base.__len__(thing)
    if base in (list, tuple):
        step = max(1, math.ceil(total / SAMPLE))
        return _scaled(base.__getitem__(thing, slice(None, None, step)), total)
    return _scaled(list(islice(base.__iter__(thing), SAMPLE)), total)


def _scaled(chosen: Sequence[Any], total: int) -> _Parts:
    """Return chosen items with the weight of all; alike ones stand for themselves."""
    if not chosen:
        return []
    different = len({id(item) for item in chosen})
    share = total / len(chosen) if different == len(chosen) else 1.0
    return [(item, share) for item in chosen]
