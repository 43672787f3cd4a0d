"""What becomes of a task that was stopped; when it is stopped no more, but fails."""

from types import SimpleNamespace

import pytest
from distributed.worker_state_machine import (
    ExecuteFailureEvent,
    ExecuteSuccessEvent,
    RescheduleEvent,
)

from dask_memdash.boundary import boundary
from dask_memdash.guard import braking
from dask_memdash.guard.braking import MOST_SPARED, Braking, where
from dask_memdash.guard.leftovers import Leftovers
from dask_memdash.guard.thresholds import Thresholds
from dask_memdash.guard.too_large import STOPS, TooLarge
from dask_memdash.measure.brake import Refused
from dask_memdash.model.event_parts import Braked

MB = 1_000_000

TRACEBACK = """
  File "/home/me/model.py", line 9, in block
    return np.ones(n)
  File "/opt/lib/python3.11/site-packages/numpy/_core/numeric.py", line 232, in ones
    a = empty(shape, dtype, order, device=device)
"""


class Brake:
    """Stands in for the native one: says what a task was refused."""

    def __init__(self):
        self.line, self.may, self.refused = 0, [], None

    def set(self, line):
        self.line = line
        return True

    def begin(self, *, may):
        self.may.append(may)

    def end(self):
        return self.refused


class Key(SimpleNamespace):
    __hash__ = object.__hash__


@pytest.fixture
def world(monkeypatch):
    brake, sent = Brake(), []
    monkeypatch.setattr(braking, "brake", lambda: brake)
    needed = Key(key="open-1", nbytes=40 * MB)
    barrier = Key(key="shuffle-barrier-ab", nbytes=1)
    tasks = {
        "sum-1": SimpleNamespace(dependencies={needed}),
        "counter-1": SimpleNamespace(dependencies=set()),
        ("unpack-ab", 1): SimpleNamespace(dependencies={barrier}),
        ("rechunk-transfer-ab", 2): SimpleNamespace(dependencies=set()),
        "shuffle-transfer-ab": SimpleNamespace(dependencies=set()),
    }
    worker = SimpleNamespace(
        state=SimpleNamespace(tasks=tasks, actors={"counter-1": None}),
        batched_send=sent.append,
    )
    running = SimpleNamespace(brake=None)
    process = SimpleNamespace(baseline=SimpleNamespace(bytes=60 * MB))
    collections = []
    monkeypatch.setattr(Leftovers, "collect_soon", lambda own: collections.append(1))
    made = Braking(worker, running, process)
    made.set(Thresholds(1000 * MB, 800 * MB, 950 * MB))
    return SimpleNamespace(
        braking=made,
        brake=brake,
        collections=collections,
        sent=sent,
        running=running,
        tasks=tasks,
        worker=worker,
    )


def success(key):
    return ExecuteSuccessEvent(
        key=key,
        run_id=1,
        value="an answer",
        start=0.0,
        stop=1.0,
        nbytes=1,
        type=str,
        stimulus_id="end",
    )


def ends(world, key, refused=None):
    world.brake.refused = refused
    world.braking.ends(SimpleNamespace(key=key))


def test_the_line_is_below_the_limit_and_below_where_the_worker_ends(world):
    assert world.brake.line == 940 * MB
    assert world.running.brake is world.braking
    world.braking.set(Thresholds(1000 * MB, 700 * MB, 800 * MB))
    assert world.brake.line == 792 * MB
    world.braking.set("the guard is off here")
    assert world.brake.line == 0
    world.braking.remove()
    assert world.running.brake is None


def test_what_a_stopped_task_did_is_discarded_though_telling_of_it_fails(world):
    """The stream to the scheduler may be closed just then."""

    def closed(message):
        raise OSError("the stream is closed")

    boundary.clear()
    world.worker.batched_send = closed
    ends(world, "sum-1", Refused(1, 200 * MB, 800 * MB, 100 * MB))
    try:
        found = world.braking.outcome(success("sum-1"))
        assert found.event == RescheduleEvent(key="sum-1", stimulus_id="end")
        assert found.needs == 300 * MB
        (told,) = boundary.texts()
        assert "telling that a task was stopped once" in told
    finally:
        boundary.clear()


def test_what_cannot_be_done_again_is_never_stopped(world):
    for key in (*world.tasks, "gone"):
        world.braking.begins(SimpleNamespace(key=key))
    assert world.brake.may == [True, False, False, False, False, False]


