"""Readers of plain data, made once per type and place: each names its own place."""

import types

import pytest
from builders import finished

from dask_memdash.errors import EventError
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.event_parts import StorageRow
from dask_memdash.model.event_readers import from_dict, to_dict
from dask_memdash.model.events import DeathReported, WorkerReported, WorkerSampled

REPORT = {
    "time": 1.0,
    "address": "tcp://a:1",
    "pid": 17,
    "reading": {"time": 5.5, "rss": 1000},
    "rows": {"sum": [1, 2, 3, 4]},
    "executing": [
        {
            "key": "sum-1",
            "digest": "",
            "prefix": "sum",
            "thread": 7,
            "seconds": 0.5,
            "bytes": 10,
            "peak": 20,
            "error": 0,
            "method": "exact",
        }
    ],
    "finished": {"sum": to_dict(finished(1, 2000, outputs=[5]))},
    "thresholds": {},
    "method": "exact",
}


class Number(int):
    """A whole number of a type of its own, as some senders have."""


def put(data, path, value):
    """Return a copy of nested data with another value at a path."""
    if not path:
        return value
    name, *rest = path
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[name] = put(data[name] if rest else None, rest, value)
    return copy


WHOLE = (True, 1.5, "1", [], {}, b"1", float("nan"), 2**63, -(2**63) - 1)
NUMBERS = (True, None, "1", [], float("nan"), float("-inf"), 2**63)
TEXTS = (None, 1, b"x", ["x"], True)


@pytest.mark.parametrize(
    ("path", "place", "wrongs"),
    [
        (["reading", "rss"], "reading.rss", (*WHOLE, None)),
        (["reading", "free"], "reading.free", WHOLE),
        (["reading", "time"], "reading.time", NUMBERS),
        (["reading", "busy"], "reading.busy", (0, 1, None, "true")),
        (["reading"], "reading", (None, 5, "text", [], True)),
        (["rows", "sum", 3], "rows", (*WHOLE, None, -1)),
        (["rows", "sum"], "rows", (None, 5, "four", {}, [], [1, 2, 3, 4, 5])),
        (["rows", 5], "rows", ([1, 2, 3, 4],)),
        (["executing", 0, "key"], "executing.key", TEXTS),
        (["executing", 0, "seconds"], "executing.seconds", NUMBERS),
        (["executing", 0, "peak"], "executing.peak", WHOLE),
        (["executing", 0], "executing", (None, 5, "text", [])),
        (["executing"], "executing", (None, 5, "text", {})),
        (["finished", "sum", "count"], "finished.count", (*WHOLE, None)),
        (["finished", "sum", "peaks"], "finished.peaks", (None, 5, [], {}, "text")),
        (["finished", "sum", "unseen"], "finished.unseen", (None, 5, [], "text")),
        (["finished", "sum", "unseen", "small"], "finished.unseen.small", WHOLE),
        (["finished", None], "finished", (REPORT["finished"]["sum"],)),
        (["thresholds", "spill"], "thresholds.spill", WHOLE),
        (["cost"], "cost", (None, 5, [], "text")),
        (["cost"], "cost.cpu", ({"cpu": "much"}, {"cpu": float("inf")})),
        (["nanny_cost"], "nanny_cost.held_back", ({"held_back": None},)),
        (["limits"], "limits", (5, [], "text")),
        (["limits"], "limits.live", ({"live": None}, {})),
        (["limits"], "limits.facts.caps", ({"live": {}, "facts": {"caps": 5}},)),
        (["notices"], "notices", (None, 5, "text", [5], {})),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, list) else None,
)
def test_a_wrong_value_anywhere_in_a_heartbeat_is_refused_by_its_place(
    path, place, wrongs
):
    for wrong in wrongs:
        with pytest.raises(EventError, match=rf"^WorkerReported\.{place} "):
            from_dict(WorkerReported, put(REPORT, path, wrong))


def test_the_same_type_is_named_by_where_it_stands():
    sample = {"time": 1.0, "address": "a", "pid": 1, "rss": 5, "executing": []}
    for cls, data in (
        (WorkerReported, REPORT),
        (WorkerSampled, {**sample, "reading": {}, "notices": []}),
    ):
        bad = {**data, "reading": {"time": 1.0, "rss": "x"}}
        with pytest.raises(EventError, match=rf"^{cls.__name__}\.reading\.rss is 'x'"):
            from_dict(cls, bad)
    with pytest.raises(EventError, match=r"^Reading\.rss is 'x'"):
        from_dict(Reading, {"time": 1.0, "rss": "x"})


def test_the_first_wrong_field_is_named_and_later_calls_are_not_disturbed():
    with pytest.raises(EventError, match=r"^Reading\.time is missing"):
        from_dict(Reading, {"rss": "x"})
    assert from_dict(Reading, {"time": 1, "rss": 2}) == Reading(1, 2)


def test_pairs_must_be_pairs():
    death = {
        "time": 1.0,
        "address": "a",
        "pid": 1,
        "died": 1.0,
        "code": None,
        "signal": 9,
        "by": "kernel",
        "asked": False,
        "closing": False,
        "reading": None,
        "executing": [],
        "recorded": True,
    }
    built = from_dict(DeathReported, {**death, "samples": [[0.5, 7], (1, 8)]})
    assert built.samples == ((0.5, 7), (1, 8))
    for wrong in ([[0.5]], [[0.5, 7, 7]], [[0.5, 7.5]], [["x", 7]], [None], [{}]):
        with pytest.raises(EventError, match=r"^DeathReported\.samples is "):
            from_dict(DeathReported, {**death, "samples": wrong})


def test_mappings_and_numbers_of_another_type_are_as_good():
    data = types.MappingProxyType(
        {"time": Number(5), "rss": Number(1000), "free": Number(3)}
    )
    assert from_dict(Reading, data) == Reading(5, 1000, free=3)
    rows = {"sum": (Number(1), 2, 3, 4)}
    event = from_dict(WorkerReported, {**REPORT, "rows": rows})
    assert event.rows == {"sum": StorageRow(1, 2, 3, 4)}


def test_defaults_are_made_anew_for_each():
    one, two = (from_dict(WorkerReported, REPORT) for _ in range(2))
    assert one.cost == two.cost
    assert one.cost is not two.cost


def test_what_is_in_mappings_and_tuples_becomes_plain():
    data = to_dict({"a": (Reading(1.0, rss=5),), "b": None})
    assert data["a"][0]["rss"] == 5
    assert data["b"] is None
    assert type(data["a"]) is list


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"rows": {f"p{n}": [1, 1, 0, 0] for n in range(2_001)}}, "2,001 entries"),
        ({"notices": ["x"] * 2_001}, "2,001 entries"),
        ({"notices": ["x" * 4_001]}, "4,001 characters"),
        ({"rows": {"x" * 4_001: [1, 1, 0, 0]}}, "4,001 characters"),
    ],
)
def test_what_is_larger_than_our_own_senders_send_is_refused_whole(change, wrong):
    with pytest.raises(EventError, match=wrong):
        from_dict(WorkerReported, {**REPORT, **change})
