"""A zoo of ways to die: scenarios for real clusters, each with its known truth.

Every scenario is made so that what happens, and why, is certain without MemDash: what
it says is held against that.  `test_zoo.py` runs each once, ``benchmarks/zoo.py`` many
times.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import dask
from clusters import Session, wait_for
from distributed import Client, LocalCluster
from zoo_tasks import (
    absurd,
    block,
    fragmenting,
    innocent,
    leaking,
    leaking_strings,
    leaving,
    lying,
    medium,
    medium_frame,
    medium_strings,
    next_step,
    oversized,
    oversized_frame,
    oversized_strings,
    segfaulting,
    small,
    taking,
    unpicklable,
)

#: Spilling is on, and out of the way: stored outputs may fill the worker.
HIGH_TARGET = {"target": 0.92, "spill": False, "pause": False}

#: Spilling is off.
NO_SPILLING = {"target": False, "spill": False, "pause": False}

#: Spilling from the target on, and no pause in the way.
NO_PAUSE = {"pause": False}


@dataclass(frozen=True)
class Scenario:
    """One way to die, or not to."""

    name: str
    run: Callable[[Session], None]
    #: Kind of the incident; None where there must be none.
    kind: str | None
    #: What DESIGN calls its cause.
    cause: str | None = None
    #: The responsible prefix; None where there is none to blame.
    prefix: str | None = None
    #: Why nothing relieved the memory; None where that is left open.
    relief: str | None = None
    #: Memory limit of a worker, in MB; number of workers, and of threads of each.
    limit: int = 300
    workers: int = 1
    threads: int = 1
    #: Thresholds below ``distributed.worker.memory``.
    memory: dict[str, Any] = field(default_factory=dict)
    #: More configuration of Dask.
    config: dict[str, Any] = field(default_factory=dict)
    #: Size of the disk that workers spill to, in MB; None for the usual one.
    disk: int | None = None

    def __str__(self) -> str:
        return self.name


class NotHereError(Exception):
    """A scenario needs what this machine does not let us have."""


@contextlib.contextmanager
def cluster_of(scenario: Scenario) -> Iterator[Session]:
    """Start the cluster that a scenario asks for, with MemDash."""
    config = {f"distributed.worker.memory.{k}": v for k, v in scenario.memory.items()}
    with (
        _disk_of(scenario.disk) as directory,
        dask.config.set({**config, **scenario.config}),
        LocalCluster(
            local_directory=directory,
            n_workers=scenario.workers,
            threads_per_worker=scenario.threads,
            memory_limit=f"{scenario.limit} MB",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scheduler.allowed_failures = 0
        session = Session(cluster, client)
        session.register()
        yield session


@contextlib.contextmanager
def _disk_of(size: int | None) -> Iterator[str | None]:
    """Return a directory on a small filesystem of its own, which only root can make.

    Raises
    ------
    NotHereError
    """
    if size is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "zoo", directory]
        try:
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotHereError(f"no small filesystem can be made: {error}") from None
        try:
            yield directory
        finally:
            subprocess.run(["umount", "-l", directory], check=True)


def incidents_of(session: Session, scenario: Scenario) -> list[dict[str, Any]]:
    """Return incidents of the scenario's kind, whole, oldest first, when settled."""

    def settled() -> list[dict[str, Any]]:
        found = [i for i in session.api("incidents") if i["kind"] == scenario.kind]
        return found if found and all(i["settled"] for i in found) else []

    found = wait_for(settled, f"an incident of kind {scenario.kind}", 30)
    return [session.api("incidents/" + i["id"]) for i in reversed(found)]


# -- what is run ---------------------------------------------------------------


def _until_error(session: Session, *futures: Any, timeout: float = 60) -> None:
    """Wait until a future has failed, or all are done."""

    def over() -> bool:
        states = [future.status for future in futures]
        return "error" in states or all(s == "finished" for s in states)

    wait_for(over, "the tasks to end", timeout)


def _among_small(task: Callable[[int], int]) -> Callable[[Session], None]:
    def run(session: Session) -> None:
        few = session.client.map(small, range(20), pure=False)
        one = session.client.submit(task, 0)
        _until_error(session, one)
        session.client.cancel([*few, one])

    return run


