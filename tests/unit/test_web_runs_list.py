"""The list of recorded runs as a page, and the server of all of them."""

import json
import re
from pathlib import Path

import fsspec
import pytest
import stories
from recorded_runs import list_of_runs, write_run
from test_runs_listing import HOSTILE, NOW
from test_runs_listing import write as write_manifest_only
from test_web_runs_server import served

from dask_memdash.boundary import Boundary
from dask_memdash.runs.directory import MANIFEST
from dask_memdash.runs.remote import runs_at
from dask_memdash.web import runs_server
from dask_memdash.web.runs_list import address_of
from dask_memdash.web.runs_server import serving

RUN = "20260801-100000-abcdef"


def server_of(*places):
    boundary = Boundary()
    server = serving([runs_at(str(place)) for place in places], boundary)
    server.failed = boundary.texts
    return server


def names(body):
    return re.findall(r'data-run="([^"]*)"', body)


def test_the_list_links_to_each_run_and_the_run_back_to_the_list(tmp_path):
    write_run(tmp_path / RUN, stories.after_incident())
    listed, page, figures = served(
        server_of(tmp_path),
        "/",
        f"/runs/{RUN}/memdash",
        f"/runs/{RUN}/memdash/api/cluster",
    )
    assert names(listed[1]) == [RUN]
    assert f'href="runs/{RUN}/memdash"' in listed[1]
    assert 'href="../../"' in page[1]
    assert json.loads(figures[1])["n_workers"] == 4


def test_two_runs_are_chosen_for_a_comparison(tmp_path):
    other = "20260802-100000-fedcba"
    for name in (RUN, other):
        write_run(tmp_path / name, stories.after_incident())
    listed, chosen, gone, compared = served(
        server_of(tmp_path),
        "/",
        f"/?q=2026&compare={RUN}",
        "/?compare=20200101-000000-abcdef",
        f"/runs/{RUN}/diff/{other}",
    )
    assert f'href="./?compare={RUN}"' in listed[1]
    assert "Compare none" not in listed[1]
    assert f'href="runs/{RUN}/diff/{other}"' in chosen[1]
    assert f"<strong>{RUN}</strong>" in chosen[1]
    assert 'href="./?q=2026"' in chosen[1]  # to compare none
    assert f'name="compare" value="{RUN}"' in chosen[1]
    assert gone == listed
    assert compared[0] == 200


def test_an_empty_place_says_how_to_record_and_a_missing_one_is_named(tmp_path):
    ((status, body),) = served(server_of(tmp_path), "/")
    assert status == 200
    assert "MemDash(record=" in body
    assert str(tmp_path) in body
    ((status, body),) = served(server_of(tmp_path / "missing", tmp_path), "/")
    assert status == 200
    assert "cannot be listed" in body


def test_search_sort_and_tags_are_in_the_address(tmp_path):
    for number in range(1, 4):
        write_manifest_only(
            tmp_path,
            number,
            name=f"nightly {number}",
            tags={"branch": "main" if number > 1 else "other"},
            summary={"n_workers": 10 - number},
        )
    asked = ("/", "/?q=nightly+071502", "/?sort=workers", "/?sort=workers&reverse=1")
    asked += ("/?tag=branch%3Dmain", "/?q=none&part=rows", "/?sort=nonsense&tag=x")
    found = [body for _, body in served(server_of(tmp_path), *asked)]
    numbers = [[int(name[13:15]) for name in names(body)] for body in found]
    assert numbers == [[3, 2, 1], [2], [1, 2, 3], [3, 2, 1], [3, 2], [], []]
    assert "None of the 3 runs" in found[5]
    assert "<html" not in found[5]
    assert 'aria-sort="descending"' in found[2]
    assert 'aria-sort="ascending"' in found[3]
    assert 'href="./?tag=branch%3Dmain"' in found[0]


def test_a_damaged_run_is_a_row_and_the_rest_of_it_can_be_opened(tmp_path):
    run = write_run(tmp_path / RUN, stories.after_incident())
    (run / MANIFEST).write_text("{")
    empty = tmp_path / "20260802-100000-abcdef"
    empty.mkdir()
    listed, figures, none = served(
        server_of(tmp_path),
        "/",
        f"/runs/{RUN}/memdash/api/cluster",
        f"/runs/{empty.name}/memdash",
    )
    assert names(listed[1]) == [empty.name, RUN]
    assert listed[1].count('data-value="damaged"') == 2
    assert figures[0] == 200
    assert "cannot be opened" in none[1]
    assert 'href="../../"' in none[1]


def test_hostile_names_are_texts(tmp_path):
    tags = {HOSTILE: HOSTILE, '"><img src=x onerror=alert(1)>': "x"}
    write_manifest_only(tmp_path, 1, name=HOSTILE, tags=tags)
    odd = tmp_path / HOSTILE.replace("/", "_")
    odd.mkdir()
    (odd / MANIFEST).write_text(HOSTILE)
    body, refused = served(
        server_of(tmp_path), '/?q=evil"><script>x</script>&tag="><script>', "/?q=%00%ff"
    )
    everything, searched = served(
        server_of(tmp_path), "/", "/?q=" + HOSTILE[:8].replace("<", "%3C")
    )
    for _, text in (body, refused, everything, searched):
        assert "<script>" not in text
        assert "<img src=x" not in text
        assert "\x1b" not in text
    assert len(names(everything[1])) == 2
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names(everything[1]))


