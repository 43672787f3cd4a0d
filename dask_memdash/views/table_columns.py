"""What the tables of the page hold; see :mod:`dask_memdash.views.tabular`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dask_memdash import terms
from dask_memdash.store.base import Store
from dask_memdash.store.worker_shapes import Worker
from dask_memdash.views.prefix_columns import TASKS, has_intermediates
from dask_memdash.views.tabular import Column, Table, address, state_of


def _part(name: str) -> Callable[[Worker], int | None]:
    return lambda worker: worker["breakdown"][name]  # type: ignore[literal-required]


def _key(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda row: row[name]


# --- workers -------------------------------------------------------------------------


def worker_label(worker: Worker) -> str:
    """Name a worker; a bare number says nothing."""
    name = worker["name"]
    return f"worker {name}" if name.isdigit() else name


def _usage(worker: Worker) -> float | None:
    process, limit = worker["breakdown"]["process"], worker["limit"]
    return process / limit if process is not None and limit else None


def _all_workers(store: Store) -> Sequence[Worker]:
    return [*store.workers(), *store.departed()]


def _children(worker: Worker) -> int | None:
    """Return what its tasks' processes have, in bytes; None where there are none."""
    return worker["children"]["rss"] if worker["children"]["processes"] else None


def _full_in(worker: Worker) -> float | None:
    """Return seconds until it is paused, or comes to its limit; None if it does not."""
    told = worker["time_to_limit"]
    return None if told is None else told["seconds"]


def _method(worker: Worker) -> str:
    return terms.label(terms.METHODS, worker["method"])


WORKERS = Table(
    name="workers",
    title="Workers",
    rows=_all_workers,
    link=lambda worker: address("worker", worker["address"]),
    columns=(
        Column("name", "Worker", "text", worker_label, more=lambda w: w["address"]),
        Column(
            "status",
            "Status",
            "state",
            state_of,
            "Dask's own word. A paused worker starts no new task. A stale one has sent "
            "no heartbeat for longer than three of its intervals. Workers that have "
            "left stay listed for a while.",
        ),
        Column(
            "usage",
            "Of its limit",
            "share",
            _usage,
            "Memory of the process, as a share of the worker's limit.",
        ),
        Column(
            "process",
            "Process",
            "size",
            _part("process"),
            terms.BESIDE["process"].sentence,
        ),
        Column(
            "limit",
            "Limit",
            "size",
            lambda worker: worker["limit"],
            "The worker's memory limit, as Dask knows it.",
        ),
        *(
            Column(
                part.name,
                part.label.capitalize(),
                "size",
                _part(part.name),
                part.sentence,
            )
            for part in terms.PARTS.values()
        ),
        Column("error", "±", "size", _part("error"), terms.CONCEPTS["error"].sentence),
        Column(
            "spilled",
            "Spilled",
            "size",
            _part("spilled"),
            terms.BESIDE["spilled"].sentence,
        ),
        Column(
            "stored",
            "Stored",
            "size",
            lambda worker: worker["stored"],
            terms.STORING["stored"].sentence,
            shown=has_intermediates,
        ),
        Column(
            "pending",
            "Pending",
            "size",
            lambda worker: worker["stored_pending"],
            terms.STORING["pending"].sentence,
            shown=has_intermediates,
        ),
        Column(
            "children",
            "Child processes",
            "size",
            _children,
            terms.BESIDE["children"].sentence,
        ),
        Column(
            "tasks",
            "Tasks running",
            "number",
            lambda worker: len(worker["executing_tasks"]),
            "Tasks that run now, and finished ones whose output is not stored yet.",
        ),
        Column(
            "full_in",
            "Full in",
            "seconds",
            _full_in,
            terms.CONCEPTS["time-to-limit"].sentence,
        ),
        Column("threads", "Threads", "number", lambda worker: worker["nthreads"]),
        Column(
            "method", "Measured", "text", _method, terms.CONCEPTS["method"].sentence
        ),
    ),
)


# --- incidents -----------------------------------------------------------------------


def kind(incident: Mapping[str, Any]) -> str:
    """Say in words what happened."""
    return terms.label(terms.KINDS, str(incident["kind"]))


def cause(incident: Mapping[str, Any]) -> str:
    """Say in words why it happened, as far as that is known."""
    return terms.label(terms.CAUSES, str(incident["diagnosis"]["cause"]))


def _worker(incident: Mapping[str, Any]) -> str:
    worker = incident.get("worker") or {}
    name = str(worker.get("name") or worker.get("address") or "")
    return f"worker {name}" if name.isdigit() else name


def _newest_failures(
    store: Store, limit: int, offset: int
) -> tuple[Sequence[Any], int]:
    return store.failures(limit, offset), store.cluster()["n_failures"]


FAILURES = Table(
    name="failures",
    title="Failures",
    rows=lambda store: store.failures(),
    page=_newest_failures,
    link=lambda failure: address("failure", failure["id"]),
    columns=(
        Column("what", "Failure", "text", kind, more=lambda f: f["text"]),
        Column("opened", "Began", "instant", _key("opened")),
        Column(
            "closed",
            "Ended",
            "instant",
            _key("closed"),
            "When its graph had left the scheduler, or a minute after its last "
            "incident. Empty while it lasts.",
        ),
        Column(
            "cause",
            "Cause",
            "text",
            cause,
            "What the evidence of all its incidents points to.",
        ),
        Column(
            "prefix",
            "Responsible",
            "text",
            lambda failure: failure["responsible"]["prefix"],
            "The task prefix that is to blame.",
        ),
        Column("deaths", "Deaths", "number", _key("deaths")),
        Column("workers", "Workers", "number", _key("workers")),
        Column(
            "lost",
            "Lost",
            "size",
            lambda failure: failure["cost"]["bytes_lost"],
            "Stored outputs that were lost with the workers.",
        ),
    ),
)


