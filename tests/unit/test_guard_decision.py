"""Which ready tasks start, by what runs, what is expected and what is stored."""

from dataclasses import replace

import pytest

from dask_memdash.guard.decision import (
    ALONE,
    DRAINS,
    FITS,
    FREES,
    HOPES,
    LIGHTLY,
    LOOKED_AT,
    NO_ROOM,
    NOTHING_READY,
    PAUSED,
    PROGRESS,
    SETTLED,
    SPILLING,
    UNKNOWN,
    Candidate,
    Decision,
    Running,
    Snapshot,
    decide,
)

MB = 1_000_000

#: 100 MB of 1,000 are used; a task that is to take 300 holds 50 of them.
BUSY = Snapshot(
    process=100 * MB,
    limit=1000 * MB,
    pause=800 * MB,
    end=950 * MB,
    running=(Running("load", 50 * MB, 60 * MB, 300 * MB, 1.0),),
    executing=1,
    still=0.0,
    patience=2.0,
)
IDLE = replace(BUSY, running=(), executing=0)


def task(expected=None, prefix="load", **more):
    given = None if expected is None else expected * MB
    return Candidate(prefix, given, **{name: n * MB for name, n in more.items()})


def running(held=0, peak=0, expected=None, prefix="load", seconds=1.0, **more):
    given = None if expected is None else expected * MB
    return Running(prefix, held * MB, peak * MB, given, seconds, **more)


def test_a_task_starts_that_fits_beside_what_running_ones_will_still_take():
    # 800 - 100 - (300 - 50)
    assert decide(BUSY, [task(450)]) == Decision(0, FITS, 450 * MB, 450 * MB)
    assert decide(BUSY, [task(451)]) == Decision(None, NO_ROOM, 451 * MB, 450 * MB)


def test_a_running_task_that_took_more_than_expected_may_do_so_again():
    more = replace(BUSY, running=(running(held=100, peak=500, expected=300),))
    assert decide(more, [task(300)]).start == 0
    assert decide(more, [task(301)]).start is None


def test_what_a_running_task_is_filling_counts_before_it_is_resident():
    filling = replace(BUSY, running=(running(held=10, peak=10, filling=300 * MB),))
    assert decide(filling, [task(400)]).start == 0
    assert decide(filling, [task(401)]).start is None


def test_a_task_that_has_ended_takes_no_more():
    ended = replace(BUSY, running=(running(held=50, expected=300, ended=True),))
    assert decide(ended, [task(700)]).start == 0


def test_spilled_inputs_are_read_back_and_count():
    assert decide(BUSY, [task(400, read_back=50)]).start == 0
    assert decide(BUSY, [task(400, read_back=51)]).start is None


def test_the_first_starts_whatever_it_takes_where_nothing_runs():
    assert decide(IDLE, [task(5000)]) == Decision(0, ALONE, 5000 * MB, 700 * MB)


def test_a_seceded_task_takes_memory_and_does_not_count_as_running():
    seceded = replace(BUSY, executing=0)
    assert decide(seceded, [task(5000)]).reason == ALONE
    busy = replace(seceded, executing=1)
    assert decide(busy, [task(451)]).reason == NO_ROOM


def test_a_task_waits_a_moment_for_a_worker_that_spills_but_only_if_it_must():
    spilling = replace(IDLE, process=750 * MB, spilling=True)
    assert decide(spilling, [task(201)]).reason == SPILLING
    assert decide(spilling, [task(200)]).reason == ALONE
    assert decide(replace(spilling, spilling=False), [task(201)]).reason == ALONE


def test_one_more_starts_where_those_that_run_do_not_get_on():
    still = replace(BUSY, still=2.0)
    found = decide(still, [task(5000), task(9000)])
    assert (found.start, found.reason) == (0, PROGRESS)
    assert decide(replace(still, still=1.9), [task(5000)]).start is None


def test_a_light_task_is_held_only_by_what_is_there():
    full = replace(BUSY, running=(running(held=0, expected=5000),))
    assert decide(full, [task(10)]) == Decision(0, LIGHTLY, 10 * MB, -4300 * MB)
    assert decide(full, [task(11)]).reason == NO_ROOM
    assert decide(replace(full, process=791 * MB), [task(10)]).reason == NO_ROOM


def test_others_that_fit_pass_a_held_task_while_they_may():
    tasks = [task(600), task(500), task(100)]
    assert decide(BUSY, tasks) == Decision(2, FITS, 100 * MB, 450 * MB)
    held = decide(replace(BUSY, may_pass=False), tasks)
    assert held == Decision(None, NO_ROOM, 600 * MB, 450 * MB)


def test_only_what_has_ended_here_before_passes_a_held_task():
    """It may be one that waits for the held one, and takes its thread."""
    new = replace(task(100), tried=False)
    assert decide(BUSY, [task(600), new]).start is None


def test_where_nothing_runs_what_frees_memory_goes_before_what_does_not_fit():
    tasks = [task(900), task(10), task(20, frees=30), task(10, frees=80)]
    assert decide(IDLE, tasks) == Decision(2, FREES, 20 * MB, 700 * MB)
    assert decide(IDLE, [task(700), *tasks[1:]]).start == 0
    assert decide(IDLE, [task(900), task(900, frees=99)]).reason == FREES
    assert decide(IDLE, [task(900), task(901, frees=99)]).reason == ALONE
    assert decide(replace(IDLE, may_pass=False), tasks).start == 2
    assert decide(replace(IDLE, may_free=False), tasks).start == 0


