"""Whether the kernel has just killed for memory, read from a stand-in of /sys."""

from pathlib import Path

import pytest

from dask_memdash.system.oom_kills import OomWatch
from dask_memdash.system.proc import oom_kills

V2 = ("0::/job\n", "sys/fs/cgroup/job/memory.events", "low 0\noom 1\noom_kill {}\n")
V1 = (
    "9:cpu:/\n4:memory:/job\n",
    "sys/fs/cgroup/memory/job/memory.oom_control",
    "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
)


class Group:
    """A cgroup whose count a test sets."""

    def __init__(self, root: Path, version: tuple[str, str, str]) -> None:
        cgroup, name, self.text = version
        (root / "proc/17").mkdir(parents=True)
        (root / "proc/17/cgroup").write_text(cgroup)
        self.file = root / name
        self.file.parent.mkdir(parents=True)
        self.root = root
        self.set(2)

    def set(self, count: int) -> None:
        self.file.write_text(self.text.format(count))

    def watch(self) -> OomWatch:
        return OomWatch(17, lambda pid: oom_kills(pid, str(self.root)))


@pytest.fixture(params=[V1, V2], ids=["v1", "v2"])
def group(request, tmp_path):
    return Group(tmp_path, request.param)


def test_a_count_that_stands_is_no_kill(group):
    watch = group.watch()
    for second in range(5):
        watch.look(second)
    assert not watch.killed()


def test_a_count_that_has_gone_up_since_the_last_looks_is_a_kill(group):
    watch = group.watch()
    watch.look(0)
    watch.look(1)
    group.set(3)
    assert watch.killed()


def test_a_kill_that_was_counted_just_before_the_death_is_noticed_still_counts(group):
    watch = group.watch()
    watch.look(0)
    group.set(3)
    watch.look(1)
    assert watch.killed()


def test_the_kill_of_another_process_a_while_ago_does_not_count(group):
    watch = group.watch()
    watch.look(0)
    group.set(3)
    for second in (1, 2, 3):
        watch.look(second)
    assert not watch.killed()


def test_looks_are_rare(group):
    watch = group.watch()
    watch.look(10.0)
    group.set(3)
    for tenth in range(1, 10):
        watch.look(10.0 + tenth / 10)
    assert watch.killed()


def test_a_count_that_cannot_be_read_is_no_kill(group):
    watch = group.watch()
    group.file.unlink()
    assert not watch.killed()
    late = group.watch()
    group.set(5)
    assert not late.killed()
