"""At a death it is known what the worker held, was sent and kept."""

from __future__ import annotations

import ctypes
import os

import dask
import numpy as np
import pytest
from clusters import wait_for
from distributed import KilledWorker, wait
from with_modules import fill_memory

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]


@pytest.fixture(autouse=True)
def one_death_is_enough():
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        yield


MB = 1_000_000


def die(*_: object) -> None:
    os._exit(7)


def make_block(size: int) -> np.ndarray:
    return np.ones(size * MB, "u1")


def use(block: np.ndarray) -> int:
    return len(block)


def hold_the_gil(seconds: int) -> None:
    """Let no other thread of the worker run: calls of PyDLL keep the GIL."""
    ctypes.PyDLL(None).sleep(seconds)


def score(block: np.ndarray, number: int) -> int:
    return int(block[number])


class Keeper:
    """An actor that keeps what it is given."""

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    def add(self, size: int) -> int:
        self.kept.append(make_block(size))
        return len(self.kept)


def newest_death(session):
    """Return the newest incident that is a death whose report is there."""

    def found():
        model = session.cluster.scheduler.plugins["memdash"]._model
        deaths = [i for i in model.incidents if i.kind != "paused" and i.facts]
        return deaths[0] if deaths and deaths[0].reported else None

    return wait_for(found, "a death that was reported")


def test_a_worker_that_dies_in_its_first_task_is_known_by_what_it_was_sent(start):
    session = start(n_workers=1)
    block = np.ones(9 * MB, "u1")
    future = session.client.submit(die, block, pure=False)
    wait(future)
    death = newest_death(session)
    (suspect,) = death.suspects
    assert suspect.arguments == pytest.approx(9 * MB, rel=0.02)
    assert suspect.rss_at_begin > 30 * MB
    assert 0 <= suspect.grown < 9 * MB
    assert death.facts.graph["die"].tasks == 1
    assert death.facts.graph["die"].arguments == pytest.approx(9 * MB, rel=0.02)


@pytest.mark.slow
def test_arguments_stay_with_the_outputs_that_were_made_of_them(start):
    session = start(n_workers=1)
    blocks = [np.full(9 * MB, n, "u1") for n in range(4)]
    kept = [session.client.submit(score, b, 5, pure=False) for b in blocks]
    wait(kept)

    def reported():
        model = session.cluster.scheduler.plugins["memdash"]._model
        (worker,) = model.processes.workers.values()
        row = worker.graph.get("score")
        return worker if row and row.tasks == 4 else None

    worker = wait_for(reported, "the worker's word on its graph")
    assert worker.graph["score"].arguments == pytest.approx(36 * MB, rel=0.02)
    assert worker.reading.graph == pytest.approx(36 * MB, rel=0.02)
    wait(session.client.submit(die))
    death = newest_death(session)
    assert death.facts.graph["score"].arguments == pytest.approx(36 * MB, rel=0.02)
    assert death.facts.held["score"].keys == 4
    assert death.facts.held["score"].because.keys() == {"pinned"}
    assert death.facts.held_share == 1.0


@pytest.mark.slow
def test_who_waits_for_an_output_and_how_many_have_it_is_known_at_the_death(start):
    session = start()
    first, other = sorted(session.addresses())
    block = session.client.submit(make_block, 40, workers=[first])
    uses = [
        session.client.submit(use, block, workers=[a], pure=False)
        for a in (first, other)
    ]
    wait(uses)
    wait(session.client.submit(die, block, workers=[other]))
    death = newest_death(session)
    assert death.worker.address == other
    held = death.facts.held["make_block"]
    assert held.size == pytest.approx(40 * MB, rel=0.02)
    assert (held.replicas, held.shared, held.max_copies) == (held.size, held.size, 2)
    assert held.awaited_by.keys() == {"die"}
    (suspect,) = death.suspects
    assert (suspect.inputs.count, suspect.inputs.n_fetched) == (1, 1)
    assert suspect.inputs.fetched == held.size


def test_the_state_of_actors_is_known_and_their_methods_are_theirs(start):
    session = start(n_workers=1)
    keeper = session.client.submit(Keeper, actor=True).result()
    for _ in range(3):
        keeper.add(20).result()

    def told():
        model = session.cluster.scheduler.plugins["memdash"]._model
        (worker,) = model.processes.workers.values()
        row = worker.actors.get("Keeper")
        return row if row and row.size > 59 * MB else None

    row = wait_for(told, "the worker's word on its actors")
    assert (row.actors, row.size) == (1, pytest.approx(60 * MB, rel=0.02))
    names = {row["prefix"] for row in session.api("prefixes")}
    assert "Keeper.add" not in names


@pytest.mark.slow
def test_a_worker_lost_to_its_silence_is_an_incident_that_nobody_asked_for(start):
    # The scheduler waits for ten heartbeats at least: 5 s here.
    with dask.config.set({"distributed.scheduler.worker-ttl": "1s"}):
        session = start(n_workers=1)
    future = session.client.submit(hold_the_gil, 60)
    wait(future, timeout=60)
    death = newest_death(session)
    assert death.kind == "lost"
    assert 5 < death.unresponsive < 60


@pytest.mark.slow
def test_modules_that_came_with_a_first_task_are_not_held_against_it(start):
    """Where they were memory that nobody counted, a young worker's death was theirs."""
    session = start(n_workers=1)
    (idle,) = session.api("workers")
    future = session.client.submit(fill_memory, key="fill_memory-1")
    with pytest.raises(KilledWorker):
        future.result(timeout=40)
    death = session.api.wait_for_death("terminated")
    assert death["diagnosis"]["cause"] == "task-too-large"
    assert death["diagnosis"]["responsible"]["key"] == "fill_memory-1"
    grown = death["breakdown"]["baseline"] - idle["breakdown"]["baseline"]
    assert 20 * MB < grown < 150 * MB
