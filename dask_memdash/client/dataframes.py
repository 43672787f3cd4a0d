"""The JSON API's answers as pandas DataFrames with flat columns.

Which column is which field stands in :data:`FRAMES`.  pandas is imported when the
first frame is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: What a column holds → pandas' type for it; each has a place for what is missing.
SIZE = COUNT = "Int64"
NUMBER = "Float64"
TEXT = "string"
TIME = "time"

#: Where a column's values are: names, one inside the other, or a function of the item.
Source = tuple[str, ...] | Callable[[Mapping[str, Any]], Any]

PARTS = (
    "process",
    "managed",
    "transfer",
    "actors",
    "executing",
    "retained",
    "graph",
    "baseline",
    "error",
    "managed_claimed",
    "unmanaged",
    "unmanaged_old",
    "unmanaged_recent",
    "inputs",
    "spilled",
    "spilled_disk",
    "shuffle_disk",
)


def _fields(kind: str, *names: str, inside: str = "", start: str = "") -> Any:
    """Return columns of one kind, called as the fields are, from one place."""
    place = (inside,) if inside else ()
    return {start + name: ((*place, name), kind) for name in names}


def _names(field: str, name: str) -> Callable[[Mapping[str, Any]], str]:
    """Join the names in a list of mappings."""
    return lambda item: ", ".join(str(part[name]) for part in item[field])


def _each(seconds: str, number: str) -> Callable[[Mapping[str, Any]], float | None]:
    """Return the mean time of what the workers did, in seconds; None of nothing."""
    return lambda told: (
        told["workers"][seconds] / told["workers"][number]
        if told["workers"][number]
        else None
    )


def _to_limit(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return a field of when a worker comes to its limit; None where it does not."""
    return lambda worker: (worker.get("time_to_limit") or {}).get(name)


_WORKER = _fields(TEXT, "name", "address", "host", inside="worker")

