"""One worker process, and what would be told of it: physics, and no analysis.

A process is a sum of things that ramp up and stay: stored outputs, running tasks, what
was left behind, buffers.  Every figure that an event carries (RSS, readings, slots,
samples, what the scheduler knows) is derived from these, so that they agree with each
other as those of a real process do.  All sizes are in bytes, all times in seconds.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from dask_memdash.measure.baseline import Baseline
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.event_parts import (
    ActorRow,
    Executing,
    Finished,
    GraphRow,
    Held,
    SpillRoom,
    StorageRow,
    TaskInfo,
    TaskInputs,
    Thresholds,
    Weighed,
)
from dask_memdash.model.events import (
    DeathReported,
    Event,
    StorageHeld,
    WorkerAdded,
    WorkerLeaving,
    WorkerRemoved,
    WorkerReported,
)
from dask_memdash.model.limit_facts import Cap, LimitFacts, LimitReport, LiveFigures
from dask_memdash.model.quantiles import QuantileSketch

MiB = 2**20
T0 = 1_760_000_000.0

#: Seconds between two looks of a nanny at its worker.
TICK = 0.1

#: Seconds of samples that a nanny keeps.
SAMPLED = 20.0


def hash_of(key: str) -> int:
    """Return what stands for the hash of a key; the same in every run."""
    return zlib.crc32(key.encode())


@dataclass
class Ramp:
    """Something that grows from nothing to a size and stays."""

    size: int
    begin: float
    end: float

    def share(self, time: float) -> float:
        """Return how much of it is there, from 0 to 1."""
        if time >= self.end:
            return 1.0
        if time <= self.begin:
            return 0.0
        return (time - self.begin) / (self.end - self.begin)

    def at(self, time: float) -> int:
        """Return its size at an instant."""
        return int(self.size * self.share(time))


@dataclass
class Stored:
    """Outputs of one prefix in the worker's memory, and on its disk."""

    prefix: str
    count: int
    #: Of each, as Dask's sizeof says, and as it is.
    believed: int
    real: int
    begin: float
    end: float
    #: 'awaited', 'pinned', 'replica' or 'other'.
    why: str = "awaited"
    waiter: str = "sum"
    types: tuple[str, ...] = ("numpy.ndarray",)
    #: How many of them are on disk, and how many of these are in RAM all the same.
    spilled: int = 0
    in_use: int = 0
    copies: int = 2

    def there(self, time: float) -> int:
        """Return how many are stored at an instant."""
        return int(self.count * Ramp(1, self.begin, self.end).share(time))

    def on_disk(self, time: float) -> int:
        """Return how many of them are spilled."""
        return min(self.spilled, self.there(time))

    def claimed(self, time: float) -> int:
        """Return what Dask believes to be in RAM."""
        return self.believed * (self.there(time) - self.on_disk(time))

    def used(self, time: float) -> int:
        """Return what is spilled and in RAM all the same."""
        return self.real * min(self.in_use, self.on_disk(time))

    def resident(self, time: float) -> int:
        """Return what is in RAM."""
        here = self.there(time) - self.on_disk(time)
        return self.real * here + self.used(time)

    def row(self, time: float) -> StorageRow:
        """Return what a heartbeat says of it."""
        gone = self.believed * self.on_disk(time)
        return StorageRow(self.there(time), self.claimed(time), gone, gone)

    def held(self) -> Held:
        """Return what the scheduler knows of it."""
        size = self.believed * self.count
        copy = self.why == "replica"
        awaited = size if self.why == "awaited" else 0
        return Held(
            pinned=size if self.why == "pinned" else 0,
            awaited=awaited,
            awaited_by={self.waiter: awaited} if awaited else {},
            replicas=size if copy else 0,
            n_replicas=self.count if copy else 0,
            because={self.why: size},
            types=self.types,
            clients={"Client-1": size} if self.why == "pinned" else {},
            keys=self.count,
            shared=size if copy else 0,
            n_shared=self.count if copy else 0,
            max_copies=self.copies if copy else 1,
        )


@dataclass
class Task:
    """A task that runs when the worker dies; it grows from its begin to the death."""

    key: str
    prefix: str
    begin: float
    #: What its count shows at the death, and what of its memory nobody counts.
    counted: int
    native: int = 0
    inputs: TaskInputs | None = None
    measured: bool = True
    #: When it has reached its size: at the death where it is cut short.
    full: float | None = None

    def info(self) -> TaskInfo:
        """Return what the scheduler knows of it."""
        return TaskInfo(
            self.key, self.prefix, self.prefix, (0.0, 1.0, 5.0), self.inputs, 0
        )


