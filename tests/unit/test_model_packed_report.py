"""A worker's report, packed into one run of numbers and rebuilt."""

from __future__ import annotations

import random
import struct

import pytest

from dask_memdash.errors import EventError
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.event_parts import (
    Executing,
    Finished,
    LargestBlock,
    SelfCost,
    SpillRoom,
    StorageRow,
    Thresholds,
    Unseen,
    Weighed,
)
from dask_memdash.model.event_readers import to_dict
from dask_memdash.model.events import WorkerReported
from dask_memdash.model.limit_facts import LimitReport, LiveFigures
from dask_memdash.model.packed_report import ABSENT, unpack
from dask_memdash.model.quantiles import QuantileSketch
from dask_memdash.plugins.worker.packing import pack

A = "tcp://10.0.0.1:1"
BLOCK = LargestBlock(2**25, "lib/blocks.py", 12, "make", "np.zeros")

FULL = WorkerReported(
    time=9.0,
    address=A,
    pid=100,
    reading=Reading(
        time=8.5,
        rss=1,
        managed_claimed=2,
        incoming=3,
        outgoing=4,
        shuffle=5,
        free=6,
        arrow_kept=7,
        base=8,
        live=9,
        busy=True,
        spilled=10,
        spilled_disk=11,
        inputs=12,
        shuffle_disk=13,
        unmanaged_old=77,
        anon=14,
        file=15,
        shmem=16,
        base_file=17,
        loaded=18,
        actors=19,
        graph=20,
    ),
    rows={"sum": StorageRow(1, 2, 3, 4), "load": StorageRow(5, 2**62, 0, 0)},
    executing=(
        Executing("sum-1", "", "sum", 7, 0.25, 10, 20, 0, "exact", 99, False, 3, BLOCK),
        Executing("k" * 900, "abc", "load", None, 1.5, None, None, None, "none"),
        Executing("sum-2", "", "sum", 8, 0.0, 1, 2, 3, "hwm", None, True),
    ),
    finished={
        "sum": Finished(
            3,
            "exact",
            QuantileSketch.of([5, 5, 2**40]),
            QuantileSketch.of([0, 0, 0]),
            QuantileSketch.of([0, 1, 10**9]),
            Weighed(2, 30, -40, "memory maps"),
            Unseen(1, 2, 3, 4),
        ),
        "load": Finished(
            1, "none", QuantileSketch(), QuantileSketch(), QuantileSketch.of([7])
        ),
    },
    thresholds=Thresholds(1, 2, None, 4),
    method="exact",
    notices=("a sentence",),
    cost=SelfCost(0.0125, 30, 1),
    nanny_cost=SelfCost(None, None, 0),
    limits=LimitReport(LiveFigures(available=5)),
    spill_room=SpillRoom(None, 50, False),
)

LEAST = WorkerReported(
    time=9.0,
    address=A,
    pid=100,
    reading=Reading(time=8.5, rss=1, unmanaged_old=77),
    rows=None,
    executing=(),
    finished={},
    thresholds=Thresholds(),
    method="none",
)


def plain(event):
    message = to_dict(event)
    del message["time"], message["address"]
    return {"protocol": 2, **message}


def read(message):
    return unpack(message, 9.0, A, 77)


def numbers(message):
    return list(struct.unpack(f"<{len(message['packed']) // 8}q", message["packed"]))


def with_numbers(message, run):
    return {**message, "packed": struct.pack(f"<{len(run)}q", *run)}


@pytest.mark.parametrize("event", [FULL, LEAST], ids=["full", "least"])
def test_a_report_is_the_same_after_its_way(event):
    assert to_dict(read(pack(plain(event)))) == to_dict(event)


def test_no_rows_and_rows_that_are_gone_are_told_apart():
    empty = {**plain(LEAST), "rows": {}}
    assert read(pack(empty)).rows == {}
    assert read(pack(plain(LEAST))).rows is None


def test_parts_that_say_nothing_do_not_travel():
    assert set(pack(plain(LEAST))) == {"protocol", "pid", "names", "packed"}


def test_each_text_travels_once():
    names = pack(plain(FULL))["names"]
    assert len(names) == len(set(names))
    assert {"sum", "load", "sum-1", "lib/blocks.py", "memory maps"} <= set(names)


@pytest.mark.parametrize(
    "change",
    [
        {"reading": {**to_dict(FULL.reading), "rss": 2**70}},
        {"method": "m" * 2000},
        {"rows": {"sum": [1, 2]}},
        {"rows": {"sum": ["a", 2, 3, 4]}},
        {"thresholds": None},
    ],
)
def test_what_does_not_fit_travels_as_it_is(change):
    message = {**plain(FULL), **change}
    assert pack(message) == message


@pytest.mark.parametrize(
    "change",
    [
        {"names": None},
        {"names": "text"},
        {"names": [1, 2]},
        {"names": []},
        {"names": ["x" * 1001]},
        {"names": ["x"] * 20_000},
        {"packed": None},
        {"packed": "text"},
        {"packed": b""},
        {"packed": b"1234567"},
        {"packed": bytes(2**20 + 8)},
        {"pid": "four"},
        {"pid": None},
        {"pid": 2**70},
        {"notices": 7},
        {"limits": {"live": 3}},
    ],
    ids=str,
)
def test_what_is_damaged_is_refused(change):
    with pytest.raises(EventError):
        read({**pack(plain(FULL)), **change})


def test_a_run_that_is_cut_short_or_goes_on_is_refused():
    message = pack(plain(FULL))
    run = numbers(message)
    for length in range(len(run)):
        with pytest.raises(EventError):
            read(with_numbers(message, run[:length]))
    with pytest.raises(EventError):
        read(with_numbers(message, [*run, 0]))
    least = pack(plain(LEAST))
    with pytest.raises(EventError):
        read(with_numbers(least, [*numbers(least), 0]))


@pytest.mark.parametrize("number", [ABSENT, -(2**62), -2, -1, 2**40, 2**63 - 1])
def test_a_wrong_number_is_refused_or_is_a_figure(number):
    message = pack(plain(FULL))
    run = numbers(message)
    for place in range(len(run)):
        try:
            event = read(
                with_numbers(message, [*run[:place], number, *run[place + 1 :]])
            )
        except EventError:
            continue
        assert all(min(row) >= 0 for row in (event.rows or {}).values())
        assert len(event.executing) == 3
        for done in event.finished.values():
            assert done.count > 0
            for sketch in (done.peaks, done.errors, done.outputs):
                assert sum(sketch.buckets.values()) == sketch.count
                assert all(0 <= b < 2200 and n > 0 for b, n in sketch.buckets.items())


def test_noise_is_refused():
    chance = random.Random(3)
    message = pack(plain(FULL))
    run = numbers(message)
    for _ in range(2000):
        noisy = list(run)
        for _ in range(chance.randint(1, 8)):
            noisy[chance.randrange(len(run))] = chance.randint(-(2**63), 2**63 - 1)
        try:
            event = read(with_numbers(message, noisy))
        except EventError:
            continue
        assert isinstance(event, WorkerReported)


def test_a_sketch_of_zeros_is_not_changed_by_those_it_is_added_to():
    first, second = (read(pack(plain(FULL))).finished["sum"].errors for _ in range(2))
    total = QuantileSketch()
    total.merge(first)
    total.merge(second)
    assert (total.count, total.buckets, first.count) == (6, {0: 6}, 3)
    assert read(pack(plain(FULL))).finished["sum"].errors.count == 3
