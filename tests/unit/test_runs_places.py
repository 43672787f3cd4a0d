"""Where runs are written and sent: mounts, spools, what a kill leaves."""

import json
import os
import time

import fsspec
import pytest

from dask_memdash.runs import upload
from dask_memdash.runs.detail import Histories, Thinner
from dask_memdash.runs.directory import (
    Manifest,
    Segment,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from dask_memdash.runs.local_disk import file_system, is_network
from dask_memdash.runs.place import prepare
from dask_memdash.runs.retention import sentences, too_much, too_old
from dask_memdash.runs.segment import LiveSegment
from dask_memdash.runs.writer import Writer

MOUNTS = r"""22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /home rw - nfs4 server:/home rw
31 22 0:41 / /scratch rw - lustre x rw
32 30 8:2 / /home/me/local\040disk rw - xfs /dev/sdb rw
33 22 0:42 / /mnt rw - ext4 /dev/sdc rw
34 22 0:43 / /mnt rw - fuse.sshfs host: rw
35 22 0:44 / /ntfs rw - fuseblk /dev/sdd rw
a line that is none
"""


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/var/runs", "ext4", False),
        ("/home/me/runs", "nfs4", True),
        ("/homeless", "ext4", False),
        ("/home/me/local disk/runs", "xfs", False),
        ("/scratch", "lustre", True),
        ("/mnt/x", "fuse.sshfs", True),
        ("/ntfs", "fuseblk", False),
    ],
)
def test_a_network_file_system_is_known_by_the_mounts(tmp_path, path, kind, network):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert file_system(path, str(mounts)) == kind
    assert is_network(path, str(mounts)) is network


def test_without_a_table_of_mounts_nothing_is_claimed(tmp_path):
    assert file_system("/x", str(tmp_path / "none")) is None
    assert is_network("/x", str(tmp_path / "none")) is False


def test_of_each_span_the_row_with_the_most_memory_stays():
    thin = Thinner(10.0)
    given = [thin.add((t, 1, size)) for t, size in ((0, 5), (3, 9), (9, 7), (10, 1))]
    assert given == [None, None, None, (3, 1, 9)]
    assert thin.over(15.0) == []
    assert thin.over(20.0) == [(10, 1, 1)]
    assert thin.over() == []


def test_rows_around_two_failures_are_kept_once():
    histories = Histories()
    histories.add([(float(t), 1, t) for t in range(0, 100, 10)], 100.0)
    first = histories.around(95.0)
    assert [row[0] for row in first] == [40.0, 50.0, 60.0, 70.0, 80.0, 90.0]
    assert histories.around(96.0) == []
    later = histories.add([(110.0, 1, 1), (130.0, 1, 2)], 130.0)
    assert [row[0] for row in later["main"]] == [110.0]


def segment(kind, last, size=10):
    return Segment(f"0001-{kind}.sqlite", kind, last - 600.0, last, size)


def test_age_takes_seconds_after_ten_minutes_and_ten_seconds_after_three_hours():
    now = 100_000.0
    kept = [segment("s1", now - 599), segment("s10", now - 10_000)]
    kept += [segment("s60", 0.0), segment("main", 0.0)]
    gone = [segment("s1", now - 601), segment("s10", now - 10_801)]
    assert too_old(kept + gone, now) == gone


def test_the_limit_takes_the_finest_and_oldest_first():
    s1, older = segment("s1", 2000.0), segment("s1", 1000.0)
    s10, main = segment("s10", 500.0), segment("main", 100.0)
    assert too_much([main, s10, s1, older], 10, 50) == []
    assert too_much([main, s10, s1, older], 10, 40) == [older]
    assert too_much([main, s10, s1, older], 10, 20) == [older, s1, s10]
    assert "memory by the second" in sentences([older], 10**9)["s1"]


@pytest.fixture
def remote():
    system = fsspec.filesystem("memory")
    yield system
    if system.exists("/runs"):
        system.rm("/runs", recursive=True)


def record(to, run, scratch, rows):
    writer = Writer(
        Manifest(run, time.time()),
        lambda: prepare(to, run, str(scratch)),
        limit=10**9,
        each=0.02,
    )
    writer.start()
    writer.put(rows)
    return writer


