"""The guard on real clusters: workers live, nothing waits for ever, nothing is left."""

from __future__ import annotations

import dask
import guard_tasks
import pytest
from clusters import Session, wait_for
from distributed import KilledWorker, wait
from distributed.worker_state_machine import WorkerState

from dask_memdash import MemDash, connect
from dask_memdash.errors import TaskTooLarge
from dask_memdash.measure import native_tally

pytestmark = pytest.mark.cluster

MB = 1_000_000


def guarded(start, mode=True, **options) -> Session:
    options = {
        "n_workers": 1,
        "threads_per_worker": 4,
        "memory_limit": "600 MB",
        **options,
    }
    session = start(register=False, **options)
    session.client.register_plugin(MemDash(guard=mode))
    session.wait_until_read()
    return session


def figures(session):
    return [worker["guard"] for worker in session.api("workers")]


def on_worker(dask_worker):
    """Say what the guard changes on a worker."""
    state = dask_worker.state
    return (
        type(state) is WorkerState
        and dask_worker.handlers["get_data"] == dask_worker.get_data,
        state.transfer_incoming_bytes_limit,
        any(name.startswith("dask_memdash.guard") for name in sys_modules()),
    )


def sys_modules():
    import sys

    return list(sys.modules)


def test_large_tasks_end_and_no_worker_dies(start):
    """Without it they end in ``KilledWorker``: see below."""
    session = guarded(start, n_workers=2)
    heard = []
    plugin = session.cluster.scheduler.plugins["memdash"]
    plugin._teacher.heard = lambda address, action: heard.append((address, action))
    found = session.client.map(guard_tasks.large, range(12), pure=False)
    assert session.client.gather(found) == [1.0] * 12
    assert session.api("incidents") == []

    def told():
        known = figures(session)
        return sum(one["held"] for one in known) and known

    known = wait_for(told, "what the guards did")
    assert {one["mode"] for one in known} == {"on"}
    assert [one["failed"] for one in known] == [0, 0]
    assert not any(worker["degraded"] for worker in session.api("workers"))
    workers = set(session.cluster.scheduler.workers)
    waited = [one for where, one in heard if one.kind == "waited" and where in workers]
    assert waited
    assert all(one.prefix == "large" and one.seconds > 0 for one in waited)


@pytest.mark.corpora
def test_the_same_tasks_without_it(start):
    session = guarded(start, mode=False, n_workers=2)
    found = session.client.map(guard_tasks.large, range(12), pure=False)
    with pytest.raises(KilledWorker):
        session.client.gather(found)


def test_tasks_that_wait_for_others_get_them(start):
    """What they wait for does not fit beside them; nothing here secedes by itself.

    It fits into the worker, whose nanny does not terminate it.
    """
    with dask.config.set({"distributed.worker.memory.terminate": False}):
        session = guarded(start, memory_limit="480 MB")
    client, tasks = session.client, guard_tasks
    # so that it is known what the others take
    client.submit(tasks.large, 0, 250 * MB, 0.0).result(timeout=60)
    client.submit(tasks.sets_event, "first", 250 * MB).result(timeout=60)
    found = [
        client.submit(tasks.waits_for_event, "e", 150 * MB, pure=False),
        client.submit(tasks.sets_event, "e", 100 * MB, pure=False),
    ]
    assert all(client.gather(found))
    wait_for(lambda: figures(session)[0]["opened"], "its opening the gate to be told")
    assert client.submit(tasks.waits_for_another, 100 * MB).result(timeout=60)
    assert client.submit(tasks.waits_in_worker_client, 100 * MB).result(timeout=60)
    both = [
        client.submit(tasks.takes_from_queue, "q", 150 * MB),
        client.submit(tasks.puts_into_queue, "q", 100 * MB),
    ]
    assert client.gather(both) == [2, True]
    locks = client.map(tasks.takes_lock, ["l"] * 4, [100 * MB] * 4, pure=False)
    assert all(client.gather(locks))
    assert session.api("incidents") == []