def _at_once(task: Callable[[int], int]) -> Callable[[Session], None]:
    def run(session: Session) -> None:
        session.client.submit(task, -1).result(timeout=60)
        _until_error(session, *session.client.map(task, range(8)))

    return run


def run_ahead(session: Session) -> None:
    """Produce outputs fast that one slow task at a time takes in."""
    load, take = dask.delayed(block), dask.delayed(taking)
    # Before one has finished, nobody knows whether the order keeps as much of them.
    with dask.annotate(resources={"taker": 1}):
        first = take(load(99, 1, dask_key_name="load-99"), dask_key_name="take-99")
    session.client.compute(first).result(timeout=60)
    loaded = [load(n, 15, dask_key_name=f"load-{n}") for n in range(30)]
    with dask.annotate(resources={"taker": 1}):
        taken = [take(part, dask_key_name=f"take-{n}") for n, part in enumerate(loaded)]
    _until_error(session, *session.client.compute(taken))


def awaited(session: Session) -> None:
    """Combine outputs, all at once."""
    load = dask.delayed(block)
    parts = [load(n, 15, dask_key_name=f"part-{n}") for n in range(24)]
    total = dask.delayed(innocent)(*parts, dask_key_name="combine-all")
    _until_error(session, session.client.compute(total))


def pinned(session: Session) -> None:
    held = session.client.map(block, range(6), key="held", pure=False)
    wait_for(lambda: all(f.done() for f in held), "the outputs that are held")
    time.sleep(1.2)
    _until_error(session, session.client.submit(innocent))


def _one_after_another(task: Callable[[int], Any], n: int) -> Callable[[Session], None]:
    def run(session: Session) -> None:
        for number in range(n):
            future = session.client.submit(task, number, pure=False)
            _until_error(session, future)
            if future.status == "error":
                return

    return run


def _all(task: Callable[[int], Any], n: int) -> Callable[[Session], None]:
    def run(session: Session) -> None:
        _until_error(session, *session.client.map(task, range(n), pure=False))

    return run


def fragmentation(session: Session) -> None:
    session.client.submit(fragmenting, 0).result(timeout=60)
    time.sleep(1.2)
    _until_error(session, session.client.submit(next_step))


def p2p(session: Session) -> None:
    import dask.array as da

    array = da.random.random((8000, 8000), chunks=(8000, 200))
    total = array.rechunk((200, 8000), threshold=10**6, method="p2p").sum()
    _until_error(session, session.client.compute(total))


def task_shuffle(session: Session) -> None:
    import dask.array as da

    array = da.random.random((6000, 6000), chunks=(6000, 300))
    total = array.rechunk((300, 6000), threshold=10**6, method="tasks").sum()
    _until_error(session, session.client.compute(total))


def kill_idle(session: Session) -> None:
    (worker,) = session.cluster.scheduler.workers.values()
    os.kill(worker.pid, signal.SIGKILL)


def _once(task: Callable[[], Any]) -> Callable[[Session], None]:
    def run(session: Session) -> None:
        _until_error(session, session.client.submit(task))

    return run


def retire(session: Session) -> None:
    session.client.gather(session.client.map(small, range(8), pure=False))
    session.client.retire_workers(session.addresses()[:1])
    wait_for(lambda: len(session.api("workers")) == 1, "the retired worker to leave")


def restart(session: Session) -> None:
    session.client.gather(session.client.map(small, range(8), pure=False))
    session.client.restart(timeout=60)
    session.wait_until_read()


