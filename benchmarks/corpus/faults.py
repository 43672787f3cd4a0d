"""What happens to evidence on its way: lost, late, doubled, out of order, corrupt.

A fault takes the events of a death and returns what arrives, with the names of the
evidence that is gone for good: 'report', 'recorder', 'heartbeats', 'leaving',
'finished', 'slot'.  What comes over the network is read as the scheduler reads it, so
that what cannot be read is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from corpus.plan import Plan
from dask_memdash.errors import EventError
from dask_memdash.model.event_readers import from_dict, to_dict
from dask_memdash.model.events import (
    DeathReported,
    Event,
    StorageHeld,
    WorkerAdded,
    WorkerLeaving,
    WorkerRemoved,
    WorkerReported,
    WorkerSampled,
)

#: What is put in the place of a figure.
JUNK = (None, -1, -(2**40), "", "many", float("nan"), float("inf"), [], {}, 2**70)


@dataclass
class Evidence:
    """What is told of one death."""

    before: list[Event]
    beats: list[WorkerReported]
    leaving: list[WorkerLeaving]
    removed: list[WorkerRemoved]
    reports: list[DeathReported]
    more: list[Event]
    looks: list[StorageHeld]

    def events(self) -> list[Event]:
        """Return it in the order of arrival."""
        after = [*self.more, *self.looks, *self.leaving, *self.removed, *self.reports]
        return sorted([*self.before, *self.beats, *after], key=lambda e: e.time)


Lost = set[str]
Fault = Callable[[Evidence, Plan], Lost]


def tell(plan: Plan) -> Evidence:
    """Return all that is told of a death, nothing amiss."""
    world = plan.world
    beats, report = world.told()
    leaving = [] if world.end.expected else [world.leaving()]
    before = [world.added(), *world.elsewhere()]
    return Evidence(
        before, beats, leaving, [world.removed()], [report], plan.more, [*world.looks()]
    )


# -- faults --------------------------------------------------------------------------


def nothing(told: Evidence, plan: Plan) -> Lost:
    """All arrives."""
    return set()


def report_lost(told: Evidence, plan: Plan) -> Lost:
    """Nanny and worker went together."""
    told.reports.clear()
    return {"report"}


def report_late(told: Evidence, plan: Plan) -> Lost:
    """The report comes when another worker is in its place."""
    late = plan.random.uniform(1, 60)
    told.reports = [replace(r, time=r.time + late) for r in told.reports]
    world = plan.world
    again = replace(world.added(), time=world.died + 0.9, pid=world.pid + 1)
    told.more.append(again)
    return set()


def report_first(told: Evidence, plan: Plan) -> Lost:
    """The report comes before the scheduler has noticed."""
    told.reports = [replace(r, time=plan.world.died + 0.001) for r in told.reports]
    return set()


def doubled(told: Evidence, plan: Plan) -> Lost:
    """Everything comes twice, but what Dask itself orders."""
    late = plan.random.uniform(0.0, 3)
    told.reports += [replace(r, time=r.time + late) for r in told.reports]
    told.leaving *= 2
    told.removed *= 2
    return set()


def beats_lost(told: Evidence, plan: Plan) -> Lost:
    """Some heartbeats do not arrive, and what finished since them neither."""
    told.beats = [b for b in told.beats if plan.random.random() < 0.6]
    return {"heartbeats", "finished"}


def all_beats_lost(told: Evidence, plan: Plan) -> Lost:
    """No heartbeat arrives at all."""
    told.beats.clear()
    return {"heartbeats", "finished"}


def reordered(told: Evidence, plan: Plan) -> Lost:
    """Two heartbeats in a row come in the wrong order."""
    if len(told.beats) < 3:
        return set()
    place = plan.random.randrange(1, len(told.beats) - 1)
    one, other = told.beats[place : place + 2]
    told.beats[place] = replace(one, time=other.time + 0.001)
    return set()


def leaving_lost(told: Evidence, plan: Plan) -> Lost:
    """Nobody looked at what the worker held when it was removed."""
    told.leaving.clear()
    return set() if told.looks else {"leaving"}


def recorder_lost(told: Evidence, plan: Plan) -> Lost:
    """The nanny found no flight recorder: no reading, no slots."""
    told.reports = [
        replace(r, reading=None, executing=(), known=(), recorded=False)
        for r in told.reports
    ]
    return {"recorder"}


def finished_lost(told: Evidence, plan: Plan) -> Lost:
    """What tasks took and left was not counted: no tally on this cluster."""
    told.beats = [replace(b, finished={}) for b in told.beats]
    told.before = [
        replace(e, finished={}) if isinstance(e, WorkerReported) else e
        for e in told.before
    ]
    return {"finished"}


def clock_ahead(told: Evidence, plan: Plan) -> Lost:
    """The worker's machine lives in the future, or in the past."""
    by = plan.random.choice((-86_400.0, -5.0, 5.0, 3600.0, 1e8))
    told.beats = [
        replace(b, reading=replace(b.reading, time=b.reading.time + by))
        for b in told.beats
    ]
    told.reports = [
        replace(
            r,
            died=r.died + by,
            samples=tuple((t + by, size) for t, size in r.samples),
            reading=r.reading and replace(r.reading, time=r.reading.time + by),
        )
        for r in told.reports
    ]
    return set()


