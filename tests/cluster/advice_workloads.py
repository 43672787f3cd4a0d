"""Workloads that fail, run again with the first advice followed to the letter.

Each says what it lets its author change; how an advice becomes a change is
:mod:`advice_lines`'s.  ``test_advice.py`` runs them as tests, ``benchmarks/advice.py``
prints the table.
"""

from __future__ import annotations

import itertools
import logging
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import advice_tasks
import dask
import zoo_tasks
from advice_lines import NoLineError, Setup, follow
from advice_tasks import (
    Journal,
    combined,
    edge,
    expand,
    fixed,
    holding_the_gil,
    limit_address_space,
    looked_up,
    lying_much,
    outlined,
    output,
    part_of_all,
    ready,
    remembering,
    scaled,
    scoring,
)
from clusters import Session, wait_for
from distributed import Client, KilledWorker, LocalCluster, wait
from zoo_tasks import MB, block, fragmenting, lying, medium, next_step, taking

Run = Callable[[Session, dict[str, Any]], None]

#: How long a workload may take, in seconds.
PATIENCE = 90.0

#: What is configured unless a workload says otherwise.
MEMORY = "distributed.worker.memory."
NO_SPILLING = {MEMORY + name: False for name in ("target", "spill", "pause")}

#: Stands for a directory on a disk of 60 MB.
SMALL_DISK = "<a small disk>"

#: Spilling is on, and out of the way: stored outputs may fill the worker.
NEVER_FULL = {MEMORY + "target": 0.92, MEMORY + "spill": False, MEMORY + "pause": False}


@dataclass(frozen=True)
class Workload:
    """One program that fails as it is set up."""

    name: str
    run: Run
    #: Causes that are right, and the relief, where that is certain.
    causes: tuple[str, ...]
    setup: Setup = field(default_factory=Setup)
    #: The program's own knobs, of `advice_lines.OWN_KNOBS`.
    has: frozenset[str] = frozenset()
    #: Why its first advice is known not to be enough; empty where it is.
    not_enough: str = ""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    #: 'completed', 'stuck', or the name of the exception.
    end: str
    seconds: float
    deaths: int
    #: Of the first failure; empty without one.
    diagnosis: dict[str, Any]

    @property
    def well(self) -> bool:
        """Whether it completed, and no worker died over it."""
        return self.end == "completed" and not self.deaths

    def __str__(self) -> str:
        died = f", {self.deaths} deaths" if self.deaths else ""
        return f"{self.end} in {self.seconds:.0f} s{died}"


class StuckError(Exception):
    """Nothing moves any more."""


class NotHereError(Exception):
    """A workload cannot run on this machine."""


@dataclass(frozen=True)
class Followed:
    """A workload before and after its first advice."""

    workload: Workload
    before: Outcome
    #: The first advice; empty if there was none.
    advice: str
    #: None where the advice could not be followed; `why` says so.
    after: Outcome | None
    why: str = ""

    @property
    def helped(self) -> bool:
        """Whether it failed before, and completes now without a death."""
        return self.after is not None and self.after.well and not self.before.well


def follow_first_advice(workload: Workload) -> Followed:
    """Run a workload, follow the first advice on what failed, and run it again."""
    before = outcome(workload, workload.setup)
    advice = next(iter(before.diagnosis.get("advice", ())), "")
    try:
        setup = follow(advice, workload.setup, workload.has)
    except NoLineError as error:
        return Followed(workload, before, advice, None, str(error))
    return Followed(workload, before, advice, outcome(workload, setup))


def outcome(workload: Workload, setup: Setup) -> Outcome:
    """Run a workload on a cluster of its own."""
    options = {
        "n_workers": 1,
        "threads_per_worker": 1,
        "memory_limit": "300 MB",
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.CRITICAL,
        **setup.cluster,
    }
    directory = setup.cluster.get("local_directory")
    with (
        small_disk() if directory == SMALL_DISK else nullcontext() as place,
        dask.config.set({"distributed.scheduler.allowed-failures": 0, **setup.config}),
        # Any other than the small one is the usual one, which has room.
        LocalCluster(**{**options, "local_directory": place}) as cluster,
        Client(cluster) as client,
    ):
        session = Session(cluster, client)
        session.register()
        if "sizeof" in setup.own:
            paste(session, setup.own["sizeof"])
        begin = time.monotonic()
        try:
            workload.run(session, setup.own)
            end = "completed"
        except StuckError:
            end = "stuck"
        except (KilledWorker, MemoryError) as error:
            end = type(error).__name__
        seconds = time.monotonic() - begin
        deaths = sum(f["deaths"] for f in session.api("failures"))
        well = end == "completed" and not deaths
        diagnosis = {} if well else _diagnosis(session)
        return Outcome(end, seconds, deaths, diagnosis)


