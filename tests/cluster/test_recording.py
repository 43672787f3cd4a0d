"""A run is recorded on a real scheduler, and is there whatever ends it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from clusters import Api, Processes, wait_for
from disks import SlowDisk

from dask_memdash import MemDash
from dask_memdash.runs.directory import live_segments, read_manifest, runs_in
from dask_memdash.runs.listing import LocalRuns
from dask_memdash.runs.reading import RunReader

PROGRAM = """
import sys, time
import dask
import numpy as np
from distributed import Client, LocalCluster
from dask_memdash import MemDash


def load(i):
    time.sleep(0.05)
    return np.ones(1_000_000)[: 1000 + i]


def too_much(i):
    held = []
    while True:
        held.append(np.ones(4_000_000))
        time.sleep(0.02)


if __name__ == "__main__":
    dask.config.set({"distributed.scheduler.allowed-failures": 0})
    with LocalCluster(
        n_workers=1, threads_per_worker=1, memory_limit="300MB",
        dashboard_address=":0",
    ) as cluster, Client(cluster) as client:
        client.register_plugin(MemDash(record=sys.argv[1], run="killed"))
        client.gather(client.map(load, range(10)))
        error = client.submit(too_much, 1).exception(timeout=60)
        print(type(error).__name__, cluster.scheduler_address, flush=True)
        time.sleep(60)
"""


def ask(path: Path, query: str) -> list[tuple[object, ...]]:
    """Ask a segment as anybody would."""
    uri = f"file:{path}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
        return db.execute(query).fetchall()


def until(condition: object, seconds: float = 30.0) -> None:
    """Wait for a condition, bounded."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "the condition did not come"
        time.sleep(0.05)


def deaths(run: Path) -> list[tuple[object, ...]]:
    """Return the deaths that a run's live segment tells."""
    try:
        return ask(run / "live-main.sqlite", "SELECT cause, prefix, task FROM deaths")
    except sqlite3.Error:
        return []


