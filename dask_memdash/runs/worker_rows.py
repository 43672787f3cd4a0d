"""Rows of workers: that they came and went, how they were, what they ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.processes import Departed, ProcessKey, WorkerState
from dask_memdash.runs.rows import row
from dask_memdash.runs.waiting import Row
from dask_memdash.store.limit_audits import in_turn
from dask_memdash.store.limit_shapes import LimitAudit
from dask_memdash.store.live import LiveStore
from dask_memdash.store.worker_rows import departed_row

#: Workers whose state is recorded in one look at most, and of each the tasks.
VISITED = 10
TASKS = 4

#: Clusters up to this size have their audits of limits recorded each minute; larger
#: ones each ten minutes, since an audit takes 50 µs.
SMALL = 200

#: Audits of limits made in one look at most.
AUDITED = 100

#: What of an audit changes.
CHANGING = ("verdict", "severity", "limit", "effective", "headroom")

#: Workers whose last state is recorded at the end.
AT_END = 2_000


class WorkerRows:
    """What changed of the workers since the last look.

    Parameters
    ----------
    store, model
        Of the living cluster.
    process_id
        Gives the number of a process, and its row where it is new.
    """

    def __init__(
        self,
        store: LiveStore,
        model: ClusterModel,
        process_id: Callable[[ProcessKey, list[Row]], int],
    ) -> None:
        self._store = store
        self._model = model
        self._process_id = process_id
        # Address → number, what it was when it joined, and when it was last visited.
        self._known: dict[str, tuple[int, Any, float]] = {}
        self._count = 0
        self._round: list[str] = []
        self._audits: dict[str, Any] = {}
        self._limits_due = 0.0
        self._auditing: Iterator[LimitAudit] = iter(())
        # When the newest worker was first seen.
        self._joined: float | None = None

    def step(self, now: float, rows: list[Row]) -> None:
        """Record who came and went, and the state of some."""
        self._look_who_is_there(now, rows)
        self._visit(now, rows)
        self._look_at_limits(now, rows)

    def all(self, now: float, rows: list[Row]) -> None:
        """Record the state of all, at the end."""
        for address in islice(self._model.processes.workers, AT_END):
            if address in self._known:
                self._state(address, now, rows, 60)
        self._auditing = in_turn(self._model)
        self._record_limits(now, rows, AT_END)

    def _look_who_is_there(self, now: float, rows: list[Row]) -> None:
        workers = self._model.processes.workers
        for address, worker in workers.items():
            known = self._known.get(address)
            if known is not None and known[1] is worker.info:
                continue
            if known is not None:
                self._left(address, known, now, rows)
            self._count += 1
            self._joined = now
            self._known[address] = (self._count, worker.info, float("-inf"))
            rows.append(self._row(self._count, worker, None, rows))
        if len(self._known) > len(workers):
            for address in self._known.keys() - workers.keys():
                self._left(address, self._known.pop(address), now, rows)
                self._audits.pop(address, None)

    def _row(
        self, number: int, worker: WorkerState, left: float | None, rows: list[Row]
    ) -> Row:
        return row(
            "workers",
            id=number,
            address=worker.info.address,
            name=worker.info.name,
            process=self._process_id(worker.key, rows),
            added=worker.info.time,
            left=left,
        )

    def _left(
        self,
        address: str,
        known: tuple[int, Any, float],
        now: float,
        rows: list[Row],
    ) -> None:
        """Record what stays of a worker that has left, with all its last tasks."""
        gone: Departed | None = self._model.processes.departed.get(address)
        if gone is None or gone.worker.info is not known[1]:
            info = known[1]
            process = self._process_id((info.host, info.pid), rows)
            rows.append(
                row(
                    "workers",
                    id=known[0],
                    address=address,
                    name=info.name,
                    process=process,
                    added=info.time,
                    left=now,
                )
            )
            return
        rows.append(self._row(known[0], gone.worker, gone.left, rows))
        answer: Any = departed_row(gone)
        self._add_state(known[0], answer, gone.left, rows)
        self._add_tasks(known[0], gone.worker, float("-inf"), 60, rows)
        self._add_pauses(known[0], gone.worker, known[2], rows)

    def _visit(self, now: float, rows: list[Row]) -> None:
        workers, visited = self._model.processes.workers, 0
        looked = 0
        while visited < VISITED and looked < len(workers) and looked < 1000:
            if not self._round:
                self._round = list(workers)
            address = self._round.pop()
            looked += 1
            worker = workers.get(address)
            if worker is not None and address in self._known:
                fresh = max(worker.last_seen, worker.info.time)
                if fresh > self._known[address][2]:
                    visited += 1
                    self._state(address, now, rows, TASKS)

    def _state(self, address: str, now: float, rows: list[Row], tasks: int) -> None:
        worker = self._model.processes.workers[address]
        number, info, before = self._known[address]
        self._known[address] = (number, info, now)
        answer: Any = self._store.worker(address)
        self._add_state(number, answer, now, rows)
        self._add_tasks(number, worker, before, tasks, rows)
        self._add_pauses(number, worker, before, rows)

    def _add_state(
        self, number: int, answer: Any, time: float, rows: list[Row]
    ) -> None:
        rows.append(
            row(
                "worker_states",
                time=time,
                worker=number,
                status=answer["status"],
                limit_bytes=answer["limit"],
                process_bytes=answer["breakdown"]["process"],
                running=len(answer["executing_tasks"]),
                n_pauses=answer["n_pauses"],
                answer=answer,
            )
        )

    def _add_tasks(
        self,
        number: int,
        worker: WorkerState,
        before: float,
        most: int,
        rows: list[Row],
    ) -> None:
        """Record the tasks that were seen since: those that took most."""
        fresh = [t for t in worker.task_history.tasks() if t.seen > before]
        fresh.sort(key=lambda task: (task.peak or 0, task.seen), reverse=True)
        rows += [
            row(
                "tasks",
                worker=number,
                began=task.start,
                seen=task.seen,
                key=task.key,
                prefix=task.prefix,
                thread=task.thread,
                running=int(task.running),
                peak=task.peak,
                method=task.method,
            )
            for task in fresh[:most]
        ]

    def _add_pauses(
        self, number: int, worker: WorkerState, before: float, rows: list[Row]
    ) -> None:
        for began, ended in worker.pauses.bands(before - 2.0):
            rows.append(row("pauses", worker=number, began=began, ended=ended))

    def _look_at_limits(self, now: float, rows: list[Row]) -> None:
        if self._record_limits(now, rows, AUDITED):
            return  # the round goes on
        if 0 <= self._limits_due - now <= 3600.0:
            return
        # A worker's first heartbeats come with what limits it.
        young = self._joined is not None and now - self._joined < 60.0
        small = len(self._model.processes.workers) <= SMALL
        self._limits_due = now + ((5.0 if young else 60.0) if small else 600.0)
        self._auditing = in_turn(self._model)
        self._record_limits(now, rows, AUDITED)

    def _record_limits(self, now: float, rows: list[Row], most: int) -> bool:
        """Record some audits of the round; tell whether there were any."""
        made = [dict[str, Any](audit) for audit in islice(self._auditing, most)]
        for audit in made:
            address = audit["address"]
            known = self._known.get(address)
            mark = tuple(audit[name] for name in CHANGING)
            if known is None or self._audits.get(address) == mark:
                continue
            self._audits[address] = mark
            rows.append(
                row(
                    "limits",
                    time=now,
                    worker=known[0],
                    verdict=audit["verdict"],
                    limit_bytes=audit["limit"],
                    effective=audit["effective"],
                    answer=audit,
                )
            )
        return bool(made)
