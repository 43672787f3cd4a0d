"""Flight recorders between processes: made, found, outliving, swept up."""

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from dask_memdash.errors import RecorderError
from dask_memdash.flight import format as layout
from dask_memdash.flight import open_file
from dask_memdash.flight import writer as module
from dask_memdash.flight.files import (
    Owner,
    default_directory,
    own_path,
    paths_left_by,
    recorder_path,
    sweep,
)
from dask_memdash.flight.open_file import OpenFile
from dask_memdash.flight.reader import RecorderReader, RecorderSearch
from dask_memdash.flight.writer import FlightRecorder

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads another process through /proc"
)


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path)


@pytest.fixture
def recorder(directory):
    made = FlightRecorder(4, "tcp://a:1", directory)
    yield made
    made.close()


@contextmanager
def other_process(body, *args):
    """Run Python in a process of its own, which waits for its end after a line."""
    source = textwrap.dedent(
        """
        import os, sys, time
        from dask_memdash.flight.reader import RecorderReader
        from dask_memdash.flight.writer import FlightRecorder
        def ready(*words):
            print(*words, flush=True)
            sys.stdin.read()
        """
    ) + textwrap.dedent(body)
    process = subprocess.Popen(
        [sys.executable, "-c", source, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


WRITER = """
    recorder = FlightRecorder(4, "tcp://child:1", sys.argv[1])
    slot = recorder.begin("sum-1", 7, 1.5e9, 10_000)
    recorder.write_counters(slot, 100, 200, 3)
    recorder.write_reading({"time": 1.5e9, "rss": 5_000})
    ready(recorder.path or "memory")
"""


# -- the file ------------------------------------------------------------------


def test_the_file_belongs_to_the_user_alone(recorder, directory):
    folder = Path(directory) / f"dask-memdash-{os.getuid()}"
    assert recorder.path.parent == folder
    assert stat.S_IMODE(recorder.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert recorder.path.stat().st_size == 4096 + 4 * 768
    assert recorder.degraded == ""


def test_its_blocks_are_reserved(recorder):
    # a page of a sparse file on a full disk is a SIGBUS
    assert recorder.path.stat().st_blocks * 512 >= 4096 + 4 * 768


def test_closing_removes_file_and_directory(recorder):
    path = recorder.path
    recorder.close()
    assert not path.parent.exists()
    recorder.close()


def test_closing_leaves_the_files_of_others(recorder):
    other = recorder.path.with_name("1-1.flight")
    other.touch()
    recorder.close()
    assert [path.name for path in other.parent.iterdir()] == ["1-1.flight"]


def test_what_a_thread_still_writes_after_closing_does_no_harm(recorder):
    slot = recorder.begin("sum-1", 7, 1.5e9, 10)
    recorder.close()
    recorder.write_counters(slot, 1, 2, 3)
    recorder.release(slot)


def test_a_leftover_of_the_same_name_is_replaced(directory):
    path = own_path(directory)
    path.parent.mkdir()
    path.write_text("leftover")
    recorder = FlightRecorder(4, "tcp://a:1", directory)
    assert layout.read_header(memoryview(path.read_bytes())).pid == os.getpid()
    recorder.close()


def test_a_private_recorder_makes_no_file(directory):
    recorder = FlightRecorder(4, "tcp://a:1", directory, private=True)
    assert (recorder.path, recorder.degraded) == (None, "")
    assert list(Path(directory).iterdir()) == []
    assert RecorderReader.find(os.getpid(), directory) is None
    assert RecorderReader(recorder.buffer).header().address == "tcp://a:1"
    recorder.close()


def test_the_usual_directory_is_this_users():
    name = f"dask-memdash-{os.getuid()}"
    assert default_directory() in (
        Path("/dev/shm") / name,
        Path(tempfile.gettempdir()) / name,
    )
    assert default_directory("/x") == Path("/x") / name


# -- slots ---------------------------------------------------------------------


def test_slots_run_out_and_come_back(recorder):
    slots = [recorder.begin(f"sum-{n}", n, 1.5e9, 10) for n in range(4)]
    assert sorted(slots) == [0, 1, 2, 3]
    assert recorder.begin("sum-5", 5, 1.5e9, 10) is None
    recorder.release(slots[2])
    assert recorder.begin("sum-5", 5, 1.5e9, 10) == slots[2]


def test_a_slot_is_taken_again_as_late_as_possible(recorder):
    # a nanny may be about to write what the former task held
    first = recorder.begin("sum-1", 1, 1.5e9, 10)
    recorder.release(first)
    assert [recorder.begin(f"sum-{n}", n, 1.5e9, 10) for n in range(4)][-1] == first


def test_pending_tasks_keep_their_slot(recorder):
    slot = recorder.begin("sum-1", 7, 1.5e9, 10)
    recorder.pend(slot)
    (task,) = RecorderReader(recorder.buffer).tasks()
    assert (task.key, task.state) == ("sum-1", layout.PENDING)


def test_an_empty_key_is_recorded_all_the_same(recorder):
    recorder.begin("", 7, 1.5e9, 10)
    (task,) = RecorderReader(recorder.buffer).tasks()
    assert task.key == "(empty key)"


# -- between processes ---------------------------------------------------------


def test_a_parent_finds_its_childs_recorder(directory):
    with other_process(WRITER, directory) as (child, path):
        reader = RecorderReader.find(child.pid, directory)
        assert str(reader.path) == path
        assert reader.header().address == "tcp://child:1"
        assert reader.header().pid == child.pid
        (task,) = reader.tasks()
        assert (task.key, task.now, task.peak, task.error) == ("sum-1", 100, 200, 3)
        reader.write_counters(task.index, 150, 250, 4)
        assert reader.tasks()[0].now == 150
        reader.remove()
        reader.close()
    assert not Path(path).parent.exists()


def test_a_recorder_outlives_a_writer_that_was_killed(directory):
    with other_process(WRITER, directory) as (child, path):
        reader = RecorderReader.find(child.pid, directory)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        (task,) = reader.tasks()
        assert (task.key, task.now, task.peak) == ("sum-1", 100, 200)
        assert reader.reading()["rss"] == 5_000
        assert RecorderReader.find(child.pid, directory) is None
        reader.remove()
        reader.close()
    assert not Path(path).exists()


def test_a_process_without_a_recorder_has_none(directory):
    with other_process("ready('up')") as (child, _):
        assert RecorderReader.find(child.pid, directory) is None


def test_a_process_that_is_gone_has_none(directory):
    with other_process("ready('up')") as (child, _):
        pid = child.pid
    assert recorder_path(pid, os.getpid(), directory) is None
    assert RecorderReader.find(pid, directory) is None


def test_a_file_that_is_no_recorder_is_an_error(directory):
    with other_process("ready('up')") as (child, _):
        path = recorder_path(child.pid, os.getpid(), directory)
        path.parent.mkdir()
        path.touch(mode=0o600)
        for content in (b"", b"short", bytes(5000)):
            path.write_bytes(content)
            with pytest.raises(RecorderError):
                RecorderReader.find(child.pid, directory)


# -- where no file can be made -------------------------------------------------


def check_found_through_proc(body, *args):
    with other_process(body, *args) as (child, line):
        assert line == "memory"
        reader = RecorderReader.find(child.pid, args[0])
        assert reader.path is None
        assert [task.key for task in reader.tasks()] == ["sum-1"]
        child.kill()
        child.wait()
        assert reader.tasks()[0].peak == 200
        reader.remove()
        reader.close()


def test_a_directory_that_cannot_be_made_leaves_a_recorder_in_memory(tmp_path):
    file = tmp_path / "file"
    file.touch()
    check_found_through_proc(WRITER, str(file))


def test_a_directory_that_does_not_take_files_leaves_a_recorder_in_memory():
    check_found_through_proc(WRITER, "/proc/self")


def test_a_full_disk_leaves_a_recorder_in_memory(directory):
    full = """
        import errno
        reserve = os.posix_fallocate
        def no_space(fd, offset, size):
            os.posix_fallocate = reserve
            raise OSError(errno.ENOSPC, "No space left on device")
        os.posix_fallocate = no_space
    """
    check_found_through_proc(textwrap.dedent(full) + textwrap.dedent(WRITER), directory)
    assert list(Path(directory).rglob("*.flight")) == []


def test_a_directory_that_belongs_to_somebody_else_is_not_used(tmp_path, monkeypatch):
    stranger = os.getuid() + 4242
    monkeypatch.setattr(module.os, "getuid", lambda: stranger)
    (tmp_path / f"dask-memdash-{stranger}").mkdir()
    recorder = FlightRecorder(4, "tcp://a:1", str(tmp_path))
    assert recorder.path is None
    assert "belongs to somebody else" in recorder.degraded
    recorder.close()
    assert list(tmp_path.rglob("*.flight")) == []


def test_a_link_that_somebody_planted_is_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"dask-memdash-{os.getuid()}").symlink_to(elsewhere)
    recorder = FlightRecorder(4, "tcp://a:1", str(tmp_path))
    assert recorder.path is None
    assert list(elsewhere.iterdir()) == []
    recorder.close()


def test_it_says_why_it_is_in_memory_only(tmp_path):
    file = tmp_path / "file"
    file.touch()
    recorder = FlightRecorder(4, "tcp://a:1", str(file))
    assert recorder.degraded.startswith(
        "the flight recorder is in memory only, as no file could be made ("
    )
    assert "Not a directory" in recorder.degraded
    recorder.close()


def test_without_file_and_memory_there_is_an_error(tmp_path, monkeypatch):
    def no_space(fd, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "posix_fallocate", no_space)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RecorderError, match="no flight recorder can be made"):
        FlightRecorder(4, "tcp://a:1", str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == before


def test_recorders_leave_no_open_file_behind(directory):
    before = len(os.listdir("/proc/self/fd"))
    with other_process(WRITER, directory) as (child, _):
        for _ in range(3):
            RecorderReader.find(child.pid, directory).close()
    recorder = FlightRecorder(4, "tcp://a:1", directory)
    recorder.close()
    # its mapping stays as long as it is referred to
    del recorder
    assert len(os.listdir("/proc/self/fd")) == before


# -- at a death ----------------------------------------------------------------


def kill(child):
    child.kill()
    child.wait()


def test_a_search_finds_after_the_death_what_no_look_found_before(directory):
    body = "sys.stdin.readline()\n" + textwrap.dedent(WRITER)
    source = "\nprint('up', flush=True)\n" + body
    with other_process(source, directory) as (child, line):
        assert line == "up"
        search = RecorderSearch(child.pid, directory)
        assert search.look() is None
        child.stdin.write("go\n")
        child.stdin.flush()
        path = child.stdout.readline().strip()
        kill(child)
        reader = search.look_again()
        assert str(reader.path) == path
        assert [task.key for task in reader.tasks()] == ["sum-1"]
        assert (reader.header().address, search.trouble) == ("tcp://child:1", "")
        reader.remove()
        reader.close()


def test_a_recorder_is_found_even_if_its_worker_was_never_seen_alive(directory):
    with other_process(WRITER, directory) as (child, path):
        kill(child)
        search = RecorderSearch(child.pid, directory)
        assert search.look() is None
        reader = search.look_again()
        assert str(reader.path) == path
        reader.close()


def test_of_several_with_one_pid_the_newest_of_this_nanny_is_the_dead_workers(
    directory,
):
    folder = default_directory(directory)
    folder.mkdir(mode=0o700)
    space = Path("/proc/self/ns/pid").stat().st_ino
    names = (
        f"17-500-{space}-{os.getpid()}-9.flight",
        f"17-700-{space}-{os.getpid()}-9.flight",
        f"17-900-{space}-4242-9.flight",  # another nanny's
        f"17-950-{space + 1}-{os.getpid()}-9.flight",  # in another pid namespace
        f"18-990-{space}-{os.getpid()}-9.flight",
    )
    for name in names:
        (folder / name).touch()
    found = paths_left_by(17, os.getpid(), directory)
    assert [path.name for path in found] == [names[1], names[0]]


def test_a_recorder_in_memory_is_not_found_after_the_death(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with other_process(WRITER, str(file)) as (child, line):
        assert line == "memory"
        search = RecorderSearch(child.pid, str(file))
        kill(child)
        assert search.look_again() is None


def test_a_file_of_another_worker_under_its_name_is_refused(recorder, directory):
    with other_process("ready('up')") as (child, _):
        path = recorder_path(child.pid, os.getpid(), directory)
        path.touch(mode=0o600)
        path.write_bytes(recorder.path.read_bytes())
        search = RecorderSearch(child.pid, directory)
        assert search.look() is None
        assert search.trouble == f"the recorder is that of process {os.getpid()}"


# -- files that others may have made or cut --------------------------------------


@pytest.fixture
def planted(recorder):
    """Return the path of a recorder that somebody has tampered with."""
    return recorder.path


@pytest.mark.parametrize(
    ("tamper", "text"),
    [
        (lambda path: path.chmod(0o640), "open to others"),
        (lambda path: path.parent.chmod(0o770), "can be written by others"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a plain file"),
        (lambda path: path.unlink(), "No such file"),
        (
            lambda path: (path.rename(f"{path}.x"), path.symlink_to(f"{path}.x")),
            "symbolic links",
        ),
    ],
)
def test_what_others_could_have_written_is_not_read(planted, tamper, text):
    tamper(planted)
    with pytest.raises(RecorderError, match=text):
        RecorderReader.open(planted)


def test_an_own_directory_that_others_may_write_into_is_closed_to_them(directory):
    default_directory(directory).mkdir()
    default_directory(directory).chmod(0o777)
    recorder = FlightRecorder(4, "tcp://a:1", directory)
    assert recorder.path is not None
    assert stat.S_IMODE(default_directory(directory).stat().st_mode) == 0o700
    assert "(mode 777); it is this user's alone now (mode 700)" in recorder.degraded
    recorder.close()


@pytest.mark.parametrize("plant", [os.mkdir, os.mkfifo])
def test_what_stands_at_a_recorders_name_does_not_lose_the_recorder(directory, plant):
    """A directory there cannot be removed: then it is in memory, and found there."""
    source = f"""
        from pathlib import Path
        from dask_memdash.flight.files import own_path
        path = own_path(sys.argv[1])
        path.parent.mkdir(mode=0o700)
        os.{plant.__name__}(path)
        recorder = FlightRecorder(4, "tcp://a:1", sys.argv[1])
        recorder.begin("sum-1", 7, 1.0, 0)
        ready(recorder.path or "-")
    """
    with other_process(source, directory) as (child, path):
        assert (path == "-") is (plant is os.mkdir)
        reader = RecorderSearch(child.pid, directory).find()
        assert [task.key for task in reader.tasks()] == ["sum-1"]
        reader.close()


def test_a_file_that_is_cut_short_while_it_is_read_harms_nobody(recorder):
    recorder.begin("sum-1", 7, 1.5e9, 10)
    recorder.write_reading({"time": 1.5e9, "rss": 5})
    reader = RecorderReader.open(recorder.path)
    whole = recorder.path.read_bytes()
    for size in (4096 + 100, 4095, 600, 0):
        copy = recorder.path.with_name("copy")
        copy.touch(mode=0o600)
        copy.write_bytes(whole)
        cut = RecorderReader.open(copy)
        os.truncate(copy, size)
        assert cut.tasks() == []
        assert cut.reading() == (None if size < 4096 else reader.reading())
        if size < 4096:
            with pytest.raises(RecorderError, match="cut short"):
                cut.header()
        cut.write_error(0, 3)
        cut.close()
        copy.unlink()
    assert [task.key for task in reader.tasks()] == ["sum-1"]
    reader.close()


def test_nothing_is_read_from_or_written_to_a_reader_that_was_closed(recorder):
    recorder.begin("sum-1", 7, 1.5e9, 10)
    reader = RecorderReader.open(recorder.path)
    reader.close()
    reader.close()
    reader.write_counters(0, 1, 2, 3)
    assert (reader.tasks(), reader.reading()) == ([], None)
    assert recorder.counters(0) == (0, 0, 0)


@pytest.mark.parametrize("lacks", [(), ("_pread",), ("_pwrite",)])
def test_an_open_file_is_read_and_written_with_libc_and_without(
    recorder, monkeypatch, lacks
):
    for name in lacks:
        monkeypatch.setattr(open_file, name, None)
    slot = recorder.begin("sum-1", 7, 1.5e9, 10)
    reader = RecorderReader.open(recorder.path)
    reader.write_counters(slot, 10, 20, 3)
    reader.write_sampler(0.5, 0.05)
    assert recorder.counters(slot) == (10, 20, 3)
    assert recorder.sampler() == (0.5, 0.05)
    assert [task.peak for task in reader.tasks()] == [20]
    assert recorder.path.stat().st_size == 4096 + 4 * 768
    reader.close()


def test_a_task_that_changes_between_two_copies_is_left_out(recorder, monkeypatch):
    recorder.begin("sum-1", 7, 1.5e9, 10)
    slot = recorder.begin("sum-2", 8, 1.5e9, 10)
    reader = RecorderReader.open(recorder.path)
    copies = []
    copy = OpenFile.copy

    def interrupted(*arguments):
        copies.append(None)
        if len(copies) == 2:
            recorder.release(slot)
            recorder.write_counters(0, 300, 400, 5)  # its counters may move
        return copy(*arguments)

    monkeypatch.setattr(OpenFile, "copy", interrupted)
    assert [(task.key, task.now) for task in reader.tasks()] == [("sum-1", 300)]
    reader.close()


# -- sweeping ------------------------------------------------------------------


def files_in(directory):
    return sorted(path.name for path in default_directory(directory).iterdir())


def test_a_sweep_removes_what_dead_workers_of_dead_nannies_left(recorder, directory):
    space = Path("/proc/self/ns/pid").stat().st_ino
    me = Owner.parse(recorder.path.name)
    gone = (f"1-1-{space}-2-2.flight", f"{os.getpid()}-1-{space}-2-2.flight")
    kept = (
        f"1-1-{space}-{os.getpid()}-{me.start}.flight",  # its nanny lives
        f"1-1-{space + 1}-2-2.flight",  # who lives there cannot be seen from here
        "notes.flight",
        "²-1.flight",
        "1-1-1.flight",
        "1-1-1-1-1.other",
    )
    for name in (*gone, *kept):
        recorder.path.with_name(name).touch()
    assert sweep(directory) == 2
    assert files_in(directory) == sorted([recorder.path.name, *kept])


def test_a_sweep_removes_what_earlier_versions_left(recorder, directory):
    start = Owner.parse(recorder.path.name).start
    for name in ("1-1.flight", f"{os.getpid()}-1.flight"):
        recorder.path.with_name(name).touch()
    recorder.path.with_name(f"{os.getpid()}-{start}.flight").touch()
    assert sweep(directory) == 2
    assert files_in(directory) == sorted(
        [recorder.path.name, f"{os.getpid()}-{start}.flight"]
    )


def test_a_nanny_may_read_what_its_worker_left_before_anybody_sweeps_it(directory):
    with other_process(WRITER, directory) as (dead, dead_path):
        kill(dead)
        with other_process(WRITER, directory) as (alive, path):
            assert sweep(directory) == 0
            assert sweep(directory, watched={dead.pid, alive.pid}) == 0
            assert Path(dead_path).exists()
            assert sweep(directory, watched=set()) == 1
            assert Path(path).exists()
            assert not Path(dead_path).exists()


@pytest.mark.slow
def test_a_sweep_of_very_many_files_takes_its_time_and_no_more(recorder, directory):
    space = Path("/proc/self/ns/pid").stat().st_ino
    for number in range(10_000):
        recorder.path.with_name(f"1-{10**12 + number}-{space}-2-2.flight").touch()
    swept, sweeps = 0, 0
    while swept < 10_000 and sweeps < 1_000:
        begun = time.monotonic()
        swept, sweeps = swept + sweep(directory), sweeps + 1
        assert time.monotonic() - begun < 0.5
    assert files_in(directory) == [recorder.path.name]


def test_a_sweep_of_nothing_is_nothing(tmp_path):
    assert sweep(str(tmp_path / "missing")) == 0
