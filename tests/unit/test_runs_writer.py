"""The thread that writes a run, on a real disk: faults, retention, closing."""

import sqlite3
import stat
import threading
import time
from collections import Counter

import pytest
import stories
from disks import small_disk

from dask_memdash.runs import segment as segments
from dask_memdash.runs import writer as writers
from dask_memdash.runs.directory import Manifest, live_segments, read_manifest
from dask_memdash.runs.left_out import LeftOut
from dask_memdash.runs.reading import RunReader
from dask_memdash.runs.recorder import Recorder
from dask_memdash.runs.rows import row
from dask_memdash.runs.waiting import Waiting
from dask_memdash.runs.writer import Writer
from dask_memdash.store.live import LiveStore
from dask_memdash.text import format_instant


def until(condition, seconds=20.0):
    """Wait for a condition, bounded."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come"
        time.sleep(0.01)


def breakdown(time, process, size):
    return ("breakdown", (time, process, size, size, 0, 0, 0, 0, 0, 0, 0))


def rows_of(path, query):
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def writer(tmp_path, clock):
    made = []

    def make(home=tmp_path / "run", prepare=None, **more):
        def usual():
            home.mkdir(parents=True, exist_ok=True)
            return home, None

        settings = {"limit": 10**9, "each": 0.02, "clock": clock, **more}
        writer = Writer(
            Manifest("20260101-000000-abcdef", 1_000_000.0),
            prepare or usual,
            **settings,
        )
        made.append(writer)
        writer.start()
        return writer

    yield make
    for one in made:
        one.close(5.0)


def test_what_is_put_is_there_while_it_is_written_and_after(writer, tmp_path):
    recording = writer()
    recording.put([row("workers", id=1, address="tcp://a", name="a", added=1.0)])
    recording.put([breakdown(1_000_000.0, 1, 5)])
    live = tmp_path / "run" / "live-s1.sqlite"
    until(lambda: written(live) == 1)
    assert rows_of(live, "SELECT address FROM workers") == [("tcp://a",)]
    assert recording.close(5.0)
    manifest = read_manifest(tmp_path / "run")
    assert manifest.ended == 1_000_000.0
    assert manifest.live is None
    assert sorted(one.kind for one in manifest.segments) == ["main", "s1", "s10", "s60"]
    assert live_segments(manifest, tmp_path / "run") == {}
    for path in (tmp_path / "run").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.suffix in (".json", ".sqlite")


def test_every_file_is_its_owners_alone_while_it_is_written(writer, tmp_path):
    recording = writer()
    recording.put([breakdown(1_000_000.0, 1, 5)])
    until((tmp_path / "run" / "run.json").exists)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "run").iterdir()}
    assert "live-main.sqlite-wal" in modes
    assert set(modes.values()) == {0o600}


def test_segments_are_closed_by_age_and_detail_goes(writer, clock, tmp_path):
    recording = writer(close_after=600.0)
    live = tmp_path / "run" / "live-s1.sqlite"
    until(lambda: len(recording._live) == 4)
    for n in range(4):
        recording.put([breakdown(clock.now, 1, 5)])
        until(lambda: written(live) == 1)
        clock.now += 601.0
        until(lambda n=n: kinds(tmp_path / "run").get("s60") == n + 1)
    # Of the history by the second only what is younger than ten minutes stays.
    assert kinds(tmp_path / "run") == {"s1": 1, "s10": 4, "s60": 4}


def written(path):
    try:
        return rows_of(path, "SELECT count(*) FROM breakdown")[0][0]
    except sqlite3.Error:
        return None


def kinds(path):
    """Count the closed segments by kind; each that is listed is there."""
    before = manifest_of(path)
    while True:
        there = {p.name for p in path.glob("0*.sqlite")}
        if (listed := manifest_of(path)) == before:  # nothing came or went meanwhile
            break
        before = listed
    segments = listed.segments if listed else ()
    assert there >= {one.name for one in segments}
    return Counter(one.kind for one in segments)


def manifest_of(path):
    return read_manifest(path) if (path / "run.json").exists() else None


def test_a_large_segment_is_closed_and_the_limit_takes_detail_first(writer, tmp_path):
    recording = writer(limit=1_000_000)
    for n in range(60):
        rows = [breakdown(1_000_000.0 + n, p, 10**9 + p) for p in range(500)]
        recording.put(rows)
        until(lambda: not recording._waiting.weight)
    assert recording.close(5.0)
    manifest = read_manifest(tmp_path / "run")
    total = sum(p.stat().st_size for p in (tmp_path / "run").iterdir())
    assert total < 1_100_000
    assert any("memory by the second" in text for text in manifest.left_out)
    assert "memdash.record.limit" in manifest.left_out[0]
    assert {"main", "s60"} <= {one.kind for one in manifest.segments}


def test_a_reader_that_stays_does_not_keep_a_segment_open(writer, clock, tmp_path):
    recording = writer()
    recording.put([breakdown(clock.now, 1, 5)])
    live = tmp_path / "run" / "live-s1.sqlite"
    until(lambda: written(live) == 1)
    reader = sqlite3.connect(f"file:{live}?mode=ro", uri=True)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM breakdown").fetchall() == [(1,)]
    clock.now += 601.0
    until(lambda: "s1" in kinds(tmp_path / "run"))
    assert reader.execute("SELECT count(*) FROM breakdown").fetchall() == [(1,)]
    recording.put([breakdown(clock.now, 1, 6)])
    until(lambda: written(live) == 1)
    assert rows_of(live, "SELECT process_bytes FROM breakdown") == [(6,)]
    reader.close()
    assert recording.close(5.0)
    for path in (tmp_path / "run").glob("*.sqlite"):
        assert rows_of(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_reader_whose_transaction_stays_makes_the_log_grow_and_that_is_said(
    writer, clock, tmp_path, monkeypatch
):
    monkeypatch.setattr(writers, "LARGE_LOG", 2**20)
    recording = writer()
    recording.put([breakdown(clock.now, 1, 5)])
    live = tmp_path / "run" / "live-s1.sqlite"
    until(lambda: written(live) == 1)
    reader = sqlite3.connect(f"file:{live}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM breakdown").fetchall() == [(1,)]
    for _ in range(300):
        clock.now += 1.0
        recording.put([breakdown(clock.now, process, 5) for process in range(1000)])
        until(lambda: not recording._waiting)
        if recording.texts():
            break
    assert "a reader has it open" in recording.texts()[0]
    assert live.with_name(f"{live.name}-wal").stat().st_size > 2**19
    # It still sees what there was, and others see all: nothing waits for it.
    assert reader.execute("SELECT count(*) FROM breakdown").fetchall() == [(1,)]
    assert written(live) > 1000
    assert recording.lost == 0
    # Once it is closed, the log goes back into a file; the reader keeps what it had.
    clock.now += 601.0
    until(lambda: "s1" in kinds(tmp_path / "run"))
    until(lambda: not recording.texts())
    assert reader.execute("SELECT count(*) FROM breakdown").fetchall() == [(1,)]
    reader.close()


def test_detail_around_a_failure_is_kept_with_it(writer, clock, tmp_path):
    recording = writer()
    recording.put([breakdown(clock.now - 100, 1, 1), breakdown(clock.now - 20, 1, 2)])
    until(lambda: not recording._waiting)
    recording.keep_detail(clock.now)
    recording.put([breakdown(clock.now + 20, 1, 3), breakdown(clock.now + 40, 1, 4)])
    assert recording.close(5.0)
    [main] = [s for s in read_manifest(tmp_path / "run").segments if s.kind == "main"]
    found = rows_of(
        tmp_path / "run" / main.name, "SELECT process_bytes FROM breakdown ORDER BY 1"
    )
    assert found == [(2,), (3,)]


def test_a_directory_that_vanishes_is_made_again_and_said(writer, tmp_path):
    import shutil

    recording = writer()
    recording.put([breakdown(1_000_000.0, 1, 5)])
    home = tmp_path / "run"
    until((home / "run.json").exists)
    shutil.rmtree(home)
    recording.put([breakdown(1_000_001.0, 1, 6)])
    until((home / "live-s1.sqlite").exists)
    assert recording.close(5.0)
    manifest = read_manifest(home)
    assert any("vanished" in text for text in manifest.left_out)
    for one in manifest.segments:
        assert (home / one.name).exists()


def test_a_directory_that_cannot_be_made_is_said_and_tried_again(writer, tmp_path):
    (tmp_path / "record").write_text("no directory")
    home = tmp_path / "record" / "run"

    recording = writer(home, queue=1000)
    recording.put([breakdown(1_000_000.0, 1, 5)])
    until(recording.texts)
    assert "cannot be written" in recording.texts()[0]
    recording.put([breakdown(1_000_000.0 + n, 1, 5) for n in range(3000)])
    assert recording.lost >= 2000
    (tmp_path / "record").unlink()
    until((home / "run.json").exists)
    until(lambda: not any("cannot be written" in t for t in recording.texts()))
    assert any("lost" in text for text in recording.texts())
    assert recording.close(5.0)
    manifest = read_manifest(home)
    assert manifest.lost_rows == recording.lost
    assert any("nothing could be written" in text for text in manifest.left_out)


def test_a_full_disk_holds_nobody_up_and_is_said(writer, tmp_path):
    with small_disk(tmp_path / "disk", "4m") as disk:
        home = disk.folder / "run"
        recording = writer(home, queue=1000)
        until((home / "run.json").exists)
        disk.fill()
        for n in range(30):
            recording.put([breakdown(1_000_000.0 + n, p, 5) for p in range(100)])
        until(lambda: any("disk is full" in text for text in recording.texts()))
        assert recording.lost > 0
        disk.free()
        until(lambda: not any("disk is full" in text for text in recording.texts()))
        recording.put([breakdown(1_000_100.0, 1, 7)])
        assert recording.close(5.0)
        manifest = read_manifest(home)
        assert manifest.lost_rows == recording.lost
        assert any("nothing could be written" in text for text in manifest.left_out)
        reader = RunReader(home)
        assert reader.problems == {}
        (segment,) = reader.files("s1")
        assert reader.ask(
            segment, "SELECT process_bytes FROM breakdown ORDER BY time DESC LIMIT 1"
        ) == [(7,)]
        reader.close()


def test_a_disk_that_hangs_does_not_hold_closing_up_and_is_said(
    writer, tmp_path, monkeypatch
):
    monkeypatch.setattr(writers, "SILENT", 0.05)
    recording = writer(queue=1000)
    until((tmp_path / "run" / "run.json").exists)
    hang = threading.Event()
    monkeypatch.setattr(segments.LiveSegment, "write", lambda *a: hang.wait(30))
    recording.put([breakdown(1_000_000.0, 1, 5)])
    until(recording.texts)
    then = format_instant(1_000_000.0)
    assert recording.texts() == (f"the record's disk has not answered since {then}",)
    recording.put([breakdown(1_000_000.0, 1, 5)] * 1500)
    assert recording.lost == 501
    assert recording.close(0.1) is False
    hang.set()
    monkeypatch.undo()
    until(lambda: not recording._thread.is_alive())
    manifest = read_manifest(tmp_path / "run")
    assert manifest.lost_rows == 501
    assert manifest.left_out == [
        f"from {then} to {then} 501 rows got lost: the disk was too slow or full"
    ]


def test_answers_that_wait_count_for_what_memory_they_take():
    waiting = Waiting(20)
    brief = row("processes", id=1, host="a", pid=2)
    answer = row("cluster_states", time=1.0, answer={"n_workers": 1})
    waiting.put([brief, answer, brief, answer, brief, brief, brief])
    assert (len(waiting), waiting.weight, waiting.lost) == (6, 20, 1)
    rows, _ = waiting.take()
    assert rows == [brief, answer, brief, answer, brief, brief]
    # They are the writer's and not written yet.
    waiting.put([brief])
    assert (waiting.weight, waiting.lost) == (20, 2)
    waiting.hold(11)
    waiting.put([brief, answer, answer])
    assert (len(waiting), waiting.weight, waiting.lost) == (2, 20, 3)


def test_rows_that_got_lost_at_one_time_are_one_sentence():
    left_out = LeftOut(0.0)
    for now, lost in ((60, 0), (120, 5), (180, 9), (240, 9), (300, 9), (360, 10)):
        left_out.look(lost, float(now))
    one, three, five, six = map(format_instant, (60.0, 180.0, 300.0, 360.0))
    assert left_out.texts() == [
        f"from {one} to {three} 9 rows got lost: the disk was too slow or full",
        f"from {five} to {six} 1 row got lost: the disk was too slow or full",
    ]


@pytest.mark.parametrize("step", [-5000.0, 5000.0])
def test_a_clock_that_steps_loses_nothing(writer, clock, tmp_path, step):
    recording = writer()
    for n in range(3):
        recording.put([breakdown(clock.now + n, 1, n)])
        until(lambda: not recording._waiting)
        clock.now += step
        until(lambda: recording._live)
    assert recording.close(5.0)
    assert recording.lost == 0
    found = []
    for one in read_manifest(tmp_path / "run").segments:
        if one.kind == "s1":
            path = tmp_path / "run" / one.name
            found += rows_of(path, "SELECT process_bytes FROM breakdown")
    assert (2,) in found


def test_a_list_of_runs_tells_of_no_death_that_the_record_does_not_hold(tmp_path):
    manifest = Manifest("20260101-000000-abcdef", 1.0, summary={"deaths": 0})
    recording = Writer(manifest, lambda: (tmp_path, None), limit=10**9)
    recording.home = tmp_path
    recording._take(2.0)
    manifest.summary["deaths"] = 1  # its rows come with the next look
    recording._write_manifest(2.0)
    assert read_manifest(tmp_path).summary == {"deaths": 0}
    recording._take(3.0)
    recording._write_manifest(3.0)
    assert read_manifest(tmp_path).summary == {"deaths": 1}


class Taking:
    """Takes rows and does nothing."""

    def __init__(self):
        self.manifest = Manifest("20260101-000000-abcdef", 1.0)
        self.rows = []

    def put(self, rows):
        self.rows = rows

    def keep_detail(self, moment):
        pass


def test_a_failure_is_written_again_once_more_is_known_of_an_incident_of_its():
    models = []
    stories.listeners.append(lambda model, event: models.append(model))
    try:
        live = stories.after_incident.__wrapped__()
    finally:
        stories.listeners.pop()
    model, target = models[-1], Taking()
    recorder = Recorder(LiveStore(model), model, target)

    def written():
        recorder._due = 0.0
        recorder.step(stories.NOW)
        rows = [values for table, values in target.rows if table == "failures"]
        return {values[0]: values[5] for values in rows}

    assert written() == {
        one["id"]: one["diagnosis"]["cause"] for one in live.failures()
    }
    assert written() == {}
    failure = next(iter(model.failures))
    model.incidents.get(next(iter(failure.members))).back = stories.NOW
    assert list(written()) == [failure.id]


def test_hostile_texts_are_written_as_they_can_be(writer, tmp_path):
    recording = writer()
    names = ["\ud800", "'; DROP TABLE workers; --", "\x00", "é" * 10_000, 5, None]
    recording.put(
        [
            row("notices", place=name, text="x", since=1.0 * n)
            for n, name in enumerate(names)
        ]
    )
    recording.put([row("prefix_states", time=1.0, prefix="p", count=2**70)])
    assert recording.close(5.0)
    [main] = [s for s in read_manifest(tmp_path / "run").segments if s.kind == "main"]
    path = tmp_path / "run" / main.name
    found = rows_of(path, "SELECT place FROM notices ORDER BY since")
    assert [len(place[0] or "") for place in found] == [1, 25, 1, 4000, 1, 0]
    assert rows_of(path, "SELECT count FROM prefix_states") == [(2**63 - 1,)]


def test_two_schedulers_in_one_directory_do_not_meet(tmp_path):
    from dask_memdash.runs.directory import new_run_id, runs_in
    from dask_memdash.runs.place import prepare

    writers = []
    for _ in range(2):
        run = new_run_id()
        writer = Writer(
            Manifest(run, time.time()),
            lambda run=run: prepare(str(tmp_path / "runs"), run, str(tmp_path)),
            limit=10**9,
            each=0.02,
        )
        writer.start()
        writers.append(writer)
    for number, writer in enumerate(writers):
        writer.put([breakdown(time.time(), 1, number)])
        assert writer.close(5.0)
    found = list(runs_in(tmp_path / "runs"))
    assert len({entry.manifest.id for entry in found}) == 2
    assert all(entry.error is None for entry in found)


def test_the_thread_costs_nothing_while_nothing_comes(writer, tmp_path):
    recording = writer(each=0.005)
    until((tmp_path / "run" / "run.json").exists)
    size = (tmp_path / "run" / "live-main.sqlite-wal").stat().st_size
    before = recording.cpu
    until(lambda: recording.cpu > before)
    assert (tmp_path / "run" / "live-main.sqlite-wal").stat().st_size == size
