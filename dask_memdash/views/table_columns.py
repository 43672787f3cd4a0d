"""What the tables of the page hold; see :mod:`dask_memdash.views.tabular`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dask_memdash import terms
from dask_memdash.store.base import Store
from dask_memdash.store.limit_shapes import LimitAudit
from dask_memdash.text import shorten
from dask_memdash.views.prefix_columns import TASKS
from dask_memdash.views.tabular import Column, ColumnSet, Table, address
from dask_memdash.views.worker_columns import WORKERS, worker_label


def _key(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda row: row[name]


# --- incidents -----------------------------------------------------------------------


def kind(incident: Mapping[str, Any]) -> str:
    """Say in words what happened."""
    return terms.label(terms.KINDS, str(incident["kind"]))


#: Characters of a prefix in a failure's title.
TITLE = 40


def _failed(failure: Mapping[str, Any]) -> str:
    """Say whose failure it is, so that rows of one kind can be told apart."""
    prefix = failure["responsible"]["prefix"]
    return f"{shorten(prefix, TITLE)}: {kind(failure)}" if prefix else kind(failure)


def cause(incident: Mapping[str, Any]) -> str:
    """Say in words why it happened, as far as that is known."""
    return terms.label(terms.CAUSES, str(incident["diagnosis"]["cause"]))


def _link_of(kind: str, name: Any) -> str:
    return address(kind, str(name)) if name else ""


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
        Column("what", "Failure", "text", _failed, more=lambda f: f["text"]),
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
            link=lambda f: _link_of("prefix", f["responsible"]["prefix"]),
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
            link=lambda i: _link_of("prefix", i["diagnosis"]["responsible"]["prefix"]),
        ),
        Column(
            "worker",
            "Worker",
            "text",
            _worker,
            link=lambda i: _link_of("worker", (i.get("worker") or {}).get("address")),
        ),
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
    sets=(
        ColumnSet(
            "Summary",
            (
                *("verdict", "tasks", "done", "minimum"),
                *("actual_peak", "run_ahead", "capacity"),
            ),
        ),
    ),
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


def _own_cap(audit: LimitAudit) -> int | None:
    """Return the lowest cap on a worker where that is not its whole machine."""
    return None if audit["source"] == "host" else audit["effective"]


LIMITS = Table(
    name="limits",
    title="Limits",
    rows=lambda store: store.limits(),
    link=lambda audit: address("limit", audit["address"]),
    sets=(
        ColumnSet(
            "Summary",
            (
                *("severity", "verdict", "limit", "effective"),
                *("source", "headroom", "seconds"),
            ),
        ),
    ),
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
            "Allowed below the machine",
            "size",
            _own_cap,
            "The lowest of what container, batch system and rlimits allow. Empty where "
            "only the machine does, which its workers share.",
        ),
        Column("source", "By", "text", _key("source"), "What sets the lowest limit."),
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

__all__ = ["TABLES", "WORKERS", "cause", "kind", "verdict", "worker_label"]

#: All tables, by the name that addresses and files give them.
TABLES = {
    table.name: table for table in (WORKERS, TASKS, FAILURES, INCIDENTS, GRAPHS, LIMITS)
}
