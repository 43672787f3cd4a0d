"""What happens in a world of `guard_world`."""

from __future__ import annotations

from dataclasses import dataclass, field

MB = 1_000_000


@dataclass(frozen=True)
class TaskPlan:
    """One task; others are named by their position in the plan."""

    deps: tuple[int, ...] = ()
    prefix: str = "task"
    #: In MB.
    peak: int = 0
    output: int = 0
    seconds: float = 0.1
    #: A task that it waits for while it runs, and whether it secedes before.
    waits_for: int | None = None
    secedes: bool = False
    resource: bool = False
    actor: bool = False
    #: Whether it runs on another worker.
    elsewhere: bool = False
    measured: bool = True
    #: How often the guard's brake stops it before it ends well.
    stopped: int = 0
    #: How often the other worker is busy when this output is fetched from it.
    busy: int = 0


@dataclass(frozen=True)
class Plan:
    """All that happens; sizes in MB."""

    tasks: tuple[TaskPlan, ...]
    nthreads: int = 2
    limit: int = 1000
    idle: int = 100
    #: Instants at which a ready task is stolen, or cancelled if nobody needs it.
    steals: tuple[float, ...] = ()
    cancels: tuple[float, ...] = ()
    #: Whether what nobody needs is kept, as a client does.
    keeps: bool = False
    #: Whether stored outputs are put on disk when memory gets scarce.
    spills: bool = False
    #: Whether what is on disk stays in memory all the same, as something holds it.
    sticks: bool = False
    #: When another worker asks for the output of which task.
    asks: tuple[tuple[float, int], ...] = ()
    #: What the guard is told beforehand, in MB.
    learnt: dict[str, int] = field(default_factory=dict)
