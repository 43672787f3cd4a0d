"""The tables of a recorded run's segments: each column, its type and its meaning.

:mod:`dask_memdash.runs.schema` has the version, the views and what makes a segment.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Parts of a breakdown, as columns; the first is their sum.
FIGURES = (
    "process_bytes",
    "managed",
    "transfer",
    "actors",
    "executing",
    "retained",
    "graph",
    "baseline",
    "spilled",
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its SQLite type, and what it says."""

    name: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table; `key` are the columns of its primary key, if it has one."""

    name: str
    text: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()

    @property
    def ddl(self) -> str:
        """The statement that makes the table."""
        parts = [f"{column.name} {column.type}" for column in self.columns]
        if self.key:
            parts.append(f"PRIMARY KEY ({', '.join(self.key)})")
        return f"CREATE TABLE {self.name} ({', '.join(parts)})"

    @property
    def insert(self) -> str:
        """The statement that writes a row, in the place of one with the same key."""
        marks = ", ".join("?" * len(self.columns))
        return f"INSERT OR REPLACE INTO {self.name} VALUES ({marks})"


def _bytes(name: str, text: str) -> Column:
    return Column(name, "INTEGER", f"{text}, in bytes")


def _time(name: str, text: str) -> Column:
    return Column(name, "REAL", f"{text}, Unix time")


def _int(name: str, text: str) -> Column:
    return Column(name, "INTEGER", text)


def _text(name: str, text: str) -> Column:
    return Column(name, "TEXT", text)


def _packed(of: str) -> Column:
    return Column("answer", "BLOB", f"{of}, compressed JSON")


def _json(of: str) -> Column:
    return Column("answer", "TEXT", f"{of}, JSON")


_PARTS = (
    _bytes("process_bytes", "RSS: the sum of the parts"),
    _bytes("managed", "outputs of finished tasks in RAM"),
    _bytes("transfer", "buffers of shuffles and of messages"),
    _bytes("actors", "state of actors, as far as counted"),
    _bytes("executing", "held by the tasks that run"),
    _bytes("retained", "freed, and kept by the allocator"),
    _bytes("graph", "arguments, closures and records of tasks"),
    _bytes("baseline", "what is left: interpreter, modules, leaks"),
    _bytes("spilled", "on disk, at its size in memory; beside the sum"),
)

TABLES: tuple[Table, ...] = (
    Table(
        "meta",
        "What the segment is: `schema_version`, `run`, `kind` (`main`, `s1`, `s10`, "
        "`s60`), `opened`, `closed` (Unix times; no `closed` while it is written or "
        "where its scheduler was killed), `dictionary` (of the compression, in hex).",
        (_text("key", "name of the fact"), _text("value", "the fact, as text")),
        ("key",),
    ),
    Table(
        "processes",
        "Processes that workers live in. `id` is the same in all segments of a run.",
        (
            _int("id", "number of the process in this run, from 1 up"),
            _text("host", "host that it runs on"),
            _int("pid", "its process id there"),
        ),
        ("id",),
    ),
    Table(
        "workers",
        "Workers. `id` is the same in all segments of a run.",
        (
            _int("id", "number of the worker in this run, from 1 up"),
            _text("address", "its address"),
            _text("name", "its name"),
            _int("process", "its process: `processes.id`"),
            _time("added", "when it was first seen"),
            _time("left", "when it left; NULL while it is there"),
        ),
        ("id",),
    ),
    Table(
        "breakdown",
        "Memory of the cluster (process 0) and of each worker process over time. "
        "`managed + transfer + actors + executing + retained + graph + baseline = "
        "process_bytes`. A process whose figures did not change has no new row. Of "
        "each span (1 s, 10 s or 60 s by the kind of segment) the row with the most "
        "memory is kept. A `main` segment has the 1 s rows around failures.",
        (
            _time("time", "when"),
            _int("process", "`processes.id`; 0 is the cluster"),
            *_PARTS,
        ),
    ),
    Table(
        "worker_states",
        "Workers as they were at intervals: the fewer, the larger the cluster.",
        (
            _time("time", "when"),
            _int("worker", "`workers.id`"),
            _text("status", "as Dask says it"),
            _bytes("limit_bytes", "its memory limit"),
            _bytes("process_bytes", "its RSS"),
            _int("running", "tasks that ran"),
            _int("n_pauses", "how often it had been paused for its memory"),
            _packed("`Worker`"),
        ),
    ),
    Table(
        "cluster_states",
        "The cluster at a glance, at intervals.",
        (
            _time("time", "when"),
            _int("n_workers", "workers"),
            _int("n_incidents", "incidents so far"),
            _int("n_failures", "failures so far"),
            _bytes("limit_bytes", "sum of the limits; NULL when any has none"),
            _bytes("process_bytes", "sum of the RSS"),
            _packed("`Cluster`"),
        ),
    ),
    Table(
        "prefix_states",
        "Task prefixes that changed, at intervals; the largest more often.",
        (
            _time("time", "when"),
            _text("prefix", "the task prefix"),
            _int("count", "outputs stored"),
            _bytes("managed", "its outputs in RAM"),
            _bytes("spilled", "its outputs on disk, at their size in memory"),
            _bytes("pinned", "of its outputs, what a client holds"),
            _int("running", "tasks that ran"),
            _int("finished", "tasks that had finished"),
            _bytes("executing", "held by its running tasks"),
            _bytes("peak_p50", "median of the peaks of finished tasks"),
            _bytes("peak_p95", "19 of 20 tasks needed at most that"),
            _bytes("peak_max", "the most that one took"),
            _bytes("peak_at_least", "the most that one held when its worker died"),
            _bytes("peak_error", "by how much peaks may be off"),
            _text("method", "how peaks were measured"),
            _bytes("output_p50", "median size of an output"),
            _bytes("output_p95", "19 of 20 outputs were at most that"),
            _bytes("output_max", "the largest output"),
            Column(
                "duration",
                "REAL",
                "mean time that its finished tasks took to run, in seconds, by Dask's "
                "own count",
            ),
            Column(
                "peak_bins",
                "BLOB",
                "distribution of the peaks, `[[low, high, count], …]` in bytes, "
                "compressed JSON",
            ),
            _packed("`PrefixDetails`"),
        ),
    ),
    Table(
        "incidents",
        "Incidents, each as it was last known; whole, with its evidence. One that "
        "changed later stands in a later segment again: the newest counts.",
        (
            _text("id", "its id"),
            _time("opened", "when it happened"),
            _time("until", "when it ended; NULL for an instant, or while it lasts"),
            _time("changed", "when this was written"),
            _text("kind", "`terminated`, `oom-killed`, …"),
            _text("cause", "what filled the memory"),
            _text("relief", "why nothing relieved it"),
            Column("confidence", "REAL", "0 to 1"),
            _text("worker", "address of the worker"),
            _text("worker_name", "its name"),
            _text("prefix", "task prefix that is responsible"),
            _text("task", "key of the task, where one is to blame"),
            _text("failure", "the failure that it belongs to"),
            _text("text", "why it happened, in words"),
            _json("`IncidentDetails`"),
        ),
        ("id",),
    ),
    Table(
        "failures",
        "Failures (all incidents of one computation), each as it was last known.",
        (
            _text("id", "its id"),
            _time("opened", "when its first incident happened"),
            _time("closed", "when it ended"),
            _time("changed", "when this was written"),
            _text("kind", "kind of its worst incident"),
            _text("cause", "what filled the memory"),
            _text("relief", "why nothing relieved it"),
            _int("count", "incidents"),
            _int("deaths", "deaths of workers"),
            _int("workers", "workers that it struck"),
            _text("prefix", "task prefix that is responsible"),
            _text("task", "key of the task, where one is to blame"),
            _text("graph", "the graph"),
            _text("text", "what happened, and why, in words"),
            _json("`Failure`"),
        ),
        ("id",),
    ),
    Table(
        "graphs",
        "Graphs against their own order, each as it was last known.",
        (
            _text("id", "its id"),
            _time("arrived", "when it came"),
            _time("changed", "when this was written"),
            _text("name", "what it computes"),
            _int("tasks", "how many tasks it has"),
            _int("done", "how many had finished"),
            _bytes("minimum", "storage that its order needs"),
            _bytes("actual_peak", "the most that was stored"),
            _bytes("run_ahead", "of it, above what the order needed"),
            _text("verdict", "`fits`, `runs-ahead`, `cannot-fit`, …"),
            _json("`Graph`"),
        ),
        ("id",),
    ),
    Table(
        "graph_progress",
        "How far a graph had got.",
        (
            _time("time", "when"),
            _text("graph", "`graphs.id`"),
            _int("done", "tasks that had finished"),
            _bytes("held", "what it had stored then"),
        ),
    ),
    Table(
        "order_points",
        "What a graph held at some numbers of finished tasks, and for whom.",
        (
            _text("graph", "`graphs.id`"),
            _int("position", "tasks that had finished"),
            _packed("`OrderPoint`"),
        ),
        ("graph", "position"),
    ),
    Table(
        "limits",
        "The audit of each worker's memory limit, when it changed.",
        (
            _time("time", "when"),
            _int("worker", "`workers.id`"),
            _text("verdict", "of the worst finding; `ok` without one"),
            _bytes("limit_bytes", "the limit"),
            _bytes("effective", "what host, container and batch system allow"),
            _packed("`LimitAudit`"),
        ),
    ),
    Table(
        "tasks",
        "Tasks that workers were seen to run: the last 60 of each at any time, and no "
        "short ones between two looks.",
        (
            _int("worker", "`workers.id`"),
            _time("began", "when it began"),
            _time("seen", "when it was last seen to run"),
            _text("key", "its first 200 characters"),
            _text("prefix", "its task prefix"),
            _int("thread", "its thread; NULL where it has none of its own"),
            _int("running", "whether it ran when this was written, 0 or 1"),
            _bytes("peak", "the most memory that it was seen to hold"),
            _text("method", "how that was measured"),
        ),
        ("worker", "began", "key"),
    ),
    Table(
        "pauses",
        "When workers were paused for their memory.",
        (
            _int("worker", "`workers.id`"),
            _time("began", "when it was paused"),
            _time("ended", "when it went on; NULL while it lasts"),
        ),
        ("worker", "began"),
    ),
    Table(
        "guard_actions",
        "What guards did to tasks, each once; in a dry run, what they would have done. "
        "Of very many at once the oldest are left out.",
        (
            _time("time", "when"),
            _text("worker", "address of the worker"),
            _text("worker_name", "its name"),
            _text("kind", "`waited`, `opened`, `drained`, `passed`, `refused`, …"),
            _text("key", "the task's key, its first characters"),
            _text("prefix", "its task prefix"),
            _bytes("need", "what it needed"),
            _bytes("room", "what there was for it; may be negative"),
            Column("seconds", "REAL", "for how long it had waited"),
        ),
    ),
    Table(
        "notices",
        "How MemDash itself was degraded, place by place.",
        (
            _text("place", "`scheduler`, `worker tcp://…`, `nanny tcp://…`"),
            _text("text", "one sentence"),
            _time("since", "since when"),
            _time("until", "until when; NULL while it holds"),
        ),
        ("place", "text", "since"),
    ),
)

BY_NAME = {table.name: table for table in TABLES}
