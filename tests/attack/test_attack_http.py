"""Whatever is asked of the API, the answer is right, bounded and as its schema says."""

import contextlib
import http.client
import json
import os
import socket
import time
from urllib.parse import quote, urlencode, urlsplit

import dask
import pytest
from distributed import KilledWorker
from flood import Flood
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi import PARAMETERS, description
from schema_check import check, check_error
from victim import MB, memory, victim

pytestmark = [
    pytest.mark.attack,
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    # The scheduler lives in this process and takes random numbers beside the tester.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module"),
]

#: Bytes that no answer may be larger than: this cluster is small.
LARGEST = 8 * MB


GENERATED = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def exits():
    os._exit(7)


def refused():
    raise MemoryError("Unable to allocate 256. TiB for an array with shape (9, 9)")


def grows(*inputs):
    return b"x" * 10**6


def harm(cluster):
    """Have workers die, tasks be given up and memory be refused, in a graph."""
    first = [dask.delayed(grows)(n) for n in range(20)]
    last = dask.delayed(grows)(*(dask.delayed(grows)(one) for one in first))
    cluster.client.compute(last).result(timeout=60)
    with pytest.raises(MemoryError):
        cluster.client.submit(refused).result(timeout=60)
    with pytest.raises(KilledWorker):
        cluster.client.submit(exits, pure=False).result(timeout=120)
    kinds = {"exited", "killed-worker", "memory-error"}
    cluster.wait_for(
        lambda: kinds <= {i["kind"] for i in cluster.api("incidents")}, "incidents"
    )
    cluster.wait_for(lambda: cluster.api("order"), "a graph")


@pytest.fixture(scope="module")
def cluster():
    with victim() as started:
        harm(started)
        yield started


def ask(cluster, path, method="GET", headers=()):
    """Return status, headers and body; the path is sent as it is."""
    parts = urlsplit(cluster.base)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        named = any(name == "Host" for name, _ in headers)
        connection.putrequest(method, parts.path + path, skip_host=named)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_what_a_tester_of_openapi_makes_of_the_description(cluster, tell):
    schemathesis = pytest.importorskip("schemathesis")
    checks = schemathesis.checks
    known = {
        name: [row["id"] for row in cluster.api(name)]
        for name in ("order", "incidents", "failures")
    }
    known["what-if"] = known["failures"]
    api = schemathesis.openapi.from_dict(description(known))
    api.config.update(base_url=cluster.base.rstrip("/"))
    asked, statuses, largest = 0, set(), 0

    def call(case):
        nonlocal asked, largest
        answer = case.call(base_url=cluster.base.rstrip("/"), timeout=30)
        asked += 1
        statuses.add(answer.status_code)
        largest = max(largest, len(answer.content))
        case.validate_response(
            answer,
            checks=[
                checks.not_a_server_error,
                schemathesis.specs.openapi.checks.status_code_conformance,
                schemathesis.specs.openapi.checks.content_type_conformance,
                schemathesis.specs.openapi.checks.response_schema_conformance,
            ],
        )

    for operation in api.get_all_operations():
        for mode in schemathesis.GenerationMode:
            if mode.is_negative and not operation.ok().query:
                continue  # nothing can be wrong there

            @GENERATED
            @given(case=operation.ok().as_strategy(generation_mode=mode))
            def each(case):
                call(case)

            each()
    tell(
        "requests that schemathesis makes of the description",
        f"{asked:,} answered, all as the schema says, with {sorted(statuses)}",
        asked > 500 and statuses <= {200, 400, 404, 405} and largest < LARGEST,
    )


