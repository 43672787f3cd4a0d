"""Dask's own pages of metrics on real clusters, read as Prometheus would."""

from __future__ import annotations

import logging
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from clusters import Session, wait_for
from distributed import Client, LocalCluster

prometheus_client = pytest.importorskip("prometheus_client")
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]

PARTS = ["managed", "transfer", "actors", "executing", "retained", "graph", "baseline"]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Samples:
    """Return the samples of a page of metrics that are MemDash's."""
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found: Samples = {}
    for metric in text_string_to_metric_families(text):
        for sample in metric.samples:
            if "memdash" in sample.name:
                series = sample.name, frozenset(sample.labels.items())
                assert series not in found
                found[series] = sample.value
    return found


def labelled(samples: Samples, name: str, label: str) -> dict[str, float]:
    """Return the samples of a metric with one label, by its value."""
    return {
        dict(labels)[label]: value
        for (n, labels), value in samples.items()
        if n == name
    }


def alone(samples: Samples, name: str) -> float:
    return samples[name, frozenset()]


def scheduler_port(session: Session) -> int:
    return int(session.cluster.scheduler.http_server.port)


def worker_ports(session: Session) -> dict[str, int]:
    def port(dask_worker):
        return dask_worker.http_server.port

    return session.client.run(port)


def ones(size: int) -> bytes:
    return b"1" * size


def test_the_scheduler_tells_what_the_page_says(start):
    session = start()
    futures = session.client.map(ones, [20_000_000, 30_000_000])
    session.client.gather(futures)
    other = session.client.submit(ones, 10_000_001, key="keep-1")
    other.result()

    def said():
        cluster, rows = session.api("cluster"), session.api("prefixes")
        stored = {row["prefix"]: row["storage"]["managed"] for row in rows}
        return cluster["breakdown"], cluster["limit"], stored

    def both():
        before = said()
        samples = scrape(scheduler_port(session))
        stored = before[0]["managed"] > 60_000_000
        return (*before, samples) if stored and before == said() else None

    breakdown, limit, stored, samples = wait_for(both, "nothing to change", 60)
    memory = labelled(samples, "dask_scheduler_memdash_memory_bytes", "type")
    assert memory == {part: breakdown[part] for part in PARTS}
    assert sum(memory.values()) == breakdown["process"]
    assert alone(samples, "dask_scheduler_memdash_limit_bytes") == limit
    states = labelled(samples, "dask_scheduler_memdash_workers", "state")
    assert states == {"measured": 2, "silent": 0, "unmeasured": 0}
    managed = {
        dict(labels)["task_prefix_name"]: value
        for (name, labels), value in samples.items()
        if name == "dask_scheduler_memdash_prefix_memory_bytes"
        and ("type", "managed") in labels
    }
    # What is not known of a row is no prefix of tasks.
    assert managed == {"other": 0} | {
        name: size for name, size in stored.items() if size is not None
    }
    assert managed["keep"] > 10_000_000
    bucket = "dask_scheduler_memdash_worker_limit_ratio_bucket"
    assert labelled(samples, bucket, "le")["+Inf"] == 2
    assert alone(samples, "dask_scheduler_memdash_failures_open") == 0


def test_each_worker_tells_its_own_breakdown_and_limit(start):
    session = start()
    kept = session.client.submit(ones, 50_000_000)
    kept.result()
    ports = worker_ports(session)

    def both():
        workers = {w["address"]: w for w in session.api("workers")}
        samples = {address: scrape(port) for address, port in ports.items()}
        stored = sum(w["breakdown"]["managed"] for w in workers.values())
        told = {
            address: labelled(s, "dask_worker_memdash_memory_bytes", "type")
            for address, s in samples.items()
        }
        # The worker is read anew for a scrape: its RSS may have moved by a page.
        close = all(
            abs(told[address][part] - workers[address]["breakdown"][part]) < 2**20
            for address in ports
            for part in PARTS
        )
        return (workers, samples, told) if stored == 50_000_000 and close else None

    workers, samples, told = wait_for(both, "page and metrics to say the same")
    holds = [address for address, memory in told.items() if memory["managed"]]
    assert len(holds) == 1
    assert told[holds[0]]["managed"] == workers[holds[0]]["breakdown"]["managed"]
    for address in ports:
        assert list(told[address]) == PARTS
        limit = alone(samples[address], "dask_worker_memdash_limit_bytes")
        assert limit == workers[address]["limit"]
        assert not any("scheduler" in name for name, _ in samples[address])