def test_only_so_many_are_looked_at():
    tasks = [task(600)] * (LOOKED_AT + 1) + [task(1)]
    assert decide(BUSY, tasks).start is None
    assert decide(BUSY, tasks[2:]).start == LOOKED_AT - 1


def test_the_next_of_an_unknown_prefix_waits_until_the_first_says_something():
    young = replace(BUSY, running=(running(seconds=SETTLED / 2, prefix="new"),))
    assert decide(young, [task(prefix="new")]).reason == UNKNOWN
    assert decide(young, [task(prefix="other")]).reason == FITS
    old = replace(young, running=(running(peak=90, prefix="new"),))
    assert decide(old, [task(prefix="new")]) == Decision(0, FITS, 90 * MB, 610 * MB)
    ended = running(peak=90, prefix="new", seconds=0.0, ended=True)
    found = decide(replace(young, running=(ended,)), [task(prefix="new")])
    assert found.need == 90 * MB


def test_an_unknown_task_is_expected_to_take_its_inputs_again():
    assert decide(BUSY, [task(prefix="join", inputs=450)]).start == 0
    assert decide(BUSY, [task(prefix="join", inputs=451)]).start is None
    assert decide(BUSY, [task(10, prefix="join", inputs=451)]).start == 0


def test_nothing_ready_is_nothing_to_start():
    assert decide(BUSY, []) == Decision(None, NOTHING_READY)


PAUSED_NOW = replace(IDLE, process=850 * MB, paused=True)


def test_a_paused_worker_runs_what_frees_most_and_fits():
    tasks = [task(10, frees=5), task(20, frees=60), task(70, frees=900), task(1)]
    # 0.96 * 950 - 850 = 62
    assert decide(PAUSED_NOW, tasks) == Decision(1, DRAINS, 20 * MB, 62 * MB)


def test_a_paused_worker_runs_one_at_a_time():
    busy = replace(PAUSED_NOW, executing=1)
    assert decide(busy, [task(1, frees=60)]).reason == PAUSED
    waits = replace(busy, still=2.0)
    assert decide(waits, [task(1, frees=60)]).reason == DRAINS


def test_a_paused_worker_starts_what_frees_nothing_only_when_all_is_still():
    tasks = [task(30), task(20)]
    assert decide(PAUSED_NOW, tasks).start is None
    found = decide(replace(PAUSED_NOW, still=2.0), tasks)
    assert (found.start, found.reason) == (1, DRAINS)


def test_a_paused_worker_tries_what_frees_memory_and_is_unknown_when_all_is_still():
    tasks = [task(prefix="total", inputs=90, frees=90)]
    assert decide(PAUSED_NOW, tasks).start is None
    assert decide(replace(PAUSED_NOW, still=2.0), tasks).reason == DRAINS


def test_a_paused_worker_starts_nothing_that_ends_it():
    still = replace(PAUSED_NOW, still=29.0)
    assert decide(still, [task(63, frees=900)]).start is None


def test_a_paused_worker_that_would_stand_still_for_ever_starts_the_smallest():
    still = replace(PAUSED_NOW, still=30.0)
    tasks = [task(90, frees=900), task(63)]
    assert decide(still, tasks).start == 0
    assert decide(still, tasks[1:]).start == 0
    assert decide(still, [*tasks, task(62)]).start == 2


# 50 MB up to the pause threshold, 300 MB stored, nothing runs.
FULL = replace(IDLE, process=750 * MB, stored=300 * MB, hope=2.0)


def test_where_nothing_is_spilled_a_task_waits_for_what_is_stored_to_go():
    lacks = task(60)
    assert decide(FULL, [lacks]) == Decision(None, HOPES, 60 * MB, 50 * MB)
    assert decide(replace(FULL, still=2.0), [lacks]).reason == ALONE
    # nothing that could go, or too little of it; or it is this task that frees it
    assert decide(replace(FULL, stored=0), [lacks]).reason == ALONE
    assert decide(replace(FULL, stored=9 * MB), [lacks]).reason == ALONE
    assert decide(FULL, [task(60, frees=1)]).reason == ALONE


def test_what_frees_memory_is_found_however_far_behind():
    behind = [*[task(60)] * (LOOKED_AT + 20), task(5, frees=40)]
    assert decide(FULL, behind).start == LOOKED_AT + 20
    assert decide(FULL, behind).reason == FREES


def test_a_worker_that_is_about_to_be_paused_runs_on_only_what_frees_memory():
    over = replace(FULL, process=810 * MB)
    assert decide(over, [task(60)]).reason == PAUSED
    assert decide(over, [task(60), task(5, frees=40)]) == Decision(
        1, DRAINS, 5 * MB, 102 * MB
    )
    # its memory monitor may be off
    assert decide(replace(over, still=2.0), [task(60)]).reason == ALONE


@pytest.mark.parametrize("process", [0, 799 * MB, 2000 * MB])
@pytest.mark.parametrize("expected", [None, 0, 10**6])
def test_an_idle_worker_always_starts_something(process, expected):
    """Whatever the figures: Dask would start it too."""
    assert decide(replace(IDLE, process=process), [task(expected)]).start == 0
