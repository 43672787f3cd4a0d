"""What empty workers have room for."""

from dataclasses import replace

from builders import A, B, MiB, added, reported

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import Thresholds
from dask_memdash.model.room import ProcessRoom, Room, joined, room_of

SPILLING = ProcessRoom(400 * MiB, 320 * MiB, 380 * MiB, spills=True, idle=60 * MiB)
UNSPILLING = ProcessRoom(400 * MiB, 320 * MiB, 380 * MiB, spills=False, idle=60 * MiB)
YOUNG = ProcessRoom(400 * MiB, None, None, spills=None, idle=None)


def test_two_workers_that_spill_store_up_to_their_limits_less_what_they_take_idle():
    assert joined([SPILLING, SPILLING]) == Room(
        processes=2, storage=680 * MiB, task=320 * MiB, unknown=""
    )


def test_workers_that_cannot_spill_store_up_to_their_pause_threshold():
    assert joined([UNSPILLING, UNSPILLING]) == Room(
        processes=2, storage=520 * MiB, task=320 * MiB, unspilling=2, unknown=""
    )


def test_one_task_has_the_limit_where_nobody_terminates():
    alone = ProcessRoom(400 * MiB, 320 * MiB, None, spills=True, idle=60 * MiB)
    assert joined([alone]).task == 340 * MiB


def test_storage_goes_to_the_limit_where_nothing_pauses():
    alone = ProcessRoom(400 * MiB, None, 380 * MiB, spills=False, idle=60 * MiB)
    assert joined([alone]).storage == 340 * MiB


def test_a_young_worker_is_taken_to_be_like_the_largest_of_the_others():
    room = joined([SPILLING, YOUNG])
    assert (room.storage, room.guessed) == (680 * MiB, 1)


def test_of_young_workers_alone_nothing_is_known():
    room = joined([YOUNG])
    assert (room.storage, room.task, room.unknown) == (None, None, "young")


def test_a_worker_without_a_limit_has_no_known_room():
    free = ProcessRoom(None, None, None, spills=False, idle=60 * MiB)
    room = joined([SPILLING, free])
    assert (room.storage, room.task, room.unknown) == (None, None, "no-limit")


def test_without_workers_there_is_no_room_to_speak_of():
    assert joined([]) == Room()


def test_room_is_never_negative():
    swollen = ProcessRoom(100 * MiB, 80 * MiB, 95 * MiB, spills=False, idle=200 * MiB)
    assert joined([swollen]).storage == 0


def test_workers_of_one_process_share_its_room():
    model = ClusterModel()
    for address in (A, B):
        model.handle(added(address=address, pid=100, limit=400 * MiB))
        model.handle(
            reported(
                address=address,
                rss=90 * MiB,
                reading={"base": 90 * MiB},
                thresholds=Thresholds(240 * MiB, None, 320 * MiB, None),
            )
        )
    assert room_of(model.processes) == Room(
        processes=1,
        storage=310 * MiB,
        task=310 * MiB,
        unknown="",
        least=310 * MiB,
        threads=4,  # two each
    )


def test_the_worker_with_least_for_each_thread_bounds_what_runs_at_once():
    four = replace(SPILLING, threads=4)
    two = replace(SPILLING, limit=300 * MiB, terminate=285 * MiB, threads=2)
    room = joined([four, two])
    assert (room.task, room.least, room.threads) == (320 * MiB, 320 * MiB, 4)
