"""What MemDash's terms mean, in words for the page, the report and CSV files."""

from __future__ import annotations

#: Parts of memory → how they are called.
LABELS = {
    "managed": "managed",
    "transfer": "in transfer",
    "executing": "executing",
    "retained": "retained",
    "baseline": "baseline",
    "spilled": "spilled",
}

#: Parts of memory → what they are, for whoever hovers over them.
PARTS = {
    "managed": "Outputs of finished tasks that a worker keeps in memory, because other "
    "tasks or a client still need them.",
    "transfer": "Data on the move between workers: buffers of P2P shuffles and of "
    "network connections.",
    "executing": "What the tasks that run right now have allocated for their own work. "
    "It is given back, or becomes managed, when they finish.",
    "retained": "Memory that the program has freed and the allocator still keeps. The "
    "figure is an upper bound.",
    "baseline": "What is left: the Python interpreter, imported modules, and leaks if "
    "there are any.",
    "spilled": "Outputs of finished tasks that a worker has moved to disk to make "
    "room. They are read back when a task needs them. The size is what they take in "
    "memory.",
}

#: How each kind of incident is called.
KINDS = {
    "terminated": "terminated by its nanny",
    "oom-killed": "killed by the kernel (out of memory)",
    "killed": "killed from outside",
    "crashed": "crashed",
    "exited": "ended by itself",
    "lost": "lost",
    "killed-worker": "task given up: KilledWorker",
    "memory-error": "MemoryError in a task",
    "paused": "paused",
    "spill-failed": "could not spill",
    "kernel-near": "near being killed by the kernel",
}

#: How each cause of an incident is called.
CAUSES = {
    "task-too-large": "one task needs too much",
    "too-many-at-once": "too many tasks at once",
    "run-ahead": "ran ahead of the order",
    "awaited": "the order needs this much",
    "pinned": "a client holds results",
    "transfer": "shuffle and network buffers",
    "leak": "memory leaks",
    "retained": "the allocator keeps memory",
    "sizeof": "outputs larger than Dask believes",
    "spill-blocked": "spilling did not help",
    "limit-too-high": "limit above what there is",
    "crash": "crash, not memory",
    "external": "ended from outside",
    "unknown": "not known",
}

#: Verdicts on a graph's order.
ORDER = {
    "fits": "fits",
    "runs-ahead": "runs ahead",
    "cannot-fit": "cannot fit",
    "unknown": "not known yet",
}

#: Verdicts on a worker's limit.
LIMITS = {
    "ok": "right",
    "unknown": "not known yet",
    "too-high": "too high",
    "not-seen": "a cap that Dask does not see",
    "kernel-first": "the kernel comes first",
    "thresholds": "thresholds",
    "spill-off": "spilling is off",
    "scratch": "scratch directory",
    "swap": "swap",
    "pressure": "memory pressure",
    "unbalanced": "unbalanced workers",
    "too-low": "lower than need be",
    "allocator": "allocator",
    "no-limit": "no limit",
}

#: How each way of measuring is called.
METHODS = {
    "exact": "counted exactly",
    "hwm": "exact for a task that ran alone",
    "estimated": "estimated from the process's memory",
    "unmeasured": "not measured",
    "none": "not measured yet",
}

ERROR = "How far the figure of what runs may be off: the truth lies within this."

METHOD = (
    "How the memory of running tasks is known: counted by MemDash's native tally, or "
    "estimated from the memory of the process."
)

PROJECTED = (
    "What the running tasks will use together if each reaches the median peak of its "
    "prefix; compare it with what they use now."
)

SIZEOF = (
    "What Dask believes its outputs weigh over what they were measured to weigh: far "
    "from 1, Dask spills and balances by wrong sizes."
)

LEAK = (
    "What its tasks have put aside for good: allocated, and neither freed nor output."
)

MINIMUM = (
    "Largest storage that the graph's own order needs, one task at a time: no cluster "
    "can compute it with less."
)

RUN_AHEAD = (
    "Most that was stored above what the order needs at the same number of finished "
    "tasks: outputs that were produced earlier than they were needed."
)

#: What the help panel explains beside the parts of memory.
TERMS = {
    "process": "Memory of a worker's process as the kernel counts it (RSS). The five "
    "parts always sum to it.",
    "prefix": "The kind of a task: Dask's name for all tasks that do the same, such as "
    "'read_parquet' or 'sum'.",
    "peak": "The most that a task used for its own work while it ran, its output "
    "included.",
    "pinned": "Outputs held because a client holds a future of them or persisted them.",
    "awaited": "Outputs held because tasks that have not run yet need them.",
    "replicas": "Copies of outputs beyond the first, on other workers.",
    "run-ahead": RUN_AHEAD,
    "target": "From this much managed memory a worker starts to spill.",
    "spill": "From this much memory of the process a worker spills.",
    "pause": "From here a worker starts no new task.",
    "terminate": "From here the nanny kills the worker.",
    "incident": "The death of a worker, or something bad about memory: a pause, a "
    "MemoryError, a failed spill, a task given up with KilledWorker.",
    "suspect": "A task that was really running when a worker died; tasks that were "
    "merely assigned to it are not to blame.",
    "±": ERROR,
}
