"""The server of recorded runs: page, JSON, tables and report, at any instant."""

import asyncio
import json
from pathlib import Path

import pytest
import stories
from recorded_runs import write_run
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from dask_memdash.boundary import Boundary
from dask_memdash.web import runs_server
from dask_memdash.web.runs_server import RunsServer, serving_one

RUN = "20260801-100000-abcdef"


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / RUN, stories.after_incident())


def served(server, *paths, method="GET"):
    """Serve for some requests; give status and body of each."""

    async def ask():
        port = server.start()
        client = AsyncHTTPClient(force_instance=True)
        found = []
        try:
            for path in paths:
                request = HTTPRequest(
                    f"http://127.0.0.1:{port}{path}",
                    method=method,
                    request_timeout=60,
                    allow_nonstandard_methods=True,
                )
                answer = await client.fetch(request, raise_error=False)
                found.append((answer.code, answer.body.decode()))
        finally:
            client.close()
            await server.stop()
        return found

    return asyncio.run(ask())


def one(run):
    return serving_one(run, Boundary())


def test_the_root_leads_to_the_page_which_says_what_it_shows(run):
    ((status, body),) = served(one(run), "/")
    assert status == 200
    assert "Recorded run" in body
    assert RUN in body
    assert 'id="record-at"' in body
    assert body.count("data-mark=") == len(stories.after_incident().failures())


def test_where_too_many_pages_are_open_nothing_is_said_of_a_scheduler(run, monkeypatch):
    monkeypatch.setattr(runs_server, "MOST_PAGES", 0)
    ((status, body),) = served(one(run), f"/runs/{RUN}/memdash")
    assert status == 503
    assert "at most 0 pages of one recorded run" in body
    assert "at the end of the record" in body
    assert "scheduler" not in body
    assert "memdash.page.limit" not in body


def test_json_and_tables_are_of_the_instant_in_the_address(run):
    base, at = f"/runs/{RUN}/memdash", f"at={stories.NOW - 45}"
    now, then, table, slip = served(
        one(run),
        f"{base}/api/incidents",
        f"{base}/api/incidents?limit=9&{at}",
        f"{base}/tables/incidents.csv?{at}",
        f"{base}/api/cluster?when=1",
    )
    assert len(json.loads(now[1])) == 5
    assert [i["time"] for i in json.loads(then[1])] == [stories.NOW - 50]
    assert len(table[1].splitlines()) == 2
    assert slip[0] == 400


def test_the_report_is_of_a_record_too(run):
    ((status, body),) = served(one(run), f"/runs/{RUN}/memdash/report.html")
    assert status == 200
    assert "rechunk-split" in body


def test_what_is_not_there_is_a_404_and_nothing_is_written(run):
    base = f"/runs/{RUN}/memdash"
    found = served(one(run), "/runs/other/memdash", f"{base}/api/nothing", "/nothing")
    assert [status for status, _ in found] == [404, 404, 404]
    found = served(one(run), f"{base}/api/cluster", base, method="POST")
    assert [status for status, _ in found] == [405, 405]


def test_a_run_that_cannot_be_opened_is_named_in_its_place_and_others_are_served(
    run, tmp_path
):
    broken = write_run(tmp_path / "20260802-100000-bbbbbb", stories.one(1), live=True)
    for path in broken.glob("live-*"):
        path.unlink()
    (broken / "live-main.sqlite").write_bytes(b"nothing" * 1000)
    paths = {path.name: path for path in (run, broken)}
    server = RunsServer(paths.get, Boundary(), [])
    bad, good = served(
        server, f"/runs/{broken.name}/memdash", f"/runs/{RUN}/memdash/api/cluster"
    )
    assert "live-main.sqlite" in bad[1]
    assert "cannot be opened" in bad[1]
    assert good[0] == 200


def test_another_site_cannot_open_its_web_socket(run):
    async def ask():
        server = one(run)
        port = server.start()
        request = HTTPRequest(
            f"ws://127.0.0.1:{port}/runs/{RUN}/memdash/ws",
            headers={"Origin": "http://evil.example"},
        )
        try:
            with pytest.raises(HTTPClientError) as refused:
                await websocket_connect(request)
        finally:
            await server.stop()
        return refused.value.code

    assert asyncio.run(ask()) == 403


def test_a_damaged_segment_is_told_on_the_page_of_the_rest(run):
    path = Path(run, "0002-main.sqlite")
    path.write_bytes(b"no database" * 1000)
    ((status, body),) = served(one(run), f"/runs/{RUN}/memdash/api/cluster")
    assert status == 200
    assert "0002-main.sqlite" in body
