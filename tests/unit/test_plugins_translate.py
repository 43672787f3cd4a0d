"""From the scheduler's words to events, with stand-ins for its objects."""

import pickle
from types import SimpleNamespace

import pytest
from builders import A, executing
from distributed.scheduler import KilledWorker

from dask_memdash.errors import EventError
from dask_memdash.flight.format import KEY_CAPACITY, key_digest
from dask_memdash.intermediates.fs_memory import FSMemory
from dask_memdash.intermediates.shared.resume import load_task
from dask_memdash.intermediates.stored import Stored
from dask_memdash.model.event_parts import TaskInfo
from dask_memdash.model.event_readers import to_dict
from dask_memdash.model.events import (
    DeathReported,
    TaskKilled,
    WorkerSampled,
    WorkerTimedOut,
)
from dask_memdash.plugins.keys import key_text
from dask_memdash.plugins.scheduler import translate

T = 1_760_000_000.0


def task(key, priority=(0, 1, 5), nbytes=-1, state="released", seconds=1.0, of=()):
    """Make a task's state; one that is to run is wanted by a client."""
    prefix = (key[0] if isinstance(key, tuple) else str(key)).partition("-")[0]
    return Task(
        state=state,
        dependencies=set(of),
        key=key,
        prefix=SimpleNamespace(name=prefix, duration_average=seconds),
        group=SimpleNamespace(name=f"{prefix}-group"),
        priority=priority,
        nbytes=nbytes,
        who_wants={"client"} if state in translate.TO_RUN else None,
        waiters=None,
        run_spec=None,
    )


def scheduler(*tasks):
    """Make a scheduler that knows some tasks; same names are the same groups."""
    groups = {}
    for made in tasks:
        made.group = groups.setdefault(made.group.name, GroupStandIn(made.group.name))
    return SimpleNamespace(tasks={made.key: made for made in tasks}, workers={})


