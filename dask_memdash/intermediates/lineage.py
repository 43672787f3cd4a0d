"""What the tasks before a key say of its value: whose code it rests on, what it does.

Two questions, answered in one walk of a graph: which functions of the user's own does a
value rest on (its *edition*, see :mod:`dask_memdash.intermediates.code_versions`), and
does computing it write something elsewhere, so that a stored value cannot take its
place.  Pure: no store, no cluster.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dask._task_spec import GraphNode

from dask_memdash.intermediates.code_versions import CodeVersions, callables_in

#: Libraries whose functions that write are known by their names.
LIBRARIES = ("dask.", "xarray.", "zarr.", "distributed.", "dask_expr.")

#: Names of functions that write, as those libraries have them.
WRITES = re.compile(
    r"(^|_)(write|store|save|upload)(_|$)"
    r"|(^|_)to_?(csv|parquet|json|hdf|sql|orc|text|avro|zarr|netcdf|gbq)"
    r"|WriteToFile|Writer$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Lineage:
    """What is known of all tasks up to a key."""

    #: Functions of the user's own, with a hash of each.
    functions: Mapping[str, str]
    #: Whether one of the tasks writes something elsewhere.
    writes: bool


#: Bit of the marks of a task that writes; the functions' bits follow.
_WRITES = 1


def lineages(
    tasks: Mapping[Any, GraphNode],
    outputs: Collection[Any],
    known: Mapping[Any, Lineage] | None = None,
) -> dict[Any, Lineage]:
    """Return what is known of each output key.

    Parameters
    ----------
    known
        Of keys at which the walk may stop.
    """
    return _Walk(tasks, known or {}).all(outputs)


class _Walk:
    """One walk of one graph; the marks of a key are a set of bits."""

    def __init__(
        self, tasks: Mapping[Any, GraphNode], known: Mapping[Any, Lineage]
    ) -> None:
        self._tasks = tasks
        self._known = known
        self._versions = CodeVersions()
        self._bits: dict[tuple[str, str], int] = {}
        self._marks: dict[Any, int] = {}
        self._of_functions: dict[int, tuple[Any, int]] = {}

    def all(self, outputs: Collection[Any]) -> dict[Any, Lineage]:
        for key in outputs:
            self._look(key)
        entries = list(self._bits)
        made: dict[int, Lineage] = {}
        found = {}
        for key in outputs:
            marks = self._marks[key]
            if marks not in made:
                named = (entries[n] for n in range(len(entries)) if marks >> n + 1 & 1)
                made[marks] = Lineage(dict(named), bool(marks & _WRITES))
            found[key] = made[marks]
        return found

    def _look(self, output: Any) -> None:
        tasks, marks = self._tasks, self._marks
        stack = [output]
        while stack:
            key = stack[-1]
            if key in marks:
                stack.pop()
                continue
            if key in self._known or key not in tasks:
                lineage = self._known.get(key)
                marks[stack.pop()] = self._of_known(lineage) if lineage else 0
                continue
            task = tasks[key]
            ahead = [k for k in task.dependencies if k not in marks]
            if ahead:
                stack.extend(ahead)
                continue
            mine = self._own(task)
            for dependency in task.dependencies:
                mine |= marks[dependency]
            marks[stack.pop()] = mine

    def _of_known(self, lineage: Lineage) -> int:
        return self._bits_of(lineage.functions) | (_WRITES if lineage.writes else 0)

    def _bits_of(self, functions: Mapping[str, str]) -> int:
        marks = 0
        for entry in functions.items():
            marks |= 2 << self._bits.setdefault(entry, len(self._bits))
        return marks

    def _own(self, task: GraphNode) -> int:
        marks = 0
        for function in callables_in(task):
            known = self._of_functions.get(id(function))
            if known is None:
                bits = self._bits_of(self._versions.of(function))
                bits |= _WRITES if _is_writer(function) else 0
                # the function is kept, so that its id stays its own
                known = self._of_functions[id(function)] = function, bits
            marks |= known[1]
        return marks


def _is_writer(function: Any) -> bool:
    """Return whether a function is a library's own that writes something."""
    function = getattr(function, "__func__", function)
    named = function if hasattr(function, "__qualname__") else type(function)
    module = f"{getattr(named, '__module__', '')}."
    if not module.startswith(LIBRARIES):
        return False
    return bool(WRITES.search(str(getattr(named, "__qualname__", ""))))