@contextmanager
def small_disk() -> Iterator[str]:
    """Mount a disk of 60 MB.

    Raises
    ------
    NotHereError
        Only root may, and this is not root.
    """
    with tempfile.TemporaryDirectory() as place:
        command = ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", place]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotHereError(str(error)) from error
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


def paste(session: Session, line: str) -> None:
    """Run a line as it would be pasted into the program."""
    names = {"client": session.client, "dask": dask, **vars(zoo_tasks)}
    exec(line, {**names, **vars(advice_tasks)})


def _diagnosis(session: Session) -> dict[str, Any]:
    """Return that of the first failure, when its last report has come."""

    def settled() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = session.api("failures")
        return found if found and all(f["settled"] for f in found) else []

    try:
        return dict(wait_for(settled, "a failure", 30)[-1]["diagnosis"])
    except AssertionError:
        return {}


def finish(session: Session, futures: Sequence[Any]) -> None:
    """Wait until all are done; raise what the first failed with.

    Raises
    ------
    StuckError
        The cluster is said to be stuck, or nothing comes of it in time.
    """
    deadline = time.monotonic() + PATIENCE
    looked = time.monotonic()
    while True:
        states = [future.status for future in futures]
        if "error" in states:
            raise futures[states.index("error")].exception()
        if all(state == "finished" for state in states):
            return
        now = time.monotonic()
        if now > deadline:
            raise StuckError
        if now - looked > 2:
            looked = now
            if any(i["kind"] == "stuck" for i in session.api("incidents")):
                raise StuckError
        time.sleep(0.05)


# -- programs -------------------------------------------------------------------


def _of_a_stored_chunk(task: Callable[[Any], Any], size: int) -> Run:
    """Apply a task to every chunk of an array that is stored, in one chunk at first."""

    def run(session: Session, own: dict[str, Any]) -> None:
        import dask.array as da

        session.client.run(limit_address_space, 2000)
        chunks = own.get("chunks", size * MB)
        x = da.random.random(size * MB, chunks=chunks).persist()
        wait(x)
        if "rechunk" in own:
            x = x.rechunk(own["rechunk"])
        y = x.map_blocks(task, chunks=(1,), dtype=float, name=task.__name__)
        finish(session, [session.client.compute(y.sum())])

    return run


def one_task(session: Session, own: dict[str, Any]) -> None:
    finish(session, [session.client.submit(fixed, 320)])


def at_once(session: Session, own: dict[str, Any]) -> None:
    session.client.submit(medium, -1).result(timeout=60)
    finish(session, session.client.map(medium, range(8)))


def rechunk(session: Session, own: dict[str, Any]) -> None:
    import dask.array as da

    x = da.random.random((7000, 7000), chunks=(7000, 100))
    total = x.rechunk((100, 7000), method="tasks").sum()
    finish(session, [session.client.compute(total)])


def shuffle(session: Session, own: dict[str, Any]) -> None:
    import dask.array as da

    x = da.random.random((8000, 8000), chunks=(8000, 200))
    total = x.rechunk((200, 8000), threshold=10**6, method="p2p").sum()
    finish(session, [session.client.compute(total)])


def held_outputs(session: Session, own: dict[str, Any]) -> None:
    """Hold all outputs of a map, or only those that are still to come."""
    futures = session.client.map(output, range(40), pure=False)
    if "release" not in own:
        finish(session, futures)
        return
    while futures:
        finish(session, [futures[0]])
        del futures[0]


def one_after_another(session: Session, own: dict[str, Any]) -> None:
    """Hold the outputs of one step while the next runs."""
    futures = session.client.map(output, range(12), pure=False)
    finish(session, futures)
    time.sleep(1)
    if "release" in own:
        del futures
    finish(session, [session.client.submit(fixed, 120)])


def run_ahead(session: Session, own: dict[str, Any]) -> None:
    """Produce outputs fast that one slow task at a time takes in."""
    load, take = dask.delayed(block), dask.delayed(taking)
    loaded = [load(n, 15, dask_key_name=f"load-{n}") for n in range(24)]
    with dask.annotate(resources={"taker": 1}):
        taken = [take(part, dask_key_name=f"take-{n}") for n, part in enumerate(loaded)]
    finish(session, session.client.compute(taken))