def _newest(store: Store, limit: int, offset: int) -> tuple[Sequence[Any], int]:
    return store.incidents(limit, offset), store.cluster()["n_incidents"]


#: Incidents that are searched and sorted, the newest.
SEARCHED_INCIDENTS = 500

INCIDENTS = Table(
    name="incidents",
    title="Incidents",
    rows=lambda store: store.incidents(SEARCHED_INCIDENTS),
    page=_newest,
    searched=f"among the newest {SEARCHED_INCIDENTS:,}",
    link=lambda incident: address("incident", incident["id"]),
    columns=(
        Column(
            "what", "What happened", "text", kind, more=lambda i: i["diagnosis"]["text"]
        ),
        Column("time", "Time", "instant", _key("time")),
        Column(
            "cause",
            "Cause",
            "text",
            cause,
            "What the evidence points to. Open the incident to see how certain it is.",
        ),
        Column(
            "prefix",
            "Responsible",
            "text",
            lambda incident: incident["diagnosis"]["responsible"]["prefix"],
            "The task prefix that is to blame.",
        ),
        Column("worker", "Worker", "text", _worker),
        Column(
            "process",
            "Memory",
            "size",
            lambda incident: (incident["breakdown"] or {}).get("process"),
            "Memory of the worker's process at that moment.",
        ),
        Column("limit", "Limit", "size", _key("limit")),
    ),
)


# --- order ---------------------------------------------------------------------------

GRAPHS = Table(
    name="graphs",
    title="Graphs",
    rows=lambda store: store.order(),
    link=lambda graph: address("graph", graph["id"]),
    columns=(
        Column("name", "Graph", "text", _key("name"), more=_key("id")),
        Column(
            "verdict",
            "Verdict",
            "state",
            lambda graph: terms.label(terms.ORDER_VERDICTS, graph["verdict"]["kind"]),
            "Whether the graph fits, and whether the cluster ran ahead of its order.",
        ),
        Column("tasks", "Tasks", "number", _key("tasks")),
        Column("done", "Done", "number", _key("done")),
        Column(
            "minimum",
            "Minimum",
            "size",
            _key("minimum"),
            terms.CONCEPTS["minimum"].sentence,
        ),
        Column(
            "minimum_threads",
            "With its threads",
            "size",
            _key("minimum_threads"),
            "The same with all threads of the cluster at work.",
        ),
        Column(
            "actual_peak",
            "Stored at most",
            "size",
            _key("actual_peak"),
            "The most that the cluster really stored of this graph.",
        ),
        Column(
            "run_ahead",
            "Run-ahead",
            "size",
            _key("run_ahead"),
            terms.CONCEPTS["run-ahead"].sentence,
        ),
        Column(
            "capacity",
            "Room",
            "size",
            _key("capacity"),
            "What the workers can store together when nothing else is in them.",
        ),
        Column("time", "Arrived", "instant", _key("time")),
    ),
)


# --- limits --------------------------------------------------------------------------


def _audited(audit: Mapping[str, Any]) -> str:
    name = audit["name"]
    return f"worker {name}" if name.isdigit() else name


def verdict(audit: Mapping[str, Any]) -> str:
    """Say in words whether a worker's limit is right."""
    return terms.label(terms.LIMIT_VERDICTS, str(audit["verdict"]))


LIMITS = Table(
    name="limits",
    title="Limits",
    rows=lambda store: store.limits(),
    link=lambda audit: address("limit", audit["address"]),
    columns=(
        Column("name", "Worker", "text", _audited, more=_key("address")),
        Column("severity", "Severity", "state", _key("severity")),
        Column(
            "verdict",
            "Verdict",
            "text",
            verdict,
            "The most serious finding about this limit.",
            more=lambda audit: audit["advice"][0] if audit["advice"] else "",
        ),
        Column("limit", "Limit", "size", _key("limit")),
        Column(
            "effective",
            "Really allowed",
            "size",
            _key("effective"),
            "The lowest of what machine, container, batch system and rlimits allow.",
        ),
        Column("source", "By", "text", _key("source"), "What sets this lowest limit."),
        Column(
            "siblings",
            "All on this machine",
            "size",
            _key("siblings"),
            "Sum of the limits of all workers on this machine.",
        ),
        Column(
            "headroom",
            "Headroom",
            "size",
            lambda audit: audit["headroom"]["bytes"],
            "The limit less what the process uses now.",
        ),
        Column(
            "seconds",
            "Full in",
            "seconds",
            lambda audit: audit["headroom"]["seconds"],
            "Time until the worker reaches its limit, at the rate at which its stored "
            "outputs and what tasks leave behind grow. Empty where nothing does.",
        ),
        Column("host", "Host", "text", _key("host")),
    ),
)

#: All tables, by the name that addresses and files give them.
TABLES = {
    table.name: table for table in (WORKERS, TASKS, FAILURES, INCIDENTS, GRAPHS, LIMITS)
}
