"""Where a task stands in its graph's order.

Keeps, for each graph, only the sorted priorities of its tasks: 4 or 8 bytes a task, and
none where they count up one by one, as those of a graph that shares no key do.
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

#: Task groups that a graph is told apart by at most.  One with more (every task a
#: group of its own) is found by priority alone.
MAX_GROUPS = 256


@dataclass(slots=True)
class _Graph:
    name: str
    #: None where there are too many.
    groups: frozenset[str] | None
    #: Priority without its last number → the last numbers, sorted.
    priorities: dict[tuple[float, ...], Sequence[float]]
    total: int
    #: Whether it is no graph but single submits that came one after another.
    submits: bool = False


class GraphIndex:
    """Ranks tasks by priority within the graph that brought them."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[str, _Graph] = OrderedDict()
        self._tasks = 0

    def add(
        self,
        name: str,
        groups: Iterable[str],
        priorities: Mapping[tuple[float, ...], Sequence[float]],
        *,
        submits: bool = False,
    ) -> None:
        """Remember a graph's priorities; arrays and ranges are sorted and kept.

        Parameters
        ----------
        submits
            Whether these are single submits that came one after another.
        """
        kept: dict[tuple[float, ...], Sequence[float]] = {
            head: p if isinstance(p, array | range) else array("d", sorted(p))
            for head, p in priorities.items()
        }
        total = sum(map(len, kept.values()))
        if total < 2:
            return
        names = frozenset(groups)
        few = names if len(names) <= MAX_GROUPS else None
        self._graphs[name] = _Graph(name, few, kept, total, submits)
        self._tasks += total
        while len(self._graphs) > MAX_GRAPHS or (
            self._tasks > MAX_TASKS and len(self._graphs) > 1
        ):
            _, graph = self._graphs.popitem(last=False)
            self._tasks -= graph.total

    def position(
        self, group: str, priority: Sequence[float] | None
    ) -> tuple[int, int] | None:
        """Return a task's rank (from 1) and its graph's number of tasks.

        None when the graph is not known: too old, or a graph of one task.
        """
        found = self._find(group, priority)
        if found is None:
            return None
        graph, head, place = found
        before = sum(len(p) for h, p in graph.priorities.items() if h < head)
        return before + place + 1, graph.total

    def graph_of(self, group: str, priority: Sequence[float] | None) -> str | None:
        """Return the name of a task's graph; None for single submits, and as above."""
        found = self._find(group, priority)
        return None if found is None or found[0].submits else found[0].name

    def _find(
        self, group: str, priority: Sequence[float] | None
    ) -> tuple[_Graph, tuple[float, ...], int] | None:
        """Return a task's graph, and its place among those of its own head."""
        if not priority:
            return None
        head, last = tuple(priority[:-1]), priority[-1]
        for graph in reversed(self._graphs.values()):
            own = graph.priorities.get(head)
            if own is None or (graph.groups is not None and group not in graph.groups):
                continue
            place = bisect_left(own, last)
            if place < len(own) and own[place] == last:
                return graph, head, place
        return None
