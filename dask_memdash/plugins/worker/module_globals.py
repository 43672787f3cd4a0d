"""What variables of the user's own modules hold: caches, tables, models.

A variable of an imported module outlives every task, is in no books of Dask and cannot
be spilled.  Looks into the variables one by one, a little at a time, into each in
bounded time: of modules that lie outside the Python installation, and of those whose
functions tasks have called.  Runs no code of the user's objects.

Not seen: what functions keep in closures, what hangs on objects of modules that are
left out, and modules of functions that were sent by value, which are no modules here.

Belongs to the worker's event loop.
"""

from __future__ import annotations

import functools
import gc
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from dask_memdash.measure.deep_size import FOREIGN, deep_size

#: Objects and seconds that a look into one variable may take, and seconds for all at
#: one time.
MAX_OBJECTS = 5_000
SECONDS = 0.002
ALL_SECONDS = 0.005

#: How many times longer than a look took none is made after it, and seconds from the
#: end of one pass over all variables to the next.
REST = 100
BETWEEN = 2.0

#: Modules that are looked at, and variables of one module.
MAX_MODULES = 200
MAX_VARIABLES = 2_000

#: Entries of a ``functools.lru_cache`` that is looked into.
MAX_CACHED = 100_000

#: Outputs in RAM that are told from what variables hold, at most.
MAX_OUTPUTS = 50_000

#: What is told: from so many bytes on, so many variables, the largest.
LEAST = 2**20
MAX_TOLD = 20

#: The type of one entry of such a cache.
LINK = "_lru_list_elem"

#: Modules of these are the host's, or have nothing of the user's.
HOSTS = FOREIGN | {"dask", "toolz", "tlz", "cloudpickle", "msgpack", "zict", "builtins"}

#: Values of these are looked into by others, or are code and no data.
_CODE = (
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    bool,
    int,
    float,
    complex,
    type(None),
)