def of_others(told: Evidence, plan: Plan) -> Lost:
    """Others' evidence comes under the worker's name."""
    world = plan.world
    full = [b for b in told.beats[-1:] if b.reading.rss]
    told.more += [
        replace(b, time=b.time + 0.01, pid=world.pid - 1, rows={}, executing=())
        for b in full
    ]
    told.more.append(
        WorkerSampled(world.died, world.address, world.pid - 1, 2**40, None, ())
    )
    told.more += [
        replace(
            r,
            time=world.died + 0.03,
            pid=world.pid - 1,
            nanny="tcp://10.0.0.1:5999",
            signal=11,
            by="unknown",
            executing=(),
            known=(),
        )
        for r in told.reports
    ]
    return set()


def hostile_names(told: Evidence, plan: Plan) -> Lost:
    """An innocent task is called something that is no name."""
    text = "<script>alert('`{}%s')</script>\n\x00" * 3
    told.more.append(replace(plan.world.added(), address=text, name=text, pid=7))
    return set()


def garbled_report(told: Evidence, plan: Plan) -> Lost:
    """A field of the report is not what it should be."""
    told.reports = list(_read_all(told.reports, plan.random))
    return {"report", "recorder"}


def garbled_beats(told: Evidence, plan: Plan) -> Lost:
    """A field of some heartbeats is not what it should be."""
    fine, bad = told.beats[:1], told.beats[1:]
    chosen = [b for b in bad if plan.random.random() < 0.5]
    kept = [b for b in bad if b not in chosen]
    told.beats = [*fine, *kept, *_read_all(chosen, plan.random)]
    return {"heartbeats", "finished"}


def torn_slot(told: Evidence, plan: Plan) -> Lost:
    """A slot of the recorder was half written: its figures mean nothing."""
    wild = plan.random.choice((2**62, -(2**40), 0))
    told.reports = [
        replace(
            r,
            executing=tuple(
                replace(t, bytes=wild, peak=wild, rss_at_begin=None) if n == 0 else t
                for n, t in enumerate(r.executing)
            ),
        )
        for r in told.reports
    ]
    if not plan.world.tasks:
        return set()
    return {"recorder", "count"} if wild else {"recorder", "slot"}


def _read_all(events: Iterable[Any], random: Random) -> Iterable[Any]:
    for event in events:
        data = to_dict(event)
        _garble(data, random)
        try:
            yield from_dict(type(event), data)
        except EventError:
            continue


def _garble(data: Any, random: Random) -> None:
    """Put junk into one place of plain data, somewhere."""
    while True:
        places = list(data) if isinstance(data, dict) else list(range(len(data)))
        places = [p for p in places if p not in ("address", "pid", "time", "nanny")]
        if not places:
            return
        place = random.choice(places)
        inner = data[place]
        if not isinstance(inner, dict | list) or not inner or random.random() < 0.3:
            data[place] = random.choice(JUNK)
            return
        data = inner


#: Every fault; the first counts for as many as all others together.
FAULTS: tuple[Fault, ...] = (
    nothing,
    report_lost,
    report_late,
    report_first,
    doubled,
    beats_lost,
    all_beats_lost,
    reordered,
    leaving_lost,
    recorder_lost,
    finished_lost,
    clock_ahead,
    of_others,
    hostile_names,
    garbled_report,
    garbled_beats,
    torn_slot,
)


def choose(random: Random) -> Fault:
    """Choose what happens to the evidence: in half of all cases nothing."""
    return nothing if random.random() < 0.5 else random.choice(FAULTS[1:])


__all__ = ["FAULTS", "Evidence", "WorkerAdded", "choose", "tell"]
