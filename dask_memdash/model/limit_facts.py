"""Facts about a worker's memory limit, as they were read where it runs.

:class:`LimitFacts` is read once, when MemDash comes to a worker: every cap between
the machine and the process, what was available, and what decides whether spilling
helps.  :class:`LiveFigures` are the few of them that change.  Both travel with
heartbeats as plain data and are judged by :mod:`dask_memdash.analysis.limits.rules`.

All sizes are integers in bytes; None is what could not be read.  Imports the
standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: The unit that limits are worked out in, in bytes.
MiB = 2**20

#: Kinds of :class:`Cap`, from the outside to the inside.
KINDS = ("host", "cgroup", "batch", "rlimit")

#: What happens at a cap: the kernel kills; it slows the process down; an allocation
#: fails with MemoryError; or nothing that can be seen enforces it, as with what a
#: batch system has been asked for.
EFFECTS = ("kills", "throttles", "fails", "declared")

#: What is left of a cgroup, and of a machine, when the kernel is about to act: these
#: shares of it, and at most so many bytes.
CGROUP_LEFT, HOST_LEFT = 0.1, 0.05
MOST_LEFT = 1024 * MiB


def runs_out(kind: str, of: int, left: float) -> bool:
    """Whether so little is left of a cap that the kernel is about to act; in bytes."""
    share = HOST_LEFT if kind == "host" else CGROUP_LEFT
    return left <= min(share * of, MOST_LEFT)


@dataclass(frozen=True, slots=True)
class Cap:
    """One limit on memory between the machine and a process, in bytes."""

    #: One of :data:`KINDS`.
    kind: str
    #: 'MemTotal', 'memory.max', 'RLIMIT_AS', 'SLURM_MEM_PER_NODE' and so on.
    name: str
    #: The file or variable that says so.
    where: str
    bytes: int
    #: One of :data:`EFFECTS`.
    effect: str
    #: Names what it applies to: workers with the same scope share the cap.
    scope: str
    #: What counts against it now (a cgroup's use less the file cache that it can drop,
    #: the address space, …).
    used: int | None = None


@dataclass(frozen=True, slots=True)
class Allocator:
    """What decides whether freed memory goes back to the system."""

    #: Value of ``MALLOC_TRIM_THRESHOLD_`` at start, in bytes.
    trim_threshold: int | None = None
    #: Value of ``MALLOC_ARENA_MAX``, in number.
    arena_max: int | None = None
    #: 'glibc', 'musl', 'jemalloc', 'tcmalloc', 'mimalloc'; None where not known.
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Scratch:
    """The directory that a worker spills to."""

    path: str
    #: Type of its filesystem; 'tmpfs' is memory.
    filesystem: str | None = None
    #: Size and free space, in bytes.
    total: int | None = None
    free: int | None = None


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """What changes while a worker runs, in bytes."""

    #: ``MemAvailable`` of the machine.
    available: int | None = None
    #: What counts against the least cgroup cap: its use less droppable file cache.
    cgroup_used: int | None = None
    #: Of the worker's own process, what is swapped out.
    swapped: int | None = None
    #: Share of the last ten seconds in which some task waited for memory, in percent.
    pressure: float | None = None
    #: Free space in the scratch directory.
    scratch_free: int | None = None


@dataclass(frozen=True, slots=True)
class LimitFacts:
    """Everything about one worker's limit that is read where it runs."""

    #: Every cap that was found, the machine's first; no two say the same thing.
    caps: tuple[Cap, ...] = ()
    #: Names the machine (its boot id), so that containers on it are counted together.
    machine: str | None = None
    #: 'host', 'container', 'kubernetes', 'slurm', 'pbs', 'sge', 'htcondor', 'lsf' or
    #: 'wsl'.
    environment: str = "host"
    #: How the limit was set: 'auto', 'fraction', 'given', 'clamped', 'off';
    #: None where that cannot be told.
    set_by: str | None = None
    #: What Dask takes for the memory of this machine.
    dask: int | None = None
    #: Processors that Dask counts, in number.
    cpus: int | None = None
    #: RSS of the process when this was read.
    rss: int | None = None
    swap_total: int | None = None
    #: The cgroup's limit on swap; None without one.
    swap_limit: int | None = None
    allocator: Allocator = field(default_factory=Allocator)
    scratch: Scratch | None = None
    #: Whether Dask spills at all on this worker.
    spills: bool | None = None
    #: The live figures at the same instant.
    first: LiveFigures = field(default_factory=LiveFigures)
    #: Values that were found and cannot be used, and why, in sentences.
    skipped: tuple[str, ...] = ()

    def least(self, *kinds: str) -> Cap | None:
        """Return the least cap of some kinds (of any without), None without one."""
        caps = [cap for cap in self.caps if not kinds or cap.kind in kinds]
        return min(caps, key=lambda cap: cap.bytes, default=None)

    def is_close(self, live: LiveFigures) -> bool:
        """Whether twice what :func:`runs_out` leaves, or less, is left of a cap."""
        left: list[tuple[Cap | None, int | None]] = [
            (self.least("host"), live.available)
        ]
        cap = self.least("cgroup")
        if cap is not None and live.cgroup_used is not None:
            left.append((cap, cap.bytes - live.cgroup_used))
        return any(
            runs_out(cap.kind, cap.bytes, free / 2)
            for cap, free in left
            if cap is not None and free is not None
        )


@dataclass(frozen=True, slots=True)
class LimitReport:
    """What travels with a heartbeat: facts once, live figures when they changed."""

    live: LiveFigures
    facts: LimitFacts | None = None
