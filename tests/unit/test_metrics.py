"""The cluster's and a worker's figures as Prometheus gets them."""

import logging
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from builders import (
    T0,
    B,
    MiB,
    added,
    died,
    executing,
    finished,
    killed,
    removed,
    reported,
    row,
)
from hypothesis import given
from hypothesis import strategies as st

from dask_memdash import terms
from dask_memdash.metrics import registry
from dask_memdash.metrics.family import gauge
from dask_memdash.metrics.largest_prefixes import LargestPrefixes
from dask_memdash.metrics.scheduler import SchedulerFigures
from dask_memdash.metrics.walk import LOOKED_AT, NEWEST, PrefixRounds
from dask_memdash.metrics.worker import worker_families
from dask_memdash.model.breakdown import Reading, break_down
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import SelfCost
from dask_memdash.model.events import Ticked
from dask_memdash.model.prefixes import Prefixes

prometheus_client = pytest.importorskip("prometheus_client")
parser = pytest.importorskip("prometheus_client.parser")

PARTS = ["managed", "transfer", "actors", "executing", "retained", "graph", "baseline"]


def feed(model, *events):
    for event in events:
        model.handle(event)


def by_name(families):
    found = {family.name: family.samples for family in families}
    assert len(found) == len(families)
    return found


def figures(model):
    return by_name(SchedulerFigures(model).families())


# -- the cluster's figures -----------------------------------------------------


def test_a_cluster_without_workers_says_nothing_of_memory():
    found = figures(ClusterModel())
    assert found["memdash_memory_bytes"] == {}
    assert found["memdash_limit_bytes"] == {}
    assert found["memdash_worker_memory_maximum_bytes"] == {}
    assert found["memdash_workers"][("measured",)] == 0
    assert found["memdash_incidents"][("oom-killed",)] == 0
    assert set(found["memdash_failures"]) == {(cause,) for cause in terms.CAUSES}


def test_sums_and_maxima_are_over_worker_processes(model):
    feed(
        model,
        added(),
        added(B, 200),
        reported(rows={"a": row(100 * MiB)}, reading={"base": 200 * MiB}),
        reported(B, 200, rss=700 * MiB, rows={"a": row(650 * MiB)}),
    )
    found = figures(model)
    memory = found["memdash_memory_bytes"]
    assert [kind for (kind,) in memory] == PARTS
    assert sum(memory.values()) == 1100 * MiB
    assert memory[("managed",)] == 750 * MiB
    assert found["memdash_limit_bytes"] == {(): 2000 * MiB}
    most = found["memdash_worker_memory_maximum_bytes"]
    assert most[("process",)] == 700 * MiB
    assert most[("managed",)] == 650 * MiB
    assert most[("baseline",)] == 300 * MiB
    assert found["memdash_worker_limit_ratio_maximum"] == {(): 0.7}
    shares = found["memdash_worker_limit_ratio"]
    assert shares[("0.3",)] == 0
    assert shares[("0.4",)] == 1
    assert shares[("0.6",)] == 1
    assert shares[("0.7",)] == 2
    assert shares[("+Inf",)] == 2


def test_a_worker_without_limit_or_reading_is_no_zero(model):
    feed(model, added(limit=None), added(B, 200), reported())
    found = figures(model)
    assert found["memdash_limit_bytes"] == {}
    assert found["memdash_worker_limit_ratio_maximum"] == {}
    assert found["memdash_worker_limit_ratio"][("+Inf",)] == 0
    assert found["memdash_spilled_bytes"] == {}
    states = found["memdash_workers"]
    assert states == {("measured",): 1, ("silent",): 0, ("unmeasured",): 1}


def test_workers_that_share_a_process_count_once(model):
    feed(model, added(), added(B, 100), reported(), reported(B, 100))
    assert sum(figures(model)["memdash_memory_bytes"].values()) == 400 * MiB


def many_prefixes(count, size=MiB):
    return {f"p{n}": row(claimed=(n + 1) * size, keys=1) for n in range(count)}


