"""When a cluster is stuck, and what is no such thing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.model.event_parts import WaitingTasks
from dask_memdash.model.progress import Look, WorkerLook, follow, is_stuck

MiB = 2**20
AFTER = 10.0

#: A worker that its memory paused, and that does nothing.
FULL = WorkerLook(
    "tcp://10.0.0.1:1",
    paused=True,
    by_memory=True,
    cpu=0.03,
    rss=350 * MiB,
    counts=(288 * MiB, 0, 0, 4, 4, 0, 0),
)
OTHER = replace(FULL, address="tcp://10.0.0.2:1")
WAITING = (WaitingTasks("keep", 3, 1),)


def look(at, workers=(FULL, OTHER), **more):
    values = {"ended": 36, "waiting": WAITING, "n_workers": len(workers), **more}
    return Look(time=float(at), workers=tuple(workers), **values)


def stuck_at(looks, after=AFTER):
    """Return the times at which a cluster was seen to be stuck."""
    still, found = None, []
    for one in looks:
        still = follow(still, one)
        if is_stuck(still, one, after):
            found.append(one.time)
    return found


def test_full_workers_that_are_paused_while_tasks_are_ready_are_stuck():
    assert stuck_at(look(at) for at in range(13)) == [10.0, 11.0, 12.0]


def test_since_when_is_the_last_time_that_something_moved():
    looks = [look(0, ended=35), look(1), look(2)]
    still = None
    for one in looks:
        still = follow(still, one)
    assert still.since == 1.0


# -- what is no such thing ------------------------------------------------------


def test_an_idle_cluster_is_not_stuck():
    assert not stuck_at(look(at, waiting=()) for at in range(100))


def test_workers_that_may_start_tasks_and_have_some_are_not_stuck():
    # A long task, a slow one, a barrier: whatever it is, it runs.
    assert not stuck_at(look(at, busy_elsewhere=True) for at in range(100))


def test_a_client_that_waits_for_a_long_task_on_a_paused_worker_is_not_stuck():
    busy = replace(FULL, running=1, cpu=1.0)
    assert not stuck_at(look(at, (busy, OTHER)) for at in range(1000))


def test_a_task_that_waits_for_a_disk_is_given_six_times_as_long():
    slow = replace(FULL, running=1, cpu=0.02)
    assert stuck_at(look(at, (slow, OTHER)) for at in range(62)) == [60.0, 61.0]


def test_a_task_that_waits_for_others_and_gave_its_thread_back_does_not_count():
    waits = replace(FULL, seceded=1, cpu=0.02)
    assert stuck_at(look(at, (waits, OTHER)) for at in range(11)) == [10.0]


def test_a_seceded_task_that_computes_is_at_work():
    works = replace(FULL, seceded=1, cpu=0.9)
    assert not stuck_at(look(at, (works, OTHER)) for at in range(100))


def test_a_task_whose_processor_time_is_not_known_is_at_work():
    unknown = replace(FULL, running=1, cpu=None)
    assert not stuck_at(look(at, (unknown, OTHER)) for at in range(100))


def test_a_worker_that_is_not_heard_of_is_not_judged():
    silent = replace(FULL, heard=False)
    assert not stuck_at(look(at, (silent, OTHER)) for at in range(100))


def test_a_pause_for_a_moment_is_none():
    paused = [look(at) for at in range(9)]
    on_again = [look(9, busy_elsewhere=True)]
    again = [look(at) for at in range(10, 19)]
    assert not stuck_at([*paused, *on_again, *again])


def test_tasks_that_end_now_and_then_are_progress():
    assert not stuck_at(look(at, ended=36 + at // 8) for at in range(100))


@pytest.mark.parametrize("which", range(7))
def test_bytes_that_are_stored_spilled_sent_received_or_shuffled_are_progress(which):
    def at(time):
        counts = list(FULL.counts)
        counts[which] += time // 8
        return look(time, (replace(FULL, counts=tuple(counts)), OTHER))

    assert not stuck_at(at(time) for time in range(100))


def test_memory_that_is_given_back_bit_by_bit_is_progress():
    def at(time):
        return look(time, (replace(FULL, rss=(350 - 2 * time) * MiB), OTHER))

    assert not stuck_at(at(time) for time in range(100))


def test_memory_that_trembles_is_no_progress():
    def at(time):
        return look(time, (replace(FULL, rss=350 * MiB + time % 3 * MiB), OTHER))

    assert stuck_at(at(time) for time in range(11)) == [10.0]


def test_a_transfer_under_way_is_given_six_times_as_long():
    sends = replace(FULL, transfers=1)
    assert not stuck_at(look(at, (sends, OTHER)) for at in range(60))


def test_a_worker_that_joins_is_progress():
    joined = replace(FULL, address="tcp://10.0.0.3:1")
    looks = [look(at) for at in range(9)]
    looks += [look(at, (FULL, OTHER, joined)) for at in range(9, 18)]
    assert not stuck_at(looks)


def test_workers_that_a_user_has_paused_are_not_stuck():
    by_hand = replace(FULL, by_memory=False, rss=70 * MiB)
    assert not stuck_at(look(at, (by_hand,)) for at in range(100))


def test_a_cluster_that_has_not_got_its_first_worker_is_not_stuck():
    assert not stuck_at(look(at, (), ended=0) for at in range(1000))


def test_a_cluster_that_was_scaled_down_to_nothing_is_not_stuck():
    assert not stuck_at(look(at, (), last_died=False) for at in range(1000))


# -- no worker left -------------------------------------------------------------


def test_a_cluster_whose_last_worker_died_is_stuck_once_nobody_restarts_it():
    times = stuck_at(look(at, (), last_died=True) for at in range(22))
    assert times == [20.0, 21.0]


def test_a_worker_that_comes_back_in_time_is_progress():
    looks = [look(at, (), last_died=True) for at in range(19)]
    looks += [look(19, (), n_workers=1, busy_elsewhere=True)]
    assert not stuck_at(looks)


# -- properties -----------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.floats(0.1, 2.0),
        st.sampled_from(("ends", "stores", "spills", "sends", "joins", "computes")),
        st.integers(0, 8),
    ),
    min_size=1,
    max_size=60,
)


@given(steps, st.integers(2, 30))
def test_a_cluster_that_moves_at_least_every_second_look_is_never_stuck(moves, after):
    time, ended, counts = 0.0, 0, list(FULL.counts)
    names = [FULL.address]
    looks = []
    for wait, what, worker in moves:
        cpu = 0.02
        if what == "ends":
            ended += 1
        elif what == "joins":
            names.append(f"tcp://10.0.1.{len(names)}:{worker}")
        elif what == "computes":
            cpu = 0.5
        else:
            counts[("stores", "spills", "sends").index(what)] += 1
        for pause in (wait / 2, wait / 2):  # one look at the move, one at nothing
            time += min(pause, after / 3)
            looks.append(
                Look(
                    time,
                    ended,
                    WAITING,
                    tuple(
                        replace(
                            FULL,
                            address=name,
                            running=int(cpu > 0.1),
                            cpu=cpu,
                            counts=tuple(counts),
                        )
                        for name in names
                    ),
                    len(names),
                )
            )
    assert not stuck_at(looks, float(after))


@given(st.lists(st.floats(0.1, 3.0), min_size=1, max_size=100), st.floats(2, 60))
def test_nothing_is_stuck_before_its_time_and_all_is_after_it(waits, after):
    time, looks = 0.0, []
    for wait in waits:
        time += wait
        looks.append(look(time))
    first = looks[0].time
    assert stuck_at(looks, after) == [
        one.time for one in looks if one.time - first >= after
    ]
