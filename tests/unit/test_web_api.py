"""The JSON API over HTTP: its contract, its errors, its limits."""

import asyncio
import itertools
import json
import math
import posixpath
import time
import urllib.error
import urllib.request

import fake_parts
import fake_store
import pytest
from schema_check import check, check_error
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from dask_memdash.boundary import Boundary
from dask_memdash.web import api, query
from dask_memdash.web.mount import files_application

BREAKDOWN = {
    *("process", "managed", "transfer", "actors", "executing", "retained", "graph"),
    *("baseline", "error"),
    *("managed_claimed", "unmanaged", "unmanaged_old", "unmanaged_recent"),
    *("inputs", "spilled", "spilled_disk", "shuffle_disk", "reclaimable"),
}


class Served:
    """A store behind a real HTTP server on a free port.

    Every answer of the API is compared with its schema, unless a test says that the
    shapes of its store are not the contract's.
    """

    def __init__(self, store, prefix="", notice=None, checked=True):
        self.boundary = Boundary()
        self.checked = checked
        self.beneath = f"{prefix}/memdash/api/"
        self.server = HTTPServer(
            files_application(prefix, notice, store, self.boundary)
        )
        socket, self.port = bind_unused_port()
        self.server.add_socket(socket)

    async def __call__(self, path, method="GET"):
        """Return the status, the headers and the body (parsed where it is JSON)."""
        return await asyncio.to_thread(self._ask, path, method)

    def _ask(self, path, method):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                found = self._read(answer)
        except urllib.error.HTTPError as error:
            with error:
                found = self._read(error)
        if path.startswith(self.beneath) and method != "HEAD":
            self._check(path.removeprefix(self.beneath), *found)
        return found

    def _check(self, path, status, headers, body):
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        if status != 200:
            check_error(path, body)
        elif self.checked:
            check(path, body)

    @staticmethod
    def _read(answer):
        body = answer.read().decode()
        if answer.headers["Content-Type"].startswith("application/json") and body:
            body = json.loads(body, parse_constant=pytest.fail)
        return answer.status, answer.headers, body

    async def get(self, path):
        """Return the body of an answer that must be right."""
        status, headers, body = await self(f"/memdash/api/{path}")
        assert status == 200, body
        assert headers["Cache-Control"] == "no-store"
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        return body


@pytest.fixture
async def served():
    """Serve stores; all servers are closed at the end."""
    servers = []

    def serve(store, **options):
        servers.append(Served(store, **options))
        return servers[-1]

    yield serve
    for server in servers:
        server.server.stop()
        await server.server.close_all_connections()


COST = {"cpu", "cpu_max", "bytes", "held_back"}


async def test_cluster_has_the_shape_of_the_contract(served):
    body = await served(fake_store.busy()).get("cluster")
    assert set(body) == {
        *("schema_version", "time", "n_workers", "n_processes", "n_incidents"),
        *("n_failures",),
        *("limit", "breakdown", "others", "scheduler", "self_cost", "degraded"),
        *("stored", "stored_pending", "intermediates", "guard"),
    }
    assert set(body["breakdown"]) == BREAKDOWN
    assert set(body["self_cost"]) == {"scheduler", "workers", "nannies"}
    assert set(body["self_cost"]["nannies"]) == COST
    assert body["n_workers"] == 4


async def test_workers_have_the_shape_of_the_contract(served):
    worker = (await served(fake_store.busy()).get("workers"))[0]
    assert set(worker) == {
        *("address", "name", "host", "pid", "nthreads", "status", "n_pauses"),
        *("last_seen", "stale_for", "time_to_limit"),
        *("limit", "thresholds", "breakdown", "rss", "children"),
        *("shares_process_with", "stored", "stored_pending", "storing"),
        *("transfer", "guard"),
        *("executing_tasks", "method", "degraded", "self_cost"),
    }
    assert set(worker["self_cost"]) == {"worker", "nanny"}
    assert set(worker["self_cost"]["worker"]) == COST
    assert set(worker["thresholds"]) == {"target", "spill", "pause", "terminate"}
    assert set(worker["children"]) == {"processes", "rss", "tasks"}
    assert set(worker["rss"]) == {"anon", "file", "shmem"}
    assert set(worker["transfer"]) == {"incoming", "outgoing", "shuffle"}
    assert set(worker["executing_tasks"][0]) == {
        *("key", "prefix", "thread", "seconds", "bytes", "peak", "method", "error"),
        "largest_block",
    }


