"""Who is told what, when and how often, on a stand-in for the scheduler."""

import pickle
from types import SimpleNamespace

import pytest
from builders import A, B, MiB, added, died, executing, info, killed, removed, reported
from distributed.scheduler import KilledWorker

from dask_memdash.model.events import GraphArrived, MemoryErrorRaised, Ticked
from dask_memdash.plugins.scheduler import notifications as module
from dask_memdash.plugins.scheduler.notifications import Notifications
from dask_memdash.store.live import LiveStore

T = 1_760_000_000.0


class Scheduler:
    """What the notifications uses of a scheduler."""

    id = "S-1"
    address = "tcp://127.0.0.1:1"

    def __init__(self):
        self.services = {"dashboard": SimpleNamespace(port=8787)}
        self.logged = []
        self.moved = []
        prefix, group = SimpleNamespace(name="sum"), SimpleNamespace(name="sum")
        self.tasks = {
            f"sum-{n}": SimpleNamespace(
                key=f"sum-{n}",
                prefix=prefix,
                group=group,
                priority=(0, 1, n),
                who_wants=None,
            )
            for n in range(100)
        }

    def transition(self, key, finish, stimulus_id, **kwargs):
        self.moved.append((key, finish, kwargs))
        return {"recommended": key}

    def log_event(self, topic, message):
        self.logged.append((topic, message))


@pytest.fixture
def scheduler():
    return Scheduler()


@pytest.fixture
def notifications(scheduler, model):
    notifications = Notifications(scheduler, model, LiveStore(model), model.handle)
    notifications.path = "/memdash"
    return notifications


def feed(model, *events):
    for event in events:
        model.handle(event)


def busy_worker(model):
    task = executing("sum-1")
    feed(model, added(nanny=True), reported(executing=(task,)))


def give_up(scheduler, key="sum-1", error=None, worker=A):
    """Do as the scheduler does when too many workers have died under a task."""
    error = error or KilledWorker(key, None, 3)
    return scheduler.transition(
        key,
        "erred",
        exception=pickle.dumps(error),
        cause=key,
        stimulus_id="s",
        worker=worker,
    )


def raised(scheduler):
    """Return the exception that goes to the clients."""
    return pickle.loads(scheduler.moved[-1][2]["exception"])


# -- notes ---------------------------------------------------------------------


def test_a_killed_worker_gets_its_note_on_the_way(notifications, scheduler, model):
    notifications.attach()
    busy_worker(model)
    assert give_up(scheduler) == {"recommended": "sum-1"}
    error = raised(scheduler)
    assert isinstance(error, KilledWorker)
    assert error.task == "sum-1"
    assert error.memdash_incident == ("S-1", "2")
    assert error.__notes__[0].startswith(
        "MemDash incident 2: http://127.0.0.1:8787/memdash#incident-2\n"
    )
    key, finish, kwargs = scheduler.moved[-1]
    assert (key, finish) == ("sum-1", "erred")
    assert (kwargs["cause"], kwargs["worker"]) == ("sum-1", A)
    assert notifications.has_noted(kwargs["exception"])


def test_tasks_that_fall_together_share_the_incident(notifications, scheduler, model):
    notifications.attach()
    busy_worker(model)
    for number in range(50):
        give_up(scheduler, f"sum-{number}")
        assert raised(scheduler).memdash_incident == ("S-1", "2")
    assert model.incidents.get("2").n_tasks == 50


@pytest.mark.parametrize(
    ("finish", "exception"),
    [
        ("erred", None),
        ("erred", pickle.dumps(ValueError("x"))),
        ("erred", b"no pickle"),
        ("erred", SimpleNamespace(frames=[])),
        ("memory", pickle.dumps(KilledWorker("sum-1", None, 3))),
    ],
)
def test_other_transitions_pass_as_they_are(
    notifications, scheduler, model, process_border, finish, exception
):
    notifications.attach()
    busy_worker(model)
    scheduler.transition("sum-1", finish, "s", exception=exception, worker=A)
    assert scheduler.moved[-1] == (
        "sum-1",
        finish,
        {"exception": exception, "worker": A},
    )
    assert len(model.incidents) == 0