def test_the_largest_prefixes_and_the_others_add_up(model):
    rows = many_prefixes(30)
    total = sum(r.claimed for r in rows.values())
    feed(model, added(limit=None), reported(rss=2 * total, rows=rows))
    sizes = figures(model)["memdash_prefix_memory_bytes"]
    managed = {name: size for (name, kind), size in sizes.items() if kind == "managed"}
    assert sum(managed.values()) == total
    assert set(managed) == {f"p{n}" for n in range(10, 30)} | {"other"}
    assert managed["other"] == sum(range(1, 11)) * MiB


def test_a_prefix_peak_is_what_its_tasks_need_at_least_what_a_death_showed(model):
    feed(
        model,
        added(),
        reported(
            rows={"sum": row(MiB), "load": row(MiB)},
            finished={"sum": finished(5 * MiB, 6 * MiB), "load": finished(9 * MiB)},
        ),
    )
    model.prefixes.learn("sum", 50 * MiB)
    peaks = figures(model)["memdash_prefix_task_peak_bytes"]
    assert peaks[("sum",)] == 50 * MiB
    assert peaks[("load",)] == pytest.approx(9 * MiB, rel=0.02)


@pytest.mark.parametrize(("workers", "prefixes"), [(1, 1), (300, 3000)])
def test_series_stay_below_200_and_labels_stay_the_same(workers, prefixes):
    model = ClusterModel()
    for n in range(workers):
        feed(model, added(f"tcp://h:{n}", n, home=f"n{n}"), Ticked(T0, SelfCost(0.1)))
        rows = {f"p{m}": row(MiB, MiB) for m in range(n, prefixes, workers)}
        feed(model, reported(f"tcp://h:{n}", n, rows=rows, reading={"spilled": 1}))
        feed(
            model,
            reported(
                f"tcp://h:{n}",
                n,
                T0 + 2,
                finished={name: finished(MiB) for name in rows},
                executing=(executing(f"p{n}-1", MiB),),
                cost=SelfCost(0.1, 5),
            ),
        )
    families = SchedulerFigures(model).families()
    assert (
        sum(len(f.samples) + 2 * (f.kind == "gaugehistogram") for f in families) < 200
    )
    labels = {label for family in families for label in family.labels}
    assert labels == {
        *("type", "state", "le", "task_prefix_name", "cause", "kind", "place"),
        "version",
    }


# -- what has happened ---------------------------------------------------------


def test_incidents_count_once_they_are_settled_and_never_go_down(model):
    counts = SchedulerFigures(model)

    def incidents():
        samples = by_name(counts.families())["memdash_incidents"]
        return {kind: n for (kind,), n in samples.items() if n}

    feed(model, added(home="n1"), reported(executing=(executing(),)), removed())
    assert incidents() == {}  # the nanny has not reported yet: the kind may change
    feed(model, died(by="kernel"))
    assert incidents() == {"oom-killed": 1}
    assert incidents() == {"oom-killed": 1}
    for n in range(60):  # more than are kept
        address = f"tcp://h:{n}"
        feed(model, added(address, n, T0 + 20 + n), reported(address, n, T0 + 20 + n))
        feed(model, removed(address, T0 + 21 + n), died(address, n, T0 + 21 + n))
        counts.families()
    assert sum(incidents().values()) == 61
    assert len(model.incidents) == 50


def test_a_death_that_was_none_is_not_counted(model):
    counts = SchedulerFigures(model)
    feed(model, added(), reported(), removed())
    counts.families()
    model.incidents.withdraw("1")
    feed(model, Ticked(T0 + 100))
    assert not any(by_name(counts.families())["memdash_incidents"].values())


def test_failures_count_when_users_are_told(model):
    counts = SchedulerFigures(model)
    counts.counters.told("failure-opened", {"diagnosis": {"cause": "unknown"}})
    found = by_name(counts.families())
    assert found["memdash_failures_opened"] == {(): 1}
    assert not any(found["memdash_failures"].values())
    counts.counters.told("failure-closed", {"diagnosis": {"cause": "leak"}})
    found = by_name(counts.families())
    assert found["memdash_failures"][("leak",)] == 1
    assert sum(found["memdash_failures"].values()) == 1


def test_open_failures_are_a_gauge(model):
    feed(model, added(), reported(executing=(executing(),)), removed(), killed())
    assert figures(model)["memdash_failures_open"] == {(): 1}


