"""Tasks that the scheduler refuses, on a stand-in for the scheduler."""

import pickle
from types import SimpleNamespace
from typing import ClassVar

import pytest
from builders import A, B, MiB, added

from dask_memdash.plugins.scheduler.refusals import Refusals

FAILS = ("processing", "erred")
TEXT = (
    "Task {!r} has 1.46 GiB worth of input dependencies, but worker " + A + " has "
    "memory_limit set to 0.98 GiB. It seems like you called client.compute() on a "
    "huge collection."
)


def fail(scheduler, key, stimulus_id, **kwargs):
    scheduler.failed.append((key, kwargs))
    return {"recommended": key}, {}, {}


class Scheduler:
    """What the refusals use of a scheduler."""

    id = "S-1"
    _TRANSITIONS_TABLE: ClassVar = {FAILS: fail, ("processing", "memory"): object()}

    def __init__(self):
        self.failed = []
        here, there = SimpleNamespace(address=A), SimpleNamespace(address=B)
        inputs = [
            SimpleNamespace(nbytes=500 * MiB, who_has=[here]),
            SimpleNamespace(nbytes=600 * MiB, who_has=[there]),
            SimpleNamespace(nbytes=400 * MiB, who_has=[here, there]),
            SimpleNamespace(nbytes=-1, who_has=None),
        ]
        self.tasks = {
            key: SimpleNamespace(
                key=key,
                prefix=SimpleNamespace(name="gather"),
                group=SimpleNamespace(name="gather"),
                priority=(0, 1, 2),
                dependencies=inputs,
                who_wants=(),
            )
            for key in ("gather-1", ("gather", 2), "g" * 900)
        }

    def fail(self, key, exception, **more):
        table = self._TRANSITIONS_TABLE
        return table[FAILS](self, key, "s", worker=A, exception=exception, **more)


@pytest.fixture
def scheduler():
    return Scheduler()


@pytest.fixture
def refusals(scheduler, model):
    model.handle(added(A, 1))
    return Refusals(scheduler, model, model.handle, lambda i: f"http://x/#incident-{i}")


def refused(key="gather-1"):
    return pickle.dumps(MemoryError(TEXT.format(key)))


def test_a_refusal_is_an_incident_and_the_error_says_which(scheduler, refusals, model):
    refusals.attach()
    assert scheduler.fail("gather-1", refused())[0] == {"recommended": "gather-1"}
    (incident,) = model.incidents
    assert (incident.kind, incident.stage) == ("memory-error", "refused")
    assert incident.worker.address == A
    inputs = incident.tasks[0].inputs
    assert (inputs.count, inputs.size) == (4, 1500 * MiB)
    assert (inputs.n_fetched, inputs.fetched) == (2, 1000 * MiB)
    error = pickle.loads(scheduler.failed[0][1]["exception"])
    assert str(error) == TEXT.format("gather-1")
    assert error.memdash_incident == ("S-1", "1")
    assert error.__notes__ == [
        "MemDash incident 1: http://x/#incident-1\n"
        "  Its inputs take 1.46 GiB at once, more than the worker's limit of 0.98 GiB."
        "\n  dask_memdash.explain(error) says what to change."
    ]


@pytest.mark.parametrize("key", [("gather", 2), "g" * 900])
def test_any_key_will_do_and_long_ones_are_cut(scheduler, refusals, model, key):
    refusals.attach()
    scheduler.fail(key, refused(key))
    (incident,) = model.incidents
    assert len(incident.detail) < 400
    assert "memory_limit set to 0.98 GiB" in incident.detail


def test_the_plugins_own_hook_finds_what_the_table_could_not(refusals, model):
    exception = refused()
    assert refusals.look("gather-1", {"exception": exception, "worker": A}) is not None
    assert refusals.look("gather-1", {"exception": exception, "worker": A}) is None
    assert len(model.incidents) == 1


@pytest.mark.parametrize(
    "exception",
    [
        pickle.dumps(MemoryError("a task's own words")),
        pickle.dumps(ValueError("MemoryError")),
        pickle.dumps("MemoryError"),
        b"no pickle of a MemoryError",
        object(),
        None,
    ],
    ids=range(6),
)
def test_other_errors_go_their_way_untouched(
    scheduler, refusals, model, process_border, exception
):
    refusals.attach()
    scheduler.fail("gather-1", exception)
    assert scheduler.failed == [("gather-1", {"worker": A, "exception": exception})]
    assert len(model.incidents) == 0
    process_border.clear()


def test_the_table_of_other_schedulers_is_left_alone_and_ours_comes_off(
    scheduler, refusals, model
):
    refusals.attach()
    refusals.attach()
    assert Scheduler._TRANSITIONS_TABLE[FAILS] is fail
    held = scheduler._TRANSITIONS_TABLE
    refusals.detach()
    refusals.detach()
    assert vars(scheduler).get("_TRANSITIONS_TABLE") is None
    held[FAILS](scheduler, "gather-1", "s", worker=A, exception=refused())
    assert len(model.incidents) == 0, "somebody kept our table"


def test_a_scheduler_without_such_a_table_is_left_as_it_is(model):
    bare = SimpleNamespace(_TRANSITIONS_TABLE={}, tasks={}, id="S")
    Refusals(bare, model, model.handle, str).attach()
    assert bare._TRANSITIONS_TABLE == {}
