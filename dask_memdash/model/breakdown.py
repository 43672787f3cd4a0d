"""The breakdown of a process's memory: pure arithmetic.

A :class:`Reading` is what was read on the worker at one instant; :func:`break_down`
turns it into parts that are never negative and sum exactly to the process.  The
formulas stand in DESIGN.md, section "The breakdown".

Imports the standard library only.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import add, attrgetter, sub
from typing import Any, TypeVar

from dask_memdash.model.quick_making import quickly

#: What parts are called; names are ordered.
Name = TypeVar("Name", bound=Any)

PARTS = (
    "managed",
    "transfer",
    "actors",
    "executing",
    "retained",
    "graph",
    "baseline",
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read on a worker at one instant.  None means not known."""

    #: Unix time in seconds.
    time: float
    #: Resident set size of the process.
    rss: int
    #: Outputs in RAM as Dask's sizeof says; may exceed what is resident.
    managed_claimed: int = 0
    #: Outputs being received, outputs being sent, and P2P shuffle buffers.
    incoming: int = 0
    outgoing: int = 0
    shuffle: int = 0
    #: Freed by the program and kept by the allocator (an upper bound).
    free: int | None = None
    #: What of that Arrow's pool may keep; None without one.
    arrow_kept: int | None = None
    #: Least that was left beside storage, transfer, actors and graph when nothing ran.
    base: int | None = None
    #: Sum of what running and pending tasks are thought to hold.
    live: int = 0
    #: Whether any task is running or pending.
    busy: bool = False
    #: Spilled: size in memory, size on disk.  None for a buffer that cannot say.
    spilled: int | None = None
    spilled_disk: int | None = None
    #: Spilled, but still in RAM because a running task refers to it.
    inputs: int | None = None
    #: Bytes that shuffles have written to disk.
    shuffle_disk: int | None = None
    #: Dask's own split of what it does not manage.
    unmanaged_old: int | None = None
    #: The RSS by what stands behind it: nothing (heap), files, shared memory.
    anon: int | None = None
    file: int | None = None
    shmem: int | None = None
    #: File-backed RSS at the instant that `base` is of.
    base_file: int | None = None
    #: What of `base` came with tasks that were about to begin while nothing else was
    #: under way, since the process is watched: modules that their functions import.
    loaded: int | None = None
    #: State of actors; arguments, closures and records of tasks; as far as counted.
    actors: int | None = None
    graph: int | None = None


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Where a process's memory is; the `PARTS` sum exactly to `process`."""

    process: int
    managed: int
    transfer: int
    actors: int
    executing: int
    retained: int
    graph: int
    baseline: int
    #: By how much `executing` may be wrong.
    error: int
    managed_claimed: int
    unmanaged_old: int | None = None
    inputs: int | None = None
    spilled: int | None = None
    spilled_disk: int | None = None
    shuffle_disk: int | None = None
    #: Of the process, pages of files: the kernel drops them when it needs memory.
    reclaimable: int | None = None

    @property
    def unmanaged(self) -> int:
        """All that Dask does not manage."""
        return self.process - self.managed

    @property
    def unmanaged_recent(self) -> int | None:
        """Dask's ``unmanaged_recent``: unmanaged less its old part."""
        if self.unmanaged_old is None:
            return None
        return max(0, self.unmanaged - self.unmanaged_old)

    def to_dict(self) -> dict[str, int | None]:
        """Return every figure under its public name."""
        return {
            "process": self.process,
            "managed": self.managed,
            "transfer": self.transfer,
            "actors": self.actors,
            "executing": self.executing,
            "retained": self.retained,
            "graph": self.graph,
            "baseline": self.baseline,
            "error": self.error,
            "managed_claimed": self.managed_claimed,
            "unmanaged": self.unmanaged,
            "unmanaged_old": self.unmanaged_old,
            "unmanaged_recent": self.unmanaged_recent,
            "inputs": self.inputs,
            "spilled": self.spilled,
            "spilled_disk": self.spilled_disk,
            "shuffle_disk": self.shuffle_disk,
            "reclaimable": self.reclaimable,
        }


_figures = attrgetter(*Breakdown.__dataclass_fields__)

#: How many figures of a breakdown are always known: the first.
_SURE = list(Breakdown.__dataclass_fields__).index("managed_claimed") + 1

make_breakdown = quickly(Breakdown)

