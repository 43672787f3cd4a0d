"""How much more a worker can spill."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from dask_memdash.model.event_parts import SpillRoom
from dask_memdash.plugins.worker.spill_room import EVERY, SpillRoomWatch


def worker(tmp_path, *, max_spill=False, spills=True):
    return SimpleNamespace(
        data=SimpleNamespace(slow=None) if spills else {},
        memory_manager=SimpleNamespace(max_spill=max_spill),
        local_directory=str(tmp_path),
        extensions={},
    )


def test_a_worker_that_spills_says_its_most_and_what_its_disk_has(tmp_path):
    found = SpillRoomWatch(worker(tmp_path, max_spill=50)).look(0.0)
    assert found.max_spill == 50
    disk = os.statvfs(tmp_path)
    assert found.disk_free == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.05)


def test_without_a_limit_of_its_own_there_is_none(tmp_path):
    assert SpillRoomWatch(worker(tmp_path)).look(0.0).max_spill is None


def test_a_worker_that_does_not_spill_looks_at_no_disk(tmp_path):
    found = SpillRoomWatch(worker(tmp_path / "gone", spills=False)).look(0.0)
    assert found == SpillRoom(None, None)


def test_a_disk_that_cannot_be_asked_is_not_known(tmp_path):
    assert SpillRoomWatch(worker(tmp_path / "gone")).look(0.0).disk_free is None


def test_the_disk_is_asked_now_and_then(tmp_path):
    one = worker(tmp_path, max_spill=1)
    watch = SpillRoomWatch(one)
    watch.look(10.0)
    one.memory_manager.max_spill = 2
    assert watch.look(9.9 + EVERY).max_spill == 1
    assert watch.look(10.1 + EVERY).max_spill == 2


def shuffling(one, *limits):
    """Let a worker have shuffles: those in memory have no limit of their own."""
    runs = {str(n): {"disk": {"memory_limit": limit}} for n, limit in enumerate(limits)}
    one.extensions["shuffle"] = SimpleNamespace(heartbeat=lambda: runs)


@pytest.mark.parametrize(
    ("limits", "on_disk"),
    [((), None), ((9, 9), True), ((None,), False), ((None, 9), None)],
)
def test_whether_shuffles_write_to_disk_is_told_by_their_buffers(
    tmp_path, limits, on_disk
):
    one = worker(tmp_path)
    shuffling(one, *limits)
    assert SpillRoomWatch(one).look(0.0).shuffles_on_disk is on_disk


def test_whether_shuffles_write_to_disk_stays_known_after_them(tmp_path):
    one = worker(tmp_path)
    watch = SpillRoomWatch(one)
    assert watch.look(0.0).shuffles_on_disk is None
    shuffling(one, None)
    assert watch.look(0.1).shuffles_on_disk is False
    shuffling(one)
    assert watch.look(0.2).shuffles_on_disk is False
