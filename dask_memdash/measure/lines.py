"""The line of an allocation: where a task's largest block was allocated.

Covers loading the extension (``frames/``), telling it what this version of Python calls
its operations and which files are libraries', testing it before anybody relies on it,
and saying in words why a line is not known.  How a line is found stands in
``frames/lines.h``; the tallies call it for each block of 16 MiB and more, and it leaves
the largest one that a task holds in the task's slot of the flight recorder.

What leaves the worker is the end of a file's name, a line's number, the name of the
function and the name of what it called: no source text.

Nothing here raises for what it finds at run time: without it there are no lines.
"""

from __future__ import annotations

import dis
import opcode
import os
import site
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_memdash.measure._lines import Here

#: What an operation is to ``callee.c``, which has the same names, in the same order.
KINDS = (
    "unknown",
    "other",
    "extended",
    "global",
    "name",
    "local",
    "deref",
    "attribute",
    "attribute-shifted",
    "call",
    "before-call",
    "binary",
    "subscript",
    "compare",
    "build",
)

#: Operation → its kind; what is not listed is "other".
_KIND_OF = {
    "EXTENDED_ARG": "extended",
    "LOAD_GLOBAL": "global",
    "LOAD_NAME": "name",
    "LOAD_FAST": "local",
    "LOAD_FAST_CHECK": "local",
    "LOAD_DEREF": "deref",
    "LOAD_METHOD": "attribute",
    "LOAD_ATTR": "attribute",
    "CALL": "call",
    "CALL_KW": "call",
    "CALL_FUNCTION_EX": "call",
    "PRECALL": "before-call",
    "BINARY_OP": "binary",
    "BINARY_SUBSCR": "subscript",
    "BINARY_SLICE": "subscript",
    "COMPARE_OP": "compare",
}

#: Packages through which tasks are called, and which are never what a task's author
#: wrote.
HOSTS = ("dask", "distributed", "dask_memdash", "toolz", "tlz", "cytoolz")

#: The file that the self-test is in, and what it must be seen to be.
_TEST_FILE = "/of/nobody/memdash/self_test.py"
_TEST_SOURCE = "def probe(it):\n    pass\n    return it.here()\n"
_TEST_LINE = 3


def operations() -> tuple[bytes, bytes]:
    """Return the kind of each of 256 operations, and how many units of data follow it.

    Includes what the interpreter replaces operations by as it runs.
    """
    kinds, follow = bytearray(256), bytearray(256)
    shifted = sys.version_info >= (3, 12)
    counts: Any = opcode._inline_cache_entries  # type: ignore[attr-defined]
    every: dict[str, int] = dis._all_opmap  # type: ignore[attr-defined]
    for name, code in every.items():
        if code < 256:
            base = dis.deoptmap.get(name, name).removeprefix("INSTRUMENTED_")  # type: ignore[attr-defined]
            kind = _KIND_OF.get(base, "other")
            if kind == "attribute" and shifted:
                kind = "attribute-shifted"
            kinds[code] = KINDS.index(kind)
            known = opcode.opmap.get(base)
            if isinstance(counts, dict):
                follow[code] = counts.get(base, 0)
            elif known is not None and known < 256:
                follow[code] = counts[known]
    for name in ("INSTRUMENTED_LINE", "INSTRUMENTED_INSTRUCTION"):  # hides another
        if name in opcode.opmap:
            kinds[opcode.opmap[name]] = 0
    return bytes(kinds), bytes(follow)


def library_roots() -> list[tuple[str, int, bool]]:
    """Return where libraries are: beginning of file names, package's place, host's.

    Files in a folder ``site-packages`` or ``dist-packages`` are known without it.
    """
    found: dict[str, tuple[int, bool]] = {}
    for name in HOSTS:
        module = sys.modules.get(name)
        for folder in getattr(module, "__path__", None) or ():
            path = Path(folder).absolute()
            found[_within(path)] = (len(_within(path.parent)), True)
    folders = [sysconfig.get_path(name) for name in _PATHS]
    for place in [*folders, *_site_folders()]:
        if place:
            root = _within(Path(place).absolute())
            found.setdefault(root, (len(root), False))
    return [(root, *rest) for root, rest in found.items()]


def _within(folder: Path) -> str:
    """Return what the names of files in a folder begin with."""
    return f"{str(folder).rstrip(os.sep)}{os.sep}"


_PATHS = ("stdlib", "platstdlib", "purelib", "platlib")


def _site_folders() -> list[str]:
    try:
        return [*site.getsitepackages(), site.getusersitepackages()]
    except AttributeError:  # pragma: no cover - an old virtualenv's own site.py
        return []


class Lines:
    """The lines of this process.

    Attributes
    ----------
    table
        What a tally is given to use it.
    """

    def __init__(self, native: Any) -> None:
        self._native = native
        self.table: object = native.lines
        self.here: Callable[[], Here] = native.here

    def configure(self) -> str:
        """Set what native code has to know; return what is wrong, or nothing."""
        kinds, follow = operations()
        symbols = tuple(symbol for _, symbol in opcode._nb_ops)  # type: ignore[attr-defined]
        self._native.configure(kinds, follow, symbols, library_roots(), list(HOSTS))
        return self.self_test()

    def self_test(self) -> str:
        """Look from a known line; return what is wrong, or nothing."""
        space: dict[str, Any] = {}
        exec(compile(_TEST_SOURCE, _TEST_FILE, "exec"), space)
        file, line, function, called, _ = space["probe"](self._native)
        if (file, line, function) != ("memdash/self_test.py", _TEST_LINE, "probe"):
            return f"a known line was taken for {file}:{line} in {function}"
        if called != "it.here":
            return f"a call of it.here was taken for {called or 'nothing'}"
        return ""

    def forget_all(self) -> None:
        """Know no block any more: nobody says from now on when they go."""
        self._native.forget_all()

    def watched(self) -> int:
        """Return how many large blocks of tasks are known now."""
        return int(self._native.watched())


@cache
def _load() -> tuple[Lines | None, str]:
    try:
        native = import_module("dask_memdash.measure._lines")
    except ModuleNotFoundError:
        return None, "that part was not built when dask_memdash was installed"
    except ImportError as error:
        return None, str(error)
    major, minor, *_ = sys.version_info
    if native.version != major << 8 | minor or sys.version_info.releaselevel == "alpha":
        return None, "it was built for another version of Python"
    lines = Lines(native)
    try:
        wrong = lines.configure()
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        wrong = f"{type(error).__name__}: {error}"
    return (None, wrong) if wrong else (lines, "")


def load() -> Lines | None:
    """Return the lines of this process; None (see `why_not`) where there are none."""
    return _load()[0]


def why_not() -> str:
    """Say why `load` gives None, as a sentence; empty if it does not."""
    why = _load()[1]
    return f"the lines of allocations are not known: {why}" if why else ""
