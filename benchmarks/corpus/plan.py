"""What a simulated death begins with: a worker, what there is to fill, and a relief.

A scenario fills what a :class:`Plan` gives it and says what is then true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from corpus.world import T0, End, MiB, Past, Ramp, Stored, Task, World
from dask_memdash.model.event_parts import SpillRoom, TaskInputs, Thresholds
from dask_memdash.model.events import Event, SpillFailed
from dask_memdash.terms import NOT_MEMORY

#: Ways in which nothing relieves the memory; which of them a cause can have.
RELIEFS = (
    "nothing-to-spill",
    "too-fast",
    "spilling-off",
    "spill-failing",
    "spill-full",
    "limit-above-memory",
)

THREADS = (1, 2, 4, 16)

#: Share of what there is to fill that stored outputs take beside another cause, where
#: the relief is about them, and where it is not.
BALLAST, TRIFLE = (0.30, 0.36), (0.0, 0.10)


@dataclass(frozen=True)
class Truth:
    """What is right to say of a death."""

    #: Causes that all of the evidence together allows: one, or the few among which no
    #: evidence that anybody could have would decide.  Empty: there is no incident.
    causes: frozenset[str]
    reliefs: frozenset[str | None] = frozenset({None})
    #: Prefix that is responsible, and key where one task is.
    prefix: str | None = None
    key: str | None = None
    #: Evidence that may be lost → causes that are right without it too.
    without: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def memory(self) -> bool:
        """Whether memory is the cause."""
        return bool(self.causes) and not self.causes & NOT_MEMORY


@dataclass
class Plan:
    """One death to be."""

    random: Random
    world: World
    young: bool
    relief: str
    #: What there is to fill beyond the idle process, in bytes.
    fill: int
    #: Events beside those of the worker itself.
    more: list[Event] = field(default_factory=list)

    # -- pieces --------------------------------------------------------------------

    @property
    def busy(self) -> tuple[float, float]:
        """Begin and end of the time in which it did its work before the last tasks."""
        world = self.world
        if self.young:
            return world.joined, world.joined + 0.4 * (world.died - world.joined)
        return world.joined + 1.2 * world.interval, world.died - 1.2 * world.interval

    @property
    def last(self) -> float:
        """When the last tasks begin."""
        world = self.world
        if self.young:
            return world.joined + self.random.uniform(0.4, 0.6) * (
                world.died - world.joined
            )
        return world.died - self.random.uniform(0.15, 1.1) * world.interval

    def between(self, low: float, high: float) -> int:
        """Return a share of what there is to fill, in bytes."""
        return int(self.fill * self.random.uniform(low, high))

    def key(self, prefix: str) -> str:
        """Return a key of a prefix."""
        number = self.random.randrange(10_000)
        return f"('{prefix}-{self.random.randrange(16**8):08x}', {number})"

    def task(self, prefix: str, counted: int, **more: object) -> Task:
        """Let one more task run until the death."""
        begin = more.pop("begin", None)
        begin = self.last if begin is None else begin
        made = Task(self.key(prefix), prefix, begin, counted, **more)  # type: ignore[arg-type]
        self.world.tasks.append(made)
        return made

    def small_tasks(self, most: int, share: float = 0.05) -> None:
        """Let some more tasks run that hold little."""
        n = self.random.randint(0, max(0, most))
        for _ in range(n):
            self.task("small", self.between(0.2 * share / n, share / n))

    def store(
        self,
        prefix: str,
        size: int,
        *,
        lie: float = 1.0,
        count: int = 0,
        **more: object,
    ) -> Stored:
        """Store outputs that take so many bytes in RAM.

        Parameters
        ----------
        lie
            By how many times they are larger than Dask believes.
        """
        begin, end = self.busy
        if self.relief == "too-fast" and not self.young:
            begin = end - 1.0
        count = count or self.random.choice((5, 12, 40, 300))
        real = max(1, size // count)
        values = {"begin": begin, "end": end, **more}
        made = Stored(prefix, count, max(1, int(real / lie)), real, **values)  # type: ignore[arg-type]
        self.world.stored.append(made)
        return made

    def spill(self, stored: Stored, times: float) -> None:
        """Let so many times of what is in RAM be on disk beside."""
        if self.world.thresholds.target is None:
            return
        gone = int(stored.count * times)
        stored.spilled += gone
        stored.count += gone

    def ran(
        self, prefix: str, count: int, peak: int, output: int, left: int | None = None
    ) -> Past:
        """Let tasks of a prefix have finished: here, or on another worker."""
        begin, end = self.busy
        here = not self.young
        if not here:
            begin, end = begin - 30, begin - 1
        past = Past(
            prefix, count, peak, output, output if left is None else left, begin, end
        )
        past.here = here
        self.world.past.append(past)
        return past

    def grow(self, size: int, begin: float, end: float) -> None:
        """Let the process grow by what nobody counts."""
        self.world.grown.append(Ramp(size, begin, end))

    def inputs(self, *stored: Stored, share: float = 1.0) -> TaskInputs:
        """Let a task have stored outputs as its inputs."""
        size = sum(s.believed * (s.count - s.spilled) for s in stored)
        return TaskInputs(sum(s.count for s in stored), int(size * share), 0, 0)

    def ballast(self) -> None:
        """Store what could have been spilled, where the relief is about that."""
        low, high = TRIFLE if self.relief == "nothing-to-spill" else BALLAST
        if self.relief == "limit-above-memory":
            low, high = TRIFLE
        size = self.between(low, high)
        if size > MiB:
            self.store("ballast", size, waiter="later")

    @property
    def spare(self) -> float:
        """Share of the fill that is left to a cause beside the ballast."""
        if self.relief in ("nothing-to-spill", "limit-above-memory"):
            return 0.88
        return 0.62

    def reliefs(self, storage: bool = False) -> frozenset[str | None]:
        """Return what is right to say of the relief."""
        told = self.world.sibling or any(not p.here for p in self.world.past)
        if self.relief == "spilling-off" and self.young and not told:
            # Nobody has told its thresholds.
            return frozenset({"spilling-off", "too-fast"})
        return frozenset({self.relief})

    def adjust(self) -> None:
        """Make what is there add up to the size at which the worker died.

        What is missing is nobody's; less than a twentieth of what there is to fill.
        """
        world = self.world
        target = world.base + self.fill
        missing = target - world.rss(world.died)
        self.trifles(missing)
        missing = target - world.rss(world.died)
        if missing > 0:
            begin = world.joined + 0.05 * (world.died - world.joined)
            self.grow(missing, begin, self.busy[1])

    def trifles(self, missing: int) -> None:
        """Let some of what is missing be of other causes, none of them large."""
        random, world = self.random, self.world
        begin, end = self.busy
        size = int(missing * random.uniform(0.0, 0.3))
        if size < MiB or self.young:
            return
        kind = random.choice(("none", "retained", "buffers", "graph", "stored"))
        if kind == "retained":
            world.retained.append(Ramp(size, begin, end))
        elif kind == "buffers":
            world.buffers.append(Ramp(size, begin, end))
        elif kind == "graph" and "load" not in world.graph:
            world.graph["sent"] = (10, size // 10, Ramp(size, begin, end))
        elif kind == "stored":
            self.store("trifle", size, count=5, why=random.choice(("pinned", "other")))

    def fail_spilling(self, prefix: str) -> None:
        """Let spilling have failed, or be at its end."""
        world, random = self.world, self.random
        if self.relief == "spill-full":
            gone = sum(s.believed * s.spilled for s in world.stored)
            if random.random() < 0.5 and not self.young:
                world.spill_room = SpillRoom(gone, 2**40)
                return
            reason = random.choice(("max-spill", "disk-full"))
        else:
            reason = random.choice(("disk-error", "unpicklable"))
        begin, end = self.busy
        self.more.append(
            SpillFailed(
                time=begin + 0.9 * (end - begin),
                address=world.address,
                key=self.key(prefix),
                prefix=prefix,
                reason=reason,
                size=MiB,
                text="[Errno 28] No space left on device",
                count=random.choice((1, 3, 50)),
            )
        )


def begin(random: Random, reliefs: Iterable[str], young: bool | None = None) -> Plan:
    """Return a worker with its limit, threads and thresholds, and what fills it."""
    relief = random.choice(tuple(reliefs))
    young = random.random() < 0.35 if young is None else young
    limit = random.choice((400, 600, 1000, 2000, 4096, 16384)) * MiB
    base = int(min(0.3 * limit, random.uniform(75, 150) * MiB))
    off = relief == "spilling-off"
    thresholds = Thresholds(
        None if off else int(0.6 * limit),
        None if off else int(0.7 * limit),
        random.choice((None, int(0.8 * limit))),
        int(0.95 * limit),
    )
    joined = T0 + random.uniform(0, 1)
    interval = random.choice((0.5, 0.5, 1.0, 2.0, 5.0))
    lives = random.uniform(0.12, 0.45) if young else interval * random.uniform(9, 25)
    world = World(
        random=random,
        limit=limit,
        base=base,
        nthreads=random.choice(THREADS),
        thresholds=thresholds,
        joined=joined,
        died=joined + lives,
        interval=interval,
        sibling=random.random() < 0.6,
    )
    if not young and random.random() < 0.7:
        world.looked = world.died - 1.1 * interval
    plan = Plan(random, world, young, relief, 0)
    if relief == "limit-above-memory":
        # The kernel looks at once, so above the threshold it acts before the nanny.
        world.allowed = int(limit * random.uniform(0.96, 0.985))
        by = random.choice(("kernel", "unknown"))
        world.end = End(signal=9, by=by)
        plan.fill = world.allowed - base
        if young:
            world.end = End(signal=9, by="kernel")
    else:
        plan.fill = int(limit * random.uniform(0.955, 1.02)) - base
        world.end = random.choice((End(15, None, "nanny"), End(9, None, "nanny")))
    return plan


Scenario = Callable[[Random], tuple[Plan, Truth]]
