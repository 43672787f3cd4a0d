"""The breakdown's arithmetic: sums, formulas, joining and scaling."""

import dataclasses

import pytest
from builders import MiB, check_breakdown
from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.model.breakdown import (
    EMPTY,
    PARTS,
    UNKNOWN,
    Breakdown,
    Reading,
    break_down,
    exchange,
    grown_to,
    join_readings,
    scale,
)

sizes = st.integers(-(2**40), 2**70) | st.integers(0, 1000)
maybe = st.none() | sizes
readings = st.builds(
    Reading,
    time=st.floats(0, 2e9),
    rss=sizes,
    managed_claimed=sizes,
    incoming=sizes,
    outgoing=sizes,
    shuffle=sizes,
    free=maybe,
    base=maybe,
    live=sizes,
    actors=maybe,
    graph=maybe,
    file=maybe,
    base_file=maybe,
    busy=st.booleans(),
)


def parts(**reading):
    breakdown = break_down(Reading(time=0.0, **reading))
    return {name: getattr(breakdown, name) for name in (*PARTS, "error")}


@given(readings)
def test_parts_are_never_negative_and_sum_to_the_process(reading):
    breakdown = break_down(reading)
    check_breakdown(breakdown)
    assert breakdown.process == max(0, reading.rss)
    assert breakdown.unmanaged == breakdown.process - breakdown.managed >= 0


@given(readings)
def test_nothing_executes_while_no_task_is_running(reading):
    breakdown = break_down(dataclasses.replace(reading, busy=False))
    assert breakdown.executing == 0
    assert breakdown.error == 0


@given(readings)
def test_executing_is_at_least_what_tasks_hold_as_far_as_it_is_resident(reading):
    breakdown = break_down(dataclasses.replace(reading, busy=True))
    beyond = breakdown.executing + breakdown.retained
    assert breakdown.executing >= min(max(0, reading.live), beyond)


def test_a_busy_worker_is_split_by_the_formulas():
    # R 1000, managed 300, transfer 60, base 200: X = 440; L = 250, Q = 500, so that
    # retained is limited by what tasks leave of X: 440 - 250
    assert parts(
        rss=1000,
        managed_claimed=300,
        incoming=10,
        outgoing=20,
        shuffle=30,
        base=200,
        free=500,
        live=250,
        busy=True,
    ) == {
        "managed": 300,
        "transfer": 60,
        "actors": 0,
        "executing": 250,
        "retained": 190,
        "graph": 0,
        "baseline": 200,
        "error": 0,
    }


def test_a_busy_workers_error_is_what_tasks_do_not_account_for():
    # X = 1000 - 300 - 200 = 500; retained is all of Q = 100, executing 400, L = 250
    assert parts(
        rss=1000, managed_claimed=300, base=200, free=100, live=250, busy=True
    ) == {
        "managed": 300,
        "transfer": 0,
        "actors": 0,
        "executing": 400,
        "retained": 100,
        "graph": 0,
        "baseline": 200,
        "error": 150,
    }


def test_an_output_that_is_sent_from_where_it_is_stored_takes_no_room_of_a_task():
    # R 275 = 120 stored, and being sent, + 65 of an idle process + 90 of a task
    assert parts(
        rss=275, managed_claimed=120, outgoing=120, base=65, live=90, busy=True
    ) == {
        "managed": 120,
        "transfer": 0,
        "actors": 0,
        "executing": 90,
        "retained": 0,
        "graph": 0,
        "baseline": 65,
        "error": 0,
    }


def test_an_output_that_is_copied_to_be_sent_is_transfer():
    found = parts(
        rss=400, managed_claimed=120, outgoing=120, base=65, live=90, busy=True
    )
    assert (found["transfer"], found["executing"], found["baseline"]) == (120, 95, 65)


