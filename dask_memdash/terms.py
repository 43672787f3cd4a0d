"""The glossary: every term that MemDash shows, once, with its sentence and its colour.

Legends, help, tooltips, tables of the README, the documentation and the command line
read their words here; ``static/memdash.css`` holds the same colours (a test compares
them).  A test finds any second definition.  Formulas are :mod:`dask_memdash.model`'s.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Term:
    """One term, as people meet it."""

    #: Identifier, as in the JSON API.
    name: str
    #: How it is called in a list or a legend.
    label: str
    #: One sentence in plain English, for whoever asks what it means.
    sentence: str
    #: 'storage', 'execution' or 'overhead' for a part of memory; else empty.
    family: str = ""
    #: CSS colour where it has one.
    colour: str = ""
    #: Bokeh hatch pattern, a single blank for none.
    pattern: str = " "
    #: A few words beneath the label, where a whole sentence has no room.
    brief: str = ""


def _table(*terms: Term) -> Mapping[str, Term]:
    return MappingProxyType({term.name: term for term in terms})


def label(table: Mapping[str, Term], name: str) -> str:
    """Return what a table calls an identifier; the identifier itself if not listed."""
    return table[name].label if name in table else name


def sentence(table: Mapping[str, Term], name: str) -> str:
    """Return what a table says of an identifier; empty if it is not listed."""
    return table[name].sentence if name in table else ""


#: The parts that sum to the process, from the axis outwards.
PARTS = _table(
    Term(
        "managed",
        "managed",
        "Outputs of finished tasks that a worker keeps in memory because other tasks "
        "or a client still need them.",
        "storage",
        "#2f74c0",
        brief="outputs kept in memory",
    ),
    Term(
        "transfer",
        "in transfer",
        "Data on the move between workers: buffers of P2P shuffles and of network "
        "connections.",
        "storage",
        "#63b3ed",
        brief="shuffle and network buffers",
    ),
    Term(
        "actors",
        "actors",
        "State that actors keep, as far as MemDash can look into them; Dask can "
        "neither measure nor spill it.",
        "storage",
        "#8b42f0",
        "cross",
        brief="state that actors keep",
    ),
    Term(
        "executing",
        "executing",
        "What the tasks that run right now have allocated for their own work; it is "
        "freed, or becomes managed, when they finish.",
        "execution",
        "#e8871e",
        brief="used by running tasks",
    ),
    Term(
        "retained",
        "retained",
        "Memory that the program has freed and the allocator still keeps; the figure "
        "is an upper bound.",
        "overhead",
        "#a3adb8",
        "right_diagonal_line",
        brief="freed, kept by the allocator",
    ),
    Term(
        "graph",
        "graph",
        "Arguments, closures and records of the tasks that the worker was sent; Dask "
        "does not count them and cannot spill them.",
        "overhead",
        "#ad8d76",
        "dot",
        brief="arguments and records of tasks",
    ),
    Term(
        "baseline",
        "baseline",
        "What is left: the Python interpreter, imported modules, and leaks if there "
        "are any.",
        "overhead",
        "#7b8794",
        brief="interpreter, modules, leaks",
    ),
)

#: Tints of the colour of execution, and Bokeh's patterns upon them: tasks that stand
#: beside each other are told apart by both.
TINTS = ("#e8871e", "#a3540a", "#f6c07f", "#cf6f0e", "#7a3d05", "#f2a54a")
HATCHES = (
    " ",
    "right_diagonal_line",
    "dot",
    "horizontal_line",
    "cross",
    "vertical_line",
)

#: Figures that stand beside the parts and are never in their sum.
BESIDE = _table(
    Term(
        "spilled",
        "spilled",
        "Outputs of finished tasks that a worker has moved to disk; the size is what "
        "they take in memory.",
        "storage",
        "#2f74c0",
        "left_diagonal_line",
        brief="outputs moved to disk",
    ),
    Term(
        "reclaimable",
        "file pages",
        "Pages of libraries and memory maps in the process, which the kernel can drop "
        "when memory is short; Dask counts them against the limit all the same.",
    ),
    Term(
        "children",
        "child processes",
        "Processes that tasks start (subprocess, multiprocessing, joblib): the kernel "
        "counts them against the container or host, and Dask does not count them.",
    ),
    Term(
        "process",
        "process",
        "Memory of a worker's process as the kernel counts it (RSS); the parts always "
        "sum to it.",
    ),
    Term(
        "unaccounted",
        "unaccounted",
        "Memory that the process has and that no count explains: threads, native "
        "libraries, caches.",
    ),
)

#: What filled the memory, and why it was there.
CAUSES = _table(
    Term(
        "task-too-large",
        "one task needs too much",
        "One task needs more memory than an empty worker has.",
    ),
    Term(
        "too-many-at-once",
        "too many tasks at once",
        "The tasks that ran together need more memory than the worker has.",
    ),
    Term(
        "run-ahead",
        "ran ahead of the order",
        "Stored outputs were produced earlier than the graph's order needed them.",
    ),
    Term(
        "awaited",
        "the order needs this much",
        "Stored outputs filled the memory, and tasks that had not run yet needed them.",
    ),
    Term(
        "pinned",
        "a client holds results",
        "Stored outputs filled the memory because a client holds them (persist, "
        "futures).",
    ),
    Term(
        "replicas",
        "copies of outputs",
        "Copies of outputs, fetched from other workers as inputs, filled the memory.",
    ),
    Term(
        "transfer",
        "shuffle and network buffers",
        "Buffers of P2P shuffles and of network connections filled the memory.",
    ),
    Term(
        "actor-state",
        "an actor's state",
        "An actor keeps more and more, and Dask can neither see nor spill it.",
    ),
    Term(
        "graph",
        "data inside the graph",
        "Arguments and closures that were sent with the tasks themselves filled the "
        "memory.",
    ),
    Term(
        "leak",
        "memory leak",
        "Tasks left memory behind, beside their outputs, that was never freed.",
    ),
    Term(
        "sizeof",
        "outputs larger than Dask believes",
        "Stored outputs are much larger than Dask believes, so it does not spill them "
        "in time.",
    ),
    Term(
        "unaccounted",
        "memory that nobody counted",
        "The process grew by memory that no task allocated: threads, plugins or "
        "caches.",
    ),
    Term(
        "retained",
        "the allocator keeps memory",
        "Memory had been freed, and the allocator kept it.",
    ),
    Term(
        "overcommitted",
        "limits above what there is",
        "The kernel killed the worker below its own threshold: the limits promise more "
        "memory than the host or container has.",
    ),
    Term(
        "crash",
        "crash, not memory",
        "The process ended by a fault or by its own exit, not for memory.",
    ),
    Term(
        "unresponsive",
        "did not answer in time",
        "The scheduler gave the worker up because it did not answer within "
        "worker-ttl; this is not about memory.",
    ),
    Term(
        "external",
        "ended from outside",
        "Something outside the cluster ended the worker, and memory was not short.",
    ),
    Term(
        "unknown",
        "not known",
        "There is not enough evidence to name a cause.",
    ),
)

#: Causes that are not about memory.
NOT_MEMORY = frozenset({"crash", "unresponsive", "external", "unknown"})

#: Causes in which stored outputs fill the memory: the prefix that is stored is
#: responsible, and what was running is suspected only.
STORAGE_CAUSES = frozenset({"run-ahead", "awaited", "pinned", "replicas", "sizeof"})

#: Why nothing relieved the memory; the first that holds is named.
RELIEFS = _table(
    Term(
        "limit-above-memory",
        "the limit is above what there is",
        "The worker's limit is above what the host or container has, so the kernel "
        "acts before Dask does.",
    ),
    Term(
        "spilling-off",
        "spilling is off",
        "Spilling is turned off, so outputs stay in memory.",
    ),
    Term(
        "spill-failing",
        "spilling failed",
        "Spilling was tried and failed, so outputs stayed in memory.",
    ),
    Term(
        "spill-full",
        "no more may be spilled",
        "The disk, or the amount that max-spill allows, is full, so outputs stayed in "
        "memory.",
    ),
    Term(
        "nothing-to-spill",
        "spilling cannot help",
        "What fills the memory is no stored output, or is in use, so spilling cannot "
        "free it.",
    ),
    Term(
        "too-fast",
        "memory rose too fast",
        "Memory rose faster than the worker could spill or its nanny look.",
    ),
)

#: Kinds of incident.
KINDS = _table(
    Term(
        "terminated",
        "terminated by its nanny",
        "The nanny ended the worker because it was above its terminate threshold.",
    ),
    Term(
        "oom-killed",
        "killed by the kernel (out of memory)",
        "The kernel ended the worker because the host or its container ran out of "
        "memory.",
    ),
    Term(
        "killed",
        "killed from outside",
        "Something other than its nanny or the kernel ended the worker with a signal.",
    ),
    Term(
        "crashed",
        "crashed",
        "The worker's process ended by a fault in native code.",
    ),
    Term(
        "exited",
        "ended by itself",
        "The worker's process ended by itself, though nobody had asked it to.",
    ),
    Term(
        "lost",
        "lost",
        "The worker is gone, and how it ended is not known, or the scheduler gave it "
        "up after worker-ttl.",
    ),
    Term(
        "killed-worker",
        "task given up (KilledWorker)",
        "Dask gave a task up because several workers died while they had it.",
    ),
    Term(
        "memory-error",
        "MemoryError",
        "A task or its worker could not get the memory that it asked for.",
    ),
    Term(
        "spill-failed",
        "could not spill",
        "A worker tried to move an output to disk and could not.",
    ),
    Term(
        "kernel-near",
        "near being killed by the kernel",
        "The kernel was about to kill the worker, and Dask saw no reason to act.",
    ),
    Term(
        "stuck",
        "stuck",
        "Tasks are ready and nothing moves: workers are paused, or none is left.",
    ),
)

#: Kinds that are the death of a worker.
DEATHS = frozenset({"terminated", "oom-killed", "killed", "crashed", "exited", "lost"})

#: Why a worker keeps an output.
REASONS = _table(
    Term(
        "awaited",
        "needed by later tasks",
        "Tasks that have not run yet need the output as an input.",
    ),
    Term(
        "pinned",
        "held by a client",
        "A client holds a future of the output, or persisted it.",
    ),
    Term(
        "run-ahead",
        "ahead of the order",
        "The output was computed earlier than the graph's order needed it.",
    ),
    Term(
        "replica",
        "copy of an output",
        "The worker fetched a copy of the output as an input; another worker has it "
        "too.",
    ),
    Term("other", "reason not known", "Nothing that MemDash sees needs the output."),
)

#: How a figure of a running task was measured.
METHODS = _table(
    Term(
        "exact",
        "counted exactly",
        "Every allocation of the task was counted, and the process's memory agrees.",
    ),
    Term(
        "counted",
        "counted, with doubt",
        "Every allocation that MemDash can see was counted, and the process's memory "
        "differs from that by as much as the error says.",
    ),
    Term(
        "hwm",
        "measured while alone",
        "The kernel's high-water mark of a task that ran alone in its process.",
    ),
    Term(
        "estimated",
        "estimated",
        "Shared out from the memory of the whole process, with the error that is "
        "shown.",
    ),
    Term("unmeasured", "not measured", "Nothing measured this task."),
    Term("none", "not measured yet", "No task of this prefix has been measured yet."),
)

#: Memory of the workers that belongs to no task, by what it is; in `brief`, what can be
#: done about it.
OTHERS = _table(
    Term(
        "transfer",
        "transfer",
        "Buffers of P2P shuffles and of outputs that move between workers.",
        brief="It goes when they have arrived. Smaller chunks or fewer threads move "
        "less at once.",
    ),
    Term(
        "not counted",
        "not counted",
        "What the processes have taken while tasks ran, and no count of a task "
        "explains.",
        brief="Most of it goes when the tasks end. If it is much, look for native "
        "libraries and threads that work beside the tasks.",
    ),
    Term(
        "graph arguments",
        "graph arguments",
        "Arguments and closures of tasks that the workers were sent and keep until "
        "they are forgotten.",
        brief="Scatter what is large, and pass that instead. Release futures that are "
        "not needed any more.",
    ),
    Term(
        "graph records",
        "graph records",
        "What a worker keeps of each task that it knows: its key, state and "
        "dependencies.",
        brief="Make fewer tasks that each do more: larger chunks, or lists of items in "
        "one task. Release futures that are not needed any more.",
    ),
    Term(
        "actors",
        "actors",
        "Objects that live on a worker because actor=True.",
        brief="Dask never spills their state. It goes when the actor's future is "
        "released.",
    ),
    Term(
        "global",
        "module global",
        "What a variable of an imported module holds: a cache, a table, a model.",
        brief="Limit it, or clear it with client.run. Dask can neither see nor spill "
        "it.",
    ),
    Term(
        "plugin",
        "worker plugin",
        "What hangs on a worker plugin of yours.",
        brief="Let the plugin keep less, or unregister it.",
    ),
    Term(
        "client.run",
        "client.run",
        "What functions that client.run called on the workers have left behind there.",
        brief="Let them keep less, or undo it with another client.run.",
    ),
    Term(
        "arrow pool",
        "arrow pool",
        "Freed memory that Arrow keeps for itself instead of returning it.",
        brief="Start workers with ARROW_DEFAULT_MEMORY_POOL=system: it then goes back. "
        "pyarrow.default_memory_pool().release_unused() may return some of it now.",
    ),
    Term(
        "allocator",
        "allocator",
        "Freed memory that the allocator keeps instead of returning it to the kernel.",
        brief="It is used again by the next tasks. A trim gives some of it back "
        "(malloc_trim, in Dask's documentation on worker memory).",
    ),
    Term(
        "file pages",
        "file pages",
        "Pages of libraries and memory maps, which the kernel drops when memory is "
        "short.",
        brief="Nothing: they cannot make a worker run out of memory.",
    ),
    Term(
        "baseline",
        "baseline",
        "What the processes had before any task, and what nothing explains.",
        brief="Compare it with an idle worker's. If it grows from one computation to "
        "the next, look for caches and references that outlive their task.",
    ),
    Term(
        "child processes",
        "child processes",
        "Memory of processes that tasks started, which Dask does not count.",
        brief="Start fewer of them at once, and leave them room beside the worker's "
        "limit.",
    ),
)

#: How the size of memory that belongs to no task is known.
OTHER_METHODS = _table(
    Term("looked into", "measured", "MemDash looked into the objects themselves."),
    Term("counted", "counted by Dask", "As Dask counts it."),
    Term("estimated", "estimated", "A number of objects times what one usually takes."),
    Term("upper bound", "at most", "Some of it may have gone back to the kernel."),
    Term("kernel", "counted by the kernel", "As the kernel counts it."),
    Term(
        "before and after",
        "before and after",
        "By how much the process had grown after each call during which no task ran.",
    ),
    Term("not measured", "not measured", "It is there, and nothing measured it."),
    Term("remainder", "what is left", "What is left once all else is subtracted."),
)

#: Kinds of rows in the table of prefixes.
ROW_KINDS = _table(
    Term("task", "task", "Tasks whose keys share a prefix, as Dask groups them."),
    Term("other", "no task", "Memory of the workers that belongs to no task."),
)

#: What is told of the cluster's memory of intermediates.
STORING = _table(
    Term(
        "stored",
        "stored",
        "Results of persist that lie in the cluster's memory too, apart from workers: "
        "they outlive the worker that computed them.",
        brief="lies in the store too",
    ),
    Term(
        "pending",
        "pending",
        "Results that wait to be computed, or to be written to the store.",
        brief="is to be written",
    ),
    Term(
        "failed",
        "failed",
        "Results that could not be written; they stay on their workers, and writing "
        "is tried again.",
        brief="could not be written",
    ),
    Term(
        "never",
        "never stored",
        "Results that are not stored because they write elsewhere, are None, or "
        "cannot be serialized.",
    ),
    Term(
        "read-back",
        "read back",
        "Stored values that a worker has loaded instead of computing them.",
    ),
    Term(
        "resumed",
        "found stored",
        "Results that were in the store already when their graph arrived.",
    ),
    Term(
        "ram-share",
        "RAM share",
        "The most that stored results may take of the workers' RAM; the rest is read "
        "back when it is needed.",
    ),
)

#: How storing intermediates goes.
STORING_STATES = _table(
    Term("empty", "nothing is stored yet", "No result of persist is known yet."),
    Term("writing", "being stored", "Some results wait to be computed or written."),
    Term("stored", "all is stored", "All results of persist lie in the store."),
    Term("failing", "storing fails", "Some results cannot be written."),
    Term("unreachable", "the store does not answer", "It could not be read or listed."),
    Term("missing", "objects are missing", "The store lists too few objects."),
)

#: What the guard is set to.
GUARD_MODES = _table(
    Term("on", "on", "A task that does not fit beside what runs and is stored waits."),
    Term("dry-run", "dry run", "It only notes which tasks would have waited."),
    Term("off", "off", "These workers have no limit or no pause threshold to keep to."),
)

#: What the guard did to one task.
GUARD_ACTIONS = _table(
    Term("waited", "started after a wait", "It waited for memory, and started."),
    Term("would-wait", "would have waited", "It did not fit when it was ready."),
    Term("opened", "started since nothing moved", "What ran did not get on."),
    Term("drained", "ran on while paused", "It frees memory, or nothing else moved."),
    Term("passed", "went before one that waits", "It fit, and the other did not."),
    Term("refused", "refused as too large", "It failed with TaskTooLarge."),
    Term(
        "braked",
        "stopped, to run again",
        "What it asked for would have ended its worker: what it did is discarded.",
    ),
)

#: Verdicts on a graph's order.
ORDER_VERDICTS = _table(
    Term(
        "fits",
        "fits",
        "Its storage fits into the workers, each task does, and so do the tasks that "
        "run at once on one of them.",
    ),
    Term(
        "storage-fits",
        "storage fits",
        "Its storage fits into the workers; what its tasks use was not measured.",
    ),
    Term(
        "too-many-at-once",
        "too many at once",
        "Storage and each task fit; the tasks that run at once on a worker do not.",
    ),
    Term(
        "runs-ahead",
        "runs ahead",
        "The order would fit, and the cluster stored more than the order needed.",
    ),
    Term(
        "cannot-fit",
        "cannot fit",
        "The order itself needs more storage than the workers can hold.",
    ),
    Term(
        "stuck",
        "stuck",
        "Tasks of this graph are ready, and nothing moves.",
    ),
    Term("unknown", "not known yet", "Too little of the graph has been seen."),
)

#: Verdicts on a worker's memory limit.
LIMIT_VERDICTS = _table(
    Term("ok", "right", "The limit fits into what host and container have."),
    Term("unknown", "not known yet", "The limit has not been looked at yet."),
    Term("too-high", "too high", "The limit is above what the worker really has."),
    Term(
        "not-seen",
        "a cap that Dask does not see",
        "The container or batch system allows less than Dask believes.",
    ),
    Term(
        "kernel-first",
        "the kernel comes first",
        "The kernel would kill the worker before Dask spills, pauses or terminates it.",
    ),
    Term(
        "thresholds",
        "thresholds",
        "The thresholds target, spill, pause and terminate are out of order or off.",
    ),
    Term("spill-off", "spilling is off", "Outputs cannot be moved to disk."),
    Term(
        "scratch",
        "scratch directory",
        "Spilled outputs would go to memory or to a disk that is too small.",
    ),
    Term("swap", "swap", "The machine swaps, which slows tasks down to a crawl."),
    Term("pressure", "memory pressure", "The kernel reports that memory is short."),
    Term(
        "unbalanced",
        "unbalanced workers",
        "Workers of one machine have limits that do not match their threads.",
    ),
    Term(
        "too-low",
        "lower than it could be",
        "The machine has memory that no worker may use.",
    ),
    Term(
        "allocator",
        "allocator",
        "The allocator (glibc) keeps freed memory because MALLOC_TRIM_THRESHOLD_ is "
        "not set.",
    ),
    Term("no-limit", "no limit", "The worker has no memory limit."),
)

#: What an incident is known from.
EVIDENCE = _table(
    Term(
        "flight-recorder",
        "the worker's flight recorder",
        "A file that the worker wrote until it died, and that its nanny read "
        "afterwards.",
    ),
    Term(
        "heartbeat",
        "the worker's last heartbeat",
        "What the worker reported last; what happened after that is not known.",
    ),
    Term(
        "scheduler",
        "the scheduler alone",
        "Only what the scheduler itself knew; the worker reported nothing.",
    ),
)

#: What the help panel explains beside the parts of memory.
CONCEPTS = _table(
    Term(
        "prefix",
        "prefix",
        "Dask's name for all tasks that do the same, such as 'read_parquet' or 'sum'.",
    ),
    Term(
        "peak",
        "peak",
        "The most memory that a task used for its own work while it ran, its output "
        "included.",
    ),
    Term(
        "pinned",
        "pinned",
        "Outputs held because a client holds a future of them or persisted them.",
    ),
    Term(
        "awaited",
        "awaited",
        "Outputs held because tasks that have not run yet need them.",
    ),
    Term(
        "replicas", "replicas", "Copies of outputs beyond the first, on other workers."
    ),
    Term(
        "run-ahead",
        "run-ahead",
        "The most that was stored above what the order needs at the same number of "
        "finished tasks.",
    ),
    Term(
        "minimum",
        "minimum",
        "The most storage that the graph's own order needs, one task at a time.",
    ),
    Term(
        "time-to-limit",
        "full in",
        "Time until the worker is paused or at its limit, as its stored outputs and "
        "what tasks leave behind grow; empty where nothing grows steadily.",
    ),
    Term(
        "threads-that-fit",
        "threads that fit",
        "How many of a prefix's tasks the least roomy worker can run at once, each at "
        "the largest peak seen, or fewer where their inputs are large too.",
    ),
    Term(
        "target",
        "target",
        "Above this much managed memory, the worker spills outputs to disk.",
    ),
    Term(
        "spill",
        "spill",
        "Above this much memory of the process, the worker spills outputs to disk.",
    ),
    Term(
        "pause",
        "pause",
        "Above this much memory of the process, the worker starts no new task.",
    ),
    Term(
        "terminate",
        "terminate",
        "Above this much memory of the process, the nanny ends the worker.",
    ),
    Term(
        "incident",
        "incident",
        "The death of a worker, or something bad about memory, such as a MemoryError "
        "or a spill that failed.",
    ),
    Term(
        "failure",
        "failure",
        "All incidents of one computation together: what happened, which prefix is "
        "responsible, what to change.",
    ),
    Term(
        "suspect",
        "suspect",
        "A task that was really running when a worker died; tasks that were only "
        "assigned to the worker are not to blame.",
    ),
    Term(
        "error",
        "±",
        "How far off the figure may be, in either direction.",
    ),
    Term(
        "method",
        "method",
        "How the memory of running tasks is known: counted, measured while alone, or "
        "estimated.",
    ),
    Term(
        "projected",
        "projected",
        "What the running tasks use together once each reaches the median peak of its "
        "prefix.",
    ),
    Term(
        "sizeof",
        "sizeof",
        "The size that Dask assumes for outputs, divided by their measured size.",
    ),
    Term(
        "leak",
        "left behind",
        "What tasks allocated, and neither freed nor returned as output.",
    ),
)

#: Every table by what it lists.
GLOSSARY: Mapping[str, Mapping[str, Term]] = MappingProxyType(
    {
        "parts": PARTS,
        "beside": BESIDE,
        "causes": CAUSES,
        "reliefs": RELIEFS,
        "kinds": KINDS,
        "reasons": REASONS,
        "methods": METHODS,
        "others": OTHERS,
        "other_methods": OTHER_METHODS,
        "row_kinds": ROW_KINDS,
        "storing": STORING,
        "storing_states": STORING_STATES,
        "guard_modes": GUARD_MODES,
        "guard_actions": GUARD_ACTIONS,
        "order": ORDER_VERDICTS,
        "limits": LIMIT_VERDICTS,
        "evidence": EVIDENCE,
        "concepts": CONCEPTS,
    }
)
