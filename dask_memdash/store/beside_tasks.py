"""What belongs to no task, by name: rows beside the table of prefixes, with advice.

Sums over the cluster's worker processes, from what each last said.  Rows of one part
are never more than the part, so that all rows and all tasks together count nothing
twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from dask_memdash import terms
from dask_memdash.model.breakdown import Breakdown, scale
from dask_memdash.model.event_parts import GraphRow
from dask_memdash.model.processes import ProcessState
from dask_memdash.text import code, count, format_bytes

#: What is worth advice: so many bytes a task of a graph, and so many that Arrow keeps,
#: or that stays for another reason.
LARGE_ARGUMENT = 2**23
MUCH_KEPT = 2**26

#: Names within a row that are told, the largest.
INSIDE = 10


class InsideOther(TypedDict):
    """Something that a row consists of."""

    name: str
    bytes: int


class OtherMemory(TypedDict):
    """One thing in the workers' memory that is no task's, under a name of its own."""

    name: str
    """Unlike any other row's: the group's name, or that and what it is, such as
    'global app.models.CACHE'."""
    group: str
    """What it is: one of ``terms.OTHERS``, such as 'actors', 'graph
    arguments', 'client.run' or 'baseline' (what nothing explains further)."""
    kind: str
    """Always 'other': no prefix of tasks."""
    part: str | None
    """The part of the breakdown that it lies in; ``None`` for what lies beside the
    process."""
    bytes: int | None
    """``None`` for what is there and was not measured."""
    method: str
    """How it is known: one of ``terms.OTHER_METHODS``, such as 'looked into'."""
    inside: list[InsideOther]
    """What it consists of, as far as that is known: the largest, largest first."""
    text: str
    """What there is to say of this one, in a sentence; may be empty."""
    advice: str | None
    """What to change, where that is worth while."""


def graph_advice(prefix: str, row: GraphRow) -> str | None:
    """Say what to change where each task of a prefix carries much; None elsewhere."""
    each = row.arguments // row.tasks if row.tasks else 0
    if each < LARGE_ARGUMENT:
        return None
    carriers = f"Each of {count(row.tasks, 'task')} carries"
    if row.tasks == 1:
        carriers = "Its task carries"
    return (
        f"{carriers} {format_bytes(each)} of arguments or closure: scatter it once, "
        f"`x = client.scatter(x)`, and pass that to {code(prefix)} instead."
    )


def arrow_advice(kept: int | None) -> str | None:
    """Say how to get back what Arrow's pool keeps; None where that is little."""
    if kept is None or kept < MUCH_KEPT:
        return None
    return (
        f"Arrow's memory pool keeps up to {format_bytes(kept)} that was freed. Start "
        "workers with ARROW_DEFAULT_MEMORY_POOL=system, and it goes back. On workers "
        "that run, `client.run(lambda: __import__('pyarrow').default_memory_pool()"
        ".release_unused())` may return some of it."
    )


def beside_tasks(
    total: Breakdown, processes: Iterable[ProcessState], counted: int = 0
) -> list[OtherMemory]:
    """Return all that belongs to no task, largest first.

    Parameters
    ----------
    counted
        What running tasks count of what is executing, in bytes.
    """
    found = _Found()
    for process in processes:
        found.add(process)
    arguments, records = sum(found.arguments.values()), sum(found.records.values())
    named = arguments + records
    arguments = total.graph * arguments // named if named else total.graph
    arrow = min(found.arrow, total.retained)
    files = min(total.reclaimable or 0, total.baseline)
    carriers = max(
        found.graph.items(), key=lambda item: item[1].arguments, default=None
    )
    rows = [
        _row("transfer", "transfer", total.transfer, "counted"),
        _row("not counted", "executing", total.executing - counted, "remainder"),
        _row(
            "graph arguments",
            "graph",
            arguments,
            "looked into",
            inside=found.arguments,
            advice=graph_advice(*carriers) if carriers else None,
        ),
        _row(
            "graph records",
            "graph",
            total.graph - arguments,
            "estimated",
            inside=found.records,
            text=f"For {count(found.tasks, 'task')} that the workers know."
            if found.tasks
            else "",
        ),
        *_actors(total.actors, found),
        _row(
            "arrow pool", "retained", arrow, "upper bound", advice=arrow_advice(arrow)
        ),
        _row("allocator", "retained", total.retained - arrow, "upper bound"),
        _row("file pages", "baseline", files, "kernel"),
        *_of_baseline(total.baseline - files, found),
        _row(
            "child processes",
            None,
            sum(found.children.values()),
            "kernel",
            inside=found.children,
        ),
    ]
    shown = [row for row in rows if row["bytes"] or row["bytes"] is None]
    return sorted(shown, key=lambda r: (-(r["bytes"] or 0), r["name"]))