async def test_prefixes_have_the_shape_of_the_contract(served):
    prefix = (await served(fake_store.busy()).get("prefixes"))[0]
    assert set(prefix) == {
        *("prefix", "kind", "bytes", "part", "method", "storage", "execution"),
        *("children", "graph_bytes", "advice"),
    }
    assert set(prefix["children"]) == {"processes", "rss", "peak"}
    assert set(prefix["storage"]) == {
        *("managed", "managed_claimed", "replicas", "spilled", "spilled_disk"),
        *("pinned", "awaited", "count", "output_bytes", "awaited_by", "sizeof"),
        *("stored", "stored_pending"),
    }
    assert set(prefix["storage"]["sizeof"]) == {
        *("count", "believed", "measured", "ratio", "flag", "because"),
    }
    assert set(prefix["execution"]) == {
        *("executing", "running", "finished", "peak", "method", "error"),
        *("unseen", "leak"),
    }
    assert set(prefix["execution"]["leak"]) == {"bytes", "per_task"}
    assert set(prefix["execution"]["unseen"]) == {
        *("native", "arrow", "untouched", "small"),
    }


async def test_history_is_columns_of_equal_length(served):
    body = await served(fake_store.busy()).get("history?points=7")
    assert body.pop("n_pauses") == len(body.pop("pauses")) == 1
    assert {len(column) for column in body.values()} == {7}
    assert set(body) == {
        *("time", "process", "managed", "transfer", "actors", "executing"),
        *("retained", "graph", "baseline", "spilled"),
    }


async def test_failures_are_listed_newest_first_and_open_by_id(served):
    ask = served(fake_store.failing(3))
    listed = await ask.get("failures")
    assert [failure["id"] for failure in listed] == ["3", "2", "1"]
    assert await ask.get("failures?limit=1&offset=1") == listed[1:2]
    failure = await ask.get("failures/2")
    assert failure == listed[1]
    assert failure["incidents"] == ["3", "4"]
    assert (await ask.get("incidents/4"))["failure"] == "2"


@pytest.mark.parametrize("wrong", ["7", "failure-1", "%00", "..%2F..", "1" * 500])
async def test_a_failure_that_is_not_known_is_a_404(served, wrong):
    status, _, body = await served(fake_store.failing(1))(
        f"/memdash/api/failures/{wrong}"
    )
    assert status == 404
    assert set(body) == {"error"}


async def test_incidents_are_listed_newest_first_and_open_by_id(served):
    ask = served(fake_store.after_incident())
    listed = await ask.get("incidents")
    assert [incident["id"] for incident in listed] == ["5", "4", "3", "2", "1"]
    assert "suspects" not in listed[0]
    story = await ask.get("incidents/4")
    assert story["suspects"][0]["order_position"] == 37
    assert set(listed[1]) < set(story)


async def test_graphs_are_listed_and_open_by_id(served):
    store = fake_store.with_graphs()
    api = served(store)
    listed = await api.get("order?limit=2&offset=1")
    assert [graph["id"] for graph in listed] == ["graph-3", "graph-2"]
    assert await api.get("order/graph-3") == listed[0]


async def test_a_point_of_a_graph_tells_what_was_held_there(served):
    api = served(fake_store.with_graphs())
    point = await api.get("order/graph-4?position=480")
    assert (point["position"], point["of"]) == (480, "actual")
    assert point["held"][0]["awaited_by"][0]["prefix"] == "rechunk-split"
    status, _, body = await api("/memdash/api/order/graph-4?position=-1")
    assert (status, body["error"]) == (
        400,
        "position must be an integer of 0 or more, not '-1'",
    )
    status, _, body = await api("/memdash/api/order/graph-9?position=1")
    assert (status, body) == (404, {"error": "no graph 'graph-9' is known"})


