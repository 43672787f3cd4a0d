"""The command line and the demo's parts that need no cluster."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result

from dask_memdash import cli
from dask_memdash.demos import DemoError, cluster, rechunk, words
from dask_memdash.demos.api import Api, deaths


def dask_memdash(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may start a cluster."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr(cluster, "LocalCluster", refuse)


# --- help and options -------------------------------------------------------------


def test_help_says_how_to_register() -> None:
    result = dask_memdash("--help")
    assert result.exit_code == 0
    assert "client.register_plugin(MemDash())" in result.output
    assert "dask scheduler --preload dask_memdash" in result.output


def test_help_of_the_demo_lists_exit_statuses() -> None:
    result = dask_memdash("demo", "rechunk", "--help")
    assert result.exit_code == 0
    for line in ("  0    a task was given up", "  3    it cannot run here"):
        assert line in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "64,"], "no list of whole numbers"),
        (["--sizes", "1"], "no list of whole numbers"),
        (["--memory-limit", "much"], "no size"),
        (["--memory-limit", "0"], "no size"),
        (["--timeout", "soon"], "no duration"),
        (["--timeout", "-1s"], "no duration"),
        (["--workers", "0"], "not in the range"),
        (["--method", "magic"], "is not one of"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str], message: str
) -> None:
    result = dask_memdash("demo", "rechunk", *arguments)
    assert result.exit_code == 2
    assert message in result.output


# --- what keeps the demo from running ---------------------------------------------


def test_port_in_use_gets_a_clear_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = dask_memdash(
            "demo", "rechunk", "--dashboard-address", f"127.0.0.1:{port}"
        )
    assert result.exit_code == 3
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in (
        result.output
    )
    assert "--dashboard-address" in result.output
    assert "Traceback" not in result.output


def test_too_little_memory_gets_a_clear_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "available_memory", lambda: 1_000_000_000)
    result = dask_memdash("demo", "rechunk")
    assert result.exit_code == 3
    assert "needs 2.55 GiB of free memory (4 workers of 557 MiB" in result.output
    assert "this machine has 0.93 GiB" in result.output or (
        "this machine has 954 MiB" in result.output
    )
    assert "--force" in result.output


def test_missing_numpy_gets_a_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.array", None)
    result = dask_memdash("demo", "rechunk")
    assert result.exit_code == 3
    assert 'pip install "dask-memdash[demo]"' in result.output


def test_address_that_is_none_gets_a_clear_message() -> None:
    result = dask_memdash("demo", "rechunk", "--dashboard-address", "banana")
    assert result.exit_code == 3
    assert "'banana' is no address" in result.output


def test_interruption_has_the_status_of_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(rechunk, "require_dask_array", interrupt)
    result = dask_memdash("demo", "rechunk")
    assert result.exit_code == 130
    assert "Interrupted." in result.output
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8787", ("", 8787)),
        (":8787", ("", 8787)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert cluster.parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "host", "host:", ":x", ":65536", ":-1"])
def test_addresses_refused(text: str) -> None:
    with pytest.raises(DemoError, match="no address"):
        cluster.parse_address(text)


def test_enough_memory_is_enough() -> None:
    plan = cluster.Plan(4, 584_000_000, "", 0)
    cluster.check_memory(plan, plan.needed)
    with pytest.raises(DemoError):
        cluster.check_memory(plan, plan.needed - 1)


def test_free_port_passes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    cluster.check_port(cluster.Plan(1, 1, "127.0.0.1", port))


# --- the JSON API as the demo reads it --------------------------------------------


def death(number: int, time: float, suspects: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": str(number),
        "time": time,
        "kind": "terminated",
        "diagnosis": {"text": f"Worker {number} was ended. 1 task was running."},
        "breakdown": {
            "process": 600 * 2**20,
            "managed": 400 * 2**20,
            "transfer": 0,
            "executing": 150 * 2**20,
            "retained": 0,
            "baseline": 50 * 2**20,
        },
        "suspects": suspects,
    }


def killed_worker(number: int, time: float, attempts: list[str]) -> dict[str, Any]:
    return {
        "id": str(number),
        "time": time,
        "kind": "killed-worker",
        "diagnosis": {"text": "Dask gave up on x (KilledWorker)."},
        "breakdown": None,
        "suspects": [],
        "attempts": attempts,
    }


class FakeMemDash(BaseHTTPRequestHandler):
    incidents: ClassVar[list[dict[str, Any]]] = []

    def do_GET(self) -> None:
        path = self.path.split("?")[0].removeprefix("/memdash/api/")
        by_id = {f"incidents/{i['id']}": i for i in self.incidents}
        found = self.incidents if path == "incidents" else by_id.get(path)
        self.send_response(404 if found is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    suspect = {"key": "x", "bytes": 1}
    monkeypatch.setattr(
        FakeMemDash,
        "incidents",
        [
            killed_worker(3, 30.0, ["1", "2"]),
            death(2, 20.0, [suspect]),
            death(1, 10.0, []),
            death(0, 1.0, []),
        ],
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeMemDash)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Api(f"http://127.0.0.1:{server.server_port}/memdash/api")
    server.shutdown()
    thread.join()
    server.server_close()


def failed(api: Api) -> rechunk.Run:
    run = rechunk.Run(96, "p2p", 3.21, "KilledWorker")
    run.incidents = api.incidents(since=5.0)
    return run


def test_incidents_since_an_instant_come_oldest_first(api: Api) -> None:
    assert [i["id"] for i in api.incidents(since=5.0)] == ["1", "2", "3"]


def test_settled_returns_once_two_looks_agree(api: Api) -> None:
    assert [i["id"] for i in api.settled(5.0, timeout=30)] == ["1", "2", "3"]


def test_unknown_path_is_an_error_in_words(api: Api) -> None:
    with pytest.raises(DemoError, match=r"does not answer at .*incidents/9"):
        api.incident("9")


def test_silence_is_an_error_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DemoError, match="does not answer"):
        Api(f"http://127.0.0.1:{port}").incidents()


def test_deaths_are_counted_without_what_happened_to_tasks(api: Api) -> None:
    assert deaths(api.incidents(since=5.0)) == 2


def test_given_up_task_with_suspects_is_explained(api: Api) -> None:
    said: list[str] = []
    assert rechunk.explain(api, [failed(api)], said.append)
    text = "\n".join(said)
    assert "Dask gave up on x (KilledWorker)." in text
    assert "Worker 1 was ended" in text
    assert "600 MiB = managed 400 MiB + executing 150 MiB + baseline 50 MiB" in text


def test_given_up_task_without_suspects_is_not_explained(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FakeMemDash.incidents[1], "suspects", [])
    said: list[str] = []
    assert not rechunk.explain(api, [failed(api)], said.append)
    assert "does not know which tasks were running" in said[-1]


@pytest.mark.parametrize("outcome", ["done", "timed out"])
def test_no_given_up_task_is_said(api: Api, outcome: str) -> None:
    said: list[str] = []
    run = rechunk.Run(64, "p2p", 1.0, outcome)
    assert not rechunk.explain(api, [run], said.append)
    assert f"ended with '{outcome}'" in said[-1]


# --- words ------------------------------------------------------------------------


def test_row_of_a_run(api: Api) -> None:
    assert failed(api).row() == [
        "9,216 × 9,216",
        "648 MiB",
        "7 MiB",
        "3.2 s",
        "KilledWorker",
        "2",
    ]


def test_table_sets_numbers_to_the_right() -> None:
    text = words.table(("size", "outcome"), [("9 MiB", "done"), ("128 MiB", "lost")])
    assert text == ("   size  outcome\n-------  -------\n  9 MiB  done\n128 MiB  lost")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 01 s"), (125.4, "2 min 05 s")],
)
def test_durations(value: float, expected: str) -> None:
    assert words.seconds(value) == expected


def test_counts() -> None:
    assert words.count(1, "death") == "1 death"
    assert words.count(1200, "death") == "1,200 deaths"