def nap(seconds: float) -> int:
    import time

    import numpy as np

    block = np.ones(10_000_000)
    time.sleep(seconds)
    return int(block[0])


@pytest.mark.slow
def test_a_running_task_is_executing_on_its_worker(start):
    session = start(n_workers=1)
    future = session.client.submit(nap, 60)
    (port,) = worker_ports(session).values()

    def executing():
        memory = labelled(scrape(port), "dask_worker_memdash_memory_bytes", "type")
        return memory["executing"] > 70_000_000

    wait_for(executing, "the task's block to be in execution")
    assert alone(scrape(port), "dask_worker_memdash_executing_tasks") == 1
    future.cancel()


@pytest.mark.slow
def test_unregistering_takes_everything_out_of_the_registry(start):
    session = start(n_workers=1, register=False)
    (port,) = worker_ports(session).values()

    def registered() -> list[str]:
        from prometheus_client import REGISTRY

        return sorted(type(c).__module__ for c in REGISTRY._collector_to_names)

    def everything() -> object:
        return registered(), session.client.run(registered)

    scrape(scheduler_port(session))
    scrape(port)
    before = everything()
    session.register()
    assert everything() != before
    assert scrape(scheduler_port(session))
    assert scrape(port)
    session.client.unregister_scheduler_plugin("memdash")
    wait_for(lambda: everything() == before, "our collectors to go")
    assert not scrape(scheduler_port(session))
    assert not scrape(port)
    session.register()
    assert scrape(scheduler_port(session))


@pytest.mark.slow
def test_two_clusters_at_a_time_and_one_after_the_other(start):
    first, second = start(n_workers=1), start(n_workers=2)
    name = "dask_scheduler_memdash_workers"

    def measured(session: Session) -> float:
        return labelled(scrape(scheduler_port(session)), name, "state")["measured"]

    assert [measured(s) for s in (first, second, first)] == [1, 2, 1]
    first.client.close()
    first.cluster.close()
    assert measured(second) == 2
    second.client.close()
    second.cluster.close()
    assert not [
        c
        for c in prometheus_client.REGISTRY._collector_to_names
        if type(c).__module__.startswith("dask_memdash")
    ]
    assert measured(start(n_workers=3, memory_limit="250 MB")) == 3


@pytest.mark.slow
def test_workers_in_the_schedulers_process_have_pages_of_their_own(start):
    session = start(processes=False, n_workers=2, memory_limit="4 GB")
    kept = session.client.submit(ones, 50_000_000)
    kept.result()
    name = "dask_scheduler_memdash_memory_bytes"
    assert labelled(scrape(scheduler_port(session)), name, "type")
    for server in session.cluster.workers.values():
        port = server.http_server.port

        def told(port: int = port) -> bool:
            samples = scrape(port)
            memory = labelled(samples, "dask_worker_memdash_memory_bytes", "type")
            return list(memory) == PARTS and memory["managed"] == 50_000_000

        # They share the process: what the other stores is known from its heartbeat.
        wait_for(told, "the output to be told")


NOBODY = """
import sys
sys.modules["prometheus_client"] = None
import urllib.request
from distributed import Client, LocalCluster
from dask_memdash import MemDash

if __name__ == "__main__":
    with LocalCluster(
        n_workers=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster, Client(cluster) as client:
        client.register_plugin(MemDash())
        url = f"http://127.0.0.1:{cluster.scheduler.http_server.port}"
        page = urllib.request.urlopen(url + "/metrics").read().decode()
        api = urllib.request.urlopen(url + "/memdash/api/cluster").status
        print("metrics:", page[:40], "api:", api)
"""


@pytest.mark.slow
def test_without_the_library_all_else_works(tmp_path):
    script = tmp_path / "nobody.py"
    script.write_text(NOBODY)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "metrics: # Prometheus metrics are not available" in done.stdout
    assert "api: 200" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.fixture
def plain_cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=1,
        memory_limit="400 MB",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


@pytest.mark.slow
def test_it_can_be_turned_off(plain_cluster):
    from dask_memdash import MemDash

    with Client(plain_cluster) as client:
        client.register_plugin(MemDash(metrics=False))
        session = Session(plain_cluster, client)
        session.wait_until_read()
        assert not scrape(scheduler_port(session))
        (port,) = worker_ports(session).values()
        assert not scrape(port)
