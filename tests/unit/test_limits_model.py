"""Facts about limits in events, model, store: kept, summed up, given in shape."""

import dataclasses
import json
import typing
from dataclasses import replace

import pytest
from builders import T0, MiB, added, removed, reported
from fake_store import wrong_limits
from layouts import thresholds

from dask_memdash.errors import EventError
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_readers import from_dict, to_dict
from dask_memdash.model.events import WorkerReported
from dask_memdash.model.evidence import HostFacts
from dask_memdash.model.limit_facts import (
    Allocator,
    Cap,
    LimitFacts,
    LimitReport,
    LiveFigures,
    Scratch,
)
from dask_memdash.model.memory_pools import host_facts
from dask_memdash.store import limit_shapes
from dask_memdash.store.live import LiveStore

GiB = 1024 * MiB
A, B = "tcp://10.0.0.1:1", "tcp://10.0.0.1:2"

HOST = Cap("host", "MemTotal", "/proc/meminfo", 16 * GiB, "kills", "machine-1")
GROUP = Cap("cgroup", "memory.max", "/g/memory.max", 4 * GiB, "kills", "g", 700)
FACTS = LimitFacts(
    caps=(HOST, GROUP),
    machine="machine-1",
    environment="kubernetes",
    set_by="auto",
    dask=16 * GiB,
    cpus=8,
    rss=100,
    swap_total=0,
    swap_limit=0,
    allocator=Allocator(65536, 2, "glibc"),
    scratch=Scratch("/tmp", "tmpfs", 5, 4),
    spills=True,
    first=LiveFigures(9 * GiB, 700, 1, 0.5, 4),
    skipped=("/x holds 'y', which is no size",),
)


def limited(*workers):
    """Make a model of workers: (address, pid, limit, facts or None)."""
    model = ClusterModel()
    for address, pid, limit, facts in workers:
        report = None if facts is None else LimitReport(facts.first, facts)
        model.handle(added(address, pid, limit=limit))
        marks = thresholds(limit)
        model.handle(
            reported(address, pid, rss=100 * MiB, thresholds=marks, limits=report)
        )
    return model


def test_facts_are_frozen_slotted_and_survive_json():
    report = LimitReport(LiveFigures(available=5), FACTS)
    data = json.loads(json.dumps(to_dict(report), allow_nan=False))
    assert from_dict(LimitReport, data) == report
    for value in (report, FACTS, GROUP, FACTS.first, FACTS.allocator, FACTS.scratch):
        assert not hasattr(value, "__dict__")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)


def test_a_heartbeat_without_limits_is_understood():
    data = to_dict(reported())
    del data["limits"]
    assert from_dict(WorkerReported, data).limits is None


def test_malformed_limits_are_refused_by_name():
    data = to_dict(reported(limits=LimitReport(LiveFigures(), FACTS)))
    data["limits"]["facts"]["caps"][0]["bytes"] = "much"
    with pytest.raises(EventError, match=r"WorkerReported\.limits\.facts\.caps\.bytes"):
        from_dict(WorkerReported, data)


def test_facts_stay_when_only_live_figures_follow():
    model = limited((A, 7, GiB, FACTS))
    live = LiveFigures(available=1)
    model.handle(reported(A, 7, T0 + 5, limits=LimitReport(live)))
    model.handle(reported(A, 7, T0 + 6))
    worker = model.processes.workers[A]
    assert worker.facts == FACTS
    assert worker.live == live


def test_what_neighbours_held_is_noted_with_the_facts():
    model = limited((A, 7, GiB, FACTS), (B, 8, GiB, FACTS))
    assert model.processes.workers[A].beside == {("10.0.0.1", 7): 100 * MiB}
    assert model.processes.workers[B].beside == {
        ("10.0.0.1", 7): 100 * MiB,
        ("10.0.0.1", 8): 100 * MiB,
    }


def test_machines_of_other_names_are_not_neighbours():
    model = limited((A, 7, GiB, FACTS))
    far = dataclasses.replace(FACTS, machine="machine-2")
    model.handle(added("tcp://10.0.0.2:1", 7, host="10.0.0.2"))
    model.handle(
        reported("tcp://10.0.0.2:1", 7, limits=LimitReport(LiveFigures(), far))
    )
    assert len(model.processes.workers["tcp://10.0.0.2:1"].beside) == 1


def test_machines_that_share_an_address_are_told_apart():
    """Two workers behind tunnels: both say 127.0.0.1."""
    far = dataclasses.replace(FACTS, machine="machine-2")
    model = limited((A, 7, GiB, FACTS), (B, 8, GiB, far))
    assert [a["n_siblings"] for a in LiveStore(model).limits()] == [1, 1]


def test_a_worker_that_has_not_reported_is_put_with_its_neighbours():
    model = limited((A, 7, GiB, FACTS), (B, 8, GiB, None))
    assert [a["siblings"] for a in LiveStore(model).limits()] == [2 * GiB] * 2


# -- what the diagnosis is told ----------------------------------------------------


def test_nothing_is_told_before_the_first_report():
    model = limited((A, 7, GiB, None))
    assert host_facts(model.processes, model.processes.workers[A]) is None


def test_a_cgroup_below_the_limit_is_told():
    model = limited((A, 7, 8 * GiB, FACTS))
    assert host_facts(model.processes, model.processes.workers[A]) == HostFacts(
        limit=8 * GiB,
        effective=4 * GiB,
        source="cgroup",
        available=9 * GiB,
        siblings=8 * GiB,
        verdict="not-seen",
        machine=16 * GiB,
    )