def test_whatever_a_stopped_task_did_it_runs_again_and_the_scheduler_knows(world):
    ends(world, "sum-1", Refused(1, 200 * MB, 800 * MB, 100 * MB))
    found = world.braking.outcome(success("sum-1"))
    assert (found.key, found.needs) == ("sum-1", 300 * MB)
    assert found.event == RescheduleEvent(key="sum-1", stimulus_id="end")
    assert world.sent == [
        {
            "op": "memdash-braked",
            "task": {
                "key": "sum-1",
                "prefix": "sum",
                "needs": 300 * MB,
                "inputs": 40 * MB,
                "idle": 60 * MB,
                "where": "",
            },
        }
    ]
    assert world.collections == [1]  # of what it left behind
    # once: the next outcome counts
    assert world.braking.outcome(success("sum-1")) is None
    ends(world, "sum-1")
    assert world.braking.outcome(success("sum-1")) is None


def test_a_task_that_failed_says_where(world):
    ends(world, "sum-1", Refused(1, 200 * MB, 800 * MB, 0))
    failed = ExecuteFailureEvent.dummy("sum-1", stimulus_id="end")
    failed.traceback_text = TRACEBACK
    assert world.braking.outcome(failed).event.key == "sum-1"
    assert world.sent[0]["task"]["where"] == "me/model.py:9 in ones"


def test_events_of_other_tasks_and_of_other_kinds_are_left_alone(world):
    ends(world, "sum-1", Refused(1, 200 * MB, 800 * MB, 0))
    assert world.braking.outcome(success("counter-1")) is None
    again = RescheduleEvent(key="sum-1", stimulus_id="its own")
    assert world.braking.outcome(again) is None
    world.tasks.clear()
    world.braking.keep()
    assert world.braking.stopped == {}


def test_a_line_is_the_users_own_where_there_is_one():
    assert where(TRACEBACK) == "me/model.py:9 in ones"
    assert where('File "/a/b/c.py", line 3, in f') == "b/c.py:3 in f"
    inner = 'File "/x/site-packages/numpy/a.py", line 4, in g'
    assert where(inner) == "numpy/a.py:4 in g"
    assert where("no frames") == ""


def stopped(needs, inputs=0, line="", idle=60):
    return Braked("sum-1", "sum", needs * MB, inputs * MB, idle * MB, line)


def test_a_task_that_no_empty_worker_could_hold_fails_at_once():
    found = TooLarge()
    # 940 - 60
    assert found.stopped(stopped(880, 281), 1000 * MB) is None
    assert found.stopped(stopped(881, 281, "a.py:9 in ones"), 1000 * MB) == "sum-1"
    assert found.refused["sum-1"] == (
        "task 'sum-1' of 'sum' needs at least 840 MiB at a.py:9 in ones, beside 268 "
        "MiB of inputs. An empty worker has 57.2 MiB in use already, of 0.93 GiB at "
        "most. It was stopped 2 times before it could end a worker, and is not run "
        "again. Make its chunks smaller, or give workers a larger memory_limit"
    )
    assert found.stopped(stopped(881, 281), 1000 * MB) is None
    assert TooLarge().stopped(stopped(9000), None) is None


def test_a_worker_that_was_never_empty_does_not_make_a_task_too_large():
    """A `rechunk-merge` of 120 MiB failed so on workers of 557 that held results."""
    found = TooLarge()
    assert found.stopped(stopped(100), 557 * MB) is None  # another worker, nearly empty
    assert found.stopped(stopped(120, idle=454), 557 * MB) is None


def test_a_large_task_that_is_stopped_again_and_again_fails():
    found = TooLarge()
    told = [found.stopped(stopped(500), 1000 * MB) for _ in range(STOPS)]
    assert told == [None, None, "sum-1"]
    assert not found.spared


def test_a_small_one_is_stopped_no_more_as_what_fills_the_worker_is_not_its_own():
    found = TooLarge()
    told = [found.stopped(stopped(499), 1000 * MB) for _ in range(STOPS)]
    assert told == [None] * STOPS
    assert list(found.spared) == ["sum-1"]
    assert not found.refused


def test_what_is_spared_is_stopped_no_more(world):
    world.braking.spare(["sum-1"])
    world.braking.begins(SimpleNamespace(key="sum-1"))
    world.braking.spare(["others"])
    world.braking.begins(SimpleNamespace(key="sum-1"))
    world.braking.spare(map(str, range(MOST_SPARED)))
    world.braking.begins(SimpleNamespace(key="sum-1"))
    assert world.brake.may == [False, False, True]
