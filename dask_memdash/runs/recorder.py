"""What a run's record takes from the living store: what changed, as rows.

Runs on the scheduler's event loop, once a second, and does a bounded amount of work
each time: the larger the cluster, the rarer the state of each worker and prefix.  The
history, incidents and failures are recorded as they come.  Never touches a file: rows
go to a :class:`~dask_memdash.runs.writer.Writer`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from itertools import islice
from typing import Any, Protocol

from dask_memdash.boundary import boundary
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.failure_parts import Failure
from dask_memdash.model.incidents import DEATHS
from dask_memdash.model.processes import ProcessKey
from dask_memdash.runs.directory import Manifest
from dask_memdash.runs.graph_rows import GraphRows
from dask_memdash.runs.prefix_rows import Durations, PrefixRows
from dask_memdash.runs.rows import row
from dask_memdash.runs.waiting import Row
from dask_memdash.runs.worker_rows import WorkerRows
from dask_memdash.store.live import LiveStore

#: Seconds between two looks.
EACH = 1.0

#: What the manifest tells of a run: the most workers at once, memory of the cluster and
#: of one worker's process (bytes), and counts.
SUMMARY = (
    *("n_workers", "most_memory", "most_worker"),
    *("failures", "deaths", "incidents"),
)

#: Rows of the history taken in one look at most; the others come with the next.
AT_ONCE = 5_000

#: Incidents and failures looked at, and written in one look, at most.
LOOKED_AT = 1_000
WRITTEN = 10

#: Ages in seconds at which an incident or failure is written again although it did not
#: change itself: what is said of it may have.
AGAIN = (5.0, 20.0, 90.0)


class Target(Protocol):
    """Where rows go."""

    manifest: Manifest

    def put(self, rows: list[Row]) -> None:
        """Take rows, oldest first."""

    def keep_detail(self, moment: float) -> None:
        """Keep the history by the second around an instant."""


class Recorder:
    """Records a store into a writer.

    Parameters
    ----------
    store, model
        Of the living cluster.
    target
        Takes the rows.
    durations
        Gives the mean time of a prefix's tasks in seconds, None where it is not known.
    """

    def __init__(
        self,
        store: LiveStore,
        model: ClusterModel,
        target: Target,
        durations: Durations = lambda prefix: None,
    ) -> None:
        self._store = store
        self._model = model
        self._target = target
        self._due = 0.0
        self._cluster_due = 0.0
        self._processes: dict[ProcessKey, tuple[int, Any]] = {}
        self._n_processes = 0
        self._total: Any = None
        self._workers = WorkerRows(store, model, self._process_id)
        self._prefixes = PrefixRows(store, model, durations)
        self._graphs = GraphRows(store, model)
        # Id → what was last written of it.
        self._incidents: dict[str, Any] = {}
        self._failures: dict[str, Any] = {}
        self._notices: dict[tuple[str, str], float] = {}
        # The newest action of a guard that was recorded.
        self._guarded = 0
        # All names from the start: the writer copies the manifest's while it changes.
        self._summary: dict[str, int | None] = dict.fromkeys(SUMMARY)
        self._summary.update(n_workers=0, failures=0, deaths=0, incidents=0)
        target.manifest.summary.update(self._summary)
        parts: list[Callable[[float, list[Row]], None]] = [
            *(self._history, self._workers.step, self._look_at_incidents),
            *(self._look_at_failures, self._prefixes.step, self._cluster),
            *(self._graphs.step, self._look_at_guards),
        ]
        self._parts = [
            boundary.guarded(part, f"recording ({part.__qualname__})") for part in parts
        ]

    def step(self, now: float) -> None:
        """Record what changed since the last look; `now` is Unix time."""
        moment = time.monotonic()
        if moment < self._due:
            return
        self._due = moment + EACH * 0.95
        rows: list[Row] = []
        for part in self._parts:
            part(now, rows)
        self._target.put(rows)
        # After the rows, so that a list of runs tells nothing that the run does not.
        self._target.manifest.summary.update(self._summary)

    def finish(self, now: float) -> None:
        """Record what there is at the end, within bounds."""
        self._due = self._cluster_due = 0.0
        self.step(now)
        rows: list[Row] = []
        for part in (self._workers.all, self._prefixes.all, self._graphs.all):
            boundary.guarded(part, "recording the end")(now, rows)
        self._target.put(rows)

    # -- parts -----------------------------------------------------------------

    def _process_id(self, key: ProcessKey, rows: list[Row]) -> int:
        known = self._processes.get(key)
        if known is None:
            self._n_processes += 1
            known = self._processes[key] = (self._n_processes, None)
            rows.append(row("processes", id=known[0], host=key[0], pid=key[1]))
        return known[0]

    def _history(self, now: float, rows: list[Row]) -> None:
        processes = self._model.processes
        taken = 0
        for key, process in processes.by_key.items():
            breakdown = process.breakdown
            known = self._processes.get(key)
            if breakdown is None or (known is not None and known[1] is breakdown):
                continue
            if taken >= AT_ONCE:
                break
            taken += 1
            number = self._process_id(key, rows)
            self._processes[key] = (number, breakdown)
            # Of several in a second the history has the largest, as the page has.
            values = process.history.newest()
            rows.append(("breakdown", (now, number, *values)))
            self._rise("most_worker", values[0])
        if len(self._processes) > 2 * len(processes.by_key) + 100:
            for key in self._processes.keys() - processes.by_key.keys():
                del self._processes[key]
        total = processes.total
        if total is not self._total and processes.by_key:
            self._total = total
            if any(p.breakdown is not None for p in processes.by_key.values()):
                values = processes.history.newest()
                rows.append(("breakdown", (now, 0, *values)))
                self._rise("most_memory", values[0])
        self._rise("n_workers", len(processes.workers))

    def _rise(self, name: str, figure: int | None) -> None:
        """Raise a figure of the summary to another, where that is known and more."""
        if figure is not None and figure > (self._summary[name] or 0):
            self._summary[name] = figure

    def _one_more(self, name: str) -> None:
        self._summary[name] = (self._summary[name] or 0) + 1

    def _cluster(self, now: float, rows: list[Row]) -> None:
        moment = time.monotonic()
        if moment < self._cluster_due:
            return
        n_workers = len(self._model.processes.workers)
        self._cluster_due = moment + max(2.0, min(n_workers / 20, 60.0)) - 0.1
        answer = self._store.cluster()
        rows.append(
            row(
                "cluster_states",
                time=now,
                n_workers=answer["n_workers"],
                n_incidents=answer["n_incidents"],
                n_failures=answer["n_failures"],
                limit_bytes=answer["limit"],
                process_bytes=answer["breakdown"]["process"],
                answer=answer,
            )
        )
        said = {(n["where"], n["text"]): n["since"] for n in answer["degraded"][:1000]}
        for (where, text), since in said.items():
            if (where, text) not in self._notices:
                rows.append(row("notices", place=where, text=text, since=since))
        for (where, text), since in self._notices.items():
            if (where, text) not in said:
                rows.append(
                    row("notices", place=where, text=text, since=since, until=now)
                )
        self._notices = {
            **said,
            **{k: v for k, v in self._notices.items() if k in said},
        }

    def _look_at_incidents(self, now: float, rows: list[Row]) -> None:
        due = _due(
            (
                (one.id, one.time, (one.revision,))
                for one in islice(self._model.incidents, LOOKED_AT)
            ),
            self._incidents,
            now,
        )
        for name, mark in due:
            answer = self._store.incident(name)
            new = name not in self._incidents
            if new:
                self._one_more("incidents")
            if new and answer["kind"] in DEATHS:
                self._one_more("deaths")
                self._target.keep_detail(answer["time"])
                self._cluster_due = 0.0
            if answer["kind"] in DEATHS:  # a sample may have missed its last rise
                self._rise("most_worker", (answer["breakdown"] or {}).get("process"))
            self._incidents[name] = mark
            rows.append(incident_row(answer, now))
        if len(self._incidents) > 4 * LOOKED_AT:
            self._incidents = dict(islice(self._incidents.items(), LOOKED_AT, None))

    def _mark_of(self, failure: Failure, now: float) -> tuple[Any, ...]:
        """Return what changes with what is said of a failure."""
        mark = (failure.closed, failure.count, len(failure.workers), failure.alive)
        if failure.closed is not None and failure.closed < now - AGAIN[-1]:
            return mark
        members = map(self._model.incidents.get, failure.members)
        return (*mark, sum(one.revision for one in members if one is not None))

    def _look_at_guards(self, now: float, rows: list[Row]) -> None:
        for done in self._model.guard_log.since(self._guarded):
            self._guarded = done.number
            who = {"worker": done.address, "worker_name": done.name}
            rows.append(row("guard_actions", **who, **asdict(done.action)))

    def _look_at_failures(self, now: float, rows: list[Row]) -> None:
        due = _due(
            (
                (one.id, one.opened, self._mark_of(one, now))
                for one in islice(self._model.failures, LOOKED_AT)
            ),
            self._failures,
            now,
        )
        for name, mark in due:
            answer = self._store.failure(name)
            if name not in self._failures:
                self._target.keep_detail(answer["opened"])
                self._one_more("failures")
            self._failures[name] = mark
            rows.append(failure_row(answer, now))
        if len(self._failures) > 4 * LOOKED_AT:
            self._failures = dict(islice(self._failures.items(), LOOKED_AT, None))


def _due(
    found: Iterable[tuple[str, float, tuple[Any, ...]]],
    known: dict[str, Any],
    now: float,
) -> list[tuple[str, Any]]:
    """Return id and mark of those that have changed since they were written."""
    due = []
    for name, began, state in found:
        age = sum(now - began > limit for limit in AGAIN)
        mark = (*state, age)
        if known.get(name) != mark:
            due.append((name, mark))
    # Those that nothing is known of yet go first.
    due.sort(key=lambda one: one[0] in known)
    return due[:WRITTEN]


def incident_row(answer: dict[str, Any], now: float) -> Row:
    """Return the row of an incident."""
    diagnosis = answer["diagnosis"]
    worker = answer["worker"] or {}
    responsible = diagnosis.get("responsible") or {}
    return row(
        "incidents",
        id=answer["id"],
        opened=answer["time"],
        until=answer["until"],
        changed=now,
        kind=answer["kind"],
        cause=diagnosis["cause"],
        relief=diagnosis["relief"],
        confidence=diagnosis["confidence"],
        worker=worker.get("address"),
        worker_name=worker.get("name"),
        prefix=responsible.get("prefix"),
        task=responsible.get("key"),
        failure=answer["failure"],
        text=diagnosis["text"],
        answer=answer,
    )


def failure_row(answer: dict[str, Any], now: float) -> Row:
    """Return the row of a failure."""
    diagnosis = answer["diagnosis"]
    return row(
        "failures",
        id=answer["id"],
        opened=answer["opened"],
        closed=answer["closed"],
        changed=now,
        kind=answer["kind"],
        cause=diagnosis["cause"],
        relief=diagnosis["relief"],
        count=answer["count"],
        deaths=answer["deaths"],
        workers=answer["workers"],
        prefix=answer["responsible"]["prefix"],
        task=answer["responsible"]["key"],
        graph=answer["graph"],
        text=answer["text"],
        answer=answer,
    )