class ModuleGlobals:
    """The variables of a process's modules.

    Parameters
    ----------
    modules
        Name → module; the process's own unless a test has others.
    outputs
        Goes through what storage holds in RAM: where a variable refers to it too, it
        is storage.
    """

    def __init__(
        self,
        modules: dict[str, Any] | None = None,
        outputs: Callable[[], Iterable[Any]] = tuple,
    ) -> None:
        self._modules = sys.modules if modules is None else modules
        self._outputs = outputs
        # Addresses of outputs, once a look needs them.
        self._stored: set[int] | None = None
        self._installed = _installation()
        # Modules of functions that tasks have called, by name, and which were found
        # to be the user's, as of how many modules.
        self._called: set[str] = set()
        self._own: list[str] = []
        self._known: dict[str, bool] = {}
        self._walk: Iterator[tuple[str, int]] | None = None
        self._sizes: dict[str, int] = {}
        # When the next look may be, and when it might without a pause between passes.
        self._next = self._rested = 0.0
        #: Variable → bytes, of the largest, as of the last whole pass.
        self.largest: dict[str, int] = {}

    def called(self, function: Any) -> None:
        """Take note of a function that tasks call: its module is looked at too."""
        while isinstance(function, functools.partial):
            function = function.func
        name = getattr(function, "__module__", None)
        if isinstance(name, str) and len(self._called) < MAX_MODULES:
            home = name.partition(".")[0]
            if home not in HOSTS and home not in sys.stdlib_module_names:
                self._called.add(name)

    def look(self, clock: Callable[[], float]) -> None:
        """Look into some more variables, if it is time.

        Parameters
        ----------
        clock
            Returns the time in seconds.
        """
        begun = clock()
        if begun < self._next:
            return
        if self._walk is None:
            self._walk, self._sizes = self._variables(), {}
        self._stored = None
        rest = 0.0
        for name, size in self._walk:
            if size >= LEAST:
                self._sizes[name] = size
            if clock() > begun + ALL_SECONDS:
                break
        else:
            self._walk = None
            ranked = sorted(self._sizes.items(), key=lambda item: -item[1])
            self.largest = dict(ranked[:MAX_TOLD])
            rest = BETWEEN
        now = clock()
        self._rested = now + REST * (now - begun)
        self._next = max(now + rest, self._rested)

    def total(self, clock: Callable[[], float], *, second: bool = False) -> int | None:
        """Return what all variables hold now, in bytes.

        None where there is no time for that now, or it takes too long.

        Parameters
        ----------
        clock
            Returns the time in seconds.
        second
            Whether this is the second of two looks, which may follow the first.
        """
        begun = clock()
        if begun < self._rested and not second:
            return None
        total, self._stored, whole = 0, None, False
        for _, size in self._variables():
            total += size
            if clock() > begun + ALL_SECONDS:
                break
        else:
            whole = True
        now = clock()
        self._rested = max(self._rested, now) + REST * (now - begun)
        self._next = max(self._next, self._rested)
        return total if whole else None

    def _variables(self) -> Iterator[tuple[str, int]]:
        """Look into the variables of all modules, one by one; each value once.

        Between two looks no value is held on to: it may be cleared meanwhile.
        """
        seen: set[int] = set()
        for module in self._of_the_user():
            space = getattr(self._modules.get(module), "__dict__", None)
            if type(space) is not dict:
                continue
            for name in list(space)[:MAX_VARIABLES]:
                if type(name) is str and not name.startswith("__"):
                    yield f"{module}.{name}", self._look_into(space, name, module, seen)

    def _look_into(
        self, space: dict[str, Any], name: str, module: str, seen: set[int]
    ) -> int:
        """Return what one variable holds and storage does not, in bytes."""
        roots = _roots_of(space.get(name), module, seen)
        size = deep_size(roots, most=MAX_OBJECTS, seconds=SECONDS).bytes
        if size < LEAST:
            return size
        if self._stored is None:
            self._stored = {id(x) for x in islice(self._outputs(), MAX_OUTPUTS)}
        if not self._stored:
            return size
        return deep_size(
            roots, most=MAX_OBJECTS, seconds=SECONDS, known=self._stored
        ).bytes

    def _of_the_user(self) -> list[str]:
        """Return the names of the modules that are looked at."""
        found = []
        for name in list(self._modules):
            known = self._known.get(name)
            if known is None:
                known = self._known[name] = self._is_own(name)
            if known or name in self._called:
                found.append(name)
        return found[-MAX_MODULES:]

    def _is_own(self, name: str) -> bool:
        """Whether a module lies outside the Python installation."""
        if name.partition(".")[0] in HOSTS:
            return False
        space = getattr(self._modules.get(name), "__dict__", None)
        place = space.get("__file__") if type(space) is dict else None
        return (
            isinstance(place, str)
            and not place.startswith(self._installed)
            and "-packages/" not in place
        )


def _roots_of(value: Any, module: str, seen: set[int]) -> list[Any]:
    """Return what to look into of a variable; nothing for code or what was seen."""
    kind = type(value)  # asked of the object itself, code of a proxy would run
    if kind in _CODE or id(value) in seen:
        return []
    seen.add(id(value))
    if issubclass(kind, type):
        if value.__module__ != module:
            return []
        return [
            inside
            for inside in list(vars(value).values())
            if type(inside) in (dict, list, set)
        ]
    if kind is functools._lru_cache_wrapper:
        return _cached(value)
    return [value]


def _cached(function: Any) -> list[Any]:
    """Return the arguments and the results that ``functools.lru_cache`` keeps."""
    known = function.cache_info()
    if known.currsize > MAX_CACHED:
        return []
    inside = gc.get_referents(function)
    if known.maxsize is None:
        own = function.__dict__
        return [one for one in inside if type(one) is dict and one is not own]
    # Its own type, then for each entry: key, result, type of the entry.
    entries = inside[1 : 1 + 3 * known.currsize]
    if {getattr(kind, "__name__", "") for kind in entries[2::3]} != {LINK}:
        return []  # empty, or another order
    return [entries[::3], entries[1::3]]  # a long list is sampled


def _installation() -> tuple[str, ...]:
    """Return where Python's own modules and installed ones lie."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    paths |= {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return tuple(f"{path.rstrip('/')}/" for path in paths if path)
