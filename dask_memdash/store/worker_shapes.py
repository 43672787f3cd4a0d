"""Shapes of what the store says of workers: memory, thresholds, tasks, workers.

See :mod:`dask_memdash.store.base` for units and for what ``None`` means.
"""

from __future__ import annotations

from typing import TypedDict

from dask_memdash.store.intermediate_shapes import Storing


class Breakdown(TypedDict):
    """Memory of one worker process, or of the cluster, at an instant, in bytes.

    ``managed + transfer + actors + executing + retained + graph + baseline ==
    process`` exactly; the rest stands beside the sum.  Every value is ``None`` before
    the first reading.
    """

    process: int | None
    managed: int | None
    transfer: int | None
    actors: int | None
    executing: int | None
    retained: int | None
    graph: int | None
    baseline: int | None
    error: int | None
    managed_claimed: int | None
    unmanaged: int | None
    unmanaged_old: int | None
    unmanaged_recent: int | None
    inputs: int | None
    spilled: int | None
    spilled_disk: int | None
    shuffle_disk: int | None
    reclaimable: int | None
    """Of the process, pages of files (libraries, memory maps), beside the sum: the
    kernel drops them when it needs memory.  ``None`` where it does not tell."""


class RssParts(TypedDict):
    """The RSS of a worker's process by what stands behind it, in bytes.

    ``None`` where the kernel does not tell them apart.
    """

    anon: int | None
    """Heap and stacks: what programs allocate."""
    file: int | None
    """Pages of files: libraries and memory maps."""
    shmem: int | None
    """Shared memory (``/dev/shm``)."""


class LargestBlock(TypedDict):
    """The largest block of memory that a task holds, and the line that allocated it."""

    bytes: int
    file: str | None
    """Last two parts of the file's name, or the module of code that was sent by value
    ('__main__'); ``None`` where no line of Python did."""
    line: int | None
    function: str | None
    """Function that the line is in."""
    called: str | None
    """What the line called, such as 'np.concatenate'; ``None`` where not known."""
    text: str
    """The line in words: 'app/model.py:42 in np.concatenate'."""


class ExecutingTask(TypedDict):
    """A task that is running, or whose output is not stored yet."""

    key: str
    prefix: str
    thread: int | None
    """Identifier of its thread; ``None`` for async tasks and other executors."""
    seconds: float
    bytes: int | None
    """In-execution memory now; ``None`` where it is not measured."""
    peak: int | None
    method: str
    """'exact' (only while the process agrees), 'counted', 'hwm', 'estimated' or
    'unmeasured'."""
    error: int | None
    largest_block: LargestBlock | None
    """``None`` where none has 16 MiB or more, or its line is not known."""


class TaskChildren(TypedDict):
    """Processes that one task of a worker started, or has started just now."""

    prefix: str | None
    key: str | None
    """The task's; ``None`` where it is not known which task it was."""
    command: str
    """Program of the first of them."""
    processes: int
    """How many there are now."""
    started: int
    rss: int
    """What they have resident now, without what they share with the worker."""
    peak: int
    """The most that they had, as far as looked at."""
    killed: int
    """How many were ended by SIGKILL, or when the kernel killed for memory."""


class Children(TypedDict):
    """Processes that a worker's tasks started, beside its own process; in bytes.

    The kernel counts them against the same container or host; Dask does not.
    """

    processes: int
    rss: int
    tasks: list[TaskChildren]
    """Largest first; those that have ended stay for some seconds."""


class Thresholds(TypedDict):
    """The worker's own memory thresholds, in bytes; ``None`` where off."""

    target: int | None
    spill: int | None
    pause: int | None
    terminate: int | None


class SelfCost(TypedDict):
    """What MemDash itself costs at one kind of place; ``None`` where not known yet."""

    cpu: float | None
    """Share of a core; of workers and nannies the mean."""
    cpu_max: float | None
    """Of the costliest of them."""
    bytes: int | None
    """Estimated memory, in bytes, of all of them."""
    held_back: int
    """How many of them sample or measure more coarsely to keep within the budget."""