@pytest.mark.parametrize("name", ["workers", "prefixes", "incidents"])
async def test_lists_take_limit_and_offset(served, name):
    ask = served(fake_store.after_incident())
    everything = await ask.get(name)
    assert await ask.get(f"{name}?limit=2") == everything[:2]
    assert await ask.get(f"{name}?offset=1&limit=1") == everything[1:2]
    assert await ask.get(f"{name}?limit=0") == []
    assert await ask.get(f"{name}?offset=99999999999999999") == []


@pytest.mark.parametrize(
    "query",
    [
        *("workers?limit=-1", "workers?offset=x", "prefixes?limit=1.5"),
        *("incidents?limit=", "workers?limit=%C2%B2", "history?points=0"),
        *("history?points=99999999", "history?since=nan", "history?since=yesterday"),
    ],
)
async def test_query_that_cannot_be_read_is_a_400_that_says_why(served, query):
    status, headers, body = await served(fake_store.busy())(f"/memdash/api/{query}")
    assert status == 400
    assert list(body) == ["error"]
    assert "must be" in body["error"]
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        *("incidents/99", "incidents/%3Cimg%3E", "history?worker=tcp://nowhere:1"),
        *("nothing", "", "cluster/", "incidents/4/more", "Workers"),
    ],
)
async def test_unknown_id_or_path_is_a_404_in_json(served, path):
    ask = served(fake_store.after_incident())
    status, _, body = await ask(f"/memdash/api/{path}")
    assert status == 404
    assert list(body) == ["error"]


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("workers?limit=1&limit=2", "limit must be given once"),
        ("workers?limit=%ff", "limit must be UTF-8"),
        (
            "workers?limt=1",
            "'limt' is no parameter of this path: it takes limit, offset",
        ),
        ("cluster?x=1", "'x' is no parameter of this path: it takes none"),
        ("incidents/4?limit=1", "'limit' is no parameter of this path: it takes none"),
    ],
)
async def test_parameters_that_are_repeated_or_unknown_are_a_400(served, query, wrong):
    status, _, body = await served(fake_store.after_incident())(f"/memdash/api/{query}")
    assert (status, body) == (400, {"error": wrong})


async def test_no_list_is_longer_than_its_limit(served, monkeypatch):
    monkeypatch.setattr(query, "MAX_ROWS", 2)
    ask = served(fake_store.after_incident())
    everything = await ask.get("incidents?limit=1000000")
    assert len(everything) == 2
    assert await ask.get("incidents") == everything


async def test_a_key_of_a_megabyte_makes_no_large_answer(served):
    store = fake_store.busy()
    store.workers = lambda *args: [{"key": "k" * 2**20, "n": [1.5] * 9}]
    (row,) = await served(store, checked=False).get("workers")
    assert row["key"] == "k" * 3999 + "…"
    assert row["n"] == [1.5] * 9


async def test_halves_of_surrogate_pairs_become_text_and_whole_ones_stay(served):
    store = fake_store.busy()
    store.workers = lambda *args: [{"key": "a\ud800b", "emoji": "🎈"}]
    assert await served(store, checked=False).get("workers") == [
        {"key": "a?b", "emoji": "🎈"}
    ]


PATHS = (
    *("api/cluster", "api/workers", "api/nothing", "static/memdash.css", "report.html"),
    *("tables/workers.csv", "tables/nothing.csv", "../memdash"),
)


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_says_what_a_browser_may_do_with_it(served, path):
    ask = served(fake_store.busy(), notice="There is no page.")
    _, headers, _ = await ask(posixpath.normpath(f"/memdash/{path}"))
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    framed = "frame-ancestors" not in policy
    assert framed == (path == "../memdash")
    assert ("script-src" in policy) == (path == "report.html")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "FROBNICATE"])
async def test_every_path_refuses_all_but_reading(served, path, method):
    ask = served(fake_store.busy(), notice="There is no page.")
    status, _, body = await ask(posixpath.normpath(f"/memdash/{path}"), method)
    assert status == 405, body


