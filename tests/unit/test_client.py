"""The client against a scheduler that answers, refuses, or does not answer at all."""

import asyncio
from types import SimpleNamespace

import pytest
from distributed import KilledWorker
from fake_parts import given_up, incident
from fake_store import after_incident

import dask_memdash
from dask_memdash.client import connection as module
from dask_memdash.client.connection import Connection
from dask_memdash.counterfactual.answer import answer
from dask_memdash.counterfactual.change import Change, ChangeError
from dask_memdash.counterfactual.evidence import LIVE_POINTS, gather
from dask_memdash.errors import (
    MemDashError,
    NotRegisteredError,
    SchedulerGoneError,
    UnexplainedError,
    UnknownFailureError,
    UnknownIncidentError,
)
from dask_memdash.plugins.protocol import PROTOCOL
from dask_memdash.web.api import ask


class Client:
    """A client of a scheduler that a test speaks for."""

    def __init__(self, answer):
        self.status = "running"
        self.dashboard_link = "http://proxy/me/8787/status"
        self.scheduler = SimpleNamespace(
            address="tcp://s:1", memdash_query=self.memdash_query
        )
        self.answer = answer
        self.asked = []

    async def memdash_query(self, path, arguments):
        self.asked.append(path)
        answer = self.answer(path) if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def sync(self, function, *arguments):
        return asyncio.run(function(*arguments))


def answered(status, body, scheduler="S-1"):
    return {
        "protocol": PROTOCOL,
        "status": status,
        "body": body,
        "path": "/memdash",
        "scheduler": scheduler,
    }


def served(store):
    """Answer as a scheduler with this store does."""
    return lambda path: answered(*ask(store, path, {}))


def killed(mark=None, task="('rechunk-split-abc', 37)"):
    error = KilledWorker(task, None, 3)
    if mark is not None:
        error.memdash_incident = mark
    return error


# -- who cannot be asked -------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (None, NotRegisteredError, "MemDash is not registered on the scheduler at tcp"),
        ("odd", NotRegisteredError, "another version"),
        ({"protocol": -1}, NotRegisteredError, "another version"),
        (answered(500, "it failed"), MemDashError, "it failed"),
        (answered(404, "there is nothing"), LookupError, "there is nothing"),
        (OSError("comm closed"), SchedulerGoneError, "comm closed"),
        (TimeoutError(), SchedulerGoneError, "has not answered within 30 s"),
    ],
)
def test_an_answer_that_is_none_is_a_clear_error(answer, error, text):
    with pytest.raises(error, match=text):
        Connection(Client(answer)).workers()


def test_a_scheduler_that_does_not_answer_is_waited_for_within_bounds(monkeypatch):
    monkeypatch.setattr(module, "ANSWER_TIMEOUT", 0.05)
    client = Client(None)

    async def never(path, arguments):
        await asyncio.sleep(3600)

    client.scheduler.memdash_query = never
    with pytest.raises(SchedulerGoneError, match=r"tcp://s:1 cannot be asked"):
        Connection(client).workers()


def test_what_would_have_been_is_asked_of_the_scheduler_in_words():
    live = after_incident()
    asked = []

    class Asking(Client):
        async def memdash_query(self, path, arguments):
            asked.append((path, arguments))
            return answered(*ask(live, path, arguments))

    client = Connection(Asking(None))
    said = client.what_if(limit=2, threads=1, spilling=False, workers=-1)
    assert said == answer(
        gather(live, points=LIVE_POINTS),
        Change(2.0, 1, 1.0, spilling=False, workers=-1),
    )
    assert asked == [
        (
            "what-if",
            {
                "limit": "2.0",
                "chunks": "1.0",
                "workers": "-1",
                "threads": "1",
                "spilling": "false",
            },
        )
    ]
    client.what_if("failure-1")
    assert asked[1][1]["failure"] == "1"
    with pytest.raises(UnknownFailureError, match="99"):
        client.what_if(99)
    with pytest.raises(ChangeError, match="limit"):
        client.what_if(limit=0)