class TimeToLimit(TypedDict):
    """When a worker comes to where its work ends, at the rate at which it fills.

    Of storage and of what tasks leave behind; running tasks' swings do not count.
    """

    seconds: float
    """Most likely, from the last look at it on."""
    soonest: float
    latest: float | None
    """What nine tenths of the rates seen lie between; ``None`` without an end."""
    line: str
    """'pause' (it starts no task any more), 'terminate' or 'limit'."""
    bytes: int
    """Where that is."""
    rate: int
    """Bytes a second."""
    grows: str
    """'storage' or 'left-behind'."""
    confidence: float
    """0 to 1: how steady it is; nothing is told below 0.85."""


class GuardWaiting(TypedDict):
    """Tasks of one prefix that a guard holds."""

    tasks: int
    seconds: float
    """For how long the first has waited."""
    need: int
    """The most that one of them needs, in bytes."""


class Guard(TypedDict):
    """What the guard of a worker does: it starts tasks when they fit."""

    mode: str
    """'on', 'dry-run' (it notes what would have waited), or 'off' where it can do
    nothing: ``degraded`` says why."""
    held: int
    seconds: float
    """Tasks that were held so far, and how long they waited together."""
    opened: int
    """Tasks that it started although they did not fit, since nothing got on."""
    drained: int
    """Tasks that ran on while the worker was paused."""
    passed: int
    """Tasks that went before a held one."""
    failed: int
    """Decisions that failed, so that Dask's own was taken."""
    fetch_limited: bool
    """Whether fewer inputs are fetched at a time, for want of room."""
    waiting: dict[str, GuardWaiting]
    """By prefix: the tasks that wait now, those that have waited longest."""


class Worker(TypedDict):
    """One worker."""

    address: str
    name: str
    host: str
    pid: int
    nthreads: int
    status: str
    """'running', 'paused', 'closing…' as Dask says it."""
    n_pauses: int
    """How often it was paused for its memory."""
    last_seen: float
    stale_for: float | None
    """Seconds since its last heartbeat, where these are more than three of its
    intervals; ``None`` while it speaks as often as it should."""
    limit: int | None
    thresholds: Thresholds
    time_to_limit: TimeToLimit | None
    """``None`` where nothing grows steadily, or too little is known."""
    breakdown: Breakdown
    """Of its process: the whole process where workers share one."""
    rss: RssParts
    """The same process by what stands behind its memory."""
    children: Children
    """Processes that its tasks started, which are not in the breakdown."""
    shares_process_with: int
    """How many other workers live in the same process."""
    transfer: dict[str, int | None]
    """``{"incoming", "outgoing", "shuffle"}`` in bytes."""
    stored: int
    stored_pending: int
    """Of its outputs, bytes that lie in the cluster's memory of intermediates too (they
    are loaded and not computed if it dies), and that are to lie there.  Copies of other
    workers' outputs are in neither."""
    storing: Storing | None
    """What it does for that memory; ``None`` where the cluster has none."""
    guard: Guard | None
    """What its guard does; ``None`` without one."""
    executing_tasks: list[ExecutingTask]
    method: str
    """How its tasks are measured, as the least exact that run now; 'none' before
    its first report."""
    degraded: list[str]
    self_cost: dict[str, SelfCost]
    """``{"worker", "nanny"}``: what MemDash costs there."""


class PastTask(TypedDict):
    """A task that a worker was seen to run, at a heartbeat or by its nanny."""

    key: str
    """Its first 200 characters."""
    prefix: str
    thread: int | None
    start: float
    seen: float
    """When it was last seen to run: it ended then or later."""
    running: bool
    """Whether it ran at the last report."""
    peak: int | None
    """Largest in-execution memory seen, in bytes."""
    method: str
