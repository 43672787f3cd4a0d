"""Which inputs are fetched and which outputs are sent, by what fits."""

from dataclasses import replace

import pytest

from dask_memdash.guard.decision import (
    ALONE,
    FITS,
    FREES,
    MAKES_ROOM,
    MAKING_ROOM,
    MOVING,
    NO_ROOM,
    Candidate,
    Running,
    Snapshot,
    decide,
)
from dask_memdash.guard.transfers import LONGEST, PATIENCE, may_fetch, may_send

MB = 1_000_000

#: 300 MB of 800 up to the pause threshold are free, and nothing runs.
IDLE = Snapshot(
    process=500 * MB,
    limit=1000 * MB,
    pause=800 * MB,
    end=950 * MB,
    running=(),
    executing=0,
    still=0.0,
    patience=2.0,
)
BUSY = replace(
    IDLE, running=(Running("load", 50 * MB, 50 * MB, 150 * MB, 1.0),), executing=1
)


def task(expected, **more):
    return Candidate(
        "load", expected * MB, **{name: n * MB for name, n in more.items()}
    )


def fetch(now, size, *, ready=False, waited=0.0):
    return may_fetch(now, size * MB, ready=ready, waited=waited)


def send(now, size, *, waited=0.0):
    return may_send(now, size * MB, waited=waited)


# -- what is moved counts where tasks start ------------------------------------


def test_what_is_on_its_way_and_what_others_wait_for_count():
    assert decide(BUSY, [task(200)]).reason == FITS
    for name in ("incoming", "owed"):
        moving = replace(BUSY, **{name: 50 * MB})
        assert decide(moving, [task(150)]).reason == FITS
        assert decide(moving, [task(151)]).reason == NO_ROOM


def test_what_is_being_sent_is_in_memory_already():
    assert decide(replace(BUSY, outgoing=200 * MB), [task(200)]).reason == FITS


def test_inputs_that_a_started_task_still_reads_back_count():
    begins = replace(
        BUSY, running=(Running("load", 0, 0, 100 * MB, 0.0, read_back=60 * MB),)
    )
    assert decide(begins, [task(140)]).start == 0
    assert decide(begins, [task(141)]).start is None


def test_where_nothing_runs_the_first_waits_for_room_to_be_made():
    stored = replace(IDLE, evictable=1 * MB)
    held = decide(stored, [task(301)])
    assert (held.start, held.reason) == (None, MAKES_ROOM)
    assert (held.need, held.room) == (301 * MB, 300 * MB)
    assert decide(stored, [task(300)]).reason == ALONE
    # its own inputs make none
    assert decide(stored, [task(301, inputs=1)]).reason == ALONE
    assert decide(stored, [task(280, inputs=30, read_back=30)]).reason == MAKES_ROOM


@pytest.mark.parametrize("name", ["incoming", "outgoing", "owed"])
def test_where_nothing_runs_the_first_waits_for_what_is_moved(name):
    moving = replace(IDLE, **{name: 1 * MB})
    assert decide(moving, [task(301)]).reason == MOVING
    assert decide(moving, [task(299)]).reason == ALONE


def test_it_waits_for_no_longer_than_a_while():
    late = replace(IDLE, evictable=9 * MB, incoming=9 * MB, making_room=MAKING_ROOM)
    assert decide(late, [task(5000)]).reason == ALONE


def test_what_frees_memory_goes_before_one_that_waits_for_room_only_if_it_fits():
    stored = replace(IDLE, evictable=1 * MB)
    assert decide(stored, [task(900), task(300, frees=5)]).reason == FREES
    assert decide(stored, [task(900), task(301, frees=5)]).reason == MAKES_ROOM


# -- fetching ------------------------------------------------------------------


def test_an_input_that_fits_is_fetched():
    assert fetch(BUSY, 200)
    assert not fetch(BUSY, 201)
    assert not fetch(replace(BUSY, incoming=50 * MB), 151)


def test_an_input_that_does_not_fit_waits_for_what_runs_and_gets_on():
    assert not fetch(BUSY, 201, waited=LONGEST - 1)
    assert fetch(BUSY, 201, waited=LONGEST)
    # what runs may wait for it
    assert fetch(replace(BUSY, still=2.0), 301)


def test_where_nothing_runs_it_is_fetched_unless_something_else_makes_room():
    assert fetch(IDLE, 5000)
    assert not fetch(IDLE, 5000, ready=True)
    for name in ("incoming", "outgoing", "evictable"):
        moving = replace(IDLE, **{name: 1 * MB})
        assert not fetch(moving, 5000)
        assert fetch(moving, 5000, waited=PATIENCE)


# -- sending -------------------------------------------------------------------


def test_what_is_in_memory_is_sent_whatever_there_is():
    assert send(replace(BUSY, process=2000 * MB), 0)


def test_what_fits_once_it_is_read_back_is_sent():
    assert send(BUSY, 200)
    assert not send(BUSY, 201)
    # what others wait for is this very thing
    assert send(replace(BUSY, owed=200 * MB), 200)


def test_what_does_not_fit_is_sent_later_and_not_never():
    assert not send(BUSY, 201, waited=LONGEST - 1)
    assert send(BUSY, 201, waited=LONGEST)
    assert send(replace(BUSY, still=2.0), 301)
    assert send(IDLE, 5000)
    for name in ("incoming", "outgoing", "evictable"):
        moving = replace(IDLE, **{name: 1 * MB})
        assert not send(moving, 5000)
        assert send(moving, 5000, waited=PATIENCE)
