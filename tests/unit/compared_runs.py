"""Recorded runs for comparisons, made of a few figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recorded_runs import Segment

from dask_memdash.model.quantiles import QuantileSketch
from dask_memdash.runs import directory, packing
from dask_memdash.store.recorded import RecordedStore

START = 1_790_000_000.0
MB = 10**6


@dataclass
class Tasks:
    """What the tasks of one prefix had, in bytes."""

    peaks: Sequence[int] = ()
    outputs: Sequence[int] = ()
    #: What was stored, at one look each.
    stored: Sequence[int] = (0, 0, 0)
    error: int = 0
    at_least: int | None = None
    duration: float | None = None
    method: str = "exact"


@dataclass
class Run:
    """What a run is made of."""

    prefixes: Mapping[str, Tasks] = field(default_factory=dict)
    #: Most memory of each worker.
    workers: Sequence[int] = (100 * MB, 100 * MB)
    threads: int = 2
    limit: int | None = 400 * MB
    #: Most memory, and most stored, of the cluster.
    memory: int = 200 * MB
    stored: int = 50 * MB
    #: Failures: responsible prefix, deaths, tasks given up.
    failures: Sequence[tuple[str | None, int, int]] = ()
    #: Graphs: name and seconds.
    graphs: Sequence[tuple[str, float]] = ()
    pauses: int = 0
    ended: bool = True
    versions: Mapping[str, str] = field(default_factory=dict)


def write(path: Path, run: Run) -> Path:
    """Write a run as a recorder does."""
    segment = Segment(path, opened=START)
    last = START + 60
    segment.db.execute("BEGIN")
    segment.put(
        "cluster_states",
        time=last,
        n_workers=len(run.workers),
        answer=packing.pack(
            {
                "limit": None if run.limit is None else run.limit * len(run.workers),
                "n_workers": len(run.workers),
                "degraded": [],
            }
        ),
    )
    segment.put("cluster_states", time=START, n_workers=0, answer=packing.pack({}))
    figures = {"managed": run.stored, "spilled": 0}
    segment.put(
        "breakdown", time=START + 1, process=0, process_bytes=run.memory, **figures
    )
    for number, memory in enumerate(run.workers, 1):
        _worker(segment, run, number, memory, last)
    for name, tasks in run.prefixes.items():
        _prefix(segment, name, tasks)
    for number, (prefix, deaths, given_up) in enumerate(run.failures, 1):
        _failure(segment, str(number), prefix, deaths, given_up)
    for number, (name, seconds) in enumerate(run.graphs, 1):
        graph = str(number)
        segment.put(
            "graphs", id=graph, name=name, tasks=10, arrived=START, changed=last
        )
        for done, after in ((0, 0.0), (10, seconds)):
            segment.put("graph_progress", time=START + after, graph=graph, done=done)
    for number in range(run.pauses):
        segment.put("pauses", worker=1, began=START + number, ended=START + number + 1)
    segment.db.execute("COMMIT")
    segment.close(last)
    manifest = directory.Manifest(
        path.name, START, ended=last if run.ended else None, name=path.name
    )
    manifest.versions = dict(run.versions)
    size = segment.path.stat().st_size
    manifest.segments = [
        directory.Segment(segment.path.name, "main", START, last, size)
    ]
    directory.write_manifest(path, manifest)
    return path


def _worker(segment: Segment, run: Run, number: int, memory: int, last: float) -> None:
    address = f"tcp://127.0.0.1:{9000 + number}"
    segment.add("processes", number, "host", number)
    segment.add("workers", number, address, str(number), number, START, None)
    segment.put(
        "worker_states",
        time=last,
        worker=number,
        answer=packing.pack(
            {
                "address": address,
                "name": str(number),
                "nthreads": run.threads,
                "limit": run.limit,
            }
        ),
    )
    segment.put(
        "breakdown", time=START + 1, process=number, process_bytes=memory, spilled=0
    )


def _prefix(segment: Segment, name: str, tasks: Tasks) -> None:
    peaks, outputs = QuantileSketch.of(tasks.peaks), QuantileSketch.of(tasks.outputs)
    bins = [{"low": low, "high": high, "count": n} for low, high, n in outputs.bins(48)]
    answer: dict[str, Any] = {"storage": {"awaited_by": []}, "output_bins": bins}
    for look, stored in enumerate(tasks.stored):
        segment.put(
            "prefix_states",
            time=START + 2 * look,
            prefix=name,
            managed=stored,
            finished=len(tasks.peaks),
            peak_p50=peaks.quantile(0.5),
            peak_p95=peaks.quantile(0.95),
            peak_max=peaks.max,
            peak_at_least=tasks.at_least,
            peak_error=tasks.error,
            method=tasks.method,
            output_max=outputs.max,
            duration=tasks.duration,
            peak_bins=packing.pack([list(b) for b in peaks.bins(48)]),
            answer=packing.pack(answer),
        )


def _failure(
    segment: Segment, number: str, prefix: str | None, deaths: int, given_up: int
) -> None:
    answer = {
        "id": number,
        "opened": START,
        "closed": START + 1,
        "deaths": deaths,
        "tasks_given_up": given_up,
        "text": "it failed",
        "responsible": {"prefix": prefix, "key": None},
        "diagnosis": {"cause": "task-too-large"},
        "incidents": [],
        "kinds": {},
    }
    segment.put(
        "failures",
        id=number,
        opened=START,
        closed=START + 1,
        changed=START + 2,
        kind="terminated",
        text="it failed",
        answer=packing.to_json(answer),
    )


def store(path: Path) -> RecordedStore:
    """Open a run."""
    from dask_memdash.runs.reading import RunReader

    return RecordedStore(RunReader(path))
