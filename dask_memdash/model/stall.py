"""What is known of a cluster in which nothing moves: the cycle of who waits for whom.

Imports the standard library only.  All sizes are integers in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dask_memdash.model.breakdown import Breakdown
from dask_memdash.model.event_parts import WaitingTasks
from dask_memdash.model.room import Room


@dataclass(frozen=True, slots=True)
class Holding:
    """Outputs of one prefix in the memory of the paused workers, and for whom."""

    prefix: str
    bytes: int
    #: Why, by bytes: 'replica', 'awaited', 'pinned' or 'other', as of the last look;
    #: empty where nobody has looked yet.
    because: Mapping[str, int] = field(default_factory=dict)
    #: Client → what it holds of it; prefix → what it waits for of it.
    clients: Mapping[str, int] = field(default_factory=dict)
    awaited_by: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stall:
    """A cluster that is stuck; sizes are sums over its paused workers."""

    #: Unix time of the last progress.
    since: float
    #: Tasks that are ready, by prefix, most first; how many there are in all.
    waiting: tuple[WaitingTasks, ...]
    n_waiting: int
    #: Workers that are paused, of how many, and how many of them not by their memory.
    n_paused: int
    n_workers: int
    by_hand: int = 0
    #: Tasks that run, and use no processor.
    running: int = 0
    #: Tasks that wait for an input that did not fit when it came, where these are why.
    unreceived: int = 0
    #: What is stored, largest first.
    holding: tuple[Holding, ...] = ()
    #: Where the memory is; None where no worker is left.
    parts: Breakdown | None = None
    #: What the processes took when they were idle.
    idle: int | None = None
    limit: int | None = None
    pause: int | None = None
    #: Whether any of them spills; None where not known.
    spills: bool | None = None
    #: Why spilling failed there: 'max-spill', 'disk-full'…; empty where it did not.
    spill_trouble: str = ""
    #: What all workers have room for, were they empty.
    room: Room = field(default_factory=Room)
    #: Prefix that waits → the median size of its outputs so far.
    outputs: Mapping[str, int] = field(default_factory=dict)
    #: The incidents that led there, oldest first: deaths where no worker is left,
    #: inputs that could not be received where tasks wait for these.
    deaths: tuple[str, ...] = ()