def test_an_idle_worker_has_baseline_and_retained_only():
    # X = 500, free 120: baseline = X + base - retained
    assert parts(
        rss=1000, managed_claimed=300, base=200, free=120, live=99, busy=False
    ) == {
        "managed": 300,
        "transfer": 0,
        "actors": 0,
        "executing": 0,
        "retained": 120,
        "graph": 0,
        "baseline": 580,
        "error": 0,
    }


def test_actors_and_graph_are_carved_out_of_what_an_idle_workers_baseline_would_hold():
    # rest 700, free 120: 580 are left, of which 80 + 192 are named
    found = parts(
        rss=1000, managed_claimed=300, base=200, free=120, actors=80, graph=192
    )
    assert found == {
        "managed": 300,
        "transfer": 0,
        "actors": 80,
        "executing": 0,
        "retained": 120,
        "graph": 192,
        "baseline": 308,
        "error": 0,
    }


def test_a_graph_that_came_since_the_worker_was_idle_is_not_in_execution():
    # X = 1000 - (200 + 80 + 192) = 528, of which 100 are free
    found = parts(
        rss=1000, base=200, free=100, live=400, actors=80, graph=192, busy=True
    )
    assert found == {
        "managed": 0,
        "transfer": 0,
        "actors": 80,
        "executing": 428,
        "retained": 100,
        "graph": 192,
        "baseline": 200,
        "error": 28,
    }


@given(readings)
def test_actors_and_graph_leave_the_idle_workers_other_parts_as_they_are(reading):
    # What is being sent counts only where these two leave room for a copy.
    idle = dataclasses.replace(reading, busy=False, outgoing=0)
    found = break_down(idle)
    without = break_down(dataclasses.replace(idle, actors=None, graph=None))
    for name in ("managed", "transfer", "executing", "retained"):
        assert getattr(found, name) == getattr(without, name)
    assert found.actors + found.graph + found.baseline == without.baseline
    assert found.actors <= max(0, reading.actors or 0)
    assert found.graph <= max(0, reading.graph or 0)


def test_counts_that_exceed_what_is_there_leave_no_baseline():
    found = parts(rss=300, managed_claimed=200, base=50, actors=70, graph=80)
    assert (found["actors"], found["graph"], found["baseline"]) == (70, 30, 0)


def test_managed_is_at_most_what_is_resident():
    assert parts(rss=100, managed_claimed=500, incoming=50, base=10, busy=True) == {
        "managed": 100,
        "transfer": 0,
        "actors": 0,
        "executing": 0,
        "retained": 0,
        "graph": 0,
        "baseline": 0,
        "error": 0,
    }
    assert break_down(Reading(0.0, 100, managed_claimed=500)).managed_claimed == 500


def test_transfer_is_at_most_what_managed_leaves():
    found = parts(rss=100, managed_claimed=70, shuffle=50, base=40, busy=True)
    assert (found["managed"], found["transfer"], found["baseline"]) == (70, 30, 0)


def test_tasks_that_claim_more_than_is_resident_leave_nothing_retained():
    found = parts(rss=500, base=100, free=300, live=900, busy=True)
    assert (found["executing"], found["retained"], found["error"]) == (400, 0, 500)


def test_without_allocator_and_baseline_figures_all_that_is_left_executes():
    found = parts(rss=500, managed_claimed=100, busy=True, live=300)
    assert found == {
        "managed": 100,
        "transfer": 0,
        "actors": 0,
        "executing": 400,
        "retained": 0,
        "graph": 0,
        "baseline": 0,
        "error": 100,
    }


def test_the_public_dict_holds_dasks_own_split_beside_the_sum():
    reading = Reading(
        time=0.0,
        rss=1000,
        managed_claimed=300,
        base=200,
        spilled=77,
        spilled_disk=33,
        inputs=11,
        shuffle_disk=22,
        unmanaged_old=250,
    )
    assert break_down(reading).to_dict() == {
        "process": 1000,
        "managed": 300,
        "transfer": 0,
        "actors": 0,
        "executing": 0,
        "retained": 0,
        "graph": 0,
        "baseline": 700,
        "error": 0,
        "managed_claimed": 300,
        "unmanaged": 700,
        "unmanaged_old": 250,
        "unmanaged_recent": 450,
        "inputs": 11,
        "spilled": 77,
        "spilled_disk": 33,
        "shuffle_disk": 22,
        "reclaimable": None,
    }