ZOO = (
    Scenario(
        "one oversized task among small ones, one thread",
        _among_small(oversized),
        "terminated",
        "task-too-large",
        "oversized",
    ),
    Scenario(
        "one oversized task among small ones, four threads",
        _among_small(oversized),
        "terminated",
        "task-too-large",
        "oversized",
        limit=400,
        threads=4,
    ),
    Scenario(
        "one oversized pandas task, three threads",
        _among_small(oversized_frame),
        "terminated",
        "task-too-large",
        "oversized_frame",
        limit=400,
        threads=3,
    ),
    Scenario(
        "one oversized task of strings",
        _among_small(oversized_strings),
        "terminated",
        "task-too-large",
        "oversized_strings",
    ),
    Scenario(
        "four medium tasks at once",
        _at_once(medium),
        "terminated",
        "too-many-at-once",
        "medium",
        limit=400,
        threads=4,
    ),
    Scenario(
        "three medium pandas tasks at once",
        _at_once(medium_frame),
        "terminated",
        "too-many-at-once",
        "medium_frame",
        limit=400,
        threads=4,
    ),
    Scenario(
        "four medium tasks of strings at once",
        _at_once(medium_strings),
        "terminated",
        "too-many-at-once",
        "medium_strings",
        limit=300,
        threads=4,
    ),
    Scenario(
        "outputs far ahead of their consumer",
        run_ahead,
        "terminated",
        "run-ahead",
        "load",
        threads=2,
        memory=HIGH_TARGET,
        config={
            "distributed.worker.resources": {"taker": 1},
            "distributed.scheduler.worker-saturation": "inf",
        },
    ),
    Scenario(
        "outputs that the order needs",
        awaited,
        "terminated",
        "awaited",
        "part",
        memory=HIGH_TARGET,
    ),
    Scenario(
        "persisted outputs and an innocent task",
        pinned,
        "terminated",
        "pinned",
        "held",
        memory={"spill": False},
    ),
    Scenario(
        "a leak across tasks, one at a time",
        _one_after_another(leaking, 60),
        "terminated",
        "leak",
        "leaking",
        memory=NO_PAUSE,
    ),
    Scenario(
        "a leak across tasks, two threads, never idle",
        _all(leaking, 60),
        "terminated",
        "leak",
        "leaking",
        memory=NO_PAUSE,
        threads=2,
    ),
    Scenario(
        "a leak of strings",
        _all(leaking_strings, 80),
        "terminated",
        "leak",
        "leaking_strings",
        memory=NO_PAUSE,
    ),
    Scenario(
        "fragmentation",
        fragmentation,
        "terminated",
        "retained",
        "fragmenting",
    ),
    Scenario(
        "p2p rechunk",
        p2p,
        "terminated",
        "transfer",
        "random_sample-rechunk-transfer",
        workers=2,
        memory=NO_PAUSE,
        config={"distributed.p2p.storage.disk": False, "array.chunk-size": "8 MiB"},
    ),
    Scenario(
        "task-based shuffle",
        task_shuffle,
        "terminated",
        "awaited",
        "rechunk-split",
        memory=HIGH_TARGET,
    ),
    Scenario(
        "a __sizeof__ that lies",
        _all(lying, 40),
        "terminated",
        "sizeof",
        "lying",
        memory={"spill": False, "pause": False},
    ),
    Scenario(
        "spilling is off",
        _all(block, 40),
        "terminated",
        "pinned",
        "block",
        "spilling-off",
        memory=NO_SPILLING,
    ),
    Scenario(
        "max-spill is reached",
        _all(block, 40),
        "terminated",
        "pinned",
        "block",
        "spill-full",
        memory={**NO_PAUSE, "max-spill": "60 MB"},
    ),
    Scenario(
        "a spill directory that is full",
        _all(block, 40),
        "terminated",
        "pinned",
        "block",
        "spill-full",
        memory=NO_PAUSE,
        disk=45,
    ),
    Scenario(
        "outputs that cannot be pickled",
        _all(unpicklable, 40),
        "terminated",
        "pinned",
        "unpicklable",
        "spill-failing",
        memory=NO_PAUSE,
    ),
    Scenario("kill -9 of an idle worker", kill_idle, "killed", "external"),
    Scenario("a segfault", _once(segfaulting), "crashed", "crash", "segfaulting"),
    Scenario("os._exit(3)", _once(leaving), "exited", "crash", "leaving"),
    Scenario(
        "a task that asks for 32 TB",
        _once(absurd),
        "memory-error",
        "task-too-large",
        "absurd",
    ),
    Scenario("a worker retired on purpose", retire, None, workers=2),
    Scenario("client.restart()", restart, None),
)