def test_of_a_crowded_machine_the_workers_part_is_told():
    roomy = dataclasses.replace(FACTS, caps=(HOST,))
    model = limited((A, 7, 6 * GiB, roomy), (B, 8, 12 * GiB, roomy))
    told = host_facts(model.processes, model.processes.workers[A])
    assert told is not None
    assert told.siblings == 18 * GiB
    assert told.verdict == "too-high"
    assert told.source == "host"
    # a third of what was available and of what both held
    assert told.effective == (9 * GiB + 200 * MiB) // 3


def test_a_limit_that_fits_is_told_to_be_all_right():
    model = limited((A, 7, 2 * GiB, FACTS))
    told = host_facts(model.processes, model.processes.workers[A])
    assert told is not None
    assert (told.verdict, told.effective) == ("ok", 4 * GiB)


def test_an_incident_keeps_what_was_known_of_the_host():
    model = limited((A, 7, 8 * GiB, FACTS))
    model.handle(removed(A, T0 + 10))
    (incident,) = model.incidents
    assert incident.facts is not None
    assert incident.facts.host is not None
    assert incident.facts.host.effective == 4 * GiB


# -- the store ---------------------------------------------------------------------


def keys_match(value, shape):
    assert set(value) == set(typing.get_type_hints(shape))


@pytest.mark.parametrize(
    "audits",
    [
        LiveStore(limited((A, 7, 8 * GiB, FACTS), (B, 8, None, None))).limits(),
        wrong_limits().limits(),
    ],
    ids=["live", "fake"],
)
def test_audits_have_the_shape_of_the_contract(audits):
    json.dumps(audits, allow_nan=False)
    assert audits
    for audit in audits:
        keys_match(audit, limit_shapes.LimitAudit)
        keys_match(audit["live"], limit_shapes.LimitLive)
        keys_match(audit["headroom"], limit_shapes.LimitHeadroom)
        assert set(audit["sources"]) == {
            "host",
            "cgroup",
            "batch",
            "rlimit",
            "available",
        }
        for link in audit["chain"]:
            keys_match(link, limit_shapes.LimitLink)
        for finding in audit["findings"]:
            keys_match(finding, limit_shapes.LimitFinding)
        if audit["scratch"] is not None:
            keys_match(audit["scratch"], limit_shapes.LimitScratch)


def test_an_audit_in_full():
    (audit,) = LiveStore(limited((A, 7, 8 * GiB, FACTS))).limits()
    assert audit["verdict"] == "not-seen"
    assert audit["severity"] == "bad"
    assert (audit["effective"], audit["source"]) == (4 * GiB, "cgroup")
    assert audit["sources"] == {
        "host": 16 * GiB,
        "cgroup": 4 * GiB,
        "batch": None,
        "rlimit": None,
        "available": 9 * GiB,
    }
    assert audit["siblings"] == 8 * GiB
    assert [(link["level"], link["bytes"]) for link in audit["chain"]] == [
        ("host", 16 * GiB),
        ("available", 9 * GiB),
        ("cgroup", 4 * GiB),
        ("siblings", 8 * GiB),
        ("worker", 8 * GiB),
    ]
    assert [link["binding"] for link in audit["chain"]] == [False] * 2 + [True] + (
        [False] * 2
    )
    assert [f["verdict"] for f in audit["findings"]] == ["not-seen", "scratch"]
    assert audit["recommended"] == 4 * GiB
    assert audit["headroom"]["bytes"] == 8 * GiB - 100 * MiB
    assert audit["environment"] == "kubernetes"


def test_no_other_limit_is_recommended_where_the_limit_fits():
    fitting = replace(FACTS, scratch=None)
    (audit,) = LiveStore(limited((A, 7, GiB, fitting))).limits()
    assert (audit["verdict"], audit["findings"]) == ("ok", [])
    assert audit["recommended"] is None


def test_a_hint_that_asks_for_something_else_recommends_no_limit():
    (audit,) = LiveStore(limited((A, 7, GiB, FACTS))).limits()
    assert [f["verdict"] for f in audit["findings"]] == ["scratch"]
    assert audit["recommended"] is None


def test_the_worst_audit_comes_first_and_pages_work():
    store = LiveStore(limited((A, 7, GiB, None), (B, 8, 5 * GiB, FACTS)))
    assert [a["verdict"] for a in store.limits()] == ["not-seen", "unknown"]
    assert [a["address"] for a in store.limits()] == [B, A]
    assert store.limits(limit=1, offset=1) == store.limits()[1:]


def test_workers_that_share_a_process_are_one_among_siblings():
    model = ClusterModel()
    for address in (A, B):
        model.handle(added(address, 7, limit=GiB))
        report = LimitReport(FACTS.first, FACTS)
        model.handle(reported(address, 7, thresholds=thresholds(GiB), limits=report))
    audits = LiveStore(model).limits()
    assert [(a["siblings"], a["n_siblings"]) for a in audits] == [(GiB, 1)] * 2


def test_names_of_many_digits_are_ordered_as_text():
    model = limited((A, 7, GiB, FACTS))
    model.handle(added(B, 8, name="9" * 5000))
    assert len(LiveStore(model).limits()) == 2


def test_many_audits_are_not_made_again_at_once():
    model = ClusterModel()
    for number in range(100):
        model.handle(added(f"tcp://10.0.0.1:{number}", number))
    store = LiveStore(model)
    assert len(store.limits()) == 100
    model.handle(added("tcp://10.0.0.1:100", 100, T0 + 0.4))
    assert len(store.limits()) == 100
    model.handle(added("tcp://10.0.0.1:101", 101, T0 + 0.5))
    assert len(store.limits()) == 102


def test_few_audits_are_always_new():
    model = limited((A, 7, GiB, FACTS))
    store = LiveStore(model)
    assert len(store.limits()) == 1
    model.handle(added(B, 8))
    assert len(store.limits()) == 2
