"""Child processes: whose they are, what they use, and that the search is cheap."""

import os
import subprocess
import sys
import threading
import time

import pytest

from dask_memdash.flight.format import RUNNING, Slot
from dask_memdash.measure import children as module
from dask_memdash.measure.children import ChildWatch
from dask_memdash.system import child_processes as system

MB = 1_000_000
T = 1_760_000_000.0
BOOT = T - 1000


def slot(key, thread, begin=T, state=RUNNING):
    return Slot(0, 0, 0, 0, state, True, thread, begin, 0, key, "")


class Proc:
    """A `/proc` of a worker, 10, and its children, as a test writes it."""

    def __init__(self, root):
        self.root = root
        (root / "uptime").write_text("1000 1\n")
        self.add(10, 0, "python")

    def add(self, pid, after, command, mb=1, high=None, state="S", code=0):
        """Add a process that started so many seconds after `T`."""
        folder = self.root / str(pid)
        (folder / "task").mkdir(parents=True, exist_ok=True)
        ticks = int((after + 1000) * os.sysconf("SC_CLK_TCK"))
        fields = [state, *["0"] * 18, str(ticks), *["0"] * 29, str(code)]
        (folder / "stat").write_text(f"{pid} (a) b) {' '.join(fields)}\n")
        (folder / "comm").write_text(command + "\n")
        (folder / "cmdline").write_bytes(command.encode() + b"\0")
        self.size(pid, mb, high)

    def size(self, pid, mb, high=None):
        text = f"Name:\tx\nVmHWM:\t{(high or mb) * 1000} kB\nVmRSS:\t{mb * 1000} kB\n"
        (self.root / str(pid) / "status").write_text(text)

    def start(self, pid, thread, *children):
        folder = self.root / str(pid) / "task" / str(thread)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "children").write_text(" ".join(map(str, children)) + " ")

    def zombie(self, pid, code):
        self.add(pid, 0, "gone", state="Z", code=code)
        (self.root / str(pid) / "status").write_text("Name:\tx\nState:\tZ\n")

    def remove(self, pid):
        for file in (self.root / str(pid)).glob("*"):
            if file.is_file():
                file.unlink()


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def proc(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "boot_time", lambda root: BOOT)
    return Proc(tmp_path)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watch(proc, clock):
    proc.start(10, 10)
    return ChildWatch(
        10, lambda key: key.split("-")[0], clock=clock, root=str(proc.root)
    )


def look(watch, clock, *tasks, threads=None):
    clock.now += 3
    watch.look(tasks, lambda: threads or {})
    return watch.rows()


def test_a_child_is_the_tasks_whose_thread_started_it(watch, proc, clock):
    proc.start(10, 12, 77)
    proc.add(77, 1, "convert", mb=300, high=320)
    tasks = (slot("a-1", 1), slot("b-1", 2))
    (row,) = look(watch, clock, *tasks, threads={1: 11, 2: 12})
    assert (row.prefix, row.key, row.command) == ("b", "b-1", "convert")
    assert (row.processes, row.started) == (1, 1)
    assert (row.rss, row.peak) == (300 * 1024_000, 320 * 1024_000)


def test_a_child_of_a_thread_of_the_tasks_own_is_the_only_tasks(watch, proc, clock):
    proc.start(10, 15, 77)
    proc.add(77, 1, "convert")
    (row,) = look(watch, clock, slot("a-1", 1), threads={1: 11})
    assert row.key == "a-1"


def test_of_several_tasks_it_is_not_known_which_one_it_was(watch, proc, clock):
    proc.start(10, 15, 77)
    proc.add(77, 1, "convert")
    tasks = (slot("a-1", 1), slot("b-1", 2))
    (row,) = look(watch, clock, *tasks, threads={1: 11, 2: 12})
    assert (row.prefix, row.key) == ("", "")


def test_a_child_that_was_there_before_the_task_is_not_its(watch, proc, clock):
    proc.start(10, 11, 77)
    proc.add(77, -5, "daemon")
    (row,) = look(watch, clock, slot("a-1", 1), threads={1: 11})
    assert row.key == ""


def test_children_of_children_are_the_same_tasks(watch, proc, clock):
    proc.start(10, 11, 77)
    proc.add(77, 1, "sh", mb=1)
    proc.start(77, 77, 78)
    proc.add(78, 1, "convert", mb=50)
    (row,) = look(watch, clock, slot("a-1", 1), threads={1: 11})
    assert (row.key, row.processes, row.rss) == ("a-1", 2, 51 * 1024_000)