@pytest.mark.hooks
def test_nothing_of_it_is_there_before_it_is_asked_for_or_after_it_is_removed(start):
    session = start(threads_per_worker=2)
    client = session.client
    before = client.run(on_worker)
    assert {(own, loaded) for own, _, loaded in before.values()} == {(True, False)}
    client.unregister_scheduler_plugin("memdash")
    wait_for(
        lambda: "memdash" not in session.cluster.scheduler.worker_plugins,
        "MemDash to go",
    )
    client.register_plugin(MemDash(guard="on"))
    session.wait_until_read()
    during = client.run(on_worker)
    assert {own for own, _, _ in during.values()} == {False}
    assert client.submit(sum, (1, 2)).result() == 3
    client.unregister_scheduler_plugin("memdash")
    wait_for(
        lambda: {own for own, _, _ in client.run(on_worker).values()} == {True},
        "the guard to go",
    )
    after = client.run(on_worker)
    assert [limit for _, limit, _ in after.values()] == [
        limit for _, limit, _ in before.values()
    ]
    assert client.submit(sum, (1, 3)).result() == 4


@pytest.mark.slow
def test_what_is_held_starts_when_the_guard_is_removed(start):
    session = guarded(start, threads_per_worker=2, memory_limit="900 MB")
    client = session.client
    client.submit(guard_tasks.large, 0, 400 * MB, 0.0).result(timeout=30)
    found = [
        client.submit(guard_tasks.large, i, 100 * MB, 5.0, pure=False) for i in (1, 2)
    ]
    wait_for(lambda: figures(session)[0]["waiting"], "one to be held")
    client.unregister_scheduler_plugin("memdash")
    wait_for(
        lambda: set(client.run(executing).values()) == {2}, "both to run side by side"
    )
    client.cancel(found)


@pytest.mark.slow
@pytest.mark.hooks
def test_what_frees_memory_is_sent_to_workers_that_are_all_paused(start):
    """The scheduler sends nothing to a paused worker, and so none ever goes on."""
    off = {"memory.target": False, "memory.spill": False, "memory.pause": 0.75}
    with dask.config.set({f"distributed.worker.{name}": v for name, v in off.items()}):
        session = start(
            register=False, n_workers=1, threads_per_worker=2, memory_limit="600 MB"
        )
    client = session.client
    client.register_plugin(MemDash(guard=True))
    # not without a notice: nothing is spilled here
    process = wait_for(
        lambda: session.api("workers")[0]["breakdown"]["process"], "a reading"
    )
    size = (470 * MB - process) // 6
    made = client.map(guard_tasks.make, range(6), [size] * 6)
    wait(made)
    workers = session.cluster.scheduler.workers
    wait_for(lambda: {w.status.name for w in workers.values()} == {"paused"}, "a pause")
    found = client.map(guard_tasks.first, made)
    del made
    assert client.gather(found) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert {w.status.name for w in workers.values()} == {"running"}
    assert session.cluster.scheduler.validate_state(allow_overlap=True) is None
    assert session.api("incidents") == []


def told_to_ask_again(dask_worker):
    return any(entry[0] == "gather-dep-busy" for entry in dask_worker.state.log)


def on_disk(dask_worker):
    return list(dask_worker.data.slow)


@pytest.mark.slow
@pytest.mark.hooks
def test_an_output_is_not_read_back_for_others_while_a_task_needs_the_room(
    start, tmp_path
):
    session = guarded(start, n_workers=2, threads_per_worker=1, memory_limit="800 MB")
    client, tasks = session.client, guard_tasks
    own, other = sorted(session.cluster.scheduler.workers)
    free = 640 * MB - max(w["breakdown"]["process"] for w in session.api("workers"))
    size, flag = int(free * 0.6), tmp_path / "end"
    flag.touch()  # so that it is known what such a task takes
    client.submit(tasks.works_until, str(flag), size, workers=own).result(timeout=60)
    flag.unlink()
    made = client.submit(tasks.make, 7, size, workers=own)
    wait(made)
    works = client.submit(tasks.works_until, str(flag), size, workers=own, pure=False)
    wait_for(lambda: client.run(executing)[own] == 1, "the task to start")
    # before it started, not while it filled the worker
    assert client.run(on_disk)[own] == [made.key]
    used = client.submit(tasks.first, made, workers=other)
    wait_for(lambda: client.run(told_to_ask_again)[other], "a busy answer")
    assert client.run(on_disk)[own] == [made.key]
    flag.touch()
    assert client.gather([works, used]) == [1.0, 7.0]
    assert session.api("incidents") == []
    assert [one["failed"] for one in figures(session)] == [0, 0]


def executing(dask_worker):
    return len(dask_worker.state.executing)


