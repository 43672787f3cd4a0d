"""Which tasks are run no more, since no worker has room for them, and what is said."""

import pytest
from distributed.core import error_message
from distributed.protocol import pickle

from dask_memdash.errors import TaskTooLarge
from dask_memdash.guard.too_large import MAX_KEYS, TooLarge, refuse
from dask_memdash.model.event_parts import Executing, LargestBlock
from dask_memdash.model.events import DeathReported

MB = 1_000_000
LIMIT = 600 * MB


def task(held, key="load-1", **more):
    return Executing(key, "", "load", 1, 0.5, held * MB, held * MB, 0, "exact", **more)


def death(*executing, by="nanny", signal=15):
    return DeathReported(
        time=1.0,
        address="tcp://x:1",
        pid=1,
        died=1.0,
        code=None,
        signal=signal,
        by=by,
        asked=False,
        closing=False,
        reading=None,
        executing=executing,
        samples=(),
        recorded=True,
    )


BLOCK = LargestBlock(1500 * MB, "app/model.py", 9, "load", "np.ones")


def test_a_block_that_no_worker_has_room_for_is_enough():
    known = TooLarge()
    assert known.died(death(task(450, block=BLOCK)), LIMIT) == "load-1"
    assert known.refused["load-1"] == (
        "task 'load-1' of 'load' needs at least 1.4 GiB at app/model.py:9 in np.ones. "
        "No worker has more than 572 MiB, and it has ended a worker while it ran alone "
        "there, so it is not run again. Make its chunks smaller, or give workers a "
        "larger memory_limit"
    )


def test_what_it_was_filling_is_what_it_asked_for():
    assert TooLarge().died(death(task(400, filling=201 * MB)), LIMIT) == "load-1"
    assert TooLarge().died(death(task(400, filling=200 * MB)), LIMIT) is None


def test_otherwise_two_workers_that_it_ended_alone_are():
    known = TooLarge()
    assert known.died(death(task(450), by="kernel", signal=9), LIMIT) is None
    assert known.died(death(task(480, key="load-2")), LIMIT) is None
    assert known.died(death(task(470)), LIMIT) == "load-1"
    assert "needs at least 448 MiB. " in known.refused["load-1"]
    assert "ended 2 workers" in known.refused["load-1"]
    assert known.died(death(task(470)), LIMIT) is None


@pytest.mark.parametrize(
    "event",
    [
        death(task(450, block=BLOCK), task(5, key="other-1")),
        death(task(299, block=BLOCK)),
        death(task(450, block=BLOCK), by="unknown", signal=11),
        death(),
    ],
    ids=["in company", "it held little", "it crashed", "nothing ran"],
)
def test_what_may_have_died_of_something_else_is_run_again(event):
    known = TooLarge()
    assert [known.died(event, LIMIT) for _ in range(5)] == [None] * 5


def test_nothing_is_too_large_where_a_worker_has_no_limit():
    assert TooLarge().died(death(task(450, block=BLOCK)), None) is None


def test_what_is_remembered_is_bounded():
    known = TooLarge()
    for number in range(MAX_KEYS + 5):
        known.died(death(task(450, key=f"k-{number}", block=BLOCK)), LIMIT)
    assert len(known.refused) == MAX_KEYS


def test_its_error_is_a_memory_error_that_travels():
    with pytest.raises(MemoryError, match="too much") as caught:
        refuse("too much")
    # as Dask does, which falls back to its text where that fails
    again = pickle.loads(error_message(caught.value)["exception"].data)
    assert (type(again), str(again)) == (TaskTooLarge, "too much")
