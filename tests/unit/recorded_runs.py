"""Recorded runs for tests, written row by row with the writer's own tables."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import stories

from dask_memdash.runs import directory, packing, schema
from dask_memdash.runs.recorder import Recorder
from dask_memdash.runs.tables import FIGURES
from dask_memdash.runs.writer import Writer
from dask_memdash.store.live import LiveStore

COLUMNS = ("process", *FIGURES[1:])


class Segment:
    """One segment that a test fills.

    Parameters
    ----------
    number
        0 for a live one.
    """

    def __init__(
        self, run: Path, kind: str = "main", number: int = 1, opened: float = 0.0
    ) -> None:
        run.mkdir(parents=True, exist_ok=True)
        name = directory.closed_name(number, kind) if number else None
        self.path = run / (name or directory.live_name(kind))
        self.kind = kind
        self.opened = opened
        self.db = sqlite3.connect(self.path, isolation_level=None)
        if not number:
            self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("BEGIN")
        for statement in schema.statements():
            self.db.execute(statement)
        facts = {"kind": kind, "opened": repr(opened), "run": run.name}
        facts["dictionary"] = packing.DICTIONARY.hex()
        facts["schema_version"] = str(schema.SCHEMA_VERSION)
        for fact in facts.items():
            self.add("meta", *fact)
        self.db.execute("COMMIT")

    def add(self, table: str, *values: Any) -> None:
        self.db.execute(schema.BY_NAME[table].insert, values)

    def put(self, table: str, **values: Any) -> None:
        """Write a row whose other columns are NULL."""
        names = [column.name for column in schema.BY_NAME[table].columns]
        assert not values.keys() - set(names), values.keys() - set(names)
        self.add(table, *(values.get(name) for name in names))

    def close(self, closed: float | None = None) -> None:
        if closed is not None:
            for index in schema.INDEXES:
                self.db.execute(index)
            self.add("meta", "closed", repr(closed))
        self.db.close()


def write_store(segment: Segment, store: Any, time: float) -> None:
    """Write all that a store answers, as it stands at an instant."""
    segment.db.execute("BEGIN")
    pack = packing.pack
    cluster = store.cluster()
    segment.put(
        "cluster_states",
        time=time,
        n_workers=cluster["n_workers"],
        answer=pack(cluster),
    )
    processes: dict[tuple[str, int], int] = {}
    write_history(segment, 0, store.history(points=10_000))
    workers = [(w, None) for w in store.workers()]
    workers += [(w, w["last_seen"]) for w in reversed(store.departed())]
    for number, (worker, left) in enumerate(workers, 1):
        home = (worker["host"], worker["pid"])
        new = home not in processes
        process = processes.setdefault(home, len(processes) + 1)
        segment.add("processes", process, *home)
        past = store.history(worker["address"], points=10_000)
        added = min([*past["time"], time]) - 1
        segment.add(
            "workers", number, worker["address"], worker["name"], process, added, left
        )
        segment.put(
            "worker_states",
            time=left or time,
            worker=number,
            limit_bytes=worker["limit"],
            answer=pack(worker),
        )
        if new:
            write_history(segment, process, past)
        for began, ended in past["pauses"]:
            segment.add("pauses", number, began, ended)
        for task in store.task_history(worker["address"]):
            segment.add(
                "tasks",
                number,
                *(task[name] for name in ("start", "seen", "key", "prefix", "thread")),
                int(task["running"]),
                task["peak"],
                task["method"],
            )
    numbers = {w["address"]: n for n, (w, _) in enumerate(workers, 1)}
    for audit in store.limits():
        segment.put(
            "limits", time=time, worker=numbers[audit["address"]], answer=pack(audit)
        )
    for prefix in store.prefixes():
        storage, execution = prefix["storage"], prefix["execution"]
        segment.put(
            "prefix_states",
            time=time,
            prefix=prefix["prefix"],
            **{n: storage[n] for n in ("count", "managed", "spilled")},
            **{n: execution[n] for n in ("executing", "running")},
            answer=pack(store.prefix(prefix["prefix"])),
        )
    for brief in reversed(store.incidents()):
        whole = store.incident(brief["id"])
        segment.put(
            "incidents",
            id=whole["id"],
            opened=whole["time"],
            until=whole["until"],
            changed=time,
            kind=whole["kind"],
            failure=whole["failure"],
            worker=whole["worker"]["address"],
            answer=packing.to_json(whole),
        )
    for failure in reversed(store.failures()):
        segment.put(
            "failures",
            **{n: failure[n] for n in ("id", "opened", "closed", "kind", "text")},
            changed=time,
            answer=packing.to_json(failure),
        )
    for graph in reversed(store.order()):
        segment.put(
            "graphs",
            id=graph["id"],
            arrived=graph["time"],
            changed=time,
            tasks=graph["tasks"],
            done=graph["done"],
            answer=packing.to_json(graph),
        )
        segment.put(
            "graph_progress", time=graph["time"], graph=graph["id"], done=0, held=0
        )
        if graph["done"]:
            segment.put(
                "graph_progress", time=time, graph=graph["id"], done=graph["done"]
            )
        for position in graph["curve"]["position"][:50]:
            segment.add(
                "order_points",
                graph["id"],
                position,
                pack(store.order_point(graph["id"], position)),
            )
    segment.db.execute("COMMIT")


def record_story(run: Path, story: Any) -> tuple[Any, Path]:
    """Tell a story while it is recorded; give the living store and the run.

    Parameters
    ----------
    story
        A function of :mod:`stories`, which tells its events while it runs.
    """
    told: list[Any] = []

    def listen(model: Any, event: Any) -> None:
        if not told:
            manifest = directory.Manifest(run.name, event.time)
            run.mkdir(0o700)
            writer = Writer(
                manifest,
                lambda: (run, None),
                limit=10**9,
                each=0.01,
                clock=lambda: told[2],
            )
            recorder = Recorder(LiveStore(model), model, writer)
            told.extend((recorder, writer, event.time))
            writer.start()
        if event.time > told[2]:
            told[0]._due = 0.0
            told[0].step(told[2])
            told[2] = event.time

    stories.listeners.append(listen)
    try:
        live = story()
    finally:
        stories.listeners.remove(listen)
    recorder, writer, time = told
    recorder.finish(time)
    assert writer.close(30.0)
    assert writer.texts() == ()
    return live, run


def write_history(segment: Segment, process: int, history: Any) -> None:
    for row in zip(history["time"], *(history[name] for name in COLUMNS), strict=True):
        segment.add("breakdown", row[0], process, *row[1:])


def write_run(
    run: Path, store: Any, *, live: bool = False, manifest: bool = True
) -> Path:
    """Write a run of one segment of all that a store answers."""
    time = store.cluster()["time"]
    first = min([*store.history(points=10_000)["time"], time])
    segment = Segment(run, number=0 if live else 1, opened=first)
    write_store(segment, store, time)
    segment.close(None if live else time)
    if manifest:
        told = directory.Manifest(run.name, first, ended=None if live else time)
        size = segment.path.stat().st_size
        if not live:
            told.segments = [
                directory.Segment(segment.path.name, "main", first, time, size)
            ]
        directory.write_manifest(run, told)
    return run


def list_of_runs(root: Path, number: int, now: float) -> list[Path]:
    """Write directories of runs as a list finds them: a busy hour each, hourly."""
    made = []
    for n in range(number):
        begun = now - 3600.0 * (n + 1)
        run = root / directory.new_run_id(begun)
        run.mkdir(parents=True)
        kinds = [*["main"] * 6, *["s10"] * 6, *["s60"] * 6, "s1"]
        names = [directory.closed_name(i, kind) for i, kind in enumerate(kinds, 1)]
        told = directory.Manifest(
            run.name,
            begun,
            name=f"nightly {n}",
            tags={"branch": "main" if n % 2 else "other", "commit": f"{n:08x}"},
            ended=begun + 3000,
            updated=begun + 3000,
            summary={"n_workers": 4 + n % 7, "failures": n % 3, "deaths": n % 5}
            | {"incidents": n % 9, "most_worker": 2**28 + n * 2**20},
            segments=[
                directory.Segment(name, kind, begun + i, begun + i + 1, 2**20)
                for i, (name, kind) in enumerate(zip(names, kinds, strict=True))
            ],
        )
        directory.write_manifest(run, told)
        for name in names:
            (run / name).touch()
        made.append(run)
    return made