@pytest.mark.slow
def test_a_dry_run_notes_what_would_have_waited_and_holds_nothing(start):
    session = guarded(start, "dry-run", memory_limit="1 GB", threads_per_worker=2)
    client = session.client
    client.submit(guard_tasks.large, 0, 400 * MB, 0.0).result(timeout=30)
    found = client.map(
        lambda i: guard_tasks.large(i, 150 * MB, 2.0), range(4), pure=False
    )
    wait_for(lambda: set(client.run(executing).values()) == {2}, "two to run")
    wait(found)
    known = wait_for(
        lambda: [one for one in figures(session) if one["held"]], "what it noted"
    )
    assert known[0]["mode"] == "dry-run"
    assert known[0]["seconds"] == 0


@pytest.mark.slow
def test_it_is_off_and_says_so_where_there_is_no_limit(start):
    session = start(register=False, n_workers=1, memory_limit=0)
    session.client.register_plugin(MemDash(guard=True))
    wait_for(
        lambda: any(
            "the guard is off here" in text
            for worker in session.api("workers")
            for text in worker["degraded"]
        ),
        "its saying that it is off",
    )
    assert figures(session)[0]["mode"] == "off"
    assert session.client.submit(sum, (1, 2)).result() == 3


NATIVE = pytest.mark.skipif(native_tally.load() is None, reason="no native tally")


@NATIVE
def test_a_task_that_no_worker_has_room_for_is_stopped_and_no_worker_dies(start):
    session = guarded(start, threads_per_worker=1, memory_limit="400 MB")
    workers = session.addresses()
    found = session.client.submit(guard_tasks.large, 1, 1500 * MB)
    told = (
        r"needs at least 1\.4 GiB at .*guard_tasks.py:\d+ in ones.* of 381 MiB at most"
    )
    with pytest.raises(TaskTooLarge, match=told) as caught:
        found.result(timeout=60)
    assert session.addresses() == workers
    explained = connect(session.client).explain(caught.value)
    assert "guard_tasks.py" in str(explained)
    assert "The guard does not run it any more" in str(explained)
    assert explained.cause == "task-too-large"
    assert [i["kind"] for i in session.api("incidents")] == ["memory-error"]


@NATIVE
def test_what_a_stopped_task_returns_is_discarded_and_it_runs_where_it_fits(start):
    session = guarded(start, threads_per_worker=2, memory_limit="600 MB")
    heard = []
    plugin = session.cluster.scheduler.plugins["memdash"]
    plugin._teacher.heard = lambda address, action: heard.append(action)
    client, workers = session.client, session.addresses()
    other = client.submit(guard_tasks.large, 1, 320 * MB, 3.0)
    wait_for(
        lambda: session.api("workers")[0]["breakdown"]["executing"] > 200 * MB,
        "the one to hold its memory",
    )
    found = client.submit(guard_tasks.swallows, 320 * MB)
    assert found.result(timeout=60) == "enough"
    assert other.result(timeout=60) == 1.0
    assert session.addresses() == workers
    assert session.api("incidents") == []
    stopped = wait_for(lambda: [a for a in heard if a.kind == "braked"], "its report")
    assert [one.prefix for one in stopped] == ["swallows"]
    assert abs(stopped[0].need - 320 * MB) < 2 * MB


@pytest.mark.slow
def test_a_task_that_cannot_be_stopped_and_has_no_room_fails_with_its_figures(start):
    session = guarded(start, threads_per_worker=1, memory_limit="400 MB")
    found = session.client.submit(guard_tasks.of_python, 1500 * MB)
    with pytest.raises(TaskTooLarge, match=r"needs at least 1\.4 GiB.* than 381 MiB"):
        found.result(timeout=60)
    kinds = [one["kind"] for one in session.api("incidents")]
    # a worker that is back before the death is reported may be the second one
    assert kinds.count("terminated") in (1, 2)
    assert "killed-worker" not in kinds


@pytest.mark.slow
def test_a_guard_that_cannot_start_leaves_the_page_as_it_is(start, monkeypatch):
    # not above: workers import this module too, and have no guard before they are asked
    from dask_memdash.guard.on_scheduler import GuardTeacher

    def fail(self, *_):
        raise RuntimeError("no guard today")

    monkeypatch.setattr(GuardTeacher, "__init__", fail)
    session = start(register=False, n_workers=1)
    session.client.register_plugin(MemDash(guard=True))
    wait_for(lambda: session.api("workers")[0]["breakdown"]["process"], "a reading")
    told = " ".join(n["text"] for n in session.api("cluster")["degraded"])
    assert "starting the guard" in told
    assert "no guard today" in told