# -- which prefixes are shown --------------------------------------------------


def show(largest, sizes, now):
    largest.fade(now, sizes.get)
    least = largest.least
    return set(largest.admit((s, name) for name, s in sizes.items() if s > least))


def test_a_prefix_takes_a_place_only_when_it_is_clearly_larger():
    largest = LargestPrefixes(shown=2)
    assert show(largest, {"a": 100, "b": 90, "c": 80}, 0) == {"a", "b"}
    assert show(largest, {"a": 100, "b": 90, "c": 110}, 15) == {"a", "b"}
    assert show(largest, {"a": 100, "b": 90, "c": 120}, 30) == {"a", "c"}


def test_a_prefix_keeps_its_place_for_a_while_when_it_is_gone():
    largest = LargestPrefixes(shown=2)
    show(largest, {"a": 1000, "b": 900}, 0)
    assert show(largest, {"a": 0, "b": 0, "c": 200}, 60) == {"a", "b"}
    assert show(largest, {"a": 0, "b": 0, "c": 200}, 600) == {"a", "c"}


def test_two_that_take_turns_do_not_change_the_series():
    largest = LargestPrefixes(shown=1)
    shown = {
        name
        for n in range(100)
        for name in show(largest, {"a": 100 + n % 2, "b": 100 + (n + 1) % 2}, 15 * n)
    }
    assert len(shown) == 1


def test_a_forgotten_prefix_and_an_empty_one_have_no_series():
    largest = LargestPrefixes(shown=2)
    assert show(largest, {"a": 100, "b": 0}, 0) == {"a"}
    assert show(largest, {"b": 0}, 1) == set()


def many(count):
    prefixes = Prefixes()
    for number in range(count):
        prefixes.of(f"p{number}").managed = 1
    return prefixes, PrefixRounds(prefixes)


def test_of_very_many_prefixes_a_large_one_is_found_by_one_of_the_next_scrapes():
    prefixes, rounds = many(2 * LOOKED_AT + NEWEST)
    large = f"p{2 * LOOKED_AT - 1}"
    found = [rounds.larger(10)]
    prefixes.of(large).managed = 100
    found += [rounds.larger(10) for _ in range(3)]
    assert found == [[], [(100, large)], [], []]


def test_a_new_prefix_is_found_at_once():
    prefixes, rounds = many(3 * LOOKED_AT)
    rounds.larger(10)
    prefixes.of("new").managed = 100
    assert rounds.larger(10) == [(100, "new")]


def test_a_prefix_that_was_forgotten_meanwhile_is_not_found():
    prefixes, rounds = many(LOOKED_AT + NEWEST + 1)
    rounds.larger(10)
    name = f"p{LOOKED_AT}"
    prefixes.of(name).managed = 100
    del prefixes.by_name[name]
    assert rounds.larger(10) == []


def test_what_memdash_costs_is_looked_at_once_a_minute(model):
    counts = SchedulerFigures(model)
    feed(model, added(nanny=True), reported())

    def told():
        cpu = by_name(counts.families())["memdash_self_cpu_cores"]
        return cpu.get(("workers",)), cpu.get(("nannies",))

    assert told() == (None, None)
    cost = {"cost": SelfCost(0.1, 1), "nanny_cost": SelfCost(0.2, 1)}
    feed(model, reported(time=T0 + 2, **cost))
    assert told() == (0.1, 0.2)
    feed(model, reported(time=T0 + 30, cost=SelfCost(0.5, 1), nanny_cost=SelfCost(0.2)))
    assert told() == (0.1, 0.2)
    feed(model, reported(time=T0 + 63, cost=SelfCost(0.5, 1), nanny_cost=SelfCost(0.2)))
    assert told() == (0.5, 0.2)


# -- names are made by users ---------------------------------------------------

NASTY = [
    'quote"}\n dask_evil 1',
    "back\\slash\\",
    "nul\x00bell\x07",
    "\x1b[31mred",
    "half\ud800",
    "turned\u202ename",
    "x" * 100_000,
    "other",
    "",
]


class Made:
    """A collector of what is there."""

    def __init__(self, metrics):
        self.collect = lambda: metrics


