"""What is seen of the guard: in the model, the store, the record, page and terminal."""

import json

import fake_store
import pytest
import stories
from builders import added, removed, reported
from fake_parts import NOW
from recorded_runs import record_story

from dask_memdash.analysis.guard_words import said
from dask_memdash.cli.table_text import written
from dask_memdash.cli.top_choice import Chosen
from dask_memdash.cli.top_screen import everything, screen
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import GuardAction, Guarding, GuardWaiting
from dask_memdash.model.guard_log import KEPT, GuardLog
from dask_memdash.store.live import LiveStore
from dask_memdash.views.guard_card import done_to, together, waiting_for
from dask_memdash.web.api import ask

MiB = 2**20


def guarding(mode="on", **more):
    waiting = {"big": GuardWaiting(2, 4.2, 114 * MiB)}
    values = {"held": 14, "seconds": 38.0, "drained": 2, "waiting": waiting}
    return Guarding(mode, **{**values, **more})


def action(number=1, kind="waited", **more):
    values = {"key": f"big-{number}", "prefix": "big", "need": 114 * MiB}
    return GuardAction(NOW + number, kind, **{**values, "seconds": 2.0, **more})


def model_with(guard, actions=(), workers=1):
    model = ClusterModel()
    for number in range(workers):
        who = {"address": f"tcp://{number}", "pid": number}
        model.handle(added(name=f"w-{number}", host=f"h-{number}", time=NOW, **who))
        model.handle(reported(time=NOW + 1, guard=guard, guard_actions=actions, **who))
    return model


def told(*args, **more):
    return LiveStore(model_with(*args, **more)).cluster()["guard"]


def test_without_a_guard_there_is_nothing_to_tell():
    assert told(None) is None


def test_counts_of_all_workers_are_summed_and_stay_when_one_leaves():
    model = model_with(guarding(), [action()], workers=2)
    store = LiveStore(model)
    guard = store.cluster()["guard"]
    assert (guard["mode"], guard["workers"], guard["held"]) == ("on", 2, 28)
    assert guard["seconds"] == 76.0
    assert guard["waiting"] == [
        {"prefix": "big", "tasks": 4, "workers": 2, "seconds": 4.2, "need": 114 * MiB}
    ]
    model.handle(removed(address="tcp://0", time=NOW + 2))
    guard = store.cluster()["guard"]
    assert (guard["workers"], guard["held"], guard["waiting"][0]["tasks"]) == (1, 28, 2)
    assert [act["worker"] for act in guard["actions"]] == ["w-1", "w-0"]


def test_a_log_is_bounded_and_knows_what_came_since():
    log = GuardLog()
    for number in range(KEPT + 5):
        log.see("a", "a", guarding(), [action(number)])
    assert log.kinds["waited"] == log.number == KEPT + 5
    assert [done.number for done in log.since(log.number - 2)] == [KEPT + 4, KEPT + 5]
    assert len(list(log.since(0))) == KEPT
    assert list(log.since(log.number)) == []


@pytest.mark.parametrize(
    ("guard", "text"),
    [
        (
            {},
            "4 tasks wait for memory, the longest 4.2 s: `big`, which needs 114 MiB. "
            "So far 28 tasks waited, 1 min 16 s together and 4 ran on while the worker "
            "was paused.",
        ),
        (
            {"waiting": {}, "held": 0, "drained": 0},
            "Nothing waits for memory now.",
        ),
        (
            {"waiting": {}, "drained": 0, "fetch_limited": True},
            "Nothing waits for memory now. So far 28 tasks waited, 1 min 16 s "
            "together. 2 workers fetch fewer inputs at a time now.",
        ),
        (
            {"mode": "dry-run"},
            "28 tasks would have waited so far, and none did.",
        ),
        (
            {"mode": "dry-run", "held": 0},
            "No task would have waited so far.",
        ),
        (
            {"mode": "off"},
            "It can do nothing on these workers: what is missing is said above.",
        ),
    ],
)
def test_the_sentence_says_what_waits_and_what_was_done(guard, text):
    assert told(guarding(**guard), workers=2)["text"] == text


def test_a_dry_run_says_which_deaths_it_would_have_prevented():
    guard = {**told(guarding("dry-run")), "would_have_helped": ["5", "3"]}
    assert said(guard).endswith(
        "Incidents 5 and 3: tasks that fit one by one ended workers together. "
        "`MemDash(guard=True)` starts them one after another."
    )