def test_names_in_addresses_are_plain_and_stay(tmp_path):
    assert address_of(RUN) == RUN
    for name in ("..", "a/b", "é", "\udcff", "", "x" * 500, "a b"):
        assert re.fullmatch(r"run-[0-9a-f]{16}", address_of(name))


def test_nothing_can_be_changed_or_read_beside_the_runs(tmp_path):
    write_run(tmp_path / RUN, stories.one(1))
    secret = tmp_path.parent / "secret"
    secret.write_text("secret")
    paths = ("/", "/runs.json", f"/runs/{RUN}/memdash", "/nothing")
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        found = served(server_of(tmp_path), *paths, method=method)
        assert {status for status, _ in found} <= {405}, method
    out = ("/runs/..%2Fsecret/memdash", "/runs/../../secret", "/memdash/static/../x")
    out += (f"/runs/{RUN}/run.json", "/nothing", "/runs/other/memdash")
    for status, body in served(server_of(tmp_path), *out):
        assert status in (404, 403)
        assert "secret" not in body


def headers_of(server, path, **headers):
    import asyncio

    from tornado.httpclient import AsyncHTTPClient

    async def ask():
        port = server.start()
        client = AsyncHTTPClient(force_instance=True)
        try:
            url = f"http://127.0.0.1:{port}{path}"
            return await client.fetch(url, headers=headers, raise_error=False)
        finally:
            client.close()
            await server.stop()

    return asyncio.run(ask())


def test_the_list_has_the_headers_of_the_rest(tmp_path):
    answer = headers_of(server_of(tmp_path), "/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/", "/runs.json", f"/runs/{RUN}/memdash/api/cluster"]
)
def test_another_name_for_this_machine_is_told_nothing(tmp_path, path):
    write_run(tmp_path / RUN, stories.one(1))
    answer = headers_of(server_of(tmp_path), path, Host="rebound.example")
    assert answer.code == 403
    assert RUN.encode() not in answer.body
    assert headers_of(server_of(tmp_path), path, Host="localhost:1").code == 200


def test_runs_that_nobody_looks_at_are_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(runs_server, "MOST_RUNS", 2)
    runs = [f"2026080{n}-100000-abcdef" for n in range(1, 6)]
    for run in runs:
        write_run(tmp_path / run, stories.one(1))
    server = server_of(tmp_path)
    kept = []
    stop = server.stop

    async def stop_and_tell():
        kept.extend(server._served)
        await stop()

    server.stop = stop_and_tell
    paths = [f"/runs/{run}/memdash/api/cluster" for run in (*runs, runs[0])]
    assert {status for status, _ in served(server, *paths)} == {200}
    assert kept == [runs[4], runs[0]]


def test_json_is_what_the_command_writes(tmp_path):
    list_of_runs(tmp_path, 3, NOW)
    ((_, body),) = served(server_of(tmp_path), "/runs.json")
    told = json.loads(body)
    assert [run["state"] for run in told["runs"]] == ["ended"] * 3
    assert told["errors"] == []


# --- behind a URL ---------------------------------------------------------------------


@pytest.fixture
def remote(tmp_path):
    """Put two runs behind a URL: one whole, one with a segment that is gone."""
    system = fsspec.filesystem("memory")
    whole = write_run(tmp_path / RUN, stories.after_incident())
    broken = write_run(tmp_path / "20260802-100000-abcdef", stories.one(1))
    for run in (whole, broken):
        for path in Path(run).iterdir():
            system.pipe_file(f"/served/{run.name}/{path.name}", path.read_bytes())
    system.pipe_file("/served/20260803-100000-abcdef/run.json", b"{")
    system.rm_file(f"/served/{broken.name}/0001-main.sqlite")
    yield system, "memory://served"
    system.rm("/served", recursive=True)


def test_a_run_behind_a_url_is_fetched_when_it_is_opened(remote, monkeypatch):
    system, url = remote
    read = []
    get = type(system).get_file

    def counted(self, path, *args, **kwargs):
        read.append(path)
        return get(self, path, *args, **kwargs)

    monkeypatch.setattr(type(system), "get_file", counted)
    listed, *figures, broken = served(
        server_of(url),
        "/",
        f"/runs/{RUN}/memdash/api/cluster",
        f"/runs/{RUN}/memdash/api/incidents",
        "/runs/20260802-100000-abcdef/memdash",
    )
    assert len(names(listed[1])) == 3
    assert listed[1].count('data-value="damaged"') == 1
    assert [status for status, _ in figures] == [200, 200]
    assert [p for p in read if RUN in p] == [f"/served/{RUN}/0001-main.sqlite"]
    assert "cannot be opened" in broken[1]


def test_open_run_fetches_too_and_what_it_fetched_goes_with_it(remote):
    import gc

    import dask_memdash

    _, url = remote
    run = dask_memdash.open_run(url, RUN)
    home = Path(run._store.reader.directory)
    assert len(run.workers()) == 4
    later = run.at(None)
    run.close()
    del run
    gc.collect()
    assert home.is_dir()
    del later
    gc.collect()
    assert not home.exists()


@pytest.mark.parametrize("url", ["nosuch://bucket/runs", "memory://nothing"])
def test_a_url_that_leads_nowhere_is_an_error_that_names_it(url):
    ((status, body),) = served(server_of(url), "/")
    assert status == 200
    assert url in body
    assert "cannot be listed" in body
