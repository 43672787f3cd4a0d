"""Incidents without a death, and what a death costs after it: who is back, and when.

Covers tasks that raise ``MemoryError``, failures to spill, and the places that dead
workers have left empty.  Deaths themselves are :mod:`dask_memdash.model.deaths`'s.

Imports the standard library only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dask_memdash.model.breakdown import Reading, break_down
from dask_memdash.model.event_parts import ChildRow, TaskInfo, Thresholds
from dask_memdash.model.events import (
    MemoryErrorRaised,
    SchedulerLooked,
    SpillFailed,
)
from dask_memdash.model.evidence import Evidence
from dask_memdash.model.incidents import Incident, IncidentLog, WorkerRef
from dask_memdash.model.memory_pools import Danger
from dask_memdash.model.processes import WorkerState

#: Errors of one kind that follow each other within so many seconds are one incident.
REST = 10.0

#: A worker that was about to be killed by the kernel is out of danger when nothing
#: was heard of it for so many seconds.
CALM = 60.0

#: Tasks of one incident that are named; the others are counted.
MAX_NAMED = 20

#: WorkerErrors and empty places remembered, to join what follows.
MAX_REMEMBERED = 2_000

Open = Callable[[str, WorkerState, float], Incident]


class WorkerErrors:
    """Makes one incident of equal troubles that follow each other on a worker.

    Parameters
    ----------
    log
        Where incidents are kept.
    open_incident
        Opens the incident of a kind on a worker, with what is known of it now.
    """

    def __init__(self, log: IncidentLog, open_incident: Open) -> None:
        self._log = log
        self._open = open_incident
        # What makes troubles equal → (their incident, when the last one was).
        self._last: OrderedDict[tuple[str, ...], tuple[str, float]] = OrderedDict()

    def memory_error(
        self, event: MemoryErrorRaised, worker: WorkerState, cluster_limit: int | None
    ) -> None:
        """Take in that a task has failed for want of memory.

        Parameters
        ----------
        cluster_limit
            Limits of all workers together, in bytes; None where one has none.
        """
        which = ("memory-error", event.address, event.task.prefix, event.stage)
        incident = self._incident(which, worker, event.time, event.text)
        incident.stage, incident.cluster_limit = event.stage, cluster_limit
        if event.stage == "child":
            _see_children(incident, worker)
        if event.stage == "refused":
            incident.suspects = ()  # what ran elsewhere has no part in it
        incident.n_tasks += 1
        _name(incident, event.task)

    def child_killed(self, row: ChildRow, worker: WorkerState, time: float) -> None:
        """Take in that a process which a task had started was killed."""
        prefix = row.prefix or "(not known)"
        which = ("memory-error", worker.info.address, prefix, "child")
        text = (
            f"{row.command or 'a process'} was killed; the processes of this task had "
            f"{row.peak >> 20:,} MiB at most"
        )
        incident = self._incident(which, worker, time, text)
        incident.stage = "child"
        _see_children(incident, worker)
        incident.n_tasks += 1
        _name(incident, TaskInfo(row.key, row.prefix, "", None))

    def spill_failed(self, event: SpillFailed, worker: WorkerState) -> None:
        """Take in that an output could not be spilled."""
        which = ("spill-failed", event.address, event.reason)
        text = f"{event.reason}: {event.text}" if event.text else event.reason
        incident = self._incident(which, worker, event.time, text)
        incident.n_tasks += event.count
        _name(incident, TaskInfo(event.key, event.prefix, "", None))

    def kernel_near(
        self, worker: WorkerState, time: float, danger: Danger | None
    ) -> None:
        """Take in whether the kernel is about to kill a worker that Dask leaves alone.

        Its figures come some seconds apart, and only when they change: one that is in
        danger stays so until they say otherwise.
        """
        which = ("kernel-near", worker.info.address)
        number, last = self._last.get(which, (None, 0.0))
        if danger is None:
            if time > last + CALM:
                self._last.pop(which, None)
            return
        what = "its machine" if danger.kind == "host" else "its cgroup"
        text = f"{what} used {danger.used >> 20:,} of {danger.of >> 20:,} MiB"
        incident = self._log.get(number)
        if incident is None or incident.worker.pid != worker.info.pid:
            incident = self._open("kernel-near", worker, time)
            incident.detail = text
        incident.until = time
        self._last[which] = (incident.id, time)
        _bound(self._last)

    def scheduler_near(self, seen: SchedulerLooked, danger: Danger | None) -> None:
        """Take in whether the scheduler itself is about to run out of memory."""
        which = ("kernel-near", "scheduler")
        number, last = self._last.get(which, (None, 0.0))
        if danger is None:
            if seen.time > last + CALM:
                self._last.pop(which, None)
            return
        incident = self._log.get(number)
        if incident is None:
            where = WorkerRef(seen.address, "scheduler", "", seen.pid)
            reading = Reading(time=seen.time, rss=seen.rss)
            incident = self._log.add(
                "kernel-near",
                seen.time,
                where,
                limit=danger.of,
                breakdown=break_down(reading),
                evidence="scheduler",
            )
            incident.stage = "scheduler"
            what = {
                "host": "its machine",
                "rlimit": "its address space, which ulimit -v limits,",
            }.get(danger.kind, "its cgroup")
            used, of = danger.used >> 20, danger.of >> 20
            incident.detail = f"{what} used {used:,} of {of:,} MiB"
            incident.facts = Evidence(
                nthreads=0, thresholds=Thresholds(), graph=seen.graph
            )
        incident.until = seen.time
        self._last[which] = (incident.id, seen.time)
        _bound(self._last)

    def _incident(
        self, which: tuple[str, ...], worker: WorkerState, time: float, text: str
    ) -> Incident:
        number, last = self._last.get(which, (None, 0.0))
        incident = self._log.get(number) if time <= last + REST else None
        if incident is None:
            incident = self._open(which[0], worker, time)
            incident.detail = text
        incident.until = time
        self._last.pop(which, None)
        self._last[which] = (incident.id, time)
        _bound(self._last)
        return incident


class Replacements:
    """Places that dead workers have left empty, until a worker is back in them."""

    def __init__(self, log: IncidentLog) -> None:
        self._log = log
        self._empty: OrderedDict[str, str] = OrderedDict()

    def left(self, home: str, incident_id: str) -> None:
        """Remember that a death has left a place empty."""
        if home:
            self._empty[home] = incident_id
            _bound(self._empty)

    def back(self, home: str, time: float) -> None:
        """Take note of a worker that has joined."""
        incident = self._log.get(self._empty.pop(home, None))
        if incident is not None:
            incident.back = time

    def given_up(self, home: str, time: float) -> None:
        """Take note that a place is empty for good, as its nanny closes."""
        incident = self._log.get(self._empty.get(home))
        if incident is not None:
            incident.given_up = time


def _see_children(incident: Incident, worker: WorkerState) -> None:
    """Add what is known by now of the processes that a worker's tasks started."""
    if incident.facts is not None and worker.children:
        incident.facts = replace(incident.facts, children=worker.children)


def _name(incident: Incident, task: TaskInfo) -> None:
    named = {known.key for known in incident.tasks}
    if task.key not in named and len(named) < MAX_NAMED:
        incident.tasks = (*incident.tasks, task)


def _bound(book: OrderedDict[Any, Any]) -> None:
    while len(book) > MAX_REMEMBERED:
        book.popitem(last=False)