@pytest.mark.timeout(90)
def test_a_run_whose_scheduler_is_killed_is_whole_up_to_the_last_second(
    tmp_path: Path,
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    record = tmp_path / "runs"
    with subprocess.Popen(
        [sys.executable, str(program), str(record)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("KilledWorker")
            [entry] = runs_in(record)
            run = Path(entry.path)
            until(lambda: deaths(run) and deaths(run)[0][1])
            until(lambda: read_manifest(run).summary["failures"])
            assert [row.state for row in LocalRuns(record).rows()] == ["written"]
        finally:
            killed = time.time()
            os.kill(process.pid, signal.SIGKILL)
    manifest = read_manifest(run)
    assert (manifest.name, manifest.ended) == ("killed", None)
    # What a list tells of it, though nobody could write it at the end.
    [row] = LocalRuns(record).rows()
    assert row.state == "cut-short"
    assert (row.workers, row.deaths, row.failures) == (1, 1, 1)
    assert 150_000_000 < (row.most_worker or 0) < 400_000_000
    live = live_segments(manifest, run)
    assert sorted(live) == ["main", "s1", "s10", "s60"]
    for path in live.values():
        assert ask(path, "PRAGMA integrity_check") == [("ok",)]
    [(cause, prefix, task)] = deaths(run)
    assert (cause, prefix) == ("task-too-large", "too_much")
    assert str(task).startswith("too_much-")
    # Ten tasks of 50 ms, and what a busy machine adds; none finished of the other.
    times = dict(
        ask(
            live["main"],
            "SELECT prefix, duration FROM prefix_states WHERE rowid IN "
            "(SELECT max(rowid) FROM prefix_states GROUP BY prefix)",
        )
    )
    assert 0.05 <= times["load"] < 20
    assert times.get("too_much") is None
    # The newest state of the cluster is at most some seconds old.
    [(newest,)] = ask(live["main"], "SELECT max(time) FROM cluster_states")
    assert killed - float(str(newest)) < 5.0
    [(text,)] = ask(
        live["main"], "SELECT answer FROM incidents WHERE kind != 'killed-worker'"
    )
    assert json.loads(str(text))["suspects"][0]["prefix"] == "too_much"
    peaks = ask(live["main"], "SELECT prefix FROM peaks WHERE p95 > 7000000")
    assert peaks == [("load",)]


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_unregistering_ends_the_record_and_leaves_no_thread(tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        plugin = MemDash(record=f"file://{tmp_path / 'runs'}", tags={"a": "b"})
        client.register_plugin(plugin)
        client.gather(client.map(str, range(5)))

        def ours() -> list[str]:
            names = [thread.name for thread in threading.enumerate()]
            return [
                n for n in names if n in ("MemDash records", "MemDash sends a record")
            ]

        until(lambda: len(ours()) == 2)
        client.unregister_scheduler_plugin("memdash")
        until(lambda: not ours())
        [entry] = runs_in(tmp_path / "runs")
        assert entry.manifest is not None
        assert entry.manifest.ended is not None
        assert entry.manifest.tags == {"a": "b"}
        assert entry.manifest.summary["n_workers"] == 1
        files = {path.name for path in Path(entry.path).iterdir()}
        assert files == {"run.json", *(s.name for s in entry.manifest.segments)}


def flood(dask_scheduler: object) -> int:
    """Hand more rows over than may wait, and say soon that a disk is silent."""
    from dask_memdash.runs import writer

    writer.SILENT = 0.5
    recording = dask_scheduler.plugins["memdash"]._recording  # type: ignore[attr-defined]
    recording.writer.put([("pauses", (1, float(n), None)) for n in range(1500)])
    return int(recording.writer.lost)


def pauses(run: Path) -> int:
    """Return how many rows of :func:`flood` a run has."""
    reader = RunReader(run)
    assert reader.problems == {}
    found = reader.ask_all(reader.files("main"), "SELECT count(*) FROM pauses")
    reader.close()
    return sum(number for (number,) in found)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_disk_that_hangs_or_is_slow_holds_up_no_scheduler(
    tmp_path: Path, processes: Processes
) -> None:
    disk = SlowDisk(tmp_path)
    disk.hang()
    settings = {
        "DASK_MEMDASH__RECORD__TO": str(disk.below),
        "DASK_MEMDASH__RECORD__QUEUE": "1000",
        # `flood` comes by name.
        "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2])),
    }
    client = processes.scheduler(
        *("--preload", "dask_memdash"), env={**disk.environment, **settings}
    )
    scheduler = processes.running[0]
    with client:
        processes.worker()
        # All of this happens while the disk does not answer at all.
        assert client.gather(client.map(abs, range(-50, 0))) == list(range(50, 0, -1))
        assert not disk.below.exists()
        lost = client.run_on_scheduler(flood)
        assert lost >= 500
        api = Api(client.dashboard_link)

        def told(words: str) -> bool:
            return any(words in one["text"] for one in api("cluster")["degraded"])

        wait_for(lambda: told("disk has not answered"), "a word on the disk")
        assert told("of the record lost: its disk is too slow or full")
        # A slow disk: what waited is written, and what got lost is said.
        disk.pause(0.02)
        [run] = wait_for(lambda: list(disk.below.glob("*/run.json")), "the record")
        wait_for(lambda: read_manifest(run.parent).left_out, "what is left out", 60)
        manifest = read_manifest(run.parent)
        assert manifest.lost_rows >= lost
        assert "rows got lost: the disk was too slow or full" in manifest.left_out[0]
        wait_for(lambda: not told("disk has not answered"), "the end of that word")
        wait_for(lambda: pauses(run.parent), "the rows that waited", 60)
        # And its end is not held up by one that hangs again.
        disk.hang()
        scheduler.terminate()
        assert scheduler.wait(timeout=40) == 0
    assert 500 < pauses(run.parent) < 1000