ODD = st.sampled_from(
    [
        *(
            "",
            "0",
            "-1",
            "1e999",
            "nan",
            "inf",
            "-inf",
            "1.5",
            "0x10",
            "²",
            "１",
            "true",
        ),
        *("9" * 400, "-" + "9" * 400, "null", "[]", "{}", "' OR 1=1", "%00", "\0"),
        *("../../../etc/passwd", "</script>", "\x1b[2J", "\u202e", "a" * 7_000),
    ]
)
TEXT = ODD | st.text(max_size=40) | st.integers().map(str) | st.floats().map(str)
NAMES = sorted({name for query in PARAMETERS.values() for name in query} | {"", "x"})
HEADERS = st.sampled_from(
    [
        ("Accept", "text/html"),
        ("Accept-Charset", "utf-32, bomb;q=9"),
        ("Accept-Language", "~" * 5_000),
        ("Cookie", "session=" + "a" * 3_000),
        ("Host", "elsewhere.example:1"),
        ("If-None-Match", "*"),
        ("Origin", "http://elsewhere.example"),
        ("Range", "bytes=0-0,5-9,-1"),
        ("Referer", "javascript:1"),
        ("X-Forwarded-For", "::1"),
        ("X-HTTP-Method-Override", "DELETE"),
    ]
)
METHODS = ["GET"] * 6 + ["HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]


@st.composite
def requests(draw, known):
    """Make a request: method, route, path with its query, headers."""
    route = draw(st.sampled_from([*PARAMETERS, "schema.json", "nothing"]))
    name, slash, _ = route.partition("/")
    if slash:
        one = draw(st.sampled_from(known[name]) | TEXT)
        name = f"{name}/{quote(one, safe='')}"
    query = draw(st.lists(st.tuples(st.sampled_from(NAMES), TEXT), max_size=3))
    asked = f"{name}?{urlencode(query, errors='replace')}" if query else name
    headers = draw(st.lists(HEADERS, max_size=3, unique_by=lambda one: one[0]))
    return draw(st.sampled_from(METHODS)), asked, headers


def test_requests_of_every_shape_never_fail_the_server(cluster, tell):
    known = {
        name: [row["id"] for row in cluster.api(name)]
        for name in ("order", "incidents", "failures")
    }
    known["what-if"] = known["failures"]
    seen, slowest, largest = {}, 0.0, 0

    @settings(GENERATED, max_examples=1_500)
    @given(request=requests(known))
    def each(request):
        nonlocal slowest, largest
        method, path, headers = request
        begun = time.perf_counter()
        status, said, body = ask(cluster, path, method, headers)
        slowest = max(slowest, time.perf_counter() - begun)
        largest = max(largest, len(body))
        seen[status] = seen.get(status, 0) + 1
        assert said["X-Content-Type-Options"] == "nosniff", (request, status)
        if status == 304:  # it has what was asked for
            assert body == b""
            return
        assert said["Content-Type"] == "application/json; charset=utf-8"
        if method == "HEAD":
            assert body == b""
        elif method != "GET":
            assert status == 405
            check_error(path, json.loads(body))
        elif status == 200:
            check(path, json.loads(body))
        else:
            assert status in (400, 404)
            check_error(path, json.loads(body))

    each()
    counts = ", ".join(
        f"{count} with {status}" for status, count in sorted(seen.items())
    )
    tell(
        "requests of every route, method, parameter and header",
        f"{sum(seen.values()):,} answered: {counts}; "
        f"slowest {slowest:.2f} s, largest {largest / 1000:.0f} kB",
        set(seen) - {304} == {200, 400, 404, 405}
        and largest < LARGEST
        and slowest < 10,
    )


#: Not HTTP at all, or as no client writes it; the dashboard has to answer afterwards.
RAW = [
    b"\x00\x01\x02\r\n\r\n",
    b"GET /memdash/api/cluster\r\n\r\n",
    b"GET /memdash/api/cluster HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET /memdash/api/%ff%fe%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /memdash/api/workers?"
    + b"limit=1&" * 7_000
    + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /memdash/api/" + b"a/" * 30_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /memdash/api/cluster HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET /memdash/api/cluster HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /memdash/api/cluster HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\n",
    b"GET /memdash/static/../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /memdash/static/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /memdash/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
]


def test_what_is_hardly_http(cluster, tell):
    parts = urlsplit(cluster.base)
    statuses = []
    for sent in RAW:
        with socket.create_connection((parts.hostname, parts.port), timeout=30) as made:
            made.sendall(sent)
            made.shutdown(socket.SHUT_WR)
            got = b""
            with contextlib.suppress(ConnectionError):
                while chunk := made.recv(1 << 16):
                    got += chunk
        assert b"root:" not in got
        statuses.append(got[9:12].decode() or "closed")
    tell(
        "requests that are hardly HTTP",
        f"{len(RAW)} sent: {', '.join(statuses)}; then the API answers",
        "500" not in statuses and cluster.api("cluster")["n_workers"] == 2,
    )


OURS = ["cluster", "workers", "prefixes", "history", "limits", "incidents", "order"]
DASKS = ["info/main/workers.html", "info/main/tasks.html", "json/index.html"]


def test_200_requests_at_once(cluster, tell):
    before = memory()
    root = cluster.base.removesuffix("memdash/api/")
    beside = {}
    for whose, paths in (
        ("ours", [f"{cluster.base}{path}" for path in OURS]),
        ("dask", [f"{root}{path}" for path in DASKS]),
    ):
        with Flood(paths, 200) as flood:
            alone, slowed = cluster.beside(flood.wait, rounds=3)
            answered, statuses = flood.end()
        beside[whose] = (slowed / alone, answered, statuses)
    slower, answered, statuses = beside["ours"]
    cluster.wait_for(lambda: cluster.tasks_seconds() < 5, "tasks at their usual speed")
    tell(
        "200 requests at once, again and again",
        f"{answered:,} answered; 200 tasks took {slower:.1f} times as long, beside as "
        f"many requests of Dask's own pages {beside['dask'][0]:.1f}; "
        f"{(memory() - before) / MB:+.0f} MB",
        set(statuses) <= {"200", "503"}
        and slower <= max(1.5 * beside["dask"][0], 3)
        and memory() - before < 60 * MB,
    )