def test_an_older_scheduler_is_explained_without_what_would_have_been():
    def older(path):
        wrong = path.startswith("what-if")
        return answered(404, "nothing") if wrong else served(after_incident())(path)

    assert Connection(Client(older)).explain("4").lived == []
    with pytest.raises(MemDashError, match="nothing"):
        Connection(Client(older)).what_if(limit=2.0)


@pytest.mark.parametrize("status", ["closed", "closing"])
def test_a_client_that_is_closed_is_said_to_be(status):
    memdash = Connection(Client(None))
    memdash._client.status = status
    memdash._client.scheduler = None
    with pytest.raises(SchedulerGoneError, match=r"tcp://s:1.*the client is closed"):
        memdash.workers()


def test_without_any_client_there_is_an_error():
    with pytest.raises(ValueError, match="No clients found"):
        dask_memdash.explain("1")


# -- explaining ----------------------------------------------------------------


def test_an_incident_is_explained_with_the_deaths_behind_it_that_are_known():
    client = Client(served(after_incident()))
    told = Connection(client).explain("5")
    assert told.kind == "killed-worker"
    assert [death["id"] for death in told.deaths] == ["1", "2", "4"]
    assert told.page == "http://proxy/me/8787/memdash#incident-5"


def test_deaths_that_are_not_kept_any_more_are_left_out():
    store = after_incident()
    store.all_incidents = [given_up(5, ["1", "4"]), incident(4)]
    told = Connection(Client(served(store))).explain(5)
    assert [death["id"] for death in told.deaths] == ["4"]


def test_evidence_on_its_way_is_waited_for():
    store = after_incident()
    store.all_incidents[1]["settled"] = False
    client = Client(None)

    def answer(path):
        if len(client.asked) == 3:
            store.all_incidents[1]["settled"] = True
        return served(store)(path)

    client.answer = answer
    told = Connection(client).explain("4", timeout=30)
    assert told.incident["settled"]
    assert client.asked == [*["incidents/4"] * 3, "what-if/1"]


def test_evidence_that_never_comes_is_not_waited_for_for_ever():
    store = after_incident()
    store.all_incidents[1]["settled"] = False
    told = Connection(Client(served(store))).explain("4", timeout=0.2)
    assert not told.incident["settled"]
    assert "the nanny's report has not arrived yet" in str(told)


def test_a_marked_exception_leads_to_its_incident():
    client = Client(served(after_incident()))
    assert Connection(client).explain(killed(("S-1", "5"))).id == "5"
    with pytest.raises(UnexplainedError, match="raised by another scheduler"):
        Connection(client).explain(killed(("S-2", "5")))


def test_an_exception_without_a_mark_is_found_by_its_task():
    store = after_incident()
    for known in store.all_incidents:
        if "task" in known:
            known["tasks"] = [known["task"]]
    client = Client(served(store))
    assert Connection(client).explain(killed()).id == "5"
    with pytest.raises(UnexplainedError, match="not registered when it was raised"):
        Connection(client).explain(killed(task="other"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: e,
        lambda e: chained(e, "__cause__"),
        lambda e: chained(e, "__context__"),
        lambda e: chained(chained(e, "__cause__"), "__context__"),
        lambda e: ExceptionGroup("several", [TypeError(), chained(e, "__cause__")]),
    ],
)
def test_the_killed_worker_is_found_among_causes(wrap):
    error = wrap(killed(("S-1", "5")))
    assert Connection(Client(served(after_incident()))).explain(error).id == "5"


def chained(error, how):
    outer = ValueError("outer")
    setattr(outer, how, error)
    return outer


def test_causes_that_go_round_in_circles_end():
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    with pytest.raises(UnexplainedError, match="read its own traceback first"):
        Connection(Client(served(after_incident()))).explain(first)


@pytest.mark.parametrize("number", ["99", "nonsense", "", "1/..", "../cluster", "⁹"])
def test_an_id_that_is_none_is_not_known(number):
    client = Client(served(after_incident()))
    with pytest.raises(UnknownIncidentError, match="no incident"):
        Connection(client).explain(number)


def test_frames_come_from_the_same_answers():
    memdash = Connection(Client(served(after_incident())))
    assert list(memdash.incidents().index) == ["5", "4", "3", "2", "1"]
    assert len(memdash.workers()) == 4
    assert memdash.cluster().n_workers.iloc[0] == 4