def test_a_worker_that_is_not_known_leaves_the_exception_alone(
    notifications, scheduler
):
    notifications.attach()
    give_up(scheduler, worker="tcp://nobody:1")
    assert not hasattr(raised(scheduler), "__notes__")


def test_what_fails_leaves_the_exception_alone(
    notifications, scheduler, model, monkeypatch, process_border
):
    notifications.attach()
    busy_worker(model)
    monkeypatch.setattr(module, "note", lambda *arguments: 1 / 0)
    give_up(scheduler)
    assert not hasattr(raised(scheduler), "__notes__")
    assert notifications.has_noted(scheduler.moved[-1][2]["exception"]), (
        "it is counted once"
    )
    assert "putting a note on a KilledWorker" in process_border.texts()[0]


def test_detaching_shows_the_schedulers_own_method_again(
    notifications, scheduler, model
):
    before = dict(vars(scheduler))
    notifications.attach()
    notifications.detach()
    notifications.detach()
    assert vars(scheduler) == before
    busy_worker(model)
    give_up(scheduler)
    assert not hasattr(raised(scheduler), "__notes__")


def test_a_wrapper_around_ours_stays_and_ours_becomes_inert(
    notifications, scheduler, model
):
    notifications.attach()
    ours = scheduler.transition

    def others(*args, **kwargs):
        return ours(*args, **kwargs)

    scheduler.transition = others
    notifications.detach()
    assert scheduler.transition is others
    busy_worker(model)
    give_up(scheduler)
    assert not hasattr(raised(scheduler), "__notes__")


# -- events --------------------------------------------------------------------


def actions(scheduler):
    return [(event["action"], event["id"]) for _, event in scheduler.logged]


def test_a_failure_is_told_once_when_it_opens_and_once_when_it_is_over(
    notifications, scheduler, model, caplog
):
    busy_worker(model)
    feed(model, removed(time=T + 10, assigned=(info("sum-1"),)))
    notifications.tell(T + 10)
    assert scheduler.logged == []
    feed(model, died(time=T + 10.2, executing=(executing("sum-1"),)))
    for moment in (10.5, 11.0):
        notifications.tell(T + moment)
    feed(model, added(B, 7, T + 12), reported(B, 7, T + 13))
    feed(model, removed(B, T + 14, assigned=(info("sum-2"),)))
    feed(model, died(B, 7, T + 14.2, executing=(executing("sum-2"),)))
    for moment in (15.0, 16.0, 40.0):
        feed(model, Ticked(T + moment))
        notifications.tell(T + moment)
    assert actions(scheduler) == [("failure-opened", "1")]
    for moment in (74.0, 75.0, 200.0):
        feed(model, Ticked(T + moment))
        notifications.tell(T + moment)
    assert actions(scheduler) == [("failure-opened", "1"), ("failure-closed", "1")]
    topic, event = scheduler.logged[1]
    assert topic == "memdash"
    assert (event["count"], event["deaths"], event["workers"]) == (2, 2, 1)
    assert (event["kind"], event["opened"], event["closed"]) == (
        *("killed", T + 10),
        T + 74,
    )
    assert event["page"] == "http://127.0.0.1:8787/memdash#failure-1"
    opened, closed = caplog.messages
    assert opened.startswith("MemDash failure 1: A worker died (killed from outside).")
    assert closed.startswith(
        "MemDash failure 1 is over: 2 deaths of 1 worker (killed 2)."
    )
    for line in (opened, closed):
        assert line.endswith(" http://127.0.0.1:8787/memdash#failure-1")
        assert len(line) <= 200


