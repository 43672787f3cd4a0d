"""Shapes of what the store says of the guard: tasks that start when they fit.

See :mod:`dask_memdash.store.base` for units and for what ``None`` means.
"""

from __future__ import annotations

from typing import TypedDict


class GuardAct(TypedDict):
    """One thing that a guard did to a task; in a dry run, would have done."""

    time: float
    kind: str
    """'waited', 'opened', 'drained', 'passed', 'refused', 'braked', 'would-wait':
    see ``terms.GUARD_ACTIONS``."""
    worker: str
    """Its name."""
    address: str
    key: str
    prefix: str
    need: int
    room: int
    """What the task needs, and what there was for it, in bytes; may be negative."""
    seconds: float
    """For how long it had waited."""


class GuardHolds(TypedDict):
    """Tasks of one prefix that wait for memory now, on all workers."""

    prefix: str
    tasks: int
    workers: int
    """On how many workers."""
    seconds: float
    """For how long the first has waited."""
    need: int
    """The most that one of them needs, in bytes."""


class ClusterGuard(TypedDict):
    """What the guards of all workers do, and have done so far."""

    mode: str
    """'on', 'dry-run' (it only notes), or 'off' where it can do nothing on any worker:
    ``degraded`` says why."""
    text: str
    """What waits, and what was done so far, in words."""
    workers: int
    off: int
    """Connected workers on which it works, and on which it can do nothing."""
    waiting: list[GuardHolds]
    """What waits now, longest first; in a dry run, what would."""
    held: int
    seconds: float
    """Tasks that were held so far, and how long they waited together."""
    opened: int
    drained: int
    passed: int
    refused: int
    braked: int
    failed: int
    """How many were started since nothing got on, ran on while their worker was paused,
    went before a held one, were refused as too large, were stopped before they ended
    their worker, to run again; and decisions that failed."""
    fetch_limited: int
    """Workers that fetch fewer inputs at a time now, for want of room."""
    would_have_helped: list[str]
    """Incidents whose tasks fit one by one, and did not together, where no guard
    acted; newest first."""
    actions: list[GuardAct]
    """The newest ones, newest first."""
