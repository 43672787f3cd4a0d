"""Earlier runs in a living scheduler's record directory: listed and linked."""

import asyncio
import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import stories
from recorded_runs import list_of_runs
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from dask_memdash import config
from dask_memdash.boundary import Boundary
from dask_memdash.runs import listing, living
from dask_memdash.web import earlier_runs
from dask_memdash.web.earlier_runs import EarlierRuns, LinkedPage
from dask_memdash.web.mount import files_application


def runs_of(to, server=None, scheduler="Scheduler-me"):
    settings = replace(config.defaults(), record_to=str(to), record_server=server)
    return EarlierRuns(settings, Boundary(), scheduler)


async def page_of(earlier):
    files = files_application("", None, stories.busy(), Boundary(), earlier)
    socket, port = bind_unused_port()
    server = HTTPServer(files)
    server.add_sockets([socket])
    try:
        answer = await AsyncHTTPClient().fetch(
            f"http://127.0.0.1:{port}/memdash/runs", raise_error=False
        )
        return answer.code, answer.body.decode(), answer.headers
    finally:
        server.stop()


async def test_the_newest_runs_are_listed_with_the_command_that_opens_each(tmp_path):
    root = tmp_path / "my runs"
    paths = list_of_runs(root, 60, time.time())
    status, body, headers = await page_of(runs_of(root))
    assert status == 200
    assert body.count("dask memdash runs open ") == earlier_runs.MOST
    assert f"dask memdash runs serve &#x27;{root}&#x27;" in body.replace(
        "&#39;", "&#x27;"
    )
    assert "The newest 50 of 60." in body
    assert sum(path.name in body for path in paths) == earlier_runs.MOST
    assert "script" not in body
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


async def test_a_server_of_runs_is_linked_instead(tmp_path):
    (path,) = list_of_runs(tmp_path, 1, time.time())
    _, body, _ = await page_of(runs_of(tmp_path, "http://archive:8800/"))
    assert f'href="http://archive:8800/runs/{path.name}/memdash"' in body
    assert "dask memdash runs" not in body


def tell(path, **values):
    """Have a run's manifest say something else."""
    manifest = path / "run.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **values}))


async def test_the_run_that_is_written_here_is_none_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "state_of", lambda *given: (living.WRITTEN, ""))
    mine, other = list_of_runs(tmp_path, 2, time.time())
    tell(mine, scheduler={"id": "Scheduler-me"})
    tell(other, scheduler={"id": "Scheduler-other"})
    found = await runs_of(tmp_path).found()
    assert ([row.id for row in found.rows], found.number) == ([other.name], 1)


async def test_where_there_is_none_or_no_directory_yet_it_says_so(tmp_path):
    status, body, _ = await page_of(runs_of(tmp_path / "not yet"))
    assert status == 200
    assert "There is none yet." in body or "md-degraded" in body


async def test_runs_behind_a_url_are_not_listed_by_the_scheduler():
    status, body, _ = await page_of(runs_of("s3://bucket/runs"))
    assert status == 200
    assert "dask memdash runs serve s3://bucket/runs" in body
    assert "<table" not in body
    assert "There is none yet" not in body


async def test_a_directory_that_hangs_is_waited_for_within_bounds(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(earlier_runs, "PATIENCE", 0.05)
    earlier, asked, go_on = runs_of(tmp_path), [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def hangs():
        asked.append(1)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
        return earlier_runs.Found(number=7)

    earlier._list = hangs
    for _ in range(3):
        assert "does not answer" in (await earlier.found()).wrong
    assert asked == [1]  # one thread waits for it, whoever asks
    go_on.set()
    monkeypatch.setattr(earlier_runs, "PATIENCE", 30)
    assert (await earlier.found()).number == 7
    assert (await earlier.found()).number == 7
    assert asked == [1]


async def test_hostile_names_are_text(tmp_path):
    (path,) = list_of_runs(tmp_path, 1, time.time())
    tell(path, name="<img src=x onerror=alert(1)>")
    _, body, _ = await page_of(runs_of(tmp_path))
    assert "<img src=x" not in body
    assert "&lt;img src=x" in body


async def test_without_a_record_there_is_no_such_page():
    status, _, _ = await page_of(None)
    assert status == 404


def test_a_page_is_linked_to_them():
    class Bare:
        def opening(self, doc):
            yield "piece"

    doc = SimpleNamespace(template_variables={})
    assert list(LinkedPage(Bare()).opening(doc)) == ["piece"]
    assert doc.template_variables == {"earlier_runs": "memdash/runs"}


@pytest.mark.parametrize("address", ["archive:8800", 8800, "javascript:alert(1)", ""])
def test_the_address_of_a_server_is_a_web_address(address):
    with pytest.raises(config.ConfigError, match=r"record\.server"):
        config.load({"record.server": address})
    assert config.load({"record.server": "https://a/b"}).record_server == "https://a/b"


async def test_keys_in_the_address_of_the_record_are_not_on_the_page():
    earlier = runs_of("s3://key:s3/cret@bucket/runs", "https://me:s3/cret@host:8800/")
    assert earlier.remote
    assert (earlier.place, earlier.server) == ("s3://bucket/runs", "https://host:8800")
    _, body, _ = await page_of(earlier)
    assert "https://host:8800" in body
    assert "cret" not in body