def test_what_a_child_had_at_most_stays_known_for_a_while(watch, proc, clock):
    proc.start(10, 11, 77)
    proc.add(77, 1, "convert", mb=50)
    task = slot("a-1", 1)
    look(watch, clock, task, threads={1: 11})
    proc.size(77, 20, high=80)
    (row,) = look(watch, clock, task, threads={1: 11})
    assert (row.rss, row.peak) == (20 * 1024_000, 80 * 1024_000)
    proc.start(10, 11)
    proc.remove(77)
    (row,) = look(watch, clock)
    assert (row.processes, row.rss, row.peak, row.killed) == (0, 0, 80 * 1024_000, 0)
    clock.now += module.TOLD_FOR
    assert look(watch, clock) == ()


def test_a_child_that_was_killed_is_counted(watch, proc, clock):
    proc.start(10, 11, 77)
    proc.add(77, 1, "convert", mb=50)
    look(watch, clock, slot("a-1", 1), threads={1: 11})
    proc.zombie(77, 9)
    (row,) = look(watch, clock, slot("a-1", 1), threads={1: 11})
    assert (row.processes, row.killed) == (0, 1)


def test_a_child_that_went_when_the_kernel_killed_is_counted(watch, proc, clock):
    watch.oom = lambda: True
    proc.start(10, 11, 77)
    proc.add(77, 1, "convert", mb=50)
    look(watch, clock, slot("a-1", 1), threads={1: 11})
    proc.remove(77)
    proc.start(10, 11)
    (row,) = look(watch, clock, slot("a-1", 1), threads={1: 11})
    assert row.killed == 1


def test_one_that_ends_by_itself_was_not_killed(watch, proc, clock):
    proc.start(10, 11, 77)
    proc.add(77, 1, "convert", mb=50)
    look(watch, clock, slot("a-1", 1), threads={1: 11})
    proc.zombie(77, 256)
    (row,) = look(watch, clock, slot("a-1", 1), threads={1: 11})
    assert row.killed == 0


def test_what_a_forked_child_shares_is_not_its_own(watch, proc, clock):
    proc.start(10, 11, 77)
    proc.add(77, 1, "python", mb=150, high=150)
    (proc.root / "77" / "smaps_rollup").write_text("1-2 [rollup]\nPss:  60000 kB\n")
    (row,) = look(watch, clock, slot("a-1", 1), threads={1: 11})
    assert (row.rss, row.peak) == (60 * 1024_000, 60 * 1024_000)


def test_many_children_are_followed_up_to_a_bound(watch, proc, clock):
    pids = range(100, 300)
    for pid in pids:
        proc.add(pid, 1, "x")
    proc.start(10, 11, *pids)
    (row,) = look(watch, clock, slot("a-1", 1), threads={1: 11})
    assert row.processes == module.MOST


def test_an_idle_worker_is_searched_rarely(watch, proc, clock, monkeypatch):
    searched = []
    find = system.children_of
    monkeypatch.setattr(
        system, "children_of", lambda *a: searched.append(1) or find(*a)
    )
    for _ in range(100):
        clock.now += 0.05
        watch.look([], dict)
    assert len(searched) <= 6


def test_a_real_child_is_found_by_the_thread_that_started_it():
    watch = ChildWatch(os.getpid())
    code = "import time; block = bytearray(60_000_000); time.sleep(60)"
    started = []

    def start():
        started.append(threading.get_native_id())
        started.append(subprocess.Popen([sys.executable, "-c", code]))
        done.wait(60)

    done = threading.Event()
    thread = threading.Thread(target=start)
    begin = time.time()
    thread.start()
    try:
        deadline = time.monotonic() + 20
        task = slot("convert-1", 5, begin)
        while time.monotonic() < deadline:
            if len(started) == 2:
                watch.look([task], lambda: {5: started[0]})
                rows = [r for r in watch.rows() if r.key == "convert-1"]
                if rows and rows[0].rss > 60 * MB:
                    break
            time.sleep(0.01)
        assert rows[0].processes == 1
        assert 60 * MB < rows[0].rss < 90 * MB
        assert rows[0].peak >= rows[0].rss
    finally:
        started[1].kill()
        started[1].wait()
        done.set()
        thread.join()