def test_incidents_that_name_the_guard_would_have_been_helped():
    from dask_memdash.store.guard import cluster_guard

    incidents = [
        {"id": "2", "diagnosis": {"advice": ["`dask_memdash.MemDash(guard=True)`."]}},
        {"id": "1", "diagnosis": {"advice": ["Use smaller chunks."]}},
    ]
    found = cluster_guard(model_with(guarding("dry-run")), incidents)
    assert found["would_have_helped"] == ["2"]


def test_neighbours_that_say_the_same_are_one_row():
    acts = told(guarding(), [action(n, seconds=n) for n in range(3)])["actions"]
    (row,) = together(acts)
    assert (row.times, row.seconds, row.newest["key"]) == (3, 2, "big-2")
    refused = told(guarding(), [action(1), action(2, kind="refused")])
    assert [row.newest["kind"] for row in together(refused["actions"])] == [
        "refused",
        "waited",
    ]
    assert refused["refused"] == 1
    stopped = told(guarding(waiting={}, held=0, drained=0), [action(kind="braked")])
    assert stopped["text"] == (
        "Nothing waits for memory now. So far 1 was stopped before it ended a worker, "
        "to run again."
    )


def test_a_prefix_knows_what_of_it_waits_and_what_was_done_to_it():
    guard = told(guarding(), [action(1), action(2, prefix="other")])
    assert waiting_for(guard, "big")["tasks"] == 2
    assert waiting_for(guard, "other") is None
    assert done_to(guard, "big") == {"waited": 1}
    assert (waiting_for(None, "big"), done_to(None, "big")) == (None, {})


def test_the_api_tells_it_with_the_cluster():
    store = LiveStore(model_with(guarding(), [action()]))
    status, body = ask(store, "cluster", {})
    assert status == 200
    assert json.loads(body)["guard"]["actions"][0]["kind"] == "waited"


def test_a_recorded_run_has_every_action_and_the_guard_at_its_end(tmp_path):
    import sqlite3

    def story():
        model = ClusterModel()

        def tell(event):
            for listener in stories.listeners:
                listener(model, event)
            model.handle(event)

        tell(added(name="w", time=NOW))
        for n in range(3):
            acts = [action(2 * n), action(2 * n + 1, kind="drained")]
            tell(reported(time=NOW + 2 * n + 1, guard=guarding(), guard_actions=acts))
        tell(reported(time=NOW + 9, guard=guarding(waiting={})))
        return LiveStore(model)

    live, run = record_story(tmp_path / "run", story)
    (main,) = run.glob("*-main.sqlite")
    with sqlite3.connect(main) as db:
        found = db.execute(
            "SELECT kind, key, need, worker_name FROM guard_actions ORDER BY time"
        ).fetchall()
        when = db.execute("SELECT count(*) FROM timeline WHERE what = 'guard'")
        assert when.fetchone() == (6,)
    db.close()
    assert found == [
        (kind, f"big-{2 * n + m}", 114 * MiB, "w")
        for n in range(3)
        for m, kind in enumerate(("waited", "drained"))
    ]
    from dask_memdash.runs.reading import RunReader
    from dask_memdash.store.recorded import RecordedStore

    reader = RunReader(run)
    assert RecordedStore(reader).cluster()["guard"] == live.cluster()["guard"]
    reader.close()


def test_a_record_of_before_there_was_a_guard_opens(tmp_path):
    from dask_memdash.runs.reading import RunReader
    from dask_memdash.store.recorded import RecordedStore

    _, run = record_story(tmp_path / "run", stories.busy.__wrapped__)
    reader = RunReader(run)
    assert RecordedStore(reader).cluster()["guard"] is None
    reader.close()


def test_the_terminal_has_a_line_of_it():
    from test_cli_top import snapshot

    store = fake_store.busy()
    assert "Guard" not in written(everything(snapshot(store), None))
    store.guard = told(guarding(), workers=2)
    wide = written(everything(snapshot(store), None))
    assert "Guard (on): 4 tasks wait for memory, the longest 4.2 s: `big`" in wide
    small = written(screen(snapshot(store), Chosen(), (100, 24), NOW))
    assert "Guard (on): 4 tasks wait for memory" in small
    assert len(small.splitlines()) == 24
