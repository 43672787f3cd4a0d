"""Whatever runs to its end without the guard runs to its end with it.

The real state machine of a worker is driven through plans that hypothesis makes: see
`guard_world`.
"""

import os
from dataclasses import replace

import pytest
from distributed.worker_state_machine import WorkerState
from guard_plans import MB, Plan, TaskPlan
from guard_world import World
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from dask_memdash.boundary import boundary
from dask_memdash.errors import TaskTooLarge
from dask_memdash.guard import on_worker
from dask_memdash.guard.decision import MAKING_ROOM

#: Worlds that are made up: always the same few, or so many new ones.
WORLDS = os.environ.get("GUARD_WORLDS")

SETTINGS = settings(
    max_examples=int(WORLDS or 60),
    deadline=None,
    derandomize=WORLDS is None,
    suppress_health_check=list(HealthCheck),
)


@st.composite
def plans(draw):
    """Plans of up to 16 tasks; a task waits for one that does not need it."""
    n = draw(st.integers(1, 16))
    tasks = []
    for number in range(n):
        earlier = st.integers(0, number - 1)
        deps = draw(st.lists(earlier, max_size=3, unique=True)) if number else []
        waits = number + 1 < n and draw(st.sampled_from([False] * 5 + [True]))
        peak = draw(st.sampled_from([0, 5, 50, 150, 300, 700, 1500]))
        tasks.append(
            TaskPlan(
                deps=tuple(deps),
                prefix=draw(st.sampled_from(["load", "join", "total"])),
                peak=peak,
                output=draw(st.sampled_from([0, peak // 10, peak // 2, peak])),
                seconds=draw(st.sampled_from([0.01, 0.3, 1.0, 5.0])),
                waits_for=draw(st.integers(number + 1, n - 1)) if waits else None,
                secedes=draw(st.booleans()),
                resource=draw(st.sampled_from([False] * 4 + [True])),
                actor=draw(st.sampled_from([False] * 7 + [True])),
                elsewhere=not waits and draw(st.sampled_from([False] * 4 + [True])),
                measured=draw(st.sampled_from([True] * 4 + [False])),
                stopped=draw(st.sampled_from([0] * 5 + [1, 2])),
                busy=draw(st.sampled_from([0] * 4 + [1, 3])),
            )
        )
    instants = st.lists(st.floats(0, 10), max_size=3).map(tuple)
    asks = st.lists(st.tuples(st.floats(0, 10), st.integers(0, n - 1)), max_size=4)
    learnt = st.dictionaries(
        st.sampled_from(["load", "join", "total"]), st.sampled_from([0, 100, 600, 5000])
    )
    return Plan(
        tasks=tuple(tasks),
        nthreads=draw(st.integers(1, 4)),
        limit=draw(st.sampled_from([400, 1000, 3000, 20_000])),
        steals=draw(instants),
        cancels=draw(instants),
        keeps=draw(st.booleans()),
        spills=draw(st.booleans()),
        sticks=draw(st.booleans()),
        asks=tuple(draw(asks)),
        learnt=draw(learnt),
    )


def holds(plan):
    """Run a plan without the guard, and if it ends, with it."""
    note(repr(plan))
    boundary.clear()  # of what other tests have left
    with pytest.MonkeyPatch.context() as patch:
        # which tasks are stolen is up to chance, and may save what would stand still
        for free in (plan, replace(plan, steals=(), cancels=())):
            if World(free, patch, guarded=False).run() != "done":
                return
        world = World(plan, patch, guarded=True)
        assert world.run() == "done"
        assert boundary.texts() == ()
        world.guard.remove()
        assert type(world.state) is WorkerState
        assert world.state.transfer_incoming_bytes_limit == 100 * MB
        assert world.worker.handlers["get_data"] == world.get_data
        world.state.validate_state()


@pytest.mark.slow
@given(plans())
@SETTINGS
@pytest.mark.timeout(3600 if WORLDS else 180)
def test_what_ends_without_the_guard_ends_with_it(plan):
    holds(plan)


@given(plans(), st.randoms(use_true_random=False))
@settings(SETTINGS, max_examples=30)
def test_what_fails_in_it_is_decided_as_dask_would(plan, random):
    """Decisions that raise are counted and logged, and never reach the host."""
    with pytest.MonkeyPatch.context() as patch:
        if World(plan, patch, guarded=False).run() != "done":
            return
        right = on_worker.decide

        def wrong(*args):
            if random.random() < 0.5:
                raise ValueError("made to fail")
            return right(*args)

        patch.setattr(on_worker, "decide", wrong)
        try:
            assert World(plan, patch, guarded=True).run() == "done"
        finally:
            boundary.clear()


# -- worlds in which it is known what happens ----------------------------------


def world(monkeypatch, *tasks, guarded=True, **more):
    made = World(Plan(tasks=tasks, **more), monkeypatch, guarded=guarded)
    return made, made.run()


BIG = [TaskPlan(peak=300, prefix="load", seconds=1.0) for _ in range(8)]


def test_large_tasks_run_side_by_side_only_as_far_as_they_fit(monkeypatch):
    free, _ = world(monkeypatch, *BIG, nthreads=4, guarded=False)
    assert (free.most_running, free.most) == (4, 1300 * MB)
    made, ended = world(monkeypatch, *BIG, nthreads=4)
    assert (ended, made.most_running, made.most) == ("done", 2, 700 * MB)


def test_what_was_learnt_elsewhere_holds_from_the_first_task_on(monkeypatch):
    made, ended = world(monkeypatch, *BIG, nthreads=4, learnt={"load": 500})
    # 100 idle, 500 and 500 do not fit below 800
    assert (ended, made.most_running) == ("done", 1)


def test_a_worker_without_pressure_is_left_alone(monkeypatch):
    small = [TaskPlan(peak=5, prefix="load", seconds=1.0) for _ in range(8)]
    free, _ = world(monkeypatch, *small, nthreads=4, guarded=False)
    made, _ = world(monkeypatch, *small, nthreads=4, learnt={"load": 5})
    assert made.now == pytest.approx(free.now, abs=0.01)
    assert made.guard.figures()["held"] == 0


def actions(made):
    """Return what the guard did, as it is told: kind, key and seconds of waiting."""
    told = made.guard.heartbeat()["guard_actions"]
    return [(one["kind"], one["key"], round(one["seconds"], 1)) for one in told]


def test_each_thing_that_it_does_is_told_once(monkeypatch):
    made, _ = world(monkeypatch, *BIG[:4], nthreads=4, learnt={"load": 300})
    # the fourth was never the next
    assert actions(made) == [("waited", "load-2", 1.0)]
    assert actions(made) == []
    waits = TaskPlan(peak=500, prefix="outer", waits_for=1)
    learnt = {"outer": 500, "task": 500}
    made, _ = world(monkeypatch, waits, TaskPlan(peak=500), learnt=learnt)
    assert actions(made) == [("opened", "task-1", 2.1)]


def test_a_task_that_waits_for_another_gets_it(monkeypatch):
    """As ``get_client().gather`` does in a task that has not seceded."""
    waits = TaskPlan(peak=500, prefix="outer", waits_for=1)
    learnt = {"outer": 500, "task": 500}
    made, ended = world(monkeypatch, waits, TaskPlan(peak=500), learnt=learnt)
    assert ended == "done"
    assert made.guard.figures()["opened"] == 1
    assert 1002 < made.now < 1003


def test_a_seceded_task_lets_others_start_at_once(monkeypatch):
    waits = TaskPlan(peak=500, prefix="outer", waits_for=1, secedes=True)
    made, ended = world(monkeypatch, waits, TaskPlan(peak=500), learnt={"task": 500})
    assert ended == "done"
    assert made.now < 1001
    assert made.guard.figures()["opened"] == 0


def ahead(n, output, **more):
    """Producers, and consumers of lower priority than all of them."""
    produce = TaskPlan(
        peak=output, output=output, prefix="load", seconds=0.3, measured=False
    )
    consume = [TaskPlan(deps=(i,), peak=5, prefix="total", **more) for i in range(n)]
    return [produce] * n + consume


def test_producers_ahead_go_on_where_dask_stands_still_for_ever(monkeypatch):
    """Too much is stored, and nothing is spilled."""
    plan = [
        replace(one, measured=True) if one.output else one for one in ahead(12, 100)
    ]
    free, ended = world(monkeypatch, *plan, nthreads=4, guarded=False)
    assert (ended, free.state.running) == ("stuck", False)
    made, ended = world(monkeypatch, *plan, nthreads=4)
    assert ended == "done"
    assert made.most <= 820 * MB
    assert made.now < 1006


def test_what_frees_memory_is_found_behind_many_producers(monkeypatch):
    """More of them than are looked at; the worker is not even paused."""
    plan = [replace(one, measured=True) if one.output else one for one in ahead(60, 40)]
    made, ended = world(monkeypatch, *plan, nthreads=2, learnt={"load": 40})
    assert ended == "done"
    assert made.most <= 800 * MB
    figures = made.guard.figures()
    assert (figures["drained"], figures["opened"]) == (0, 0)
    # each once, 60 of 0.3 s in two threads, and 60 of 0.1 s
    assert made.now < 1018


def test_what_has_just_been_taken_is_not_found_again(monkeypatch):
    """Several start in one go, and say until its end that they are ready."""
    root = TaskPlan(prefix="join", seconds=0.01)
    users = [TaskPlan(deps=(0,), prefix="load", seconds=0.01) for _ in range(3)]
    heavy = TaskPlan(prefix="load", peak=150, seconds=0.01)
    others = [TaskPlan(prefix="load", seconds=0.01) for _ in range(4)]
    join = TaskPlan(deps=(0, 1), prefix="join", seconds=0.01)
    plan = [root, *users, heavy, join, *others]
    _made, ended = world(monkeypatch, *plan, nthreads=4, limit=400)
    assert ended == "done"


def test_a_paused_worker_runs_on_what_frees_memory(monkeypatch):
    """It is paused since nobody knows what its tasks take."""
    learnt = {"load": 0, "total": 5}
    made, ended = world(monkeypatch, *ahead(20, 50), nthreads=1, learnt=learnt)
    assert ended == "done"
    assert made.guard.figures()["drained"] >= 1
    assert made.now < 1015


def test_a_paused_worker_runs_on_in_the_end_even_if_nothing_fits(monkeypatch):
    learnt = {"load": 0, "total": 500}
    made, ended = world(monkeypatch, *ahead(12, 100), nthreads=4, learnt=learnt)
    assert ended == "done"
    assert made.now > 1030


def test_light_tasks_pass_a_heavy_one_and_it_is_not_forgotten(monkeypatch):
    light = [TaskPlan(peak=30, prefix="light", seconds=0.5) for _ in range(20)]
    heavy = [TaskPlan(peak=500, prefix="heavy", seconds=2.0) for _ in range(3)]
    learnt = {"heavy": 500, "light": 30}
    made, ended = world(monkeypatch, *heavy, *light, nthreads=4, learnt=learnt)
    assert ended == "done"
    assert made.most <= 800 * MB
    # 6 s of heavy ones, one by one
    assert made.now < 1007.5


def test_what_no_worker_has_room_for_is_given_another_task_to_run(monkeypatch):
    plan = Plan(tasks=(TaskPlan(peak=300), TaskPlan(peak=300)))
    made = World(plan, monkeypatch, guarded=True)
    made.guard._take(refused={"task-1": "task-1 needs 9 GB"})
    assert made.run() == "done"
    made = World(plan, monkeypatch, guarded=True)
    made.guard._take(refused={"task-0": "task-0 needs 9 GB"})
    made.send_ready()
    assert actions(made) == [("refused", "task-0", 0.0)]
    task = made.state.tasks["task-0"]
    with pytest.raises(TaskTooLarge, match="task-0 needs 9 GB"):
        task.run_spec()
    assert made.state.tasks["task-1"].run_spec() is None


def test_a_task_that_was_stopped_runs_again_where_it_fits(monkeypatch):
    """It ran beside another, and is known to need more by then."""
    tasks = TaskPlan(peak=300, seconds=1.0), TaskPlan(peak=300, stopped=1)
    made, ended = world(monkeypatch, *tasks, learnt={"task": 300})
    assert ended == "done"
    # 350 and 300 do not fit beside 100: not before the other one has ended
    assert 1001 < made.now < 1001.3
    assert actions(made)[0][:2] == ("braked", "task-1")
    assert [one["task"]["needs"] for one in made.told] == [350 * MB]


#: Two outputs of 300 MB, and then a task that takes 500.
STORED = [
    TaskPlan(peak=300, output=300, prefix="load"),
    TaskPlan(peak=300, output=300, prefix="load"),
    TaskPlan(peak=500, prefix="heavy", seconds=5.0),
]
KNOWN = {"nthreads": 1, "learnt": {"load": 300, "heavy": 500}}


def test_room_is_made_before_a_task_starts_rather_than_while_it_runs(monkeypatch):
    more = {"keeps": True, "spills": True, **KNOWN}
    free, _ = world(monkeypatch, *STORED, guarded=False, **more)
    assert free.most == 1200 * MB
    made, ended = world(monkeypatch, *STORED, **more)
    assert (ended, made.most, made.state.data.evicted) == ("done", 700 * MB, 2)
    assert made.now < 1005.5


def test_a_task_starts_although_what_goes_to_disk_frees_nothing(monkeypatch):
    """Something holds it; what is hoped for is waited for once, and not for ever."""
    more = {"keeps": True, "spills": True, "sticks": True, **KNOWN}
    made, ended = world(monkeypatch, *STORED, **more)
    assert (ended, made.most) == ("done", 1200 * MB)
    assert 1005 < made.now < 1005 + MAKING_ROOM + 6


def test_an_output_is_read_back_for_others_when_it_fits(monkeypatch):
    more = {"keeps": True, "spills": True, "asks": ((3.0, 0),), **KNOWN}
    made = World(Plan(tasks=tuple(STORED), **more), monkeypatch, guarded=True)
    (request,) = made.requests
    assert made.run() == "done"
    assert made.most == 700 * MB
    assert request.busy > 10
    # once the heavy one has ended
    assert 1005 < request.sent_at < 1005.6


def test_an_input_is_fetched_when_it_fits(monkeypatch):
    fetched = TaskPlan(output=400, elsewhere=True, seconds=0.01)
    heavy = TaskPlan(peak=500, prefix="heavy", seconds=5.0)
    plan = [heavy, fetched, TaskPlan(deps=(1,), prefix="total")]
    free, _ = world(monkeypatch, *plan, guarded=False, nthreads=2)
    assert free.most == 1000 * MB
    made, ended = world(monkeypatch, *plan, nthreads=2, learnt={"heavy": 500})
    assert (ended, made.most) == ("done", 600 * MB)
    assert 1005 < made.now < 1005.6


def test_removing_the_guard_starts_what_it_held(monkeypatch):
    made = World(
        Plan(tasks=tuple(BIG[:2]), learnt={"load": 700}), monkeypatch, guarded=True
    )
    made.send_ready()
    assert len(made.state.executing) == 1
    made.guard.remove()
    assert len(made.state.executing) == 2
    assert type(made.state) is WorkerState