def test_a_failure_that_fails_again_has_two_lines_altogether(
    notifications, scheduler, model, caplog
):
    graph = GraphArrived(T, "graph-1", ("sum",), {"0.0,1.0": (1.0, 5.0)})
    feed(model, graph)
    for pid, moment in ((1, 10), (2, 500), (3, 5_000)):
        feed(model, added(pid=pid, time=T + moment - 1))
        feed(model, killed("sum-1", time=T + moment))
        feed(model, removed(time=T + moment, assigned=(info("sum-1"),)))
        feed(model, Ticked(T + moment + 60))
        notifications.tell(T + moment + 60)
    (failure,) = model.failures
    assert failure.deaths == 3
    assert actions(scheduler) == [("failure-opened", "1"), ("failure-closed", "1")]
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("state", "alive"),
    [
        *(("processing", True), ("waiting", True), ("queued", True)),
        *(("no-worker", True), ("erred", False), ("memory", False)),
        *(("released", False), (None, False)),
    ],
)
def test_a_failure_of_a_submit_stays_open_while_its_task_is_to_run(
    notifications, scheduler, model, state, alive
):
    scheduler.tasks = {} if state is None else {"sum-1": SimpleNamespace(state=state)}
    busy_worker(model)
    feed(model, removed(time=T + 10, assigned=(info("sum-1"),)))
    notifications.look_after(T + 12)
    (failure,) = model.failures
    assert failure.alive == alive
    scheduler.tasks = {}
    notifications.look_after(T + 13)  # too soon for another look
    assert failure.alive == alive
    notifications.look_after(T + 14)
    assert not failure.alive


def test_a_failure_whose_only_task_was_given_up_is_waited_for_no_longer(
    notifications, scheduler, model
):
    scheduler.tasks = {"sum-1": SimpleNamespace(state="processing")}
    busy_worker(model)
    feed(model, removed(time=T + 10, assigned=(info("sum-1"),)))
    notifications.look_after(T + 12)
    feed(model, added(pid=7, time=T + 100), killed("sum-1", time=T + 101))
    feed(model, removed(time=T + 101, assigned=(info("sum-1"),)))
    notifications.look_after(T + 103)
    (failure,) = model.failures
    assert (failure.deaths, failure.alive, failure.cut_short) == (2, False, [])
    feed(model, Ticked(T + 161))
    assert failure.closed == T + 161


def test_a_failure_whose_evidence_does_not_come_is_told_all_the_same(
    notifications, scheduler, model
):
    busy_worker(model)
    feed(model, removed(time=T + 10))
    notifications.tell(T + 14.9)
    assert scheduler.logged == []
    notifications.tell(T + 15.1)
    assert [event["kind"] for _, event in scheduler.logged] == ["lost"]


def test_a_failure_that_turned_out_to_be_none_is_not_told(
    notifications, scheduler, model
):
    busy_worker(model)
    feed(model, removed(time=T + 10))
    notifications.tell(T + 10)
    feed(model, died(time=T + 10.2, asked=True))
    notifications.tell(T + 30)
    assert scheduler.logged == []


def test_many_failures_are_told_a_few_at_a_time_and_in_order(
    notifications, scheduler, model
):
    busy_worker(model)
    feed(
        model,
        *(MemoryErrorRaised(T + n, A, info(f"p{n}-1"), "x") for n in range(45)),
    )
    counts = []
    for _ in range(4):
        notifications.tell(T + 50)
        counts.append(len(scheduler.logged))
    assert counts == [20, 40, 45, 45]
    assert [event["id"] for _, event in scheduler.logged] == [
        str(n) for n in range(1, 46)
    ]


def test_names_of_any_length_and_kind_make_one_short_line(
    notifications, scheduler, model, caplog
):
    name = "line\nbreak\x1b[31m" + "x" * 10**6
    feed(model, added(limit=100 * MiB))
    task = executing(f"{name}-1", 99 * MiB, prefix=name)
    feed(model, removed(time=T + 10, assigned=(info(f"{name}-1"),)))
    feed(model, died(time=T + 11, executing=(task,), by="nanny"))
    notifications.tell(T + 12)
    assert len(scheduler.logged[0][1]["text"]) <= 2000
    (line,) = caplog.messages
    assert len(line) <= 200
    assert line.isprintable()


def test_without_a_dashboard_there_is_no_address(notifications, scheduler, monkeypatch):
    assert notifications.page("3") == "http://127.0.0.1:8787/memdash#incident-3"
    notifications.path = None
    assert notifications.page("3") is None
    notifications.path = "/memdash"
    scheduler.services = {}
    assert notifications.page("3") is None


def test_a_configured_link_that_cannot_be_filled_in_gives_no_address(notifications):
    import dask

    with dask.config.set({"distributed.dashboard.link": "{NOT_SET_ANYWHERE}/status"}):
        assert notifications.page("3") is None
    with dask.config.set({"distributed.dashboard.link": "/proxy/{port}/status"}):
        assert notifications.page("3") == "/proxy/8787/memdash#incident-3"
