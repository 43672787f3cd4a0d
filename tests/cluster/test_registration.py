"""Registering and unregistering, in every way that users have."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
import warnings

import pytest
from clusters import Api, wait_for
from dask import config
from distributed import Nanny, Worker
from distributed.dashboard.scheduler import template_variables

from dask_memdash import MemDash
from dask_memdash.errors import ConfigError
from dask_memdash.flight.files import default_directory

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]


def inc(x: int) -> int:
    return x + 1


def traces_on_scheduler(scheduler) -> dict[str, object]:
    return {
        "plugins": sorted(scheduler.plugins),
        "worker plugins": sorted(scheduler.worker_plugins),
        "nanny plugins": sorted(scheduler.nanny_plugins),
        "handlers": sorted(scheduler.handlers),
        "own attributes": sorted(vars(scheduler)),
        "applications": [
            type(a).__name__ for a in scheduler.http_application.applications
        ],
        "pages": list(template_variables(scheduler)["pages"]),
        "callbacks": sorted(scheduler.periodic_callbacks),
        "threads": sorted(t.name for t in threading.enumerate() if "MemDash" in t.name),
    }


def traces_on_nanny(nanny) -> dict[str, object]:
    return {
        "plugins": sorted(nanny.plugins),
        "own attributes": sorted(vars(nanny)),
        "on_exit": nanny.process.on_exit == nanny._on_worker_exit_sync,
    }


def traces_on_worker(dask_worker) -> dict[str, object]:
    return {
        "plugins": sorted(dask_worker.plugins),
        "extensions": sorted(dask_worker.extensions),
        "active_threads": type(dask_worker.active_threads).__name__,
        "own attributes": sorted(vars(dask_worker)),
        "callbacks": sorted(dask_worker.periodic_callbacks),
        "threads": sorted(t.name for t in threading.enumerate() if "MemDash" in t.name),
    }


def files(session) -> list[str]:
    """The flight recorders of a cluster's workers."""
    directory = default_directory()
    pids = {str(worker.pid) for worker in session.cluster.scheduler.workers.values()}
    found = os.listdir(directory) if directory.exists() else []
    return sorted(name for name in found if name.partition("-")[0] in pids)


def test_unregistering_leaves_nothing_but_the_inert_extension(start):
    session = start(register=False)
    scheduler, client = session.cluster.scheduler, session.client
    nannies = list(session.cluster.workers.values())
    client.gather(client.map(inc, range(10)))

    def everything():
        return {
            "scheduler": traces_on_scheduler(scheduler),
            "nannies": [traces_on_nanny(nanny) for nanny in nannies],
            "workers": client.run(traces_on_worker),
            "files": files(session),
        }

    before = everything()
    extensions = set(scheduler.extensions)
    session.register()
    client.gather(client.map(inc, range(100, 110)))
    assert before["files"] == []
    assert len(files(session)) == 2
    assert everything() != before

    client.unregister_scheduler_plugin("memdash")
    wait_for(lambda: everything() == before, "every trace to go")
    assert set(scheduler.extensions) - extensions == {"memdash"}
    assert session.api.status("cluster") == 404
    # The workers live on, and go on heartbeating to the inert extension or past it.
    seen = {a: w.last_seen for a, w in scheduler.workers.items()}
    wait_for(
        lambda: all(w.last_seen > seen[a] + 1 for a, w in scheduler.workers.items()),
        "more heartbeats",
    )
    assert client.gather(client.map(inc, range(200, 210))) == list(range(201, 211))

    session.register()  # and again
    assert len(session.api("workers")) == 2


@pytest.mark.slow
def test_unregistering_while_tasks_run_keeps_them_running(start):
    session = start(n_workers=1)

    def wait_a_while() -> int:
        import time

        time.sleep(1.5)
        return 1

    future = session.client.submit(wait_a_while)
    wait_for(lambda: session.api("workers")[0]["executing_tasks"], "the task to begin")
    session.client.unregister_scheduler_plugin("memdash")
    assert future.result(timeout=30) == 1
    wait_for(
        lambda: (
            next(iter(session.client.run(traces_on_worker).values()))["active_threads"]
            == "dict"
        ),
        "a plain dict to be back",
    )


