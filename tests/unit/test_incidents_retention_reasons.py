"""Why outputs were held: every byte for one reason."""

import pytest
from builders import MiB
from cases import case, facts, held, order, parts, stored

from dask_memdash.analysis.incidents.retention_reasons import (
    Reason,
    held_in_memory,
    reasons,
    waiting_for,
    wanted_by,
)
from dask_memdash.model.event_parts import Held


def holding(why, **more):
    return case(
        breakdown=parts(managed=300),
        storage=(stored("open", 300, 100),),
        facts=facts(held={"open": why}, **more),
    )


def test_reasons_are_scaled_to_what_is_stored_in_memory_and_on_disk():
    known = reasons(holding(held(by="sum", awaited=100, pinned=50, replica=50)))
    assert known == {
        "open": [
            Reason("awaited", "sum", 200 * MiB),
            Reason("pinned", None, 100 * MiB),
            Reason("replica", None, 100 * MiB),
        ]
    }


def test_what_several_prefixes_wait_for_is_shared_among_them():
    why = Held(0, 90, {"sum": 60, "mean": 30}, because={"awaited": 90})
    assert reasons(holding(why))["open"] == [
        Reason("awaited", "sum", 279_620_267),
        Reason("awaited", "mean", 139_810_133),
    ]


def test_a_prefix_that_was_not_looked_at_is_held_for_other_reasons():
    known = case(storage=(stored("open", 3), stored("none", 0)))
    assert reasons(known) == {"open": [Reason("other", None, 3 * MiB)], "none": []}


@pytest.mark.parametrize(
    ("ideal", "ahead_of_all", "expected"),
    [
        (100, 400, {"run-ahead": 300, "awaited": 100}),
        (400, 400, {"awaited": 400}),
        (250, 400, {"run-ahead": 150, "awaited": 250}),
    ],
)
def test_awaited_outputs_beyond_the_order_are_run_ahead(ideal, ahead_of_all, expected):
    known = holding(
        held(by="sum", awaited=400),
        order=order(ideal, 400, {"open": 300}),
        awaited={"open": 400},
    )
    found = {r.why: r.bytes // MiB for r in reasons(known)["open"]}
    assert found == expected
    assert {r.prefix for r in reasons(known)["open"]} == {"sum"}


def test_only_what_is_in_memory_counts_for_a_cause():
    known = holding(held(pinned=400))
    assert held_in_memory(known, "pinned") == {"open": 300 * MiB}
    assert held_in_memory(known, "awaited") == {}


def test_prefixes_are_scaled_to_what_the_flight_recorder_says_was_stored():
    known = case(
        breakdown=parts(managed=600),
        storage=(stored("open", 200), stored("sum", 100)),
    )
    assert known.stored() == {"open": 400 * MiB, "sum": 200 * MiB}


def test_the_prefix_that_waits_for_most_comes_first():
    why = Held(0, 9, {"sum": 3, "mean": 6})
    assert waiting_for(holding(why), "open") == ["mean", "sum"]
    assert waiting_for(holding(why), "unknown") == []


def test_the_client_that_pins_most_is_named():
    why = Held(9, 0, {}, because={"pinned": 9}, clients={"a": 3, "b": 9})
    assert [r.client for r in reasons(holding(why))["open"]] == ["b"]
    assert wanted_by(holding(why), "unknown") is None