def behind_a_barrier(session: Session, own: dict[str, Any]) -> None:
    """Use every part once all parts are known."""
    made, seen = dask.delayed(output), dask.delayed(edge)
    parts = [made(n, dask_key_name=f"part-{n}") for n in range(24)]
    edges = [seen(p, dask_key_name=f"edge-{n}") for n, p in enumerate(parts)]
    barrier = dask.delayed(ready)(*edges, dask_key_name="barrier")
    use = dask.delayed(scaled)
    used = [use(p, barrier, dask_key_name=f"use-{n}") for n, p in enumerate(parts)]
    finish(session, session.client.compute(used))


def broadcast(session: Session, own: dict[str, Any]) -> None:
    """Use every pair of tables, each wherever it runs."""
    tables = session.client.map(output, range(12), size=15, pure=False, key="table")
    finish(session, tables)
    time.sleep(1)
    pairs = [
        session.client.submit(combined, one, other, pure=False)
        for one, other in itertools.combinations(tables, 2)
    ]
    finish(session, pairs)


def with_arguments(session: Session, own: dict[str, Any]) -> None:
    """Send a table of 40 MB along with each task."""
    import numpy as np

    client = session.client
    x = np.ones(5_000_000)
    if "scatter" in own:
        x = client.scatter(x)
        futures = [client.submit(looked_up, x, n) for n in range(12)]
    else:
        futures = [client.submit(scoring(x), n, key=f"score-{n}") for n in range(12)]
    finish(session, futures)


def remember(session: Session, own: dict[str, Any]) -> None:
    finish(session, session.client.map(remembering, range(140), pure=False))


def untold(session: Session, own: dict[str, Any]) -> None:
    finish(session, session.client.map(lying, range(40), pure=False))


def untold_at_once(session: Session, own: dict[str, Any]) -> None:
    """Hold outputs of 40 MB that say they are small, four at a time."""
    first = session.client.map(lying_much, range(4), pure=False)
    finish(session, first)
    time.sleep(1)
    finish(session, session.client.map(lying_much, range(20), pure=False))


def told_to_an_actor(session: Session, own: dict[str, Any]) -> None:
    """Tell an actor of 24 tables of 15 MB."""
    client = session.client
    futures = client.map(output, range(24), size=1, pure=False, key="warm")
    finish(session, futures)
    created = client.submit(Journal, actor=True)
    finish(session, [created])
    journal = created.result()
    for n in range(24):
        x = output(n)
        if "scatter" in own:
            x = client.scatter(x)
        try:
            journal.note(x).result(timeout=30)
        except (ValueError, TimeoutError, OSError) as error:
            raise StuckError from error  # its worker is gone, and it with it


def fragments(session: Session, own: dict[str, Any]) -> None:
    session.client.submit(fragmenting, 0).result(timeout=60)
    if "between" in own:
        paste(session, own["between"])
    time.sleep(1.2)
    finish(session, [session.client.submit(next_step)])


def all_on_one(session: Session, own: dict[str, Any]) -> None:
    parts = session.client.map(output, range(24), pure=False)
    finish(session, parts)
    finish(session, [session.client.submit(part_of_all, *parts)])


def busy_with_the_gil(session: Session, own: dict[str, Any]) -> None:
    finish(session, [session.client.submit(holding_the_gil, 16)])