def exposed(families):
    """Return what a page of these metrics says, read as Prometheus would."""
    collector = registry.Collector("scheduler")
    own = prometheus_client.CollectorRegistry()
    made = [collector._translate(family) for family in families]
    own.register(Made(made))
    text = prometheus_client.generate_latest(own).decode()
    return text, list(parser.text_string_to_metric_families(text))


def samples(metrics, name):
    return [s for m in metrics for s in m.samples if s.name == name]


def test_hostile_names_stay_inside_their_labels(model):
    rows = {name: row(MiB) for name in NASTY}
    feed(model, added(limit=None), reported(rows=rows))
    text, metrics = exposed(SchedulerFigures(model).families())
    assert not any(s.name == "dask_evil" for m in metrics for s in m.samples)
    found = samples(metrics, "dask_scheduler_memdash_prefix_memory_bytes")
    names = {s.labels["task_prefix_name"] for s in found}
    assert all(name.isprintable() and len(name) <= 100 for name in names)
    assert {"other", "`other`", "back\\slash\\"} <= names
    managed = sum(s.value for s in found if s.labels["type"] == "managed")
    assert managed == len(NASTY) * MiB
    series = [line.rpartition(" ")[0] for line in text.splitlines() if line[0] != "#"]
    assert len(series) == len(set(series))


@given(st.lists(st.text(max_size=150), max_size=30))
def test_any_names_make_a_page_that_can_be_read(names):
    model = ClusterModel()
    rows = {name: row(MiB) for name in names}
    feed(model, added(limit=None), reported(rss=100 * MiB, rows=rows))
    _, metrics = exposed(SchedulerFigures(model).families())
    found = samples(metrics, "dask_scheduler_memdash_prefix_memory_bytes")
    managed = sum(s.value for s in found if s.labels["type"] == "managed")
    assert managed == len(set(names)) * MiB


def test_a_histogram_is_one_to_prometheus(model):
    feed(model, added(), reported())
    _, metrics = exposed(SchedulerFigures(model).families())
    name = "dask_scheduler_memdash_worker_limit_ratio"
    buckets = samples(metrics, f"{name}_bucket")
    assert [s.labels["le"] for s in buckets][-2:] == ["1", "+Inf"]
    assert samples(metrics, f"{name}_gcount")[0].value == 1
    assert samples(metrics, f"{name}_gsum")[0].value == 0.4


# -- a worker's figures --------------------------------------------------------


def test_a_workers_types_add_up_to_its_process():
    reading = Reading(
        T0, 500 * MiB, managed_claimed=200 * MiB, live=50 * MiB, busy=True
    )
    families = worker_families(break_down(reading), 10**9, 2, SelfCost(0.01, 7))
    found = by_name(families)
    memory = found["memdash_memory_bytes"]
    assert [kind for (kind,) in memory] == PARTS
    assert sum(memory.values()) == 500 * MiB
    assert memory[("managed",)] == 200 * MiB
    assert found["memdash_executing_tasks"] == {(): 2}
    assert found["memdash_limit_bytes"] == {(): 10**9}
    assert found["memdash_spilled_bytes"] == {}
    assert found["memdash_self_cpu_cores"] == {(): 0.01}


# -- the registry --------------------------------------------------------------


@pytest.fixture
def dask_page(monkeypatch, process_border):
    """Stand in for Dask's page of a scheduler's metrics: says which server is asked."""
    handler = SimpleNamespace(_collectors=None)
    core = SimpleNamespace(PrometheusHandler=handler)
    monkeypatch.setitem(sys.modules, registry.CORES["scheduler"], core)
    before = set(prometheus_client.REGISTRY._collector_to_names)

    def asked(server):
        handler._collectors = (SimpleNamespace(server=server), object())
        text = prometheus_client.generate_latest().decode()
        return [
            (sample.name, sample.value)
            for metric in parser.text_string_to_metric_families(text)
            for sample in metric.samples
            if "memdash" in sample.name
        ]

    yield asked
    assert set(prometheus_client.REGISTRY._collector_to_names) == before


def value(number):
    return lambda: [gauge("memdash_x", "X.", number)]


