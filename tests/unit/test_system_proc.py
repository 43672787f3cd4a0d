"""Readings from the kernel, and from trees that stand in for it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dask_memdash.system import proc
from dask_memdash.system.proc import (
    RssParts,
    allocator_free,
    oom_kills,
    rss_parts_in,
    start_ticks,
)

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def gone():
    """Return the pid of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


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


def test_the_parts_of_the_rss_are_read_from_a_status():
    text = (
        b"VmRSS:\t  1234 kB\nRssAnon:\t   20 kB\nRssFile:\t    3 kB\nRssShmem:\t 4 kB\n"
    )
    assert rss_parts_in(text) == RssParts(20_480, 3_072, 4_096)


@pytest.mark.parametrize(
    "text", [b"", b"VmRSS: 1 kB\n", b"RssAnon: 1 kB", b"RssAnon:\tx"]
)
def test_parts_that_the_kernel_does_not_tell_are_not_known(text):
    assert rss_parts_in(text) is None