class Task(SimpleNamespace):
    """A task's state, which is its own key in sets."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class GroupStandIn:
    def __init__(self, name):
        self.name = name


# -- tasks ---------------------------------------------------------------------


def test_a_task_is_described_by_its_printed_key_and_numbers():
    assert translate.task_info(task(("sum-1", 0, 2))) == TaskInfo(
        "('sum-1', 0, 2)", "sum", "sum-group", (0.0, 1.0, 5.0)
    )


@pytest.mark.parametrize("priority", [None, (), (float("inf"), 1), (float("nan"),)])
def test_a_priority_that_is_no_numbers_is_none(priority):
    assert translate.priority_of(task("sum-1", priority)) is None


def test_the_printed_key_of_a_task_is_of_bounded_length():
    assert len(translate.task_info(task("k" * 5000)).key) == 1000


@pytest.mark.parametrize(
    "key",
    ["sum-1", ("sum-1", 0, 2), ("sum-1", ("nested", 1.5)), ("s'u\"m-1", 0), "('odd"],
)
def test_recorded_tasks_are_found_by_their_text(key):
    known, names = translate.find_tasks(
        scheduler(task(key), task("other-1")), [(key_text(key), "")]
    )
    assert [found.key for found in known] == [key_text(key)]
    assert names == {}


@pytest.mark.parametrize(
    "text", ["gone-1", "('gone', 1)", "(" * 5000, "([], {})", "(1", "('x', \x00)", ""]
)
def test_texts_that_name_no_task_find_none(text):
    assert translate.find_tasks(scheduler(task("sum-1")), [(text, "")]) == ((), {})


@pytest.mark.parametrize("key", ["k" * 2000, ("ü" * 300, 1), "☃" * 200])
def test_tasks_whose_key_was_cut_are_found_by_its_digest(key):
    text = key_text(key)
    digest = key_digest(text).hex()
    cut = text.encode()[:KEY_CAPACITY].decode(errors="ignore")
    known, names = translate.find_tasks(
        scheduler(task("sum-1"), task(key), task(5)), [(cut, digest)]
    )
    assert [found.key for found in known] == [text[:1000]]
    assert names == {digest: text[:1000]}


def test_a_digest_that_nothing_has_finds_nothing():
    tasks = scheduler(task("k" * 2000))
    assert translate.find_tasks(tasks, [("x", "00ff")]) == ((), {})


def test_a_task_that_a_client_wants_is_told_with_the_client_and_what_it_needs():
    wanted = task("hog-1")
    wanted.who_wants = [SimpleNamespace(client_key="Client-b")]
    wanted.dependencies = {task(("table-1", 0))}
    found = translate.task_info(wanted)
    assert found.client == "Client-b"
    assert found.dependencies == (hash("('table-1', 0)"),)
    wanted.dependencies = {task(f"part-{n}") for n in range(9)}
    assert translate.task_info(wanted).dependencies == ()


# -- KilledWorker --------------------------------------------------------------


def test_a_task_that_was_given_up_is_told_with_the_allowed_deaths():
    key = ("sum-1", 0)
    exception = pickle.dumps(KilledWorker(key, None, 3))
    killed = translate.task_killed(scheduler(task(key)), key, exception, A, T)
    assert killed == TaskKilled(
        time=T,
        task=TaskInfo("('sum-1', 0)", "sum", "sum-group", (0.0, 1.0, 5.0)),
        hash=hash(key),
        address=A,
        allowed_failures=3,
    )


class Trap:
    """Must never be unpickled."""

    def __reduce__(self):
        return pytest.fail, ("what comes from a worker was unpickled",)


@pytest.mark.parametrize(
    "exception",
    [
        None,
        "text",
        KilledWorker("sum-1", None, 3),
        SimpleNamespace(data=pickle.dumps(Trap())),
        bytearray(pickle.dumps(Trap())),
        pickle.dumps(ValueError("another error")),
    ],
)
def test_other_errors_are_no_killed_worker(exception):
    tasks = scheduler(task("sum-1"))
    assert translate.task_killed(tasks, "sum-1", exception, A, T) is None


def test_a_task_that_is_gone_already_is_no_killed_worker():
    exception = pickle.dumps(KilledWorker("gone-1", None, 3))
    assert translate.task_killed(scheduler(), "gone-1", exception, A, T) is None


# -- workers -------------------------------------------------------------------


def test_a_worker_that_joins_is_described():
    worker = SimpleNamespace(
        address=A,
        name=0,
        host="10.0.0.1",
        pid=17,
        nthreads=2,
        memory_limit=0,
        nanny=None,
        status=SimpleNamespace(name="running"),
    )
    event = translate.worker_added(worker, T)
    assert (event.name, event.limit, event.nanny, event.status) == (
        "0",
        None,
        False,
        "running",
    )


def test_no_more_of_a_workers_name_is_kept_than_is_read():
    worker = SimpleNamespace(
        address=A,
        name="n" * 2**20,
        host="10.0.0.1",
        pid=17,
        nthreads=2,
        memory_limit=0,
        nanny=None,
        status=SimpleNamespace(name="running"),
    )
    assert translate.worker_added(worker, T).name == "n" * 200


def test_a_removal_counts_what_was_assigned_and_lost():
    tasks = [task(f"sum-{n}", (0, 1, n)) for n in range(300)]
    lost = [task("x-1", nbytes=10), task("x-2", nbytes=-1), task("y-1", nbytes=5)]
    event = translate.worker_removed(
        scheduler(*tasks, *lost),
        A,
        "stimulus",
        {
            "expected": True,
            "processing-tasks": {t.key: 1.0 for t in reversed(tasks)},
            "lost-computed-tasks": {"x-1", "x-2", "gone"},
            "lost-scattered-tasks": {"y-1"},
        },
        T,
    )
    assert (event.expected, event.stimulus) == (True, "stimulus")
    assert (event.n_assigned, len(event.assigned_hashes)) == (300, 300)
    assert [info.key for info in event.assigned] == [f"sum-{n}" for n in range(256)]
    assert (event.keys_lost, event.bytes_lost) == (4, 15)
    assert event.lost == {"x": (1, 10), "y": (1, 5)}
    assert event.seconds_lost == 0.0  # nobody wants them any more


def test_the_work_to_repeat_is_that_of_lost_tasks_still_wanted_and_their_inputs():
    grandparent = task("open-1", state="waiting", seconds=4.0)
    held = task("open-2", state="memory", seconds=100.0)
    parent = task("clean-1", state="waiting", seconds=2.0, of=[grandparent, held])
    lost = [
        task("sum-1", state="waiting", seconds=0.5, of=[parent]),
        task("sum-2", state="processing", seconds=0.25, of=[parent]),
        task("sum-3", state="released", seconds=50.0),
    ]
    assert translate.seconds_to_repeat(lost) == 4.0 + 2.0 + 0.5 + 0.25


def test_the_work_to_repeat_is_not_known_where_a_prefix_was_never_timed():
    lost = [task("sum-1", state="waiting"), task("x-1", state="queued", seconds=-1)]
    assert translate.seconds_to_repeat(lost) is None


def test_the_work_to_repeat_is_looked_up_within_bounds(monkeypatch):
    monkeypatch.setattr(translate, "MAX_LOST", 3)
    chain = []
    for number in range(5):
        chain.append(task(f"sum-{number}", state="waiting", of=chain[-1:]))
    assert translate.seconds_to_repeat(chain[2:3]) == 3.0
    assert translate.seconds_to_repeat(chain[4:]) is None


def loaded(key, tmp_path, **more):
    """Make a lost task in whose place a load stands."""
    made = task(key, state="processing", **more)
    made.run_spec = load_task(Stored(FSMemory(tmp_path), key, "digest"))
    return made


def test_what_is_lost_and_stored_is_loaded_and_is_no_work_to_repeat(tmp_path):
    load = loaded("x-1", tmp_path, nbytes=100, seconds=50.0)
    unwanted = task("x-2", nbytes=10)
    # stored, but its task could not be exchanged: it is computed again
    kept = task("x-3", nbytes=7, state="waiting", seconds=2.0)
    after = task("sum-1", nbytes=5, state="waiting", seconds=0.5, of=[load, kept])
    # only the load's own task had needed it: it is released in a moment
    before = task("open-1", nbytes=3, state="waiting", seconds=9.0)
    before.who_wants = set()
    lost = [load, unwanted, kept, after, before]
    states = dict.fromkeys(("x-1", "x-2", "x-3"), "stored") | {"sum-1": "pending"}
    event = translate.worker_removed(
        scheduler(*lost),
        *(A, "", {"lost-computed-tasks": {one.key for one in lost}}, T),
        states.get,
    )
    assert (event.keys_lost, event.bytes_lost) == (5, 125)
    assert (event.keys_stored, event.bytes_stored) == (2, 110)
    assert event.seconds_lost == 2.0 + 0.5


def test_without_a_memory_nothing_is_stored():
    removal = {"lost-computed-tasks": {"x-1"}}
    lost = task("x-1", nbytes=10)
    event = translate.worker_removed(scheduler(lost), A, "", removal, T)
    assert (event.keys_stored, event.bytes_stored) == (0, 0)


def test_a_removal_that_nothing_was_logged_of_knows_nothing_of_losses():
    event = translate.worker_removed(scheduler(), A, "", None, T)
    assert (event.expected, event.n_assigned, event.keys_lost) == (False, 0, None)


# -- nannies -------------------------------------------------------------------

DEATH = {
    "kind": "death",
    "protocol": 2,
    "address": A,
    "pid": 17,
    "died": T,
    "code": None,
    "signal": 9,
    "by": "unknown",
    "asked": False,
    "closing": False,
    "reading": None,
    "executing": [],
    "samples": [[T, 5]],
    "recorded": True,
}


def test_a_death_is_told_with_what_the_scheduler_knows_of_its_tasks():
    long = "sum-" + "k" * 2000
    digest = key_digest(long).hex()
    recorded = (
        executing("('open-1', 0)"),
        executing(long[:400], digest=digest),
        executing("gone-1"),
    )
    message = {**DEATH, "executing": to_dict(recorded)}
    event = translate.nanny_reported(
        scheduler(task(("open-1", 0)), task(long)), message, T + 1
    )
    assert isinstance(event, DeathReported)
    assert (event.time, event.died, event.samples) == (T + 1, T, ((T, 5),))
    assert [info.key for info in event.known] == ["('open-1', 0)", long[:1000]]
    assert [t.key for t in event.executing] == ["('open-1', 0)", long[:1000], "gone-1"]


def test_a_nanny_cannot_say_what_the_scheduler_knows():
    message = {**DEATH, "known": "nonsense", "time": "nonsense"}
    assert translate.nanny_reported(scheduler(), message, T).known == ()


def test_a_sample_is_told():
    message = {
        "kind": "sample",
        "address": A,
        "pid": 17,
        "rss": 5,
        "reading": None,
        "executing": [],
        "notices": ["one"],
    }
    event = translate.nanny_reported(scheduler(), message, T)
    assert event == WorkerSampled(T, A, 17, 5, None, (), ("one",))


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (None, "must be a mapping"),
        ([], "must be a mapping"),
        ({}, "is of kind 'None'"),
        ({"kind": "x" * 1000}, "is of kind 'xxxx"),
        ({"kind": ["death"]}, "is of kind"),
        ({"kind": "death"}, "DeathReported.address is missing"),
        ({**DEATH, "signal": "9"}, "DeathReported.signal is '9'"),
    ],
)
def test_a_malformed_message_is_refused(message, error):
    with pytest.raises(EventError, match=error) as caught:
        translate.nanny_reported(scheduler(), message, T)
    assert len(str(caught.value)) < 200


def test_a_heartbeat_gets_dasks_own_split_from_the_scheduler():
    worker = SimpleNamespace(address=A, memory=SimpleNamespace(unmanaged_old=77))
    data = {
        "protocol": 2,
        "pid": 17,
        "reading": {"time": T, "rss": 100},
        "rows": {"sum": [1, 2, 3, 4]},
        "executing": [],
        "finished": {},
        "thresholds": {},
        "method": "estimated",
        "address": "somebody else's",
    }
    event = translate.worker_reported(worker, data, T + 1)
    assert (event.time, event.address) == (T + 1, A)
    assert (event.reading.rss, event.reading.unmanaged_old) == (100, 77)
    with pytest.raises(EventError, match=r"WorkerReported\.pid is missing"):
        translate.worker_reported(worker, {"reading": {}}, T)


def test_a_worker_is_silent_after_three_intervals_without_a_heartbeat():
    workers = {
        name: SimpleNamespace(address=name, last_seen=T - seconds)
        for name, seconds in (("a", 0.5), ("b", 1.4), ("c", 1.75), ("d", 20.0))
    }
    found = translate.silent_workers(SimpleNamespace(workers=workers), T)
    assert found == (("c", 1.75), ("d", 20.0))  # ten workers speak every 0.5 s
    names = map(str, range(1200))
    many = {n: SimpleNamespace(address=n, last_seen=T - 17) for n in names}
    assert translate.silent_workers(SimpleNamespace(workers=many), T) == ()  # every 6 s


def test_workers_that_the_scheduler_gives_up_are_told_with_their_silence():
    workers = {A: SimpleNamespace(address=A, last_seen=T - 31.5)}
    message = {"action": "worker-ttl-timed-out", "workers": [A, "tcp://gone:1"]}
    events = translate.timed_out(SimpleNamespace(workers=workers), message, T)
    assert events == [WorkerTimedOut(T, A, 31.5)]
