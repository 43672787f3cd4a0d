"""Readings from the kernel, and from trees that stand in for it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dask_memdash.system import proc
from dask_memdash.system.proc import (
    PAGE,
    RssReader,
    allocator_free,
    oom_kills,
    start_ticks,
)

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def gone():
    """Give the pid of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_rss_is_read_in_pages_from_statm():
    reader = RssReader(17, str(DATA / "proc"))
    assert reader.read() == 25_600 * PAGE
    reader.close()
    assert reader.read() is None
    reader.close()


@pytest.mark.parametrize(
    "text", ["", "\n", "5", "5 ", "5 x 1", "5 0 1", " ", "x" * 5000]
)
@pytest.mark.parametrize("way", ["native", "python"])
def test_a_statm_that_makes_no_sense_is_no_rss(tmp_path, monkeypatch, text, way):
    if way == "python":
        monkeypatch.setattr(proc, "_native_rss", None)
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "statm").write_text(text)
    reader = RssReader(17, str(tmp_path))
    assert reader.read() is None
    reader.close()


def test_rss_is_the_same_with_and_without_native_code(monkeypatch):
    if proc._native_rss is None:
        pytest.skip("the extension was not built")
    reader = RssReader(17, str(DATA / "proc"))
    native = reader.read()
    monkeypatch.setattr(proc, "_native_rss", None)
    assert reader.read() == native == 25_600 * PAGE
    reader.close()


def test_native_code_refuses_what_is_no_file():
    if proc._native_rss is None:
        pytest.skip("the extension was not built")
    assert proc._native_rss(-1) is None
    assert proc._native_rss(10**6) is None
    with pytest.raises(TypeError):
        proc._native_rss("5")
    with pytest.raises(OverflowError):
        proc._native_rss(2**80)


def test_rss_agrees_with_psutil():
    reader = RssReader(os.getpid())
    expected = psutil.Process().memory_info().rss
    assert reader.read() == pytest.approx(expected, rel=0.02)
    reader.close()


def test_rss_is_read_through_psutil_where_there_is_no_proc(tmp_path):
    reader = RssReader(os.getpid(), str(tmp_path))
    expected = psutil.Process().memory_info().rss
    assert reader.read() == pytest.approx(expected, rel=0.02)
    reader.close()
    assert reader.read() is None


def test_a_process_that_is_gone_has_no_rss(gone, tmp_path):
    assert RssReader(gone).read() is None
    assert RssReader(gone, str(tmp_path)).read() is None


def test_a_process_that_ends_while_it_is_read_has_no_rss_any_more():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    reader = RssReader(process.pid)
    assert reader.read() > 0
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert reader.read() is None, "a zombie holds nothing"
    process.communicate()
    assert reader.read() is None
    reader.close()


def test_start_time_is_read_behind_whatever_name_a_process_has():
    assert start_ticks(17, str(DATA / "proc")) == 8_675_309


def test_start_time_tells_processes_of_the_same_pid_apart(gone):
    assert start_ticks(os.getpid()) == start_ticks(os.getpid()) > 0
    assert start_ticks(gone) is None
    assert start_ticks(10**30) is None


def test_start_time_comes_from_psutil_where_there_is_no_proc(tmp_path):
    assert start_ticks(os.getpid(), str(tmp_path)) == int(
        psutil.Process().create_time() * 100
    )


@pytest.mark.parametrize(
    ("tree", "pid", "expected"),
    [
        ("cgroup_v1", 17, 2),
        ("cgroup_v2", 17, 3),
        ("cgroup_v2", 18, None),
        ("cgroup_v2", 99, None),
        ("nowhere", 17, None),
    ],
)
def test_oom_kills_are_counted_in_the_processs_own_cgroup(tree, pid, expected):
    assert oom_kills(pid, str(DATA / tree)) == expected


@pytest.mark.parametrize("content", ["oom_kill\n", "oom_kill x\n", "oom 5\n", ""])
def test_a_count_that_cannot_be_read_is_not_known(tmp_path, content):
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/cgroup").write_text("nonsense\n0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.events").write_text(content)
    assert oom_kills(1, str(tmp_path)) is None


def test_oom_kills_of_this_process_are_a_count_or_not_known():
    found = oom_kills(os.getpid())
    assert found is None or found >= 0


def test_the_allocators_free_bytes_are_fewer_than_the_process_ever_had():
    free = allocator_free()
    if free is None:
        pytest.skip("this C library has no mallinfo2")
    assert 0 <= free < psutil.virtual_memory().total


def test_free_bytes_are_not_known_without_mallinfo2(monkeypatch):
    monkeypatch.setattr(proc, "_mallinfo2", lambda: None)
    assert allocator_free() is None
