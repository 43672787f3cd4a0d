"""A memory for a whole cluster, driven at random against a plain dictionary.

The model is a dictionary: what is held and which value it has.  Whatever was persisted,
released, killed, deleted, damaged and opened before, values are those of the model.
Scheduler and workers check their own state.  A short run is in every run of the tests,
the long one in ``make corpora``; a failure prints the steps that repeat it.
"""

from __future__ import annotations

import functools
import gc
import os
import random
import signal
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
import pytest
from clusters import wait_for
from distributed import futures_of, wait
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from test_shared_storage import Runs, noted, state

from dask_memdash import FSMemory, SharedStorage, open_persisted
from dask_memdash.boundary import boundary
from dask_memdash.errors import StorageError
from dask_memdash.intermediates import inventory

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

#: Chunks of each array, and numbers in each.
CHUNKS, SIDE = 6, 2_000

#: Seconds after which a value that does not come is one that never comes.
PATIENCE = 30

#: The cluster that all runs of the machine share.
HERE = SimpleNamespace()

sources = st.integers(0, 3)
seeds = st.integers(0, 2**32 - 1)


def made(number):
    """Return a source, as a collection and as what it is."""
    x = da.full((CHUNKS, SIDE), number, chunks=(1, SIDE), dtype="i8")
    path = str(HERE.runs.path)
    y = x.map_blocks(noted, path, dtype="i8", meta=x._meta)
    factors = np.arange(1, CHUNKS + 1)[:, None]
    return y, np.full((CHUNKS, SIDE), number) * factors


def step(method):
    """Note a step, and how the first one failed: a real cluster may not fail twice."""

    @functools.wraps(method)
    def noted_step(self, **arguments):
        said = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        self.steps.append(f"{method.__name__}({said})")
        print(f"{time.monotonic() - HERE.begun:6.1f} s", self.steps[-1])
        try:
            return method(self, **arguments)
        except Exception as error:
            error.add_note(what_waits())
            print("FAILED", error, *error.__notes__, sep="\n")
            steps = "\n".join(self.steps)
            HERE.__dict__.setdefault("failure", f"{steps}\n{traceback.format_exc()}")
            raise

    return noted_step