def test_registering_twice_is_harmless(start):
    session = start()
    first = session.cluster.scheduler.plugins["memdash"]
    session.client.register_plugin(MemDash())
    assert session.cluster.scheduler.plugins["memdash"] is first
    applications = list(session.cluster.scheduler.http_application.applications)
    session.client.register_plugin(MemDash())
    assert len(session.cluster.scheduler.http_application.applications) == len(
        applications
    )


@pytest.mark.slow
def test_workers_that_join_later_and_workers_that_restart_are_measured(start):
    session = start(n_workers=1)
    session.cluster.scale(2)
    session.client.wait_for_workers(2, timeout=30)
    session.wait_until_read()
    before = {w["pid"] for w in session.api("workers")}
    session.client.restart(timeout=60)
    session.wait_until_read()
    after = {w["pid"] for w in session.api("workers")}
    assert len(before) == len(after) == 2
    assert not before & after
    session.client.gather(session.client.map(inc, range(20), pure=False))
    wait_for(
        lambda: sum(p["execution"]["finished"] for p in session.api("prefixes")) >= 20,
        "the tasks to be counted",
    )


@pytest.mark.parametrize(
    "how", ["option", pytest.param("configuration", marks=pytest.mark.slow)]
)
def test_a_scheduler_that_preloads_serves_from_the_start(processes, how):
    if how == "option":
        client = processes.scheduler("--preload", "dask_memdash")
    else:
        env = {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": "['dask_memdash']"}
        client = processes.scheduler(env=env)
    with client:
        processes.worker()
        client.wait_for_workers(1, timeout=30)
        api = Api(client.dashboard_link)
        wait_for(
            lambda: (w := api("workers")) and w[0]["breakdown"]["process"],
            "the worker's report",
        )
        assert api("cluster")["degraded"] == []
        page = api.base.removesuffix("api/").rstrip("/")
        with urllib.request.urlopen(page, timeout=20) as answer:
            assert answer.status == 200


def test_a_wrong_option_is_an_error_where_it_is_written():
    with pytest.raises(ConfigError, match=r"memdash.page.refresh is 'soon'"):
        MemDash(page__refresh="soon")
    with pytest.raises(ConfigError, match=r"memdash\.page\.colour"):
        MemDash(page__colour="red")


def test_a_wrong_configuration_value_is_shown_and_the_default_used(start):
    with config.set({"memdash.page.refresh": "soon"}):
        session = start()
        notices = wait_for(lambda: session.api("cluster")["degraded"], "the notice")
    assert "memdash.page.refresh is 'soon'" in notices[0]["text"]
    assert notices[0]["where"] == "scheduler"
    assert session.client.submit(inc, 1).result() == 2


@pytest.mark.slow
async def test_an_asynchronous_cluster_without_a_dashboard_works():
    from distributed import Client, Scheduler

    async with (
        Scheduler(dashboard=False, dashboard_address="127.0.0.1:0") as scheduler,
        Worker(scheduler.address),
        Client(scheduler.address, asynchronous=True) as client,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            await client.register_plugin(MemDash())
            assert await client.submit(inc, 1) == 2
            cluster = scheduler.plugins["memdash"].store.cluster()
        assert "no page" in cluster["degraded"][0]["text"]
        assert cluster["n_workers"] == 1
        await client.unregister_scheduler_plugin("memdash")
        assert "memdash" not in scheduler.plugins


@pytest.mark.slow
async def test_a_nanny_that_is_set_up_twice_hands_over():
    from distributed import Scheduler

    from dask_memdash import config as settings
    from dask_memdash.measure.sampler import sampler
    from dask_memdash.plugins.nanny.probe import NannyProbe

    async with (
        Scheduler(dashboard_address="127.0.0.1:0") as scheduler,
        Nanny(scheduler.address, nthreads=1) as nanny,
    ):
        first, second = (NannyProbe(settings.defaults()) for _ in range(2))
        first.setup(nanny)
        second.setup(nanny)
        assert len(sampler._ticks) == 1
        second.teardown(nanny)
        assert not sampler._ticks
