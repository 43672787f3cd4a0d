"""Graphs that arrive at the scheduler: what is loaded, and what is to be stored.

Wraps the one synchronous call in which the scheduler makes task states of a graph.
What is stored is exchanged for loads before it; under which names the results of a
persist are to be stored is worked out after it, in a thread.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.intermediates.lineage import Lineage
from dask_memdash.intermediates.memory import Memory
from dask_memdash.intermediates.shared.index import StoreIndex
from dask_memdash.intermediates.shared.ledger import KEPT, NEVER, Followed, Ledger
from dask_memdash.intermediates.shared.naming import Naming
from dask_memdash.intermediates.shared.resume import (
    Resumed,
    Verdict,
    is_persist,
    judge,
    may_be_stored,
    resume,
)
from dask_memdash.intermediates.shared.stand_ins import StandIns
from dask_memdash.intermediates.shared.writing import Writing

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

    InThread = Callable[[Callable[[], Any], Callable[[Any], Any]], None]

#: What the scheduler hands over by name as it makes task states of a graph.
TAKEN = {"dsk", "keys"}


class Graphs:
    """The graphs of one scheduler.

    Parameters
    ----------
    in_thread
        Has something done in a thread, and its result taken in on the loop.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        memory: Memory,
        ledger: Ledger,
        index: StoreIndex,
        stand_ins: StandIns,
        writing: Writing,
        naming: Naming,
        in_thread: InThread,
    ) -> None:
        self._scheduler: Any = scheduler
        self._memory = memory
        self._ledger = ledger
        self._index = index
        self._stand_ins = stand_ins
        self._writing = writing
        self._naming = naming
        self._in_thread = in_thread
        #: Results that were found stored when their graph came.
        self.resumed = 0

    def make_tasks(
        self, theirs: Callable[..., Any], *args: Any, **arguments: Any
    ) -> Any:
        """Let what is stored be loaded; have what is persisted stored.

        A call that is not of the kind that is known here is Dask's alone.
        """
        if args or not arguments.keys() >= TAKEN:
            boundary.note("resuming a graph", "this Dask makes tasks in a new way")
            return theirs(*args, **arguments)
        tasks = arguments["dsk"]
        boundary.guarded(self._name, "following a name")(arguments)
        resumed = boundary.guarded(self._resume, "resuming a graph")(arguments)
        if resumed is not None:
            arguments["dsk"] = resumed.tasks
        try:
            made = theirs(**arguments)
        except BaseException:
            for key in resumed.loads if resumed is not None else ():
                if key not in self._scheduler.tasks:
                    self._stand_ins.forget(key)
                    self._ledger.forget(key)
            raise
        boundary.guarded(self._judge, "choosing what to store")(arguments, tasks)
        return made

    def _name(self, arguments: Mapping[str, Any]) -> None:
        if is_persist(arguments.get("span_metadata"), arguments.get("actors")):
            self._naming.arrived(arguments)

    def _resume(self, arguments: Mapping[str, Any]) -> Resumed | None:
        tasks, known = arguments["dsk"], self._scheduler.tasks
        if arguments.get("actors"):
            return None
        resumed = resume(
            tasks,
            arguments["keys"],
            self._stand_ins.task,
            known.__contains__,
            _Lineages(self._ledger),
            self._earlier,
            self._index,
            self._memory,
        )
        if resumed is None:
            return None
        loads = [(key, resumed.tasks[key]) for key in resumed.loads]
        self._stand_ins.arrived(loads, tasks)
        self.resumed += len(loads)
        for key, stored in resumed.loads.items():
            one = Followed(stored.object_id, resumed.lineages[key], KEPT)
            self._ledger.follow(key, one)
        return resumed

    def _earlier(self, keys: Any) -> dict[Any, Any]:
        """Return the scheduler's tasks up to keys, as far as no lineage is known."""
        found: dict[Any, Any] = {}
        stack = list(keys)
        while stack:
            key = stack.pop()
            ts = self._scheduler.tasks.get(key)
            if ts is None or key in found or key in self._ledger.keys:
                continue
            if key in self._stand_ins:
                found |= self._stand_ins.tasks_before(key)
            elif ts.run_spec is not None:
                found[key] = ts.run_spec
                stack.extend(dts.key for dts in ts.dependencies)
        return found

    def _judge(self, arguments: Mapping[str, Any], tasks: Mapping[Any, Any]) -> None:
        """Have it worked out, in a thread, under which names results are stored."""
        if not is_persist(arguments.get("span_metadata"), arguments.get("actors")):
            return
        known = self._scheduler.tasks
        keys = [
            key
            for key in arguments["keys"]
            if key not in self._ledger.keys
            and key in known
            and may_be_stored(key, tasks.get(key))
        ]
        if not keys:
            return
        before = {k for t in tasks.values() for k in t.dependencies if k not in tasks}
        whole = {**self._earlier(before), **tasks}
        version = getattr(self._memory, "version", None)
        lineages = _Lineages(self._ledger)
        self._in_thread(lambda: judge(whole, keys, lineages, version), self._follow)

    def _follow(self, verdicts: Mapping[Any, Verdict]) -> None:
        """Follow keys; those that are in memory already are stored at once."""
        for key, verdict in verdicts.items():
            ts = self._scheduler.tasks.get(key)
            if ts is None or key in self._ledger.keys:
                continue
            if verdict.object_id is None:
                self._ledger.follow(key, Followed("", verdict.lineage, NEVER))
                continue
            self._ledger.follow(key, Followed(verdict.object_id, verdict.lineage))
            self._writing.ask(key)


class _Lineages(Mapping[Any, Lineage]):
    """The lineages of followed keys, as a mapping that is read as it is."""

    def __init__(self, ledger: Ledger) -> None:
        self._keys = ledger.keys

    def __getitem__(self, key: Any) -> Lineage:
        return self._keys[key].lineage

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
