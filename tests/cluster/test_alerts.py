"""A real computation fails: alerts go out, and no endpoint holds the cluster up."""

from __future__ import annotations

import asyncio
import http.server
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import dask
import pytest
from clusters import Session, wait_for
from distributed import KilledWorker, wait

from dask_memdash import MemDash

pytestmark = [pytest.mark.cluster]

TOKEN = "T0KEN-T0KEN"

READS = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + chr(10))"


class Endpoint:
    """A web server that keeps what is posted; while it hangs it answers nobody."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.asked = 0
        self.answers = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked += 1
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                if outer.answers.wait(60):
                    outer.got.append(body)
                    self.send_response(200)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/{TOKEN}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.answers.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.close()


def too_much(number: int) -> int:
    """Need more memory than a worker has."""
    import numpy as np

    blocks = []
    for _ in range(60):
        blocks.append(np.ones(2_000_000))
        time.sleep(0.005)
    return len(blocks)


def fail(session: Session) -> None:
    """Run a computation that ends in KilledWorker, and let it go."""
    session.cluster.scheduler.allowed_failures = 1
    futures = session.client.map(too_much, range(2), key="too_much", pure=False)
    wait(futures, timeout=120)
    assert any(isinstance(f.exception(), KilledWorker) for f in futures)


def texts_of(session: Session) -> str:
    """Return all that the JSON API and the report say of cluster and failures."""
    whole = [session.api("cluster"), session.api("failures"), session.api("workers")]
    return json.dumps(whole) + repr(session.cluster.scheduler.plugins["memdash"])


def test_a_failure_is_told_when_it_opens_and_when_it_is_over(start, endpoint, tmp_path):
    endpoint.answers.set()
    path = tmp_path / "alerts"
    command = {"command": [sys.executable, "-c", READS, str(path)]}
    slack = {"webhook": endpoint.url + "/slack", "format": "slack"}
    session = start(register=False)
    plugin = MemDash(notify=[endpoint.url, slack, command, "log"])
    assert TOKEN not in repr(plugin)
    session.client.register_plugin(plugin)
    session.wait_until_read()
    fail(session)

    def told(event: str) -> Any:
        return [alert for alert in endpoint.got if alert.get("event") == event]

    (opened,) = wait_for(lambda: told("failure-opened"), "the first alert", 30)
    assert opened["failure"]["responsible"]["prefix"] == "too_much"
    lines = opened["text"].splitlines()
    assert "died" in lines[0] or "death" in lines[0]
    assert any(line.startswith("Responsible: tasks `too_much`") for line in lines)
    assert any(line.startswith("What to change: ") for line in lines)
    number = opened["failure"]["id"]
    port = session.cluster.scheduler.http_server.port
    assert opened["page"].endswith(f":{port}/memdash#failure-{number}")
    (closed,) = wait_for(lambda: told("failure-closed"), "the second alert", 90)
    assert closed["failure"]["deaths"] >= 1
    assert len([alert for alert in endpoint.got if set(alert) == {"text"}]) == 2
    got = wait_for(
        lambda: path.exists() and len(path.read_text().splitlines()) == 2, "the command"
    )
    assert got
    by_command = [json.loads(line) for line in path.read_text().splitlines()]
    assert [alert["event"] for alert in by_command] == [
        "failure-opened",
        "failure-closed",
    ]
    assert TOKEN not in texts_of(session)


@pytest.mark.slow
def test_an_endpoint_that_hangs_costs_the_loop_nothing(start, endpoint):
    session = start(register=False)
    session.client.register_plugin(MemDash(notify=endpoint.url, notify__timeout="60s"))
    session.wait_until_read()
    loop = session.cluster.scheduler.loop.asyncio_loop
    lags: list[float] = []

    async def watch() -> None:
        while True:
            before = loop.time()
            await asyncio.sleep(0.01)
            lags.append(loop.time() - before - 0.01)

    watching = asyncio.run_coroutine_threadsafe(watch(), loop)
    fail(session)
    wait_for(lambda: endpoint.asked, "the alert to be on its way", 30)
    hanging_since = len(lags)
    # The cluster works on while the alert hangs.
    for number in range(20):
        assert session.client.submit(int, number, pure=False).result(30) == number
    assert endpoint.asked == 1
    assert not endpoint.got
    lags_hanging = sorted(lags[hanging_since:])
    watching.cancel()
    print(
        f"lag of the loop while an alert hangs: median "
        f"{1e3 * lags_hanging[len(lags_hanging) // 2]:.1f} ms, most "
        f"{1e3 * lags_hanging[-1]:.1f} ms of {len(lags_hanging)} looks"
    )
    before = time.monotonic()
    session.client.unregister_scheduler_plugin("memdash")
    wait_for(
        lambda: not [t for t in threading.enumerate() if "MemDash" in t.name],
        "every thread to go",
    )
    print(f"all threads gone after {time.monotonic() - before:.2f} s")
    assert not endpoint.got


def test_a_wrong_setting_is_told_and_stops_nothing(start):
    with dask.config.set({"memdash.notify.targets": [{"webhook": f"file:///{TOKEN}"}]}):
        session = start(register=False)
        session.client.register_plugin(MemDash())

    def said() -> list[str]:
        return [notice["text"] for notice in session.api("cluster")["degraded"]]

    wait_for(
        lambda: [text for text in said() if "memdash.notify.targets" in text],
        "the wrong setting to be told",
    )
    assert TOKEN not in texts_of(session)
    assert len(session.api("workers")) == 2
