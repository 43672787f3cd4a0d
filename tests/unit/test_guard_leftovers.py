"""What a stopped task leaves behind in frames is let go of."""

import asyncio
import gc
import time
import weakref

import pytest

from dask_memdash.boundary import boundary
from dask_memdash.guard import leftovers
from dask_memdash.guard.leftovers import REST, Leftovers


class Made:
    """Something that a task had made so far."""


@pytest.fixture(autouse=True)
def nobody_else_collects():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left_behind():
    """Fail as a task does in the host, and return what its frames still hold."""

    def task():
        made = Made()
        found.append(weakref.ref(made))
        raise MemoryError

    def runs_it():
        try:
            task()
        except MemoryError as error:
            message = {"actual_exception": error}
        return message

    found = []
    runs_it()
    return found[0]


def test_what_the_frames_of_a_stopped_task_hold_goes():
    async def run():
        held = left_behind()
        assert held() is not None
        Leftovers().collect_soon()
        await asyncio.sleep(0.01)
        assert held() is None

    asyncio.run(run())


def test_many_at_once_are_one_collection_and_the_next_waits(monkeypatch):
    collections = []

    def collect():
        collections.append(time.monotonic())
        time.sleep(0.01)

    monkeypatch.setattr(leftovers.gc, "collect", collect)

    async def run():
        own = Leftovers()
        for _ in range(5):
            own.collect_soon()
        await asyncio.sleep(0.02)
        assert len(collections) == 1
        own.collect_soon()
        while len(collections) < 2:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 20))
    assert collections[1] - collections[0] >= REST * 0.01


def test_a_collection_that_fails_is_noted_and_the_next_is_made(monkeypatch):
    made = []

    def collect():
        made.append(1)
        raise RuntimeError

    monkeypatch.setattr(leftovers.gc, "collect", collect)
    failures = []

    async def run():
        asyncio.get_running_loop().set_exception_handler(
            lambda *told: failures.append(1)
        )
        own = Leftovers()
        for n in (1, 2):
            own.collect_soon()
            await asyncio.sleep(0.01)
            assert len(made) == n

    boundary.clear()
    try:
        asyncio.run(run())
        assert failures == []
        assert "collecting what a stopped task left behind" in boundary.texts()[0]
    finally:
        boundary.clear()