class Storage(RuleBasedStateMachine):
    """One store, given to the cluster and taken away at the end."""

    held = Bundle("held")

    def __init__(self):
        super().__init__()
        self.steps = []
        self.model = {}
        self.names = {}
        # whether nobody has touched the store, and all that is held is followed
        self.intact = self.followed = True
        self.folder = tempfile.TemporaryDirectory(prefix="machine-")

    @initialize(ram=st.sampled_from([None, "20 kB"]))
    @step
    def give(self, ram):
        self.memory = FSMemory(Path(self.folder.name) / "store", ram=ram)
        HERE.client.register_plugin(SharedStorage(self.memory))
        HERE.runs.count()

    def _hold(self, collection, value):
        slot = f"slot-{len(self.steps)}"
        self.model[slot] = collection.persist(), value
        return slot

    @rule(target=held, number=sources)
    @step
    def persist(self, number):
        return self._hold(*made(number))

    @rule(target=held, number=sources)
    @step
    def persist_by_name(self, number):
        with dask.annotate(persist_as=f"set-{number}"):
            slot = self._hold(*made(number))
        self.names[slot] = f"set-{number}"
        return slot

    @rule(target=held, slot=held, number=sources)
    @step
    def persist_what_rests_on_it(self, slot, number):
        if slot not in self.model:
            return multiple()
        collection, value = self.model[slot]
        return self._hold(collection + number, value + number)

    @rule(target=held, slot=held)
    @step
    def persist_another_order(self, slot):
        if slot not in self.model:
            return multiple()
        collection, value = self.model[slot]
        return self._hold(collection.rechunk((CHUNKS, SIDE // 4)), value)

    @rule(slot=consumes(held))
    @step
    def release(self, slot):
        self.model.pop(slot, None)

    @rule(slot=held, gathered=st.booleans())
    @step
    def look(self, slot, gathered):
        if slot in self.model:
            self._look(*self.model[slot], gathered)

    def _look(self, collection, value, gathered):
        future = HERE.client.compute(collection if gathered else collection.sum())
        found = future.result(PATIENCE)
        if gathered:
            assert np.array_equal(found, value)
        else:
            assert int(found) == int(value.sum())

    @precondition(lambda self: self.model)
    @rule(number=st.integers(1, 2))
    @step
    def kill(self, number):
        # a nanny does not restart a worker that dies while it is starting it
        wait_for(are_running, "workers that their nannies have started")
        pids = HERE.client.run(os.getpid, on_error="ignore")
        for pid in list(pids.values())[:number]:
            os.kill(pid, signal.SIGKILL)

    @precondition(lambda self: self.model)
    @rule()
    @step
    def kill_when_all_is_stored(self):
        self._until_written()
        HERE.runs.count()
        self.kill(number=2)
        for collection, value in self.model.values():
            self._look(collection, value, gathered=False)
        if self.intact and self.followed:
            assert HERE.runs.count() == 0, "what is stored is loaded"

    @precondition(lambda self: self.model)
    @rule()
    @step
    def collect_garbage(self):
        self.intact = False
        inventory.collect(self.memory, 0.0)

    @precondition(lambda self: self.model)
    @rule(seed=seeds)
    @step
    def damage(self, seed):
        self.intact = False
        chance = random.Random(seed)
        paths = sorted((self.memory.local_root / "objects").glob("[0-9a-f]*"))
        for path in chance.sample(paths, len(paths) // 2):
            content = bytearray(path.read_bytes())
            if not content:
                continue
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(
                content[: chance.choice([len(content), len(content) // 3])]
            )

    @rule(number=sources)
    @step
    def open(self, number):
        name = f"set-{number}"
        if self.intact:
            self._until_written()
        if not (self.memory.local_root / "names" / name).exists():
            return
        said = None
        try:
            opened = open_persisted(self.memory, name)
            self._look(opened, made(number)[1], gathered=False)
        except StorageError as error:
            said = str(error)
            # the client keeps the error, whose frames would keep the future
            error.__traceback__ = None
        if said is not None:
            assert not self.intact, said
            assert name in said or "objects/" in said

    @precondition(lambda self: self.model)
    @rule()
    @step
    def take_away_and_give_again(self):
        HERE.client.unregister_scheduler_plugin("memdash-storage")
        HERE.client.register_plugin(SharedStorage(self.memory))
        # what is held already is not followed by the new one
        self.followed = False
        self.names.clear()

    def _until_written(self):
        """Wait until nothing waits to be computed or written."""

        def is_written():
            keys = state(HERE.client)["keys"]
            return not (keys["wanted"] or keys["asked"] or keys["failed"])

        for collection, _ in self.model.values():
            wait(futures_of(collection), timeout=PATIENCE)
        wait_for(is_written, "all to be written")
        for slot, name in self.names.items() if self.intact else ():
            if slot in self.model:
                path = self.memory.local_root / "names" / name
                wait_for(path.exists, f"the name {name}")

    @invariant()
    def nothing_of_ours_has_failed(self):
        texts = [t for t in boundary.texts() if self.intact]
        assert texts == []

    @step
    def teardown(self):
        try:
            for collection, value in self.model.values():
                self._look(collection, value, gathered=True)
            self.model.clear()
            collection = None
            wait_for(are_forgotten, "tasks to be forgotten")
            wait_for(
                lambda: state(HERE.client)["stand_ins"] == 0, "no stand-in is left"
            )
        finally:
            self.model.clear()
            HERE.client.unregister_scheduler_plugin("memdash-storage")
            self.folder.cleanup()
            boundary.clear()


def are_running():
    nannies = HERE.nannies.values()
    return all(nanny.status.name == "running" for nanny in nannies) and len(
        HERE.scheduler.workers
    ) == len(nannies)


def are_forgotten():
    gc.collect()
    return not HERE.scheduler.tasks


def what_waits():
    """Return what the scheduler and the workers say of tasks that are not done."""

    def states(dask_worker):
        tasks = dask_worker.state.tasks.values()
        return [repr(ts) for ts in tasks if ts.state != "memory"]

    waiting = [
        f"{ts!r} on {ts.processing_on}, load: {'load_stored' in repr(ts.run_spec)}, "
        f"waits for {ts.waiting_on}, is waited for by {ts.waiters} and {ts.dependents},"
        f" is wanted by {ts.who_wants}"
        for ts in HERE.scheduler.tasks.values()
        if ts.state not in ("memory", "released") or len(HERE.scheduler.tasks) < 20
    ]
    workers = HERE.client.run(states, on_error="return")
    nannies = [f"{nanny!r}, {nanny.process!r}" for nanny in HERE.nannies.values()]
    return "\n".join([*waiting, str(workers), *nannies, str(state(HERE.client))])


def drive(start, tmp_path, **options):
    options = {
        "deadline": None,
        "suppress_health_check": list(HealthCheck),
        # what a real cluster did is not worth being done again in smaller steps
        "phases": [Phase.generate],
        "database": None,
        "print_blob": True,
        **options,
    }
    validate = {
        "distributed.scheduler.validate": True,
        "distributed.worker.validate": True,
        # tasks whose workers we kill are not to blame
        "distributed.scheduler.allowed-failures": 1000,
        # and a busy machine may take long to start others in their place
        "distributed.deploy.lost-worker-timeout": "1 hour",
    }
    with dask.config.set(validate):
        session = start(register=False)
        HERE.client, HERE.scheduler = session.client, session.cluster.scheduler
        HERE.nannies = session.cluster.workers
        HERE.runs = Runs(tmp_path / "runs")
        HERE.begun = begun = time.monotonic()
        try:
            run_state_machine_as_test(Storage, settings=settings(**options))
        except BaseException as error:
            error.add_note("the first failure:\n" + HERE.__dict__.get("failure", "-"))
            raise
        finally:
            HERE.__dict__.clear()
        print(f"the machine ran for {time.monotonic() - begun:.1f} s")


@pytest.mark.slow
def test_what_is_stored_is_what_was_persisted(start, tmp_path):
    drive(start, tmp_path, max_examples=3, stateful_step_count=8, derandomize=True)


@pytest.mark.corpora
@pytest.mark.timeout(1200)
def test_what_is_stored_is_what_was_persisted_for_long(start, tmp_path):
    drive(start, tmp_path, max_examples=15, stateful_step_count=25)
