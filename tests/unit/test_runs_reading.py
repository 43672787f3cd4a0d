"""Runs that are damaged, unfinished, or looked at in the middle."""

import contextlib
import gc
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import stories
from recorded_runs import Segment, write_run, write_store

from dask_memdash.errors import RunError
from dask_memdash.runs.directory import MANIFEST
from dask_memdash.runs.reading import RunReader
from dask_memdash.runs.schema import SCHEMA_VERSION
from dask_memdash.store.recorded import RecordedStore

NOW = stories.NOW


@pytest.fixture
def run(tmp_path):
    """Write a run of two segments: a busy cluster, and one after three deaths."""
    path = write_run(tmp_path / "20260801-100000-abcdef", stories.after_incident())
    second = Segment(path, number=2, opened=NOW + 60)
    write_store(second, stories.after_incident(), NOW + 100)
    second.close(NOW + 120)
    return path


def names(problems):
    return sorted(Path(path).name for path in problems)


def damage_no_database(path):
    path.write_bytes(b"this is no database at all" * 400)


def damage_truncated(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def damage_inside(path):
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 8192))


def damage_newer(path):
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()


def damage_other(path):
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE meta (key, value)")
    db.close()


def damage_empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_no_database, "damaged"),
        (damage_truncated, "damaged"),
        (damage_inside, "damaged"),
        (damage_newer, "newer"),
        (damage_other, "no segment"),
        (damage_empty, "no segment"),
    ],
)
def test_a_damaged_segment_is_named_and_the_rest_answers(run, damage, says):
    damage(run / "0002-main.sqlite")
    reader = RunReader(run)
    store = RecordedStore(reader)
    assert [i["id"] for i in store.incidents()] == [
        i["id"] for i in stories.after_incident().incidents()
    ]
    assert len(store.workers()) == 4
    assert len(store.history()["time"]) > 1
    assert names(reader.problems) == ["0002-main.sqlite"]
    (why,) = reader.problems.values()
    assert says in why
    told = [n["text"] for n in store.cluster()["degraded"]]
    assert any("0002-main.sqlite" in text for text in told)
    reader.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}'])
def test_a_damaged_manifest_is_named_and_the_segments_answer(run, text):
    (run / MANIFEST).write_text(text)
    reader = RunReader(run)
    assert names(reader.problems) == [MANIFEST]
    assert RecordedStore(reader).cluster()["n_incidents"] == 5
    reader.close()


def test_a_manifest_of_a_newer_version_says_so(run):
    values = json.loads((run / MANIFEST).read_text())
    (run / MANIFEST).write_text(json.dumps({**values, "version": 99}))
    reader = RunReader(run)
    assert "newer" in next(iter(reader.problems.values()))
    reader.close()


def test_what_is_no_run_is_refused_by_name(tmp_path):
    with pytest.raises(RunError, match="no recorded run here"):
        RunReader(tmp_path)
    with pytest.raises(RunError, match="nowhere"):
        RunReader(tmp_path / "nowhere")


def test_a_run_without_a_readable_segment_is_refused_by_name(tmp_path):
    path = tmp_path / "run"
    write_run(path, stories.one(1), live=True)
    (path / "live-main.sqlite").write_bytes(b"x" * 5000)
    for log in path.glob("live-main.sqlite-*"):
        log.unlink()
    with pytest.raises(RunError, match=r"live-main\.sqlite"):
        RunReader(path)


def test_a_missing_segment_is_named(run):
    shutil.copy(run / "0002-main.sqlite", run / "0003-main.sqlite")
    (run / "0001-main.sqlite").unlink()
    reader = RunReader(run)
    assert names(reader.problems) == ["0001-main.sqlite"]
    assert reader.files()
    reader.close()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import stories
    from recorded_runs import Segment, write_store
    store = stories.after_incident()
    segment = Segment(Path({run!r}), number=0, opened=stories.NOW - 200)
    write_store(segment, store, stories.NOW)
    segment.db.execute("BEGIN")
    segment.put("incidents", id="99", opened=stories.NOW, changed=stories.NOW)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_record_whose_writer_was_killed_in_a_transaction_opens(tmp_path):
    run = tmp_path / "run"
    tests = str(Path(__file__).parent)
    code = textwrap.dedent(KILLED).format(tests=tests, run=str(run))
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert ended.returncode == -9
    assert (run / "live-main.sqlite-wal").stat().st_size > 0
    reader = RunReader(run)
    live, store = stories.after_incident(), RecordedStore(reader)
    assert store.incidents() == live.incidents()
    assert store.cluster()["breakdown"] == live.cluster()["breakdown"]
    assert reader.problems == {}
    reader.close()


def in_wal_mode(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")


@pytest.mark.parametrize("begun", [Path.touch, in_wal_mode])
def test_a_segment_whose_writer_was_killed_while_it_was_begun_is_no_problem(run, begun):
    begun(run / "live-main.sqlite")
    reader = RunReader(run)
    assert RecordedStore(reader).cluster()["n_workers"] == 4
    assert reader.problems == {}
    assert not any(segment.live for segment in reader.files())
    reader.close()


def test_a_reader_of_a_live_segment_lets_the_writer_close_it(tmp_path):
    run = tmp_path / "run"
    segment = Segment(run, number=0, opened=NOW - 200)
    write_store(segment, stories.busy(), NOW)
    reader = RunReader(run)
    store = RecordedStore(reader)
    assert store.cluster()["n_workers"] == 4
    before = store.version
    assert segment.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert segment.db.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    segment.close()
    (run / "live-main.sqlite").rename(run / "0001-main.sqlite")
    reader.refresh(force=True)
    assert store.version > before
    assert store.cluster()["n_workers"] == 4
    assert reader.problems == {}
    reader.close()


def test_the_files_of_a_run_that_nobody_closed_are_closed_with_it(run):
    reader = RunReader(run)
    connections = list(reader._open.values())
    assert connections
    del reader
    gc.collect()
    for connection in connections:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_a_run_that_grows_is_followed(tmp_path):
    run = tmp_path / "run"
    segment = Segment(run, number=0, opened=NOW - 200)
    write_store(segment, stories.one(1), NOW)
    reader = RunReader(run)
    store = RecordedStore(reader)
    version = store.version
    assert store.cluster()["time"] == NOW
    later = {**stories.one(1).cluster(), "time": NOW + 5}
    from dask_memdash.runs.packing import pack

    segment.put("cluster_states", time=NOW + 5, answer=pack(later))
    reader.refresh(force=True)
    assert store.version > version
    assert store.cluster()["time"] == NOW + 5
    segment.close()
    reader.close()


def test_an_instant_knows_nothing_of_what_came_later(run):
    reader = RunReader(run)
    store = RecordedStore(reader)
    first, last = store.span()
    assert (first, last) == (NOW, NOW + 100)
    ids = [i["id"] for i in store.incidents()]
    early = store.at(NOW - 45)
    assert [i["time"] for i in early.incidents()] == [NOW - 50]
    (failure,) = early.failures()
    assert failure["incidents"] == ids[-1:]
    assert failure["count"] == failure["deaths"] == 1
    assert failure["closed"] is None
    assert max(early.history()["time"]) <= NOW - 45
    assert early.at(NOW - 1000).incidents() == []
    marks = store.marks()
    assert [m["id"] for m in marks] == [f["id"] for f in store.failures()][::-1]
    assert store.at(NOW - 90).graph("graph-1")["done"] in (0, None)
    reader.close()


def test_before_the_first_figures_the_first_are_told(run):
    reader = RunReader(run)
    assert RecordedStore(reader, NOW - 5000).cluster()["time"] == NOW
    reader.close()
