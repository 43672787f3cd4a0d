"""What a person wants to know first: what went wrong, or else how it stands.

Read off any store.  A failure is told while it is open, and for some minutes after: a
computation that has just failed is over, and somebody comes to see why.  All sizes are
in bytes, times in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask_memdash.errors import UnknownIncidentError
from dask_memdash.store.base import Store
from dask_memdash.store.prefix_shapes import Prefix
from dask_memdash.store.worker_shapes import TimeToLimit, Worker
from dask_memdash.text import with_capital

#: Failures that are told at most, and those that are looked at, the newest.
TOLD = 3
LOOKED_AT = 50

#: How long a failure that is over is still told, in seconds of the cluster's time.
RECENT = 600.0

#: Incidents of a failure that are searched for the responsible line, the newest.
SEARCHED = 8

#: Sentences of a diagnosis that are told here; its story has them all.
SENTENCES = 2

#: Prefixes that the largest user of execution is looked for among, at first.
LARGEST = 32

_QUOTED = re.compile(r"`([^`]+)`")

#: What can be run or given as it stands: options, settings, statements, calls.
_RUNNABLE = re.compile(
    r"--[a-z][a-z-]* \S+|[A-Z][A-Z_]+=\S+|[\w.]+ = \S.*|[\w.]+=\S+|[\w.]+\(.+\)",
    re.DOTALL,
)

_END_OF_SENTENCE = re.compile(r"(?<=[.!?]) (?=[A-Z0-9`'(])")


@dataclass(frozen=True, slots=True)
class Change:
    """Something to change: the sentence, and in it what can be copied, or nothing."""

    line: str
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """A failure as it is told first."""

    id: str
    opened: float
    closed: float | None
    kind: str
    #: What happened, in a sentence; and why, in one or two.
    happened: str
    why: str
    cause: str
    confidence: float
    prefix: str | None
    key: str | None
    #: Where the responsible task's largest block was allocated, and its size; empty
    #: and None where that is not known.
    line: str
    block: int | None
    changes: tuple[Change, ...]
    settled: bool


@dataclass(frozen=True, slots=True)
class Headroom:
    """The worker that has least room before the first line that ends its work."""

    worker: Worker
    #: 'pause', 'terminate' or 'limit', and where that is.
    line: str
    at: int
    process: int

    @property
    def left(self) -> int:
        """What it has left; negative above the line."""
        return self.at - self.process


@dataclass(frozen=True, slots=True)
class Standing:
    """How a cluster stands."""

    #: None where no worker has a limit, or none has reported.
    headroom: Headroom | None
    #: The worker that comes to its line first, and when; None where none does steadily.
    soonest: tuple[Worker, TimeToLimit] | None
    #: The largest user of each; None where nothing is executing, or stored.
    executes: Prefix | None
    stores: Prefix | None


def told_failures(store: Store) -> tuple[list[Told], int]:
    """Return the failures that are told, newest first, and how many more there are.

    Those that are open go before those that are over.
    """
    now = store.cluster()["time"]
    known = store.failures(LOOKED_AT)
    current = [f for f in known if f["closed"] is None]
    over = [f for f in known if f["closed"] is not None and now - f["closed"] <= RECENT]
    chosen = [*current, *over]
    return [tell(store, failure) for failure in chosen[:TOLD]], len(chosen[TOLD:])


def tell(store: Store, failure: Mapping[str, Any]) -> Told:
    """Return a failure as it is told first."""
    diagnosis, responsible = failure["diagnosis"], failure["responsible"]
    line, block = responsible_line(store, failure)
    return Told(
        id=failure["id"],
        opened=failure["opened"],
        closed=failure["closed"],
        kind=failure["kind"],
        happened=failure["text"],
        why=first_sentences(diagnosis["text"]),
        cause=diagnosis["cause"],
        confidence=diagnosis["confidence"],
        prefix=responsible["prefix"],
        key=responsible["key"],
        line=line,
        block=block,
        changes=tuple(change(advice) for advice in diagnosis["advice"]),
        settled=failure.get("settled", True),
    )


def change(advice: str) -> Change:
    """Find in an advice what can be copied: the first line of code that can be run.

    A line with a gap to be filled in is none, nor is the name of a prefix.
    """
    for line in _QUOTED.findall(advice):
        if _RUNNABLE.fullmatch(line) and "..." not in line and "(n)" not in line:
            return Change(line, advice)
    return Change("", advice)


def first_sentences(text: str, most: int = SENTENCES) -> str:
    """Return the first sentences of a diagnosis, beneath a head that says 'why'."""
    told = text.removeprefix("Cause: ")
    return " ".join(_END_OF_SENTENCE.split(with_capital(told))[:most])


def responsible_line(
    store: Store, failure: Mapping[str, Any]
) -> tuple[str, int | None]:
    """Return where the responsible task's largest block was allocated, and its size.

    The line of the largest such block at any of the failure's newest incidents.
    """
    prefix, key = failure["responsible"]["prefix"], failure["responsible"]["key"]
    best: tuple[int, str] | None = None
    for number in reversed(failure["incidents"][-SEARCHED:]) if prefix else ():
        for suspect in _suspects(store, number):
            block = suspect.get("largest_block")
            mine = suspect["prefix"] == prefix and key in (None, suspect["key"])
            if mine and block and (best is None or block["bytes"] > best[0]):
                best = block["bytes"], block["text"]
    return ("", None) if best is None else (best[1], best[0])


def _suspects(store: Store, incident: str) -> Sequence[Mapping[str, Any]]:
    try:
        return store.incident(incident).get("suspects") or ()
    except UnknownIncidentError:
        return ()


def standing(store: Store) -> Standing:
    """Say how a cluster stands."""
    workers = store.workers()
    rooms = [room for worker in workers if (room := _headroom(worker)) is not None]
    soon = [
        (worker, told)
        for worker in workers
        if (told := worker["time_to_limit"]) is not None
    ]
    return Standing(
        headroom=min(rooms, key=lambda room: room.left / max(1, room.at), default=None),
        soonest=min(soon, key=lambda one: one[1]["seconds"], default=None),
        executes=_largest(store, executing_of),
        stores=_largest(store, stored_of),
    )


def _headroom(worker: Worker) -> Headroom | None:
    process, thresholds = worker["breakdown"]["process"], worker["thresholds"]
    if process is None:
        return None
    lines = {
        "pause": thresholds["pause"],
        "terminate": thresholds["terminate"],
        "limit": worker["limit"],
    }
    for name, at in lines.items():
        if at is not None:
            return Headroom(worker, name, at, process)
    return None


def stored_of(prefix: Prefix) -> int:
    """Return what is stored of a prefix, in memory and spilled, in bytes."""
    storage = prefix["storage"]
    return (storage["managed"] or 0) + (storage["spilled"] or 0)


def executing_of(prefix: Prefix) -> int:
    """Return what a prefix's running tasks hold, in bytes."""
    return prefix["execution"]["executing"] or 0


def _largest(store: Store, size: Any) -> Prefix | None:
    """Return the prefix that has most; None where none has anything.

    Prefixes come largest first by storage and execution together, so that none of
    those that follow has more of either than the last one has of both.
    """
    looked, total = LARGEST, store.prefix_totals()["prefixes"]
    while True:
        known = store.prefixes(looked)
        best = max(known, key=size, default=None)
        if best is None or len(known) >= total or len(known) < looked:
            break
        last = known[-1]
        if size(best) >= stored_of(last) + executing_of(last):
            break
        looked *= 4
    return best if best is not None and size(best) else None