BREAKDOWN = ("breakdown", (1.0, 1, 5, 5, 0, 0, 0, 0, 0, 0, 0))


def test_closed_segments_are_sent_and_the_manifest_after_them(tmp_path, remote):
    writer = record("memory://runs", "r1", tmp_path, [BREAKDOWN])
    until(lambda: remote.exists("/runs/r1/run.json"))
    assert writer.close(5.0)
    files = {path.rpartition("/")[2] for path in remote.ls("/runs/r1", detail=False)}
    manifest = parse_manifest(remote.cat_file("/runs/r1/run.json"), "there")
    assert files == {"run.json", *(one.name for one in manifest.segments)}
    assert manifest.ended is not None
    # A live segment was never sent, and nothing is left here.
    assert not any(name.startswith("live") for name in files)
    assert list((tmp_path / upload.SPOOLS).iterdir()) == []


def test_a_file_url_gets_files_of_its_owners_alone(tmp_path):
    goal = tmp_path / "there"
    writer = record(f"file://{goal}", "r1", tmp_path, [BREAKDOWN])
    until(lambda: writer.home is not None)
    assert writer.close(5.0)
    assert read_manifest(goal / "r1").ended is not None
    modes = {path.stat().st_mode & 0o777 for path in (goal / "r1").iterdir()}
    assert modes == {0o600}


def test_what_cannot_be_sent_is_tried_again_and_said(tmp_path, remote, monkeypatch):
    broken = [True]
    real = upload._put

    def put(system, content, path):
        if broken[0]:
            raise ConnectionError("no route to the store")
        real(system, content, path)

    monkeypatch.setattr(upload, "_put", put)
    monkeypatch.setattr(upload, "FIRST_PAUSE", 0.01)
    writer = record("memory://runs", "r1", tmp_path, [BREAKDOWN])
    until(writer.texts)
    assert "no route" in writer.texts()[0]
    broken[0] = False
    until(lambda: not writer.texts())
    assert remote.exists("/runs/r1/run.json")
    assert writer.close(5.0)


def test_what_a_killed_scheduler_left_is_closed_and_sent(tmp_path, remote):
    path = tmp_path / upload.SPOOLS / "r0"
    path.mkdir(parents=True)
    (path / upload.GOAL).write_text(json.dumps({"goal": "memory://runs/r0"}))
    write_manifest(path, Manifest("r0", 1.0))
    left = LiveSegment(path / "live-s1.sqlite", "s1", "r0", 1.0)
    left.write({"breakdown": [BREAKDOWN[1]]})
    left._db.close()
    # Killed while this one was begun.
    (path / "live-main.sqlite").touch()
    for uploader in upload.send_what_was_left(tmp_path):
        uploader.close(5.0)
    manifest = parse_manifest(remote.cat_file("/runs/r0/run.json"), "there")
    assert [one.name for one in manifest.segments] == ["0001-s1.sqlite"]
    assert manifest.ended is None
    assert remote.exists("/runs/r0/0001-s1.sqlite")
    assert not path.exists()


def test_the_spool_of_a_scheduler_that_lives_is_left_alone(tmp_path, remote):
    writer = record("memory://runs", "r1", tmp_path, [BREAKDOWN])
    until(lambda: remote.exists("/runs/r1/run.json"))
    assert upload.send_what_was_left(tmp_path) == []
    assert writer.close(5.0)


def test_a_segment_that_goes_by_age_goes_there_too(tmp_path, remote):
    spool = upload.Spool(tmp_path / "s", "memory://runs/r1")
    uploader = upload.Uploader(spool)
    (spool.path / "0001-s1.sqlite").write_bytes(b"x")
    uploader.changed()
    until(lambda: remote.exists("/runs/r1/0001-s1.sqlite"))
    uploader.removed(["0001-s1.sqlite"])
    until(lambda: not remote.exists("/runs/r1/0001-s1.sqlite"))
    uploader.close(5.0)
    assert os.listdir(tmp_path) == []
