"""The incident of a cluster that is stuck, as the model keeps it."""

from __future__ import annotations

import pytest
from builders import (
    T0,
    A,
    B,
    MiB,
    added,
    check_invariants,
    died,
    removed,
    reported,
    row,
)

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import Held, Thresholds, WaitingTasks
from dask_memdash.model.event_readers import from_dict, to_dict
from dask_memdash.model.events import (
    ClusterMoving,
    ClusterStuck,
    StorageHeld,
)
from dask_memdash.model.stalls import last_died
from dask_memdash.store.live import LiveStore

#: Spilling is off, and a worker of 429 MiB pauses at 80 %.
NO_SPILL = Thresholds(None, None, 343 * MiB, 407 * MiB)
STUCK = ClusterStuck(
    time=T0 + 30,
    since=T0 + 20,
    waiting=(WaitingTasks("keep", 3, 1),),
    n_waiting=4,
    paused=(B, A),
    n_paused=2,
    n_workers=2,
)


@pytest.fixture
def model():
    """Two workers, full of what a client holds."""
    made = ClusterModel()
    for address, pid, host in ((A, 100, "10.0.0.1"), (B, 200, "10.0.0.2")):
        made.handle(added(address=address, pid=pid, host=host, limit=429 * MiB))
        for time, rss, stored in ((1, 65, 0), (10, 353, 288)):
            rows = {"keep": row(stored * MiB, keys=18)} if stored else {}
            made.handle(
                reported(
                    address=address,
                    pid=pid,
                    time=T0 + time,
                    rss=rss * MiB,
                    rows=rows,
                    thresholds=NO_SPILL,
                    reading={"base": 65 * MiB, "managed_claimed": stored * MiB},
                )
            )
        held = Held(
            288 * MiB,
            0,
            {},
            because={"pinned": 288 * MiB},
            clients={"Client-1": 288 * MiB},
        )
        made.handle(StorageHeld(T0 + 12, address, {"keep": held}))
    yield made
    check_invariants(made)


def stuck(model):
    return [i for i in LiveStore(model).incidents() if i["kind"] == "stuck"]


def test_the_cycle_is_named_with_who_waits_and_who_holds(model):
    model.handle(STUCK)
    (incident,) = stuck(model)
    diagnosis = incident["diagnosis"]
    assert (diagnosis["cause"], diagnosis["responsible"]["prefix"]) == (
        "pinned",
        "keep",
    )
    assert diagnosis["text"] == (
        "Nothing has moved for 10 s: 4 tasks of `keep` are ready, and all workers are "
        "paused, above the pause threshold. Cause: a client holds results. 576 MiB of "
        "`keep` fill the workers; client Client-1 holds their futures. Spilling is off."
    )
    assert (incident["time"], incident["until"]) == (T0 + 30, None)
    assert LiveStore(model).incident(incident["id"])["stuck"] == {
        "since": T0 + 20,
        "waiting": [{"prefix": "keep", "queued": 3, "assigned": 1}],
        "n_waiting": 4,
        "n_paused": 2,
        "n_workers": 2,
        "by_hand": 0,
        "running": 0,
        "unreceived": 0,
        "spilling": False,
        "holding": [
            {
                "prefix": "keep",
                "bytes": 576 * MiB,
                "because": {"pinned": 576 * MiB},
                "clients": {"Client-1": 576 * MiB},
                "awaited_by": {},
            }
        ],
        "deaths": [],
    }


def test_it_is_closed_when_something_moves(model):
    model.handle(STUCK)
    model.handle(ClusterMoving(T0 + 40))
    assert stuck(model)[0]["until"] == T0 + 40


def test_what_moves_without_having_been_stuck_is_nothing(model):
    model.handle(ClusterMoving(T0 + 40))
    assert stuck(model) == []


def again(since, time):
    return from_dict(ClusterStuck, {**to_dict(STUCK), "since": since, "time": time})


def test_it_goes_on_if_it_is_stuck_again_at_once(model):
    model.handle(STUCK)
    model.handle(ClusterMoving(T0 + 40))
    model.handle(again(T0 + 41, T0 + 51))
    assert [i["until"] for i in stuck(model)] == [None]


def test_it_is_another_one_if_it_moved_for_long(model):
    model.handle(STUCK)
    model.handle(ClusterMoving(T0 + 40))
    model.handle(again(T0 + 80, T0 + 90))
    assert [i["until"] for i in stuck(model)] == [None, T0 + 40]


def test_telling_it_again_changes_nothing_while_nothing_has_changed(model):
    model.handle(STUCK)
    revision = next(iter(model.incidents)).revision
    model.handle(again(T0 + 20, T0 + 35))
    assert next(iter(model.incidents)).revision == revision + 1  # `until` stays None


def test_workers_that_have_gone_meanwhile_are_left_out(model):
    model.handle(removed(address=B, expected=True, time=T0 + 25))
    model.handle(STUCK)
    holding = LiveStore(model).incident(stuck(model)[0]["id"])["stuck"]["holding"]
    assert [h["bytes"] for h in holding] == [288 * MiB]


def test_with_no_worker_left_the_deaths_are_named(model):
    model.handle(removed(address=A, time=T0 + 20))
    model.handle(died(address=A, time=T0 + 20.1, by="nanny"))
    model.handle(removed(address=B, time=T0 + 21))
    model.handle(died(address=B, pid=200, time=T0 + 21.1, by="nanny"))
    assert last_died(model.processes, model.incidents)
    empty = {**to_dict(STUCK), "time": T0 + 41, "paused": [], "n_paused": 0}
    model.handle(from_dict(ClusterStuck, {**empty, "n_workers": 0}))
    (incident,) = stuck(model)
    text = incident["diagnosis"]["text"]
    assert "4 tasks of `keep` are ready, and no worker is left." in text
    assert "It died in incidents #1, #2." in text
    assert incident["diagnosis"]["advice"][-1].startswith("Start workers:")
    assert LiveStore(model).incident(incident["id"])["stuck"]["deaths"] == ["1", "2"]


def test_a_worker_that_was_asked_to_leave_has_not_died(model):
    model.handle(removed(address=B, expected=True, time=T0 + 20))
    assert not last_died(model.processes, model.incidents)