#: Name → the column that is the index, and all columns with their source and kind.
FRAMES: dict[str, tuple[str, dict[str, tuple[Source, str]]]] = {
    "cluster": (
        "time",
        {
            **_fields(TIME, "time"),
            **_fields(COUNT, "n_workers", "n_processes", "n_incidents"),
            **_fields(SIZE, "limit"),
            **_fields(SIZE, *PARTS, inside="breakdown"),
            **_fields(SIZE, "stored", "stored_pending"),
            "degraded": (_names("degraded", "text"), TEXT),
        },
    ),
    "workers": (
        "address",
        {
            **_fields(TEXT, "address", "name", "host"),
            **_fields(COUNT, "pid", "nthreads"),
            **_fields(TEXT, "status"),
            **_fields(TIME, "last_seen"),
            **_fields(SIZE, "limit"),
            **_fields(
                SIZE, "target", "spill", "pause", "terminate", inside="thresholds"
            ),
            **_fields(SIZE, *PARTS, inside="breakdown"),
            **_fields(
                SIZE,
                *("incoming", "outgoing", "shuffle"),
                inside="transfer",
                start="transfer_",
            ),
            **_fields(SIZE, "stored", "stored_pending"),
            "running": (lambda worker: len(worker["executing_tasks"]), COUNT),
            "seconds_to_limit": (_to_limit("seconds"), NUMBER),
            "limit_reached": (_to_limit("line"), TEXT),
            **_fields(COUNT, "shares_process_with"),
            **_fields(TEXT, "method"),
            "degraded": (lambda worker: "; ".join(worker["degraded"]), TEXT),
        },
    ),
    "prefixes": (
        "prefix",
        {
            **_fields(TEXT, "prefix", "kind"),
            **_fields(SIZE, "bytes"),
            **_fields(TEXT, "part"),
            **_fields(
                SIZE,
                *("managed", "managed_claimed", "replicas", "spilled", "spilled_disk"),
                *("pinned", "awaited", "stored", "stored_pending", "count"),
                inside="storage",
            ),
            "awaited_by": (
                lambda item: ", ".join(
                    str(waiter["prefix"]) for waiter in item["storage"]["awaited_by"]
                ),
                TEXT,
            ),
            **{
                f"output_{name}": (("storage", "output_bytes", name), SIZE)
                for name in ("min", "p50", "p95", "max")
            },
            **_fields(SIZE, "executing", "running", "finished", inside="execution"),
            **{
                f"peak_{name}": (("execution", "peak", name), SIZE)
                for name in ("p50", "p95", "max", "at_least")
            },
            **_fields(TEXT, "method"),
            **_fields(SIZE, "error", inside="execution"),
            **_fields(SIZE, "graph_bytes"),
            **_fields(TEXT, "advice"),
        },
    ),
    "storage": (
        "address",
        {
            **_fields(TEXT, "address", "state"),
            **_fields(COUNT, "objects", "stored", "pending", "failed", "never"),
            **_fields(COUNT, "resumed", "recomputed"),
            **_fields(
                COUNT,
                *("stored", "failed", "cancelled", "read_back", "read_back_failed"),
                inside="workers",
                start="workers_",
            ),
            **_fields(
                SIZE,
                *("stored_bytes", "pending_bytes", "read_back_bytes", "ram"),
                inside="workers",
                start="workers_",
            ),
            "seconds_a_write": (_each("seconds", "stored"), NUMBER),
            "seconds_a_load": (_each("read_back_seconds", "read_back"), NUMBER),
            "names": (_names("names", "name"), TEXT),
            **_fields(TEXT, "error", "text"),
            "advice": (lambda told: " ".join(told["advice"]), TEXT),
        },
    ),
    "failures": (
        "id",
        {
            **_fields(TEXT, "id"),
            **_fields(TIME, "opened", "closed"),
            **_fields(TEXT, "kind"),
            **_fields(COUNT, "count", "deaths", "workers"),
            **_fields(TEXT, "graph"),
            **_fields(TEXT, "cause", "relief", inside="diagnosis"),
            **_fields(NUMBER, "confidence", inside="diagnosis"),
            "prefix": (("responsible", "prefix"), TEXT),
            "key": (("responsible", "key"), TEXT),
            **_fields(COUNT, "keys_lost", inside="cost"),
            **_fields(SIZE, "bytes_lost", "bytes_stored", inside="cost"),
            **_fields(NUMBER, "seconds_recomputed", inside="cost"),
            **_fields(TEXT, "text"),
        },
    ),
    "incidents": (
        "id",
        {
            **_fields(TEXT, "id"),
            **_fields(TIME, "time", "until"),
            **_fields(TEXT, "kind"),
            **{f"worker_{name}": source for name, source in _WORKER.items()},
            "worker_pid": (("worker", "pid"), COUNT),
            **_fields(COUNT, "code", "signal", inside="exit", start="exit_"),
            **_fields(TEXT, "by", inside="exit", start="exit_"),
            **_fields(SIZE, "limit"),
            **_fields(SIZE, *PARTS, inside="breakdown"),
            **_fields(TEXT, "cause", inside="diagnosis"),
            **_fields(NUMBER, "confidence", inside="diagnosis"),
            "prefix": (("diagnosis", "responsible", "prefix"), TEXT),
            "key": (("diagnosis", "responsible", "key"), TEXT),
            **_fields(TEXT, "evidence"),
            **_fields(TEXT, "text", inside="diagnosis"),
        },
    ),
    "order": (
        "id",
        {
            **_fields(TEXT, "id", "name"),
            **_fields(TIME, "time"),
            **_fields(COUNT, "tasks", "done", "threads"),
            **_fields(SIZE, "minimum", "minimum_threads", "actual_peak", "run_ahead"),
            **_fields(SIZE, "capacity", "uncertainty"),
            "need": (("need", "bytes"), SIZE),
            "need_prefix": (("need", "prefix"), TEXT),
            "verdict": (("verdict", "kind"), TEXT),
            "text": (("verdict", "text"), TEXT),
        },
    ),
    "limits": (
        "address",
        {
            **_fields(TEXT, "address", "name", "host"),
            **_fields(COUNT, "pid", "nthreads"),
            **_fields(SIZE, "limit"),
            **_fields(TEXT, "set_by"),
            **_fields(SIZE, "effective"),
            **_fields(TEXT, "source"),
            **_fields(
                SIZE,
                *("host", "cgroup", "batch", "rlimit", "available"),
                inside="sources",
                start="source_",
            ),
            **_fields(SIZE, "siblings", "recommended"),
            **_fields(TEXT, "verdict", "severity"),
            "advice": (lambda audit: "; ".join(audit["advice"]), TEXT),
        },
    ),
}


def frame(name: str, items: list[dict[str, Any]]) -> pd.DataFrame:
    """Make the frame of one of the API's lists.

    Parameters
    ----------
    name
        One of `FRAMES`.
    items
        As the API gives them; a field that is missing is a missing value.
    """
    import pandas as pd

    index, columns = FRAMES[name]
    series = {
        column: _series(pd, [_value(item, source) for item in items], kind)
        for column, (source, kind) in columns.items()
    }
    return pd.DataFrame(series).set_index(index)


def _value(item: Mapping[str, Any], source: Source) -> Any:
    if callable(source):
        return source(item)
    value: Any = item
    for name in source:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _series(pd: Any, values: list[Any], kind: str) -> Any:
    if kind == TIME:
        numbers = pd.Series(values, dtype="float64")
        return pd.to_datetime(numbers, unit="s", utc=True)
    return pd.Series(values, dtype=kind)
