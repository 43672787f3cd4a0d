"""Shapes of the evidence on an incident, as the store gives them.

Sizes are in bytes, instants in seconds since the Unix epoch; ``None`` is not known.
"""

from __future__ import annotations

from typing import TypedDict

from dask_memdash.store.worker_shapes import LargestBlock


class Attempt(TypedDict):
    """An earlier death at which the same task was executing."""

    incident: str
    kind: str


class ExpectedPeak(TypedDict):
    """What a prefix's tasks usually need."""

    p50: int
    p95: int | None
    max: int | None
    method: str


class Inputs(TypedDict):
    """Inputs of a task, as the scheduler knows them."""

    count: int
    size: int
    n_fetched: int
    """Of them copies of what other workers hold too, or have to send."""
    fetched: int


class Suspect(TypedDict):
    """A task that was executing at a death, not merely assigned."""

    key: str
    prefix: str
    bytes: int | None
    peak: int | None
    share: float | None
    """`bytes` as a share of the worker's limit."""
    seconds: float
    thread: int | None
    priority: list[float] | None
    order_position: int | None
    order_total: int | None
    attempts: list[Attempt]
    method: str
    grown: int | None
    """By how much the process grew since the task began."""
    rss_at_begin: int | None
    inputs: Inputs | None
    arguments: int | None
    """Its arguments and closures."""
    gathering: bool
    """It had not begun: its worker was reading inputs of it back from disk."""
    filling: int
    """What it may have held beside `bytes`: blocks just made, or being filled."""
    largest_block: LargestBlock | None
    """The largest that it held; ``None`` where none had 16 MiB or it is not known."""
    expected: ExpectedPeak | None


class Innocent(TypedDict):
    """Tasks that were assigned to the worker and not executing."""

    count: int
    keys: list[str]
    """The first of them."""


class Reason(TypedDict):
    """Why some bytes of a prefix were held."""

    why: str
    """'replica', 'run-ahead', 'awaited', 'pinned' or 'other'."""
    prefix: str | None
    """The prefix that waits for them."""
    bytes: int
    client: str | None
    """The client that wants most of them."""


class StoredThen(TypedDict):
    """Storage of one prefix on the worker, and why it was held."""

    prefix: str
    managed: int
    spilled: int
    count: int
    because: list[Reason]


class SpillFailure(TypedDict):
    """Outputs that the worker could not spill."""

    reason: str
    """'max-spill', 'disk-full', 'disk-error' or 'unpicklable'."""
    prefix: str
    count: int


class Spilling(TypedDict):
    """Whether the worker could spill, and from where on."""

    on: bool | None
    target: int | None
    threshold: int | None
    spilled: int | None
    failures: list[SpillFailure]


class Timeline(TypedDict):
    """Memory of the process before the incident, as columns."""

    time: list[float]
    process: list[int]
    clock_offset: float
    """Seconds added to the worker's instants, as its clock differs."""


class TaskSeconds(TypedDict):
    """What one task held over a worker's last seconds, or those of a prefix."""

    key: str | None
    """``None``: the tasks of this prefix that were no longer there at the end."""
    prefix: str
    count: int
    """How many tasks that is."""
    begin: float
    """When the first of them began."""
    bytes: list[int | None]
    """At each sample; ``None``: it was not among the largest, and is in `others`."""


class LastSeconds(TypedDict):
    """A process before its death, as columns with a value for each sample.

    At each of them the parts, `tasks`, `others`, `uncounted` and `unknown` sum to
    `process`.
    """

    why_not: str
    """Why nothing is known, and all columns are empty; empty where it is."""
    time: list[float]
    process: list[int]
    managed: list[int]
    transfer: list[int]
    actors: list[int]
    retained: list[int]
    graph: list[int]
    baseline: list[int]
    tasks: list[TaskSeconds]
    others: list[int]
    """What further tasks held together."""
    n_others: list[int]
    uncounted: list[int]
    """Executing, and counted for no task."""
    unknown: list[int]
    """Of what only the size is known: the worker's reading could not be read."""


class IncidentTask(TypedDict):
    """A task that an incident is about: given up, or refused memory."""

    key: str
    prefix: str
    priority: list[float] | None
    order_position: int | None
    order_total: int | None
    inputs: Inputs | None


class Request(TypedDict):
    """Memory that was asked for and refused."""

    bytes: int | None
    shape: list[int] | None
    dtype: str | None
    source: str
    device: str
    impossible: bool
    limit: int | None
    verdict: str
    times: float | None
    """The request as a multiple of the worker's limit."""
    text: str
    likely: str
    """How a mistake probably came about; empty where that is not known."""


class Waiting(TypedDict):
    """Tasks of one prefix that could run and do not."""

    prefix: str
    queued: int
    assigned: int


class Held(TypedDict):
    """Outputs of one prefix in the memory of the paused workers."""

    prefix: str
    bytes: int
    because: dict[str, int]
    clients: dict[str, int]
    awaited_by: dict[str, int]


class Stuck(TypedDict):
    """Who waits and who holds where nothing moves; sums over the paused workers."""

    since: float
    waiting: list[Waiting]
    n_waiting: int
    n_paused: int
    n_workers: int
    by_hand: int
    running: int
    unreceived: int
    """Tasks that wait for an input that did not fit when it came."""
    spilling: bool | None
    holding: list[Held]
    deaths: list[str]
    """The incidents that led there: deaths where no worker is left, inputs that could
    not be received where tasks wait for these."""
