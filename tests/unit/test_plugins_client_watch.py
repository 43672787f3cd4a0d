"""What clients have sent, and what they say of their own memory."""

import asyncio
from types import SimpleNamespace

import pytest

from dask_memdash.client.own_memory import own_memory
from dask_memdash.model.event_parts import ClientRow
from dask_memdash.plugins.scheduler import client_watch
from dask_memdash.plugins.scheduler.client_watch import ClientWatch

MB = 1_000_000


@pytest.fixture
def scheduler(monkeypatch):
    """A scheduler that notes what graphs it was sent; no client lives here."""
    got = []

    async def update_graph(client, **message):
        got.append((client, message))

    monkeypatch.setattr(client_watch, "_clients_here", set)
    return SimpleNamespace(
        clients={"Client-1": 1, "Client-2": 2},
        handlers={"run": len},
        stream_handlers={"update-graph": update_graph},
        got=got,
    )


@pytest.fixture
def watch(scheduler):
    made = ClientWatch(scheduler)
    made.attach()
    return made


def send(scheduler, client, *frames, keys=("sum-1",)):
    handler = scheduler.stream_handlers["update-graph"]
    expr = SimpleNamespace(frames=list(frames))
    asyncio.run(handler(client=client, expr_ser=expr, keys=set(keys)))


def tell(scheduler, **about):
    asyncio.run(scheduler.handlers["memdash_client"](**about))


def test_graphs_are_weighed_by_their_frames_and_go_on_to_the_host(scheduler, watch):
    send(scheduler, "Client-1", b"x" * 100, memoryview(bytes(2 * MB)))
    send(scheduler, "Client-1", bytes(5 * MB), keys=["score-7"])
    send(scheduler, "Client-1", b"x")
    assert watch.rows(0) == {
        "Client-1": ClientRow(3, 7 * MB + 101, 5 * MB, "score"),
    }
    assert [client for client, _ in scheduler.got] == ["Client-1"] * 3
    assert scheduler.got[1][1]["keys"] == {"score-7"}


def test_a_client_says_what_it_uses(scheduler, watch):
    tell(scheduler, client="Client-2", rss=300 * MB, limit=900 * MB)
    assert watch.rows(0)["Client-2"] == ClientRow(rss=300 * MB, limit=900 * MB)
    tell(scheduler, client="Client-2", rss=-1, limit=None)
    tell(scheduler, client="Client-2", rss="much")
    tell(scheduler, client="nobody", rss=5)
    assert watch.rows(0).keys() == {"Client-2"}
    assert watch.rows(0)["Client-2"].rss == 300 * MB


def test_one_in_the_schedulers_process_uses_what_that_does(
    scheduler, watch, monkeypatch
):
    monkeypatch.setattr(client_watch, "_clients_here", lambda: {"Client-1", "gone"})
    rows = watch.rows(70 * MB)
    assert rows == {"Client-1": ClientRow(rss=70 * MB, in_scheduler=True)}


def test_clients_that_go_are_forgotten_and_the_rest_is_bounded(scheduler, watch):
    for number in range(50):
        scheduler.clients[f"c{number}"] = number
        send(scheduler, f"c{number}", bytes(number))
    assert list(watch.rows(0))[:2] == ["c49", "c48"]
    assert len(watch.rows(0)) == client_watch.MAX_CLIENTS
    scheduler.clients.clear()
    assert watch.rows(0) == {}
    assert watch._rows == {}


def test_nothing_is_left_and_a_wrapper_of_ours_only_passes_on(scheduler):
    before = dict(scheduler.stream_handlers), dict(scheduler.handlers)
    watch = ClientWatch(scheduler)
    watch.attach()
    ours = scheduler.stream_handlers["update-graph"]
    assert asyncio.iscoroutinefunction(ours), "the host asks"
    watch.detach()
    assert (scheduler.stream_handlers, scheduler.handlers) == before
    asyncio.run(ours(client="Client-1", expr_ser=None))
    assert len(scheduler.got) == 1
    assert watch.rows(0) == {}


def test_a_message_that_is_not_understood_reaches_the_host(
    scheduler, watch, process_border
):
    handler = scheduler.stream_handlers["update-graph"]
    asyncio.run(handler(client="Client-1", keys=5, graph_frames=[b"xy", 7]))
    assert len(scheduler.got) == 1
    assert "the size of a graph" in process_border.texts()[0]
    process_border.clear()


def test_a_scheduler_without_such_a_message_is_left_alone(monkeypatch):
    monkeypatch.setattr(client_watch, "_clients_here", set)
    bare = SimpleNamespace(clients={}, handlers={}, stream_handlers={})
    watch = ClientWatch(bare)
    watch.attach()
    assert bare.stream_handlers == {}
    watch.detach()
    assert bare.handlers == {}


def test_a_process_knows_what_it_uses_and_may_use():
    told = own_memory()
    assert 10 * MB < told["rss"] < told["limit"]
