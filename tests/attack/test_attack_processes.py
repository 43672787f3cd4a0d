"""Processes are stopped, forked, ended and starved, and plugins come and go."""

import contextlib
import logging
import os
import resource
import signal
import time

import pytest
from distributed import KilledWorker, SchedulerPlugin
from victim import MB, memory, victim

from dask_memdash import MemDash

pytestmark = [pytest.mark.attack, pytest.mark.cluster, pytest.mark.timeout(600)]


def small(number):
    time.sleep(0.01)
    return number


def exits():
    os._exit(7)


def forks():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def starves():
    """Leave this worker's process three descriptors."""
    used = len(os.listdir("/proc/self/fd"))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, hard))
    return used


class Raises(SchedulerPlugin):
    """Somebody else's plugin, which raises in every hook."""

    name = "raises"

    def _raise(self, *args, **kwargs):
        raise RuntimeError("\x1b[31mno")

    add_worker = remove_worker = transition = update_graph = log_event = _raise
    add_client = remove_client = _raise


#: Seconds for which a worker is stopped.
STOPPED = 60


def test_a_worker_that_is_stopped_for_a_minute(tell):
    with victim() as cluster:
        worker, other = cluster.api("workers")
        os.kill(worker["pid"], signal.SIGSTOP)
        seen = []
        try:
            for _ in range(STOPPED):
                time.sleep(1)
                (now,) = (
                    w for w in cluster.api("workers") if w["pid"] == worker["pid"]
                )
                seen.append(now["stale_for"])
        finally:
            os.kill(worker["pid"], signal.SIGCONT)
        said = [text for text in now["degraded"] if "no heartbeat" in text]
        cluster.wait_for(
            lambda: all(w["stale_for"] is None for w in cluster.api("workers")),
            "the worker to speak again",
        )
        told = [s for s in seen if s is not None]
        tell(
            f"SIGSTOP of a worker for {STOPPED} s",
            f"stale after {seen.index(told[0]) + 1} s; at the end: {said}",
            len(told) >= STOPPED - 5 and said and seen[-1] > STOPPED - 5,
        )
        assert other["pid"] != worker["pid"]
        cluster.tasks_seconds()


def test_os_exit_in_a_task_four_times(tell):
    with victim() as cluster:
        future = cluster.client.submit(exits, pure=False)
        with pytest.raises(KilledWorker):
            future.result(timeout=120)

        def deaths():
            incidents = cluster.api("incidents")
            return [i for i in incidents if i["kind"] != "killed-worker"]

        cluster.wait_for(
            lambda: len(deaths()) == 4 and all(i["exit"] for i in deaths()), "reports"
        )
        kinds = [(i["kind"], i["evidence"], i["exit"]["code"]) for i in deaths()]
        tell(
            "os._exit(7) in a task, four times",
            ", ".join(f"{kind} {code} by {what}" for kind, what, code in kinds),
            all(kind == ("exited", "flight-recorder", 7) for kind in kinds),
        )
        cluster.tasks_seconds()


def test_a_task_that_forks(tell):
    with victim() as cluster:
        futures = cluster.client.map(lambda _: forks(), range(50), pure=False)
        pids = cluster.client.gather(futures)
        tell(
            "50 tasks that fork",
            f"{len(set(pids))} children came and went, "
            f"{cluster.api('cluster')['n_incidents']} incidents",
            cluster.api("cluster")["n_incidents"] == 0,
        )


@pytest.mark.quick
def test_a_worker_without_descriptors(tell):
    with victim() as cluster:
        worker = next(iter(cluster.scheduler.workers))
        with contextlib.suppress(OSError):
            cluster.client.submit(starves, workers=[worker]).result(timeout=30)
        seconds = cluster.tasks_seconds()
        workers = {w["address"]: w for w in cluster.api("workers")}
        tell(
            "a worker with three descriptors left",
            f"200 tasks took {seconds:.2f} s; {len(workers)} workers are shown",
            worker in workers and seconds < 30,
        )


def test_registered_and_unregistered_50_times_under_load(tell):
    with victim() as cluster:
        before = memory()
        futures = cluster.client.map(small, range(2_000), pure=False)
        for _ in range(50):
            cluster.client.unregister_scheduler_plugin("memdash")
            cluster.client.register_plugin(MemDash())
        assert cluster.client.gather(futures) == list(range(2_000))
        handlers = [name for name in cluster.scheduler.handlers if "memdash" in name]
        grown = (memory() - before) / MB
        tell(
            "registered 50 times under load",
            f"2,000 tasks were right, {grown:+.0f} MB, {len(handlers)} handlers",
            len(handlers) == 2 and grown < 60 and cluster.api("cluster"),
        )
        cluster.client.unregister_scheduler_plugin("memdash")
        own = {cluster.scheduler.handlers["log_event"].__qualname__}
        own.add(cluster.scheduler.stream_handlers["log-event"].__qualname__)
        assert own == {"Scheduler.log_event", "Scheduler.log_worker_event"}


def test_restarted_20_times_under_load(tell):
    """At times Dask's own restart brings no worker back, without MemDash as with it.

    Such a restart is counted, and the cluster is asked for workers again.
    """
    with victim() as cluster:
        before, lost = memory(), 0
        for _ in range(20):
            futures = cluster.client.map(small, range(500), pure=False)
            cluster.wait_for(lambda: any(f.done() for f in futures), "a task", 60)  # noqa: B023
            try:
                cluster.client.restart(timeout=20)
            except TimeoutError:
                lost += 1
                cluster.cluster.scale(2)
                cluster.client.wait_for_workers(2, timeout=60)
        incidents = cluster.api("incidents")
        grown = (memory() - before) / MB
        seconds = cluster.tasks_seconds()
        tell(
            "restarted 20 times under load",
            f"{lost} restarts of Dask's own brought no worker back in 20 s; "
            f"{len(incidents)} incidents, {grown:+.0f} MB, then 200 tasks in "
            f"{seconds:.2f} s",
            len(incidents) <= 2 * lost and grown < 80,
        )


def test_somebody_elses_plugin_that_raises_in_every_hook(tell):
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with victim() as cluster:
        cluster.client.register_plugin(Raises())
        seconds = cluster.tasks_seconds()
        with pytest.raises(KilledWorker):
            cluster.client.submit(exits, pure=False).result(timeout=120)
        kinds = cluster.wait_for(
            lambda: [i["kind"] for i in cluster.api("incidents")], "incidents"
        )
        cluster.client.unregister_scheduler_plugin("raises")
        tell(
            "a foreign plugin that raises in every hook",
            f"200 tasks took {seconds:.2f} s; {len(kinds)} incidents are explained",
            "exited" in kinds,
        )