@dataclass
class Past:
    """Tasks of one prefix that ran one after the other and finished."""

    prefix: str
    count: int
    #: What each held at most, what it returned as Dask believes, and what it had
    #: allocated and not freed when it ended.
    peak: int
    output: int
    left: int
    begin: float
    end: float
    #: Whether it ran here (or on another worker).
    here: bool = True

    def running(self, time: float) -> tuple[int, float]:
        """Return the number of the task that runs, and how far it is."""
        done = self.count * Ramp(1, self.begin, self.end).share(time)
        return int(done), done - int(done)

    def holds(self, time: float) -> int:
        """Return what the one that runs holds."""
        if not self.here or not self.begin < time < self.end:
            return 0
        return int(self.peak * self.running(time)[1])

    def finished(self, before: float, time: float) -> Finished | None:
        """Return what a heartbeat says of those that ended since the one before."""
        n = self.running(time)[0] - self.running(before)[0]
        if n <= 0:
            return None
        return Finished(
            count=n,
            method="exact",
            peaks=QuantileSketch.of([self.peak] * n),
            errors=QuantileSketch.of([0] * n),
            outputs=QuantileSketch.of([self.output] * n),
            weighed=Weighed(n, n * self.output, n * self.left),
        )


@dataclass
class End:
    """How a process ended, and who knows."""

    signal: int | None = 15
    code: int | None = None
    by: str = "nanny"
    asked: bool = False
    closing: bool = False
    expected: bool = False
    has_nanny: bool = True