class _Found:
    """Sums over processes of what their workers named."""

    def __init__(self) -> None:
        self.graph: dict[str, GraphRow] = {}
        self.actors: dict[str, int] = {}
        self.n_actors: dict[str, int] = {}
        self.children: dict[str, int] = {}
        #: Memory that workers named: (group, name) → bytes; and how often not measured.
        self.named: dict[tuple[str, str], int] = {}
        self.unmeasured: dict[tuple[str, str], int] = {}
        self.arrow = 0

    @property
    def arguments(self) -> dict[str, int]:
        """Arguments and closures, by prefix."""
        return {name: row.arguments for name, row in self.graph.items()}

    @property
    def records(self) -> dict[str, int]:
        """Records of tasks, by prefix."""
        return {name: row.records for name, row in self.graph.items()}

    @property
    def tasks(self) -> int:
        """Tasks that the workers know, each as often as a worker knows it."""
        return sum(row.tasks for row in self.graph.values())

    def add(self, process: ProcessState) -> None:
        """Add what the workers of a process have said."""
        members = list(process.members.values())
        for worker in members:
            for name, row in worker.graph.items():
                known = self.graph.get(name, GraphRow(0, 0, 0))
                self.graph[name] = GraphRow(
                    known.tasks + row.tasks,
                    known.arguments + row.arguments,
                    known.records + row.records,
                )
            for name, actors in worker.actors.items():
                self.actors[name] = self.actors.get(name, 0) + actors.size
                self.n_actors[name] = self.n_actors.get(name, 0) + actors.actors
            for child in worker.children:
                name = child.prefix or child.command
                self.children[name] = self.children.get(name, 0) + child.rss
        # Workers of one process see the same modules: each of them says the same.
        for key, (size, missed) in _of_process(members).items():
            self.named[key] = self.named.get(key, 0) + size
            self.unmeasured[key] = self.unmeasured.get(key, 0) + missed
        newest = members[-1].reading if members else None
        self.arrow += (newest.arrow_kept or 0) if newest is not None else 0


def _of_process(members: Iterable[Any]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return what the workers of one process named: bytes, and what was not measured.

    Modules are the process's; plugins and calls are each worker's own.
    """
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for worker in members:
        for one in worker.named:
            size, missed = found.get((one.group, one.name), (0, 0))
            if one.group == "global":
                size = max(size, one.size)
            else:
                size += one.size
            found[one.group, one.name] = size, missed + one.unmeasured
    return found


def _actors(size: int, found: _Found) -> list[OtherMemory]:
    """Return a row for the actors of each class."""
    shares = scale(found.actors, size) if any(found.actors.values()) else {}
    rows = [
        _row(
            "actors",
            "actors",
            share,
            "looked into",
            name=f"actor {name}",
            text=f"{count(found.n_actors[name], 'actor')} of this class.",
            advice=_actor_advice(name, share),
        )
        for name, share in shares.items()
    ]
    rest = size - sum(shares.values())
    return [*rows, _row("actors", "actors", rest, "looked into")]


def _actor_advice(name: str, size: int) -> str | None:
    if size < MUCH_KEPT:
        return None
    return (
        f"Let {code(name)} keep less, or store what it gathers; an actor's state is "
        "never spilled. It goes when the future of the actor is released."
    )


def _of_baseline(left: int, found: _Found) -> list[OtherMemory]:
    """Return what workers named of the baseline, and the rest of it."""
    rows = []
    for (group, name), size in sorted(
        found.named.items(), key=lambda item: (-item[1], item[0])
    ):
        missed = found.unmeasured[group, name]
        size = min(size, left)
        left -= size
        whole = f"{group} {name}" if name else group
        rows.append(
            _row(
                group,
                "baseline",
                size if size or not missed else None,
                _method_of(group, size, missed),
                name=whole,
                text=_missed(missed),
                advice=_named_advice(group, name, size),
            )
        )
    return [*rows, _row("baseline", "baseline", left, "remainder")]


def _method_of(group: str, size: int, missed: int) -> str:
    if group != "client.run":
        return "looked into"
    return "not measured" if missed and not size else "before and after"


def _missed(missed: int) -> str:
    if not missed:
        return ""
    return (
        f"{count(missed, 'call')} ran beside tasks: what those left behind is not "
        "measured."
    )


def _named_advice(group: str, name: str, size: int) -> str | None:
    """Say how to make what a worker named smaller; None where that is little."""
    if size < MUCH_KEPT:
        return None
    if group == "global":
        return (
            f"{code(name)} keeps {format_bytes(size)} on the workers, which Dask can "
            "neither see nor spill. Limit it (`functools.lru_cache(maxsize=…)`), or "
            "clear it with `client.run`."
        )
    if group == "plugin":
        return f"Let the worker plugin {code(name)} keep less, or unregister it."
    return (
        "Functions that `client.run` called have left this on the workers. Let them "
        "keep less, or undo it with another `client.run`."
    )


def _row(
    group: str,
    part: str | None,
    size: int | None,
    method: str,
    *,
    name: str = "",
    inside: Mapping[str, int] | None = None,
    text: str = "",
    advice: str | None = None,
) -> OtherMemory:
    largest = sorted((inside or {}).items(), key=lambda item: (-item[1], item[0]))
    return {
        "name": name or terms.OTHERS[group].name,
        "group": group,
        "kind": "other",
        "part": part,
        "bytes": size,
        "method": method,
        "inside": [{"name": n, "bytes": b} for n, b in largest[:INSIDE] if b],
        "text": text,
        "advice": advice,
    }