def test_unmanaged_recent_is_never_negative_and_unknown_without_its_old_part():
    old = break_down(Reading(0.0, 100, unmanaged_old=300))
    assert old.unmanaged_recent == 0
    assert break_down(Reading(0.0, 100)).unmanaged_recent is None


def test_before_the_first_reading_every_figure_is_unknown():
    assert set(UNKNOWN) == set(EMPTY.to_dict())
    assert set(UNKNOWN.values()) == {None}


# -- joining -------------------------------------------------------------------


def test_one_reading_is_joined_to_itself():
    reading = Reading(time=5.0, rss=100, live=3, busy=True)
    assert join_readings([reading]) is reading


def test_workers_that_share_a_process_add_up_what_they_hold_and_share_its_rss():
    one = Reading(
        time=5.0,
        rss=900,
        managed_claimed=100,
        incoming=1,
        outgoing=2,
        shuffle=3,
        free=50,
        base=200,
        live=70,
        busy=True,
        spilled=10,
        spilled_disk=None,
        unmanaged_old=7,
        graph=5,
    )
    two = Reading(
        time=6.0,
        rss=1000,
        managed_claimed=200,
        incoming=10,
        outgoing=20,
        shuffle=30,
        free=60,
        base=210,
        live=0,
        busy=False,
        spilled=5,
        spilled_disk=None,
        inputs=4,
        unmanaged_old=8,
        actors=9,
        graph=6,
    )
    joined = join_readings([two, one])
    assert joined == Reading(
        time=6.0,
        rss=1000,
        managed_claimed=300,
        incoming=11,
        outgoing=22,
        shuffle=33,
        free=60,
        base=210,
        live=70,
        busy=True,
        spilled=15,
        spilled_disk=None,
        inputs=4,
        unmanaged_old=8,
        actors=9,
        graph=11,
    )


@given(st.lists(readings, min_size=1, max_size=5))
def test_joined_readings_break_down_like_any_other(several):
    check_breakdown(break_down(join_readings(several)))


# -- adding --------------------------------------------------------------------

plain = st.integers(0, 2**50)
breakdowns = st.builds(
    Breakdown,
    **{
        f.name: plain if f.default is dataclasses.MISSING else st.none() | plain
        for f in dataclasses.fields(Breakdown)
    },
)


@given(breakdowns, breakdowns)
def test_what_is_added_and_taken_away_again_leaves_no_trace(total, other):
    after = exchange(exchange(total, EMPTY, other), other, EMPTY)
    for name in Breakdown.__slots__:
        assert (getattr(after, name) or 0) == (getattr(total, name) or 0)


def test_adding_sums_every_figure_and_its_error():
    one = Breakdown(100, 50, 10, 3, 20, 5, 2, 10, 4, 60, spilled=7)
    two = Breakdown(30, 10, 0, 1, 10, 0, 4, 5, 2, 10, inputs=1)
    both = Breakdown(130, 60, 10, 4, 30, 5, 6, 15, 6, 70, spilled=7, inputs=1)
    assert exchange(one, EMPTY, two) == both


def test_a_process_takes_the_place_of_what_it_was():
    total = Breakdown(130, 60, 10, 4, 30, 5, 6, 15, 6, 70, spilled=7, inputs=1)
    old = Breakdown(30, 10, 0, 1, 10, 0, 4, 5, 2, 10, inputs=1)
    new = Breakdown(50, 20, 5, 2, 12, 1, 3, 7, 3, 20, spilled=2)
    assert exchange(total, old, new) == Breakdown(
        150, 70, 15, 5, 32, 6, 5, 17, 7, 80, spilled=9, inputs=0
    )