@dataclass
class World:
    """One worker from its begin to its death, and the little around it."""

    random: Random
    limit: int
    base: int
    nthreads: int
    thresholds: Thresholds
    joined: float
    died: float
    address: str = "tcp://10.0.0.1:4001"
    nanny: str = "tcp://10.0.0.1:5001"
    pid: int = 4242
    #: Seconds between two heartbeats.
    interval: float = 0.5
    #: Whether another worker of the same limit has reported.
    sibling: bool = True
    #: When the scheduler last looked at why outputs are held; None: it has not.
    looked: float | None = None
    stored: list[Stored] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    past: list[Past] = field(default_factory=list)
    #: What the process holds beside: left by tasks, or grown with nobody counting.
    grown: list[Ramp] = field(default_factory=list)
    retained: list[Ramp] = field(default_factory=list)
    buffers: list[Ramp] = field(default_factory=list)
    actors: dict[str, tuple[int, Ramp]] = field(default_factory=dict)
    graph: dict[str, tuple[int, int, Ramp]] = field(default_factory=dict)
    spill_room: SpillRoom = field(default_factory=SpillRoom)
    #: What the cgroup allows; None: as much as the limit says.
    allowed: int | None = None
    #: Tasks that were sent to the worker and did not run.
    assigned: tuple[TaskInfo, ...] = ()
    end: End = field(default_factory=End)

    # -- what is there -----------------------------------------------------------

    def task_bytes(self, task: Task, time: float) -> tuple[int, int]:
        """Return what a task's count shows at an instant, and its native memory."""
        share = Ramp(1, task.begin, task.full or self.died).share(time)
        return int(task.counted * share), int(task.native * share)

    def storage(self, time: float) -> int:
        """Return the stored outputs as Dask believes, in RAM."""
        return sum(s.claimed(time) for s in self.stored)

    def rss(self, time: float) -> int:
        """Return all that the process has resident at an instant."""
        things = [*self.grown, *self.retained, *self.buffers]
        things += [ramp for _, ramp in self.actors.values()]
        things += [ramp for *_, ramp in self.graph.values()]
        return (
            self.base
            + sum(thing.at(time) for thing in things)
            + sum(s.resident(time) for s in self.stored)
            + sum(sum(self.task_bytes(t, time)) for t in self.tasks)
            + sum(p.holds(time) for p in self.past)
        )

    def room(self) -> int:
        """Return what an idle worker has below its terminate threshold."""
        return int(0.95 * self.limit) - self.base

    # -- what is told --------------------------------------------------------------

    def added(self) -> WorkerAdded:
        """Return that it has joined."""
        has_nanny = self.end.has_nanny
        return WorkerAdded(
            time=self.joined,
            address=self.address,
            name="0",
            host="10.0.0.1",
            pid=self.pid,
            nthreads=self.nthreads,
            limit=self.limit,
            nanny=has_nanny,
            status="running",
            home=self.nanny if has_nanny else "0",
        )

    def executing(self, time: float) -> tuple[Executing, ...]:
        """Return the tasks that run at an instant, as slots show them."""
        running = [
            Executing(
                key=task.key,
                digest="",
                prefix=task.prefix,
                thread=7 + n,
                seconds=time - task.begin,
                bytes=self.task_bytes(task, time)[0] if task.measured else None,
                peak=self.task_bytes(task, time)[0] if task.measured else None,
                error=0 if task.measured else None,
                method="exact" if task.measured else "unmeasured",
                rss_at_begin=self.rss(task.begin),
            )
            for n, task in enumerate(self.tasks)
            if task.begin <= time
        ]
        for past in self.past:
            if not past.here or not past.begin < time < past.end:
                continue
            number, share = past.running(time)
            lasts = (past.end - past.begin) / past.count
            running.append(
                Executing(
                    key=f"('{past.prefix}-0f', {number})",
                    digest="",
                    prefix=past.prefix,
                    thread=3,
                    seconds=share * lasts,
                    bytes=past.holds(time),
                    peak=past.holds(time),
                    error=0,
                    method="exact",
                    rss_at_begin=self.rss(time - share * lasts),
                )
            )
        return tuple(running)

    def reading(self, time: float, base: int, free: int) -> Reading:
        """Return what is read of the worker at an instant.

        Parameters
        ----------
        base, free
            As they were when the worker itself last looked.
        """
        running = self.executing(time)
        gone = sum(s.believed * s.on_disk(time) for s in self.stored)
        return Reading(
            time=time,
            rss=self.rss(time),
            managed_claimed=self.storage(time),
            shuffle=sum(b.at(time) for b in self.buffers),
            free=free,
            base=base,
            live=sum(t.bytes or 0 for t in running),
            busy=bool(running),
            spilled=gone,
            spilled_disk=gone,
            inputs=sum(s.used(time) for s in self.stored),
        )

    def free(self, time: float) -> int:
        """Return what the allocator keeps."""
        return sum(r.at(time) for r in self.retained)

    def see(self, baseline: Baseline, time: float) -> None:
        """Let the worker look at its own baseline."""
        moving = sum(b.at(time) for b in self.buffers)
        rest = self.rss(time) - min(self.storage(time), self.rss(time)) - moving
        quiet = not self.executing(time) and not moving
        baseline.see(time, rest, quiet=quiet, free=self.free(time))

    def limits(self) -> LimitReport:
        """Return what the worker says of its limit."""
        host = Cap("host", "MemTotal", "/proc/meminfo", 64 * 2**30, "kills", "m1")
        caps = (host,)
        if self.allowed is not None:
            inner = Cap("cgroup", "memory.max", "/sys", self.allowed, "kills", "c1")
            caps = (host, inner)
        facts = LimitFacts(caps=caps, machine="m1", set_by="given", rss=self.base)
        return LimitReport(LiveFigures(available=48 * 2**30), facts)

    def beats(self) -> list[float]:
        """Return the instants of its heartbeats."""
        times = []
        time = self.joined + self.interval
        while time < self.died - 0.02:
            times.append(time)
            time += self.interval
        return times

    def told(self) -> tuple[list[WorkerReported], DeathReported]:
        """Return its heartbeats, and its nanny's report."""
        baseline = Baseline()
        self.see(baseline, self.joined)
        last, free = self.joined, self.free(self.joined)
        reports = []
        for time in self.beats():
            self.see(baseline, time)
            free = self.free(time)
            done = {p.prefix: p.finished(last, time) for p in self.past}
            reports.append(
                WorkerReported(
                    time=time,
                    address=self.address,
                    pid=self.pid,
                    reading=self.reading(time, baseline.bytes or 0, free),
                    rows={s.prefix: s.row(time) for s in self.stored if s.there(time)},
                    executing=self.executing(time),
                    finished={name: f for name, f in done.items() if f is not None},
                    thresholds=self.thresholds,
                    method="exact",
                    limits=self.limits() if last == self.joined else None,
                    graph=self.graph_rows(time) or None,
                    actors={
                        name: ActorRow(n, ramp.at(time), ramp.at(time))
                        for name, (n, ramp) in self.actors.items()
                    }
                    or None,
                    spill_room=self.spill_room,
                )
            )
            last = time
        return reports, self.report(baseline.bytes or 0, free)

    def graph_rows(self, time: float) -> dict[str, GraphRow]:
        """Return what its tasks weigh as they were sent."""
        return {
            name: GraphRow(
                n, int(arguments * ramp.share(time)), int(records * ramp.share(time))
            )
            for name, (n, records, ramp) in self.graph.items()
            for arguments in [ramp.size - records]
        }

    def samples(self) -> Iterator[tuple[float, int]]:
        """Yield the nanny's looks at the process."""
        ticks = int(min(SAMPLED, self.died - self.joined) / TICK)
        for n in range(ticks, -1, -1):
            yield self.died - n * TICK, self.rss(self.died - n * TICK)

    def report(self, base: int, free: int) -> DeathReported:
        """Return the nanny's report of the death."""
        time = self.died + 0.05
        return DeathReported(
            time=time,
            address=self.address,
            pid=self.pid,
            died=self.died,
            code=self.end.code,
            signal=self.end.signal,
            by=self.end.by,
            asked=self.end.asked,
            closing=self.end.closing,
            reading=self.reading(self.died, base, free),
            executing=self.executing(self.died),
            samples=tuple(self.samples()),
            recorded=True,
            known=tuple(t.info() for t in self.tasks),
            nanny=self.nanny,
            name="0",
            host="10.0.0.1",
        )

    def looks(self) -> Iterator[StorageHeld]:
        """Yield the scheduler's look at why outputs are held, before the death."""
        if self.looked is not None:
            known = [s for s in self.stored if s.there(self.looked)]
            held = {s.prefix: s.held() for s in known}
            yield StorageHeld(self.looked, self.address, held)

    def later(self, by: float, address: str, pid: int) -> World:
        """Return the same worker and its death, at another time."""
        other = copy.deepcopy(self)
        other.address, other.pid = address, pid
        other.nanny = self.nanny
        ramps = [*other.grown, *other.retained, *other.buffers]
        ramps += [ramp for _, ramp in other.actors.values()]
        ramps += [ramp for *_, ramp in other.graph.values()]
        for thing in (*ramps, *other.stored, *other.past):
            thing.begin += by
            thing.end += by
        for task in other.tasks:
            task.begin += by
            task.full = None if task.full is None else task.full + by
        other.joined += by
        other.died += by
        other.looked = None if self.looked is None else self.looked + by
        return other

    def leaving(self) -> WorkerLeaving:
        """Return what the scheduler knows of it before it lets go of it."""
        return WorkerLeaving(
            time=self.died + 0.01,
            address=self.address,
            held={s.prefix: s.held() for s in self.stored},
            assigned=(*(t.info() for t in self.tasks), *self.assigned),
            graph=self.graph_rows(self.died),
            actors=tuple(self.actors),
        )

    def removed(self) -> WorkerRemoved:
        """Return that the scheduler has let go of it."""
        infos = (*(t.info() for t in self.tasks), *self.assigned)
        own = [s for s in self.stored if s.why != "replica"]
        lost = {s.prefix: (s.count, s.believed * s.count) for s in own}
        return WorkerRemoved(
            time=self.died + 0.02,
            address=self.address,
            expected=self.end.expected,
            stimulus="handle-worker-cleanup-1",
            n_assigned=len(infos),
            assigned=infos,
            assigned_hashes=tuple(hash_of(i.key) for i in infos),
            keys_lost=sum(n for n, _ in lost.values()),
            bytes_lost=sum(size for _, size in lost.values()),
            lost=lost,
        )

    def elsewhere(self) -> Iterator[Event]:
        """Yield what another worker tells of tasks that finished there."""
        away = [p for p in self.past if not p.here]
        if not away and not self.sibling:
            return
        address, pid = "tcp://10.0.0.9:4009", 999
        joined = min([p.begin for p in away], default=self.joined - 2) - 1
        yield WorkerAdded(
            time=joined,
            address=address,
            name="9",
            host="10.0.0.9",
            pid=pid,
            nthreads=self.nthreads,
            limit=self.limit,
            nanny=True,
            status="running",
            home="tcp://10.0.0.9:5009",
        )
        done = {p.prefix: p.finished(p.begin, p.end) for p in away}
        time = max([p.end for p in away], default=joined + 1)
        yield WorkerReported(
            time=time,
            address=address,
            pid=pid,
            reading=Reading(time=time, rss=self.base, base=self.base),
            rows={},
            executing=(),
            finished={name: f for name, f in done.items() if f is not None},
            thresholds=self.thresholds,
            method="exact",
        )
