"""One suite over both stores: a record answers what the living store answered.

Each story is recorded twice: written row by row as it stands at its end, and by the
recorder while it is told, as a scheduler does.
"""

import json

import pytest
import stories
from recorded_runs import record_story, write_run

from dask_memdash.errors import (
    UnknownFailureError,
    UnknownGraphError,
    UnknownIncidentError,
    UnknownPrefixError,
    UnknownWorkerError,
)
from dask_memdash.runs.reading import RunReader
from dask_memdash.store.recorded import RecordedStore
from dask_memdash.store.recorded_history import prefix_minute

STORIES = {
    "busy": stories.busy.__wrapped__,
    "one worker": lambda: stories.one.__wrapped__(1),
    "one process": stories.shared_process.__wrapped__,
    "degraded": stories.degraded.__wrapped__,
    "after an incident": stories.after_incident.__wrapped__,
    "storing": stories.storing,
}

WAYS = {
    "written": lambda path, story: (live := story(), write_run(path, live)),
    "recorded": record_story,
}


@pytest.fixture(
    scope="module", params=[(way, story) for way in WAYS for story in STORIES], ids=str
)
def made(request, tmp_path_factory):
    way, story = request.param
    return WAYS[way](tmp_path_factory.mktemp("runs") / "run", STORIES[story])


@pytest.fixture
def both(made):
    live, path = made
    reader = RunReader(path)
    yield live, RecordedStore(reader)
    assert reader.problems == {}
    reader.close()


def plain(answer):
    """Return an answer as JSON has it."""
    return json.loads(json.dumps(answer))


def test_the_cluster_is_the_same(both):
    live, recorded = both
    assert plain(recorded.cluster()) == plain(live.cluster())


def test_strips_are_the_same(both):
    live, recorded = both
    span = (stories.NOW - 100, stories.NOW)
    expected, found = plain(live.strips(*span)), plain(recorded.strips(*span))
    addresses = [w.address for w in recorded.catalogue.workers.values()]
    for told, known in zip(found["rows"], expected["rows"], strict=True):
        if addresses.count(told["address"]) > 1:
            # a living cluster forgets a worker when another gets its address
            told.update(process=known["process"], spilled=known["spilled"])
    assert found == expected


@pytest.mark.parametrize(
    "question",
    ["workers", "departed", "prefixes", "incidents", "failures", "order", "limits"],
)
def test_lists_are_the_same_page_by_page(both, question):
    live, recorded = both
    for page in ((), (None, 0), (1, 0), (2, 1), (0, 0), (5, 100)):
        expected = plain(getattr(live, question)(*page))
        found = plain(getattr(recorded, question)(*page))
        if question == "departed":
            for row in (*expected, *found):
                row.pop("self_cost")
        assert found == expected, page


def test_totals_of_prefixes_are_the_same(both):
    live, recorded = both
    assert plain(recorded.prefix_totals()) == plain(live.prefix_totals())


def test_details_are_the_same(both):
    live, recorded = both
    for brief in live.prefixes():
        name = brief["prefix"]
        assert plain(recorded.prefix(name)) == plain(live.prefix(name))
    for brief in live.incidents():
        assert plain(recorded.incident(brief["id"])) == plain(
            live.incident(brief["id"])
        )
    for brief in live.failures():
        assert plain(recorded.failure(brief["id"])) == plain(live.failure(brief["id"]))
    for brief in live.order():
        graph = brief["id"]
        assert plain(recorded.graph(graph)) == plain(live.graph(graph))
        for position in brief["curve"]["position"][:50]:
            assert plain(recorded.order_point(graph, position)) == plain(
                live.order_point(graph, position)
            )


def points_of(history):
    """Return time → figures."""
    columns = [name for name in history if name not in ("pauses", "n_pauses")]
    rows = zip(*(history[name] for name in columns), strict=True)
    return {row[0]: row[1:] for row in rows}


def test_histories_are_the_same_and_what_stood_still_stands(both):
    live, recorded = both
    addresses = [w["address"] for w in (*live.workers(), *live.departed())]
    for worker in (None, *addresses):
        for since in (None, stories.NOW - 10):
            expected = live.history(worker, since, 1000)
            found = recorded.history(worker, since, 1000)
            told, known = points_of(found), points_of(expected)
            assert {t: told.get(t) for t in known} == known
            last = None
            for time in sorted(told):
                if time in known:
                    last = known[time]
                else:
                    assert told[time] == last
            for name in ("pauses", "n_pauses"):
                assert plain(found[name]) == plain(expected[name])
            few = recorded.history(worker, since, 5)
            assert len(few["time"]) <= 5
            assert few["time"][-1:] == expected["time"][-1:]


def test_tasks_that_ran_are_the_same(both):
    live, recorded = both
    for worker in (*live.workers(), *live.departed()):
        address = worker["address"]
        assert plain(recorded.task_history(address)) == plain(
            live.task_history(address)
        )


def test_a_minute_begins_with_what_stood_as_it_began(both):
    live, recorded = both
    for prefix in live.prefixes():
        name = prefix["prefix"]
        now = (prefix["storage"]["managed"] or 0) + prefix["execution"]["executing"]
        assert recorded.prefix_minute(name)["bytes"][-1] == now
        much_later = prefix_minute(recorded.reader, name, stories.NOW + 3600)
        assert much_later["bytes"] == [now]


def test_what_is_not_known_is_said_in_the_same_words(both):
    for store in both:
        with pytest.raises(UnknownWorkerError):
            store.history("tcp://nobody")
        with pytest.raises(UnknownWorkerError):
            store.task_history("tcp://nobody")
        with pytest.raises(UnknownPrefixError):
            store.prefix("nothing")
        with pytest.raises(UnknownIncidentError):
            store.incident("999")
        with pytest.raises(UnknownFailureError):
            store.failure("999")
        with pytest.raises(UnknownGraphError):
            store.graph("nothing")
        with pytest.raises(UnknownGraphError):
            store.order_point("nothing", 1)


def test_the_version_stands_while_nothing_changes_and_moves_with_the_instant(both):
    _, recorded = both
    version = recorded.version
    recorded.cluster()
    assert recorded.version == version
    recorded.move(stories.NOW - 5)
    assert recorded.version > version