def test_each_page_has_the_figures_of_the_server_that_is_asked(dask_page):
    one, two, strange = object(), object(), object()
    remove_one = registry.serve("scheduler", one, value(1))
    remove_two = registry.serve("scheduler", two, value(2))
    assert dask_page(one) == [("dask_scheduler_memdash_x", 1)]
    assert dask_page(two) == [("dask_scheduler_memdash_x", 2)]
    assert dask_page(strange) == []
    remove_one()
    remove_one()
    assert dask_page(one) == []
    assert dask_page(two) == [("dask_scheduler_memdash_x", 2)]
    remove_two()
    assert dask_page(two) == []


def test_a_server_whose_figures_come_from_elsewhere_by_now_keeps_them(dask_page):
    server = object()
    remove_old = registry.serve("scheduler", server, value(1))
    remove_new = registry.serve("scheduler", server, value(2))
    remove_old()
    assert dask_page(server) == [("dask_scheduler_memdash_x", 2)]
    remove_new()


def test_the_namespace_is_dasks(dask_page):
    import dask

    server = object()
    with dask.config.set({"distributed.dashboard.prometheus.namespace": "team"}):
        remove = registry.serve("scheduler", server, value(1))
    assert dask_page(server) == [("team_scheduler_memdash_x", 1)]
    remove()


def test_what_fails_leaves_dasks_page_as_it_is(dask_page, process_border):
    def fails():
        raise LookupError("no")

    server = object()
    remove = registry.serve("scheduler", server, fails)
    assert dask_page(server) == []
    assert "the scheduler's metrics" in process_border.texts()[0]
    remove()


def test_another_thread_gets_nothing(dask_page):
    server = object()
    remove = registry.serve("scheduler", server, value(1))
    got = []
    thread = threading.Thread(target=lambda: got.append(dask_page(server)))
    thread.start()
    thread.join()
    assert got == [[]]
    remove()


def test_a_later_dask_is_asked_for_the_only_server_there_is(dask_page, monkeypatch):
    module = SimpleNamespace(PrometheusHandler=SimpleNamespace())
    monkeypatch.setitem(sys.modules, registry.CORES["scheduler"], module)
    one, two = object(), object()
    remove_one = registry.serve("scheduler", one, value(1))
    assert b"memdash_x 1.0" in prometheus_client.generate_latest()
    remove_two = registry.serve("scheduler", two, value(2))
    assert b"memdash_x" not in prometheus_client.generate_latest()
    remove_one()
    remove_two()


def test_without_the_library_it_is_said_once(monkeypatch, caplog):
    monkeypatch.delitem(sys.modules, registry.CORES["scheduler"], raising=False)
    monkeypatch.setattr(registry, "_told", set())
    with caplog.at_level(logging.INFO, "dask_memdash"):
        registry.serve("scheduler", object(), value(1))()
        registry.serve("scheduler", object(), value(1))()
    assert [r.getMessage() for r in caplog.records] == [
        "The scheduler has no page of Prometheus metrics, so MemDash has no metrics "
        "there; pip install prometheus-client brings it"
    ]
    assert not registry._collectors


# -- what is written of them ---------------------------------------------------

DOCS = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def test_the_documentation_names_every_metric_with_its_labels():
    model = ClusterModel()
    feed(model, added(limit=10**9), reported(rows={"a": row(1)}))
    reading = Reading(T0, 500 * MiB)
    families = {
        "scheduler": SchedulerFigures(model).families(),
        "worker": worker_families(break_down(reading), 10**9, 2, SelfCost(0.01, 7)),
    }
    lines = {}
    for line in DOCS.splitlines():
        if line.startswith("| `dask_"):
            name, labels = line.split("|")[1:3]
            lines[name.strip(" `")] = tuple(labels.replace("`", "").split(", "))
    expected = {}
    for subsystem, made in families.items():
        for family in made:
            suffix = "_total" if family.kind == "counter" else ""
            labels = ("le",) if family.kind == "gaugehistogram" else family.labels
            name = f"dask_{subsystem}_{family.name}{suffix}"
            expected[name] = tuple(labels) or ("",)
    assert {
        name: tuple(x.strip() for x in ls) for name, ls in lines.items()
    } == expected