EMPTY = Breakdown(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

#: The public shape before anything was read: every figure is None.
UNKNOWN: dict[str, int | None] = dict.fromkeys(EMPTY.to_dict())


def break_down(reading: Reading) -> Breakdown:
    """Split the process's memory into its parts (formulas: DESIGN.md)."""
    rss = max(0, reading.rss)
    claimed = max(0, reading.managed_claimed)
    managed = min(claimed, rss)
    live = max(0, reading.live)
    free = max(0, reading.free or 0)
    in_actors = max(0, reading.actors or 0)
    in_graph = max(0, reading.graph or 0)
    idle = max(0, reading.base or 0) + in_actors + in_graph
    transfer = _transfer(reading, rss - managed, idle + (live if reading.busy else 0))
    rest = rss - managed - transfer
    base = min(idle, rest)
    beyond = rest - base
    if reading.busy:
        # Pages of files that came since are nobody's execution, as far as the counts
        # leave room for them.
        mapped = min(_mapped_since_base(reading), beyond - min(live, beyond))
        beyond -= mapped
        retained = min(free, beyond - min(live, beyond))
        executing = beyond - retained
        left = base + mapped
        error = abs(executing - live)
    else:
        retained = min(free, rest)
        executing = 0
        left = rest - retained
        error = 0
    # Counts of what is not resident, or is freed already, may exceed what there is.
    actors = min(in_actors, left)
    graph = min(in_graph, left - actors)
    return make_breakdown(
        process=rss,
        managed=managed,
        transfer=transfer,
        actors=actors,
        executing=executing,
        retained=retained,
        graph=graph,
        baseline=left - actors - graph,
        error=error,
        managed_claimed=claimed,
        unmanaged_old=_known(reading.unmanaged_old),
        inputs=_known(reading.inputs),
        spilled=_known(reading.spilled),
        spilled_disk=_known(reading.spilled_disk),
        shuffle_disk=_known(reading.shuffle_disk),
        reclaimable=None if reading.file is None else min(max(0, reading.file), rss),
    )


def _known(size: int | None) -> int | None:
    """Return a figure as read, in bytes; None also where it cannot be true."""
    return None if size is None or size < 0 else size


def _mapped_since_base(reading: Reading) -> int:
    """Return by how much more of files is resident than at the base's instant."""
    if reading.file is None or reading.base_file is None:
        return 0
    return max(0, reading.file - reading.base_file)


def _transfer(reading: Reading, room: int, own: int) -> int:
    """Return how much of a process is buffers, in bytes.

    Outputs that are being sent are stored ones, counted as managed already, and most
    are sent from where they lie: they count only where there is room for a copy beside
    what the process itself and its tasks hold.

    Parameters
    ----------
    room
        What storage leaves of the process.
    own
        What the idle process and the running tasks are known to hold.
    """
    sure = min(max(0, reading.incoming + reading.shuffle), room)
    return sure + min(max(0, reading.outgoing), max(0, room - sure - own))


def grown_to(breakdown: Breakdown | None, rss: int, *, busy: bool) -> Breakdown:
    """Return a breakdown as it is when only the RSS was seen to grow since.

    What came since is in execution where tasks run, else nobody's.  The same where the
    process has not grown.

    Parameters
    ----------
    breakdown
        The last one that is known; None: nothing but the RSS is.
    """
    if breakdown is None:
        return break_down(Reading(time=0.0, rss=rss))
    more = rss - breakdown.process
    if more <= 0:
        return breakdown
    part = "executing" if busy else "baseline"
    grown = {"process": rss, part: getattr(breakdown, part) + more}
    return replace(breakdown, **grown, error=breakdown.error + (more if busy else 0))


def join_readings(readings: Sequence[Reading]) -> Reading:
    """Join the readings of workers that share one process into the process's own.

    The RSS, the allocator's free bytes and the baseline are the process's, taken
    from the newest reading; what each worker holds is added up.
    """
    if len(readings) == 1:
        return readings[0]
    newest = max(readings, key=lambda reading: reading.time)
    return replace(
        newest,
        managed_claimed=sum(r.managed_claimed for r in readings),
        incoming=sum(r.incoming for r in readings),
        outgoing=sum(r.outgoing for r in readings),
        shuffle=sum(r.shuffle for r in readings),
        live=sum(r.live for r in readings),
        busy=any(r.busy for r in readings),
        spilled=_sum(r.spilled for r in readings),
        spilled_disk=_sum(r.spilled_disk for r in readings),
        inputs=_sum(r.inputs for r in readings),
        shuffle_disk=_sum(r.shuffle_disk for r in readings),
        unmanaged_old=newest.unmanaged_old,
        actors=_sum(r.actors for r in readings),
        graph=_sum(r.graph for r in readings),
    )


def exchange(total: Breakdown, old: Breakdown, new: Breakdown) -> Breakdown:
    """Put a process's new breakdown in the place of its old in a cluster's.

    The error of a sum is the sum of the errors.  A figure that no process knows
    stays unknown; one that some do not know counts as nothing for them.
    """
    before, gone, come = _figures(total), _figures(old), _figures(new)
    sums = list(map(add, before[:_SURE], map(sub, come[:_SURE], gone[:_SURE])))
    unsure: Iterable[int | None] = before[_SURE:]
    if gone[_SURE:] != come[_SURE:]:
        unsure = map(_exchanged, unsure, gone[_SURE:], come[_SURE:])
    return make_breakdown(*sums, *unsure)


def _exchanged(figure: int | None, gone: int | None, come: int | None) -> int | None:
    if gone is not None:
        figure = (figure or 0) - gone
    if come is not None:
        figure = (figure or 0) + come
    return figure


def scale(parts: Mapping[Name, int], total: int) -> dict[Name, int]:
    """Scale parts so that they sum exactly to `total`, in proportion.

    Rounds by largest remainder, ties by name, so that the result depends on
    nothing but the arguments.  All zero if the parts are.
    """
    whole = sum(parts.values())
    if whole == total:
        return dict(parts)
    if whole <= 0:
        return dict.fromkeys(parts, 0)
    scaled = {name: value * total // whole for name, value in parts.items()}
    missing = total - sum(scaled.values())
    if missing:
        by_remainder = sorted(parts, key=lambda n: (-(parts[n] * total % whole), n))
        for name in by_remainder[:missing]:
            scaled[name] += 1
    return scaled


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