def test_a_figure_that_no_process_knows_stays_unknown():
    one = Breakdown(100, 50, 10, 3, 20, 5, 2, 10, 4, 60)
    assert exchange(EMPTY, EMPTY, one).spilled is None
    assert exchange(EMPTY, EMPTY, one).unmanaged_recent is None


# -- scaling -------------------------------------------------------------------


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 2**50), max_size=8),
    st.integers(0, 2**60),
)
def test_scaled_parts_sum_exactly_and_keep_their_proportions(parts, total):
    scaled = scale(parts, total)
    assert scaled.keys() == parts.keys()
    whole = sum(parts.values())
    assert sum(scaled.values()) == (total if whole else 0)
    for name, part in parts.items():
        # off by less than one byte
        assert abs(scaled[name] * whole - part * total) < max(whole, 1)


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 99), min_size=2))
def test_scaling_does_not_depend_on_the_order_of_the_parts(parts):
    total = sum(parts.values()) * 2 // 3
    backwards = dict(reversed(parts.items()))
    assert scale(parts, total) == scale(backwards, total)


@pytest.mark.parametrize(
    ("parts", "total", "expected"),
    [
        ({"x": 100, "y": 300}, 200, {"x": 50, "y": 150}),
        ({"x": 1, "y": 1, "z": 1}, 2, {"x": 1, "y": 1, "z": 0}),
        ({"z": 1, "y": 1, "x": 1}, 1, {"x": 1, "y": 0, "z": 0}),
        ({"x": 1, "y": 2}, 100, {"x": 33, "y": 67}),
        ({"x": 0, "y": 0}, 5, {"x": 0, "y": 0}),
        ({"x": 3 * MiB}, 3 * MiB, {"x": 3 * MiB}),
        ({}, 0, {}),
    ],
)
def test_scaling_rounds_by_largest_remainder_then_by_name(parts, total, expected):
    assert scale(parts, total) == expected


@pytest.mark.parametrize(("busy", "part"), [(True, "executing"), (False, "baseline")])
def test_what_only_the_rss_shows_is_in_execution_or_nobodys(busy, part):
    before = break_down(Reading(time=0.0, rss=100 * MiB, managed_claimed=40 * MiB))
    after = grown_to(before, 250 * MiB, busy=busy)
    check_breakdown(after)
    assert after.process == 250 * MiB
    assert getattr(after, part) - getattr(before, part) == 150 * MiB
    assert after.managed == 40 * MiB


def test_a_process_that_has_not_grown_is_what_it_was():
    before = break_down(Reading(time=0.0, rss=100 * MiB))
    assert grown_to(before, 90 * MiB, busy=True) is before
    assert grown_to(None, 90 * MiB, busy=False).process == 90 * MiB


def test_a_map_that_a_task_reads_is_in_nobodys_execution():
    mapped = {"rss": 400, "base": 100, "file": 340, "base_file": 40, "busy": True}
    found = parts(**mapped)
    assert (found["executing"], found["baseline"], found["error"]) == (0, 400, 0)
    assert break_down(Reading(time=0.0, **mapped)).reclaimable == 340


def test_what_tasks_are_known_to_hold_comes_before_maps():
    found = parts(rss=400, base=100, file=340, base_file=40, live=50, busy=True)
    assert (found["executing"], found["baseline"], found["error"]) == (50, 350, 0)


def test_a_map_that_is_an_output_is_managed_and_leaves_others_alone():
    found = parts(
        rss=700, managed_claimed=300, base=100, file=340, base_file=40, live=300, busy=1
    )
    assert (found["managed"], found["executing"], found["baseline"]) == (300, 300, 100)


def test_a_figure_that_cannot_be_is_not_known():
    said = break_down(Reading(time=0.0, rss=500, inputs=-(2**40), spilled=-1))
    assert (said.inputs, said.spilled, said.spilled_disk) == (None, None, None)
