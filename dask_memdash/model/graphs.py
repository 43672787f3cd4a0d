"""Where a task stands in its graph's order.

Keeps, for each graph, only the sorted priorities of its tasks: 8 bytes a task.
Graphs of one task (a ``submit``) are not kept: a rank of 1 of 1 says nothing.

Imports the standard library only.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Graphs and tasks remembered at most; the oldest graphs go first.
MAX_GRAPHS = 500
MAX_TASKS = 4_000_000


@dataclass(slots=True)
class _Graph:
    name: str
    groups: frozenset[str]
    #: Priority without its last number → the last numbers, sorted.
    priorities: dict[tuple[float, ...], array[float]]
    total: int


class GraphIndex:
    """Ranks tasks by priority within the graph that brought them."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[str, _Graph] = OrderedDict()
        self._by_group: dict[str, list[str]] = {}
        self._tasks = 0

    def add(
        self,
        name: str,
        groups: Iterable[str],
        priorities: Mapping[tuple[float, ...], Sequence[float]],
    ) -> None:
        """Remember a graph's priorities."""
        arrays = {head: array("d", sorted(p)) for head, p in priorities.items()}
        total = sum(len(a) for a in arrays.values())
        if total < 2:
            return
        graph = _Graph(name, frozenset(groups), arrays, total)
        self._graphs[name] = graph
        self._tasks += total
        for group in graph.groups:
            self._by_group.setdefault(group, []).append(name)
        while len(self._graphs) > MAX_GRAPHS or (
            self._tasks > MAX_TASKS and len(self._graphs) > 1
        ):
            self._forget()

    def position(
        self, group: str, priority: Sequence[float] | None
    ) -> tuple[int, int] | None:
        """Give a task's rank (from 1) and its graph's number of tasks.

        None when the graph is not known: too old, or a graph of one task.
        """
        if not priority:
            return None
        head, last = tuple(priority[:-1]), priority[-1]
        for name in reversed(self._by_group.get(group, [])):
            graph = self._graphs[name]
            own = graph.priorities.get(head)
            if own is None:
                continue
            place = bisect_left(own, last)
            if place == len(own) or own[place] != last:
                continue
            before = sum(len(a) for h, a in graph.priorities.items() if h < head)
            return before + place + 1, graph.total
        return None

    def _forget(self) -> None:
        _, graph = self._graphs.popitem(last=False)
        self._tasks -= graph.total
        for group in graph.groups:
            names = self._by_group[group]
            names.remove(graph.name)
            if not names:
                del self._by_group[group]