@pytest.mark.parametrize("path", PATHS)
async def test_head_has_the_headers_of_get_and_no_body(served, path):
    ask = served(fake_store.busy(), notice="There is no page.")
    where = posixpath.normpath(f"/memdash/{path}")
    status, headers, body = await ask(where, "HEAD")
    got, of_get, _ = await ask(where)
    assert (status, body) == (got, "")
    assert headers.get("Content-Type") == of_get.get("Content-Type")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_a_405(served, method):
    status, headers, body = await served(fake_store.busy())(
        "/memdash/api/cluster", method
    )
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert list(body) == ["error"]


async def test_store_that_fails_is_a_500_in_json_and_a_fault_at_the_border(served):
    store = fake_store.busy()
    store.workers = lambda *args: {}["a secret of ours"]
    ask = served(store)
    status, _, body = await ask("/memdash/api/workers")
    assert status == 500
    assert body == {"error": "MemDash failed to answer this"}
    (fault,) = ask.boundary.texts()
    assert "GET api/workers" in fault


async def test_numbers_that_json_lacks_become_null(served):
    store = fake_store.busy()
    store.cluster = lambda: {"time": math.nan, "all": [math.inf, 1.5], 3: (-math.inf,)}
    body = await served(store, checked=False).get("cluster")
    assert body == {"time": None, "all": [None, 1.5], "3": [None]}


async def test_hostile_names_are_json_strings_that_browsers_do_not_sniff(served):
    ask = served(fake_store.hostile())
    _, headers, body = await ask("/memdash/api/workers")
    assert body[0]["name"] == fake_parts.HOSTILE
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_prefix_is_honoured_and_is_no_pattern(served):
    ask = served(fake_store.busy(), prefix="/a.b")
    assert (await ask("/a.b/memdash/api/cluster"))[0] == 200
    assert (await ask("/axb/memdash/api/cluster"))[0] == 404


async def test_static_files_are_served_and_nothing_beside_them(served):
    ask = served(fake_store.busy())
    status, headers, body = await ask("/memdash/static/memdash.css")
    assert status == 200
    assert headers["Content-Type"] == "text/css"
    assert "--md-managed" in body
    assert (await ask("/memdash/static/..%2fpyproject.toml"))[0] in (403, 404)
    assert (await ask("/memdash/static/nothing.css"))[0] == 404


async def test_page_with_a_slash_leads_to_the_page_without(served):
    _, _, body = await served(fake_store.busy(), notice="No <page> here.")("/memdash/")
    assert "No &lt;page&gt; here." in body


def test_every_route_answers_and_is_one_of_the_contract():
    assert [path for path, _ in api.routes] == [
        *(r"schema\.json", "cluster", "workers", "prefixes", "history", "limits"),
        *("order", "order/([^/]+)", "incidents"),
        *("incidents/([^/]+)", "failures", "failures/([^/]+)"),
        *("what-if", "what-if/([^/]+)"),
    ]


async def test_answers_are_made_one_after_another_and_others_have_as_long(served):
    store, spans, others = fake_store.busy(), [], []
    workers = store.workers

    def slow(*slices):
        begun = time.monotonic()
        time.sleep(0.03)  # as a large answer does, which holds the loop
        spans.append((begun, time.monotonic()))
        return workers(*slices)

    async def others_run():
        while True:
            await asyncio.sleep(0)
            others.append(time.monotonic())

    store.workers = slow
    ask = served(store)
    running = asyncio.create_task(others_run())
    await asyncio.gather(*(ask.get("workers") for _ in range(8)))
    running.cancel()
    assert len(spans) == 8
    for (_, end), (begun, _) in itertools.pairwise(sorted(spans)):
        assert any(end < at < begun for at in others)
        assert begun - end >= 0.03  # at least as long as the answer took


async def test_one_request_too_many_is_told_to_come_again(served, monkeypatch):
    monkeypatch.setattr(api, "MOST_WAITING", 0)
    status, _, body = await served(fake_store.busy())("/memdash/api/cluster")
    assert (status, body) == (503, {"error": api.TOO_MANY})
