"""Tasks that wait for an input that their worker could not receive."""

from types import SimpleNamespace

import pytest
from distributed.core import Status

from dask_memdash.model.events import ClusterMoving, ClusterStuck
from dask_memdash.plugins.scheduler.receiving_watch import ReceivingWatch

T = 1_760_000_000.0
A = "tcp://a:1"


class Task:
    """As the scheduler knows it; compared by identity, as there."""

    prefix = SimpleNamespace(name="same")
    processing_on = None


class Scheduler:
    """One worker that was sent one task, and does nothing."""

    def __init__(self):
        self.worker = SimpleNamespace(
            address=A,
            status=Status.running,
            executing={},
            long_running=set(),
            metrics={"transfer": {"incoming_count": 0}},
        )
        self.workers = {A: self.worker}
        self.task = Task()
        self.task.processing_on = self.worker
        self.tasks = {("same", 1): self.task}
        self.transition_counter = 7


@pytest.fixture
def scheduler():
    return Scheduler()


@pytest.fixture
def told():
    return []


@pytest.fixture
def watch(scheduler, told):
    found = ReceivingWatch(scheduler, told.append, after=10)
    found.note(A, "('same', 1)")
    return found


def test_a_task_that_waits_while_nothing_moves_is_stuck_and_told_now_and_then(
    watch, told
):
    for second in range(18):
        watch.step(T + second)
    first, second = told
    assert isinstance(first, ClusterStuck)
    assert (first.time, first.since, first.unreceived) == (T + 10, T, 1)
    assert (first.paused, first.waiting[0].prefix) == ((A,), "same")
    assert second.time == T + 15


def test_a_cluster_that_moves_again_is_told_once(watch, told, scheduler):
    for second in range(11):
        watch.step(T + second)
    scheduler.task.processing_on = None  # its worker was restarted
    for second in range(11, 14):
        watch.step(T + second)
    assert told[1:] == [ClusterMoving(T + 11)]


@pytest.mark.parametrize("what", ["runs", "receives", "joins", "moves", "begins"])
def test_what_goes_on_is_not_stuck(watch, told, scheduler, what):
    worker = scheduler.worker
    if what == "runs":
        worker.executing = {Task(): 1.0}
    elif what == "receives":
        worker.metrics = {"transfer": {"incoming_count": 1}}
    elif what == "joins":
        worker.status = Status.init
    elif what == "begins":
        worker.executing = {scheduler.task: 1.0}
    for second in range(30):
        if what == "moves":
            scheduler.transition_counter += 1
        watch.step(T + second)
    assert told == []


def test_the_newest_tasks_are_remembered_and_no_more(watch, told, scheduler):
    for number in range(1000):
        watch.note(A, f"gone-{number}")
    for second in range(30):
        watch.step(T + second)
    assert told == []