WORKLOADS = (
    Workload(
        "a task per chunk, of large chunks",
        _of_a_stored_chunk(expand, 100),
        ("task-too-large",),
        has=frozenset({"chunks", "rechunk"}),
    ),
    Workload("one task that no worker holds", one_task, ("task-too-large",)),
    Workload(
        "four threads of tasks that fit one by one",
        at_once,
        ("too-many-at-once",),
        Setup({"threads_per_worker": 4, "memory_limit": "400 MB"}),
    ),
    Workload(
        "rechunk by tasks, joined up to array.chunk-size",
        rechunk,
        # Where chunks are made faster than they are spilled, what waits for the first
        # task that joins them fills the worker before that task begins.
        ("task-too-large", "awaited"),
    ),
    Workload(
        "all outputs held, spilling off",
        held_outputs,
        ("pinned",),
        Setup(config=NO_SPILLING),
    ),
    Workload(
        "all outputs held, spilling off, paused",
        held_outputs,
        ("pinned",),
        Setup(config={**NO_SPILLING, MEMORY + "pause": 0.8}),
        frozenset({"release"}),
    ),
    Workload(
        "outputs held, not spilled, while the next step runs",
        one_after_another,
        ("pinned",),
        Setup(config={MEMORY + "target": 0.95, MEMORY + "spill": 0.95}),
        frozenset({"release"}),
    ),
    Workload(
        "producers ahead of their consumer, spilling off",
        run_ahead,
        # It may die before the first consumer has finished: then nobody knows what
        # becomes of what it takes, and whether the order would keep as much.
        ("run-ahead", "awaited"),
        Setup(
            {"threads_per_worker": 2},
            {
                **NO_SPILLING,
                "distributed.worker.resources": {"taker": 1},
                "distributed.scheduler.worker-saturation": "inf",
            },
        ),
    ),
    Workload(
        "parts that wait for a barrier, spilling off",
        behind_a_barrier,
        ("awaited",),
        Setup(config=NO_SPILLING),
    ),
    Workload(
        "tables that every task of every worker needs",
        broadcast,
        ("replicas",),
        Setup({"n_workers": 3}, NEVER_FULL),
    ),
    Workload(
        "a table of 40 MB in every task's closure",
        with_arguments,
        ("graph",),
        Setup({"memory_limit": "400 MB"}),
        frozenset({"scatter"}),
    ),
    Workload(
        "tasks that leave 4 MB each",
        remember,
        ("leak",),
        Setup(
            {"n_workers": 2},
            {MEMORY + "pause": False, "distributed.scheduler.allowed-failures": 3},
        ),
    ),
    Workload(
        "outputs that say they are small",
        untold,
        ("sizeof",),
        Setup(config={MEMORY + "spill": False, MEMORY + "pause": False}),
        frozenset({"sizeof"}),
    ),
    Workload(
        "an allocation that is refused",
        _of_a_stored_chunk(outlined, 40),
        ("task-too-large",),
        Setup({"memory_limit": "450 MB"}),
        frozenset({"rechunk"}),
    ),
    Workload(
        "inputs that no worker holds",
        all_on_one,
        ("task-too-large",),
        Setup({"n_workers": 2}),
    ),
    Workload(
        "as much spilled as max-spill allows",
        held_outputs,
        ("pinned",),
        Setup(config={MEMORY + "pause": False, MEMORY + "max-spill": "60 MB"}),
    ),
    Workload(
        "outputs that say they are small, spilling on",
        untold_at_once,
        ("sizeof",),
        # By sizes Dask spills early, and by the process only when it is too late.
        Setup(
            {"threads_per_worker": 4, "memory_limit": "500 MB"},
            {MEMORY + "target": 0.3, MEMORY + "spill": 0.93, MEMORY + "pause": False},
        ),
        frozenset({"sizeof"}),
    ),
    Workload(
        "more outputs than fit on the disk of the workers",
        held_outputs,
        ("pinned",),
        Setup({"local_directory": SMALL_DISK}, {MEMORY + "pause": False}),
    ),
    Workload(
        "an actor that keeps all that it is told",
        told_to_an_actor,
        ("actor-state",),
        Setup(config={MEMORY + "pause": False}),
        frozenset({"scatter"}),
    ),
    Workload(
        "producers ahead on two workers, a spilled disk too small",
        run_ahead,
        ("run-ahead", "awaited"),  # as above
        Setup(
            {"threads_per_worker": 2},
            {
                MEMORY + "pause": False,
                MEMORY + "max-spill": "60 MB",
                "distributed.worker.resources": {"taker": 1},
                "distributed.scheduler.worker-saturation": "inf",
            },
        ),
    ),
    Workload(
        "memory that the allocator keeps",
        fragments,
        ("retained",),
        has=frozenset({"between"}),
    ),
    Workload(
        "a P2P shuffle in memory",
        shuffle,
        ("transfer",),
        Setup(
            {"n_workers": 2},
            {"distributed.p2p.storage.disk": False, "array.chunk-size": "32 MiB"},
        ),
    ),
    Workload(
        "a task that holds the GIL past worker-ttl",
        busy_with_the_gil,
        ("unresponsive",),
        Setup(config={"distributed.scheduler.worker-ttl": "2s"}),
    ),
)
