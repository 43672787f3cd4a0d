"""Made-up clusters, as stores whose answers tests may edit.

The answers are the real store's, of clusters that were told to the real model in events
(:mod:`stories`).  Graphs and audits of limits are written out (:mod:`fake_parts`).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import stories
from editable_store import FakeStore
from fake_parts import (
    HOSTILE,
    audit,
    failure,
    graph,
    limit_finding,
    no_breakdown,
    point,
    prefix,
    task,
)
from stories import NOW, MiB

from dask_memdash.model.event_parts import LargestBlock
from dask_memdash.store.block_shapes import block_shape
from dask_memdash.store.live import LiveStore


def empty() -> FakeStore:
    """Return the store of a cluster without workers."""
    return FakeStore()


def told(live: LiveStore) -> FakeStore:
    """Return a store that answers as another does, until a test edits it."""
    store = FakeStore()
    store.all_workers = deepcopy(live.workers())
    store.all_prefixes = deepcopy(live.prefixes())
    store.all_departed = deepcopy(live.departed())
    store.all_incidents = [
        deepcopy(live.incident(known["id"])) for known in live.incidents()
    ]
    store.all_failures = deepcopy(live.failures())
    store.degraded = deepcopy(live.cluster()["degraded"])  # type: ignore[assignment]
    columns: Any = live.history()
    store.pauses = columns.pop("pauses")
    del columns["n_pauses"]
    points = len(columns["time"])
    nothing: Any = no_breakdown()
    store.points = [
        {**nothing, **{name: columns[name][i] for name in columns if name != "time"}}
        for i in range(points)
    ]
    if store.all_workers:
        store.all_ran = deepcopy(live.task_history(store.all_workers[0]["address"]))
    if store.all_prefixes:
        name = store.all_prefixes[0]["prefix"]
        store.output_bins = deepcopy(live.prefix(name)["output_bins"])
    return store


def busy(workers: int = 4) -> FakeStore:
    """Return the store of a cluster that computes."""
    return told(stories.busy(workers))


def after_incident() -> FakeStore:
    """Return the store of a cluster that lost workers and gave a task up."""
    store = busy()
    after = told(stories.after_incident())
    store.all_incidents, store.all_failures = after.all_incidents, after.all_failures
    return store


def failing(number: int) -> FakeStore:
    """Make the store of a cluster on which so many computations have failed."""
    store = busy()
    death = told(stories.after_incident()).all_incidents[-1]
    store.all_incidents = [
        {**deepcopy(death), "id": str(n)} for n in range(2 * number, 0, -1)
    ]
    store.all_failures = [
        failure(
            n,
            [str(2 * n - 1), str(2 * n)],
            opened=NOW - 300 + 10 * n,
            closed=NOW - 290 + 10 * n if n < number else None,
        )
        for n in range(number, 0, -1)
    ]
    for made in store.all_failures:
        for known in store.all_incidents:
            if known["id"] in made["incidents"]:
                known["failure"] = made["id"]
    return store


def wrong_limits() -> FakeStore:
    """Make the store of a cluster whose limits are wrong in several ways."""
    store = busy()
    too_high, tmpfs = limit_finding(), limit_finding("scratch", "warning")
    tmpfs["text"] = "/dev/shm is a tmpfs: what is spilled there stays in memory."
    tmpfs["advice"] = "Start the workers with --local-directory on a disk."
    unknown: dict[str, Any] = {
        "machine": None,
        "environment": None,
        "set_by": None,
        "dask": None,
        "effective": None,
        "source": None,
        "sources": dict.fromkeys(
            ("host", "cgroup", "batch", "rlimit", "available"), None
        ),
        "chain": [],
        "verdict": "unknown",
        "severity": "unknown",
        "recommended": None,
        "live": dict.fromkeys(
            ("available", "cgroup_used", "swapped", "pressure", "scratch_free"), None
        ),
        "headroom": {"bytes": 384 * MiB, "slope": None, "seconds": None},
        "swap_total": None,
        "trim_threshold": None,
        "allocator": None,
        "scratch": None,
    }
    store.all_limits = [
        audit(
            1,
            verdict="too-high",
            severity="bad",
            findings=[too_high, tmpfs],
            advice=[too_high["advice"], tmpfs["advice"]],
            skipped=["/sys/fs/cgroup/memory.high holds 'banana', which is no size"],
        ),
        audit(
            2,
            verdict="allocator",
            severity="hint",
            findings=[limit_finding("allocator", "hint")],
            advice=["Set MALLOC_TRIM_THRESHOLD_=65536 for the workers."],
            trim_threshold=None,
        ),
        audit(3),
        audit(4, **unknown),
    ]
    return store


def with_graphs() -> FakeStore:
    """Make the store of a cluster that ran graphs of every verdict."""
    store = after_incident()
    nothing: dict[str, Any] = {
        "minimum": None,
        "minimum_threads": None,
        "minimum_position": None,
        "actual_peak": None,
        "run_ahead": None,
        "run_ahead_position": None,
        "run_ahead_by": [],
        "uncertainty": None,
        "curve": {"position": [], "ideal": [], "ideal_threads": [], "actual": []},
        "incidents": [],
        "rootish": [],
        "sizes": [],
        "foreseen": None,
        "what_if": [],
    }
    store.all_graphs = [
        graph(4),
        graph(
            3,
            name="sum-aggregate",
            verdict={
                "kind": "cannot-fit",
                "text": "This order needs 2.10 GiB at task 812 of 1,210 even one task "
                "at a time; the workers have 1.40 GiB.",
            },
            capacity=1434 * MiB,
        ),
        graph(
            2,
            name="inc",
            done=1210,
            finished=True,
            verdict={
                "kind": "fits",
                "text": "Fits: its order needs 0.5 GiB of the workers' 4 GiB.",
            },
            run_ahead=0,
            run_ahead_by=[],
            incidents=[],
        ),
        graph(
            1,
            name="store-map",
            tasks=3_000_000,
            covered="It has 3,000,000 tasks; more than 2,000,000 are not followed.",
            verdict={"kind": "unknown", "text": "Not followed."},
            **nothing,
        ),
    ]
    return store


def shared_process() -> FakeStore:
    """Return the store of a cluster of threads: three workers, one process."""
    return told(stories.shared_process())


def degraded() -> FakeStore:
    """Return the store of a cluster that MemDash sees only in part."""
    return told(stories.degraded())


def hostile_block() -> Any:
    """Return a block whose line is of a file that was named to attack."""
    named = LargestBlock(300 * MiB, HOSTILE, 7, HOSTILE, HOSTILE)
    return block_shape(named)


def hostile() -> FakeStore:
    """Make a store in which every name is an attack."""
    store = after_incident()
    for known in store.all_workers:
        known["name"] = known["status"] = HOSTILE
        known["address"] = HOSTILE + known["address"]
        known["executing_tasks"] = [
            task(HOSTILE, HOSTILE, largest_block=hostile_block())
        ]
    store.all_prefixes = [prefix(HOSTILE, 500 * MiB, 300 * MiB)]
    store.all_prefixes[0]["storage"]["awaited_by"] = [{"prefix": HOSTILE, "bytes": 9}]
    store.degraded = [{"where": HOSTILE, "text": HOSTILE, "since": NOW}]
    for known in store.all_incidents:
        if known["worker"]:
            known["worker"] = dict.fromkeys(known["worker"], HOSTILE)
        known["diagnosis"] = {
            **known["diagnosis"],
            "text": HOSTILE,
            "advice": [HOSTILE],
        }
        known["innocent"] = {"count": 1, "keys": [HOSTILE]}
        for suspect in known["suspects"]:
            suspect.update(key=HOSTILE, prefix=HOSTILE, largest_block=hostile_block())
        for stored in known["storage"]:
            stored.update(prefix=HOSTILE, because=HOSTILE)
        if "task" in known:
            known["task"].update(key=HOSTILE, prefix=HOSTILE)
    for failed in store.all_failures:
        failed.update(text=HOSTILE, graph=HOSTILE, worker_names=[HOSTILE])
        failed["responsible"] = {"prefix": HOSTILE, "key": HOSTILE}
        failed["diagnosis"] = {
            **failed["diagnosis"],
            "text": HOSTILE,
            "advice": [HOSTILE],
        }
    store.all_graphs = [graph(1, name=HOSTILE, covered=HOSTILE)]
    store.all_graphs[0]["verdict"]["text"] = HOSTILE
    for named in (
        *store.all_graphs[0]["run_ahead_by"],
        *store.all_graphs[0]["rootish"],
    ):
        named["prefix"] = HOSTILE
    for root in store.all_graphs[0]["rootish"]:
        root["why"] = HOSTILE
    for change in store.all_graphs[0]["what_if"]:
        change["change"] = HOSTILE
    store.all_points = [point(480)]
    for held in store.all_points[0]["held"]:
        held.update(prefix=HOSTILE, awaited_by=[{"prefix": HOSTILE, "bytes": 9}])
    store.all_limits = wrong_limits().all_limits
    for known_audit in store.all_limits:
        known_audit.update(name=HOSTILE, address=HOSTILE, skipped=[HOSTILE])
        known_audit["advice"] = [HOSTILE for _ in known_audit["advice"]]
        for link in known_audit["chain"]:
            link.update(name=HOSTILE, where=HOSTILE)
        for finding in known_audit["findings"]:
            finding.update(text=HOSTILE, advice=HOSTILE)
    return store
