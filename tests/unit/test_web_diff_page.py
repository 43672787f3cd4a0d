"""The page that compares two recorded runs."""

from __future__ import annotations

import json

import pytest
from compared_runs import MB, Run, Tasks, write
from test_web_runs_server import served

from dask_memdash.boundary import Boundary
from dask_memdash.web.runs_server import RunsServer

A, B, BAD = "20260801-100000-aaaaaa", "20260802-100000-bbbbbb", "20260803-100000-cccccc"
NAME = "<script>alert(1)</script>"


@pytest.fixture
def server(tmp_path):
    write(tmp_path / A, Run({NAME: Tasks([50 * MB] * 40)}))
    write(tmp_path / B, Run({NAME: Tasks([150 * MB] * 40)}))
    (tmp_path / BAD).mkdir()
    (tmp_path / BAD / "run.json").write_text("{}")
    known = {name: tmp_path / name for name in (A, B, BAD)}
    return RunsServer(known.get, Boundary(), [])


def test_two_runs_are_compared_on_a_page_and_as_json(server):
    page, other, told = served(
        server,
        f"/runs/{A}/diff/{B}",
        f"/runs/{B}/diff/{A}?all=1",
        f"/runs/{A}/diff/{B}?as=json",
    )
    assert page[0] == 200
    assert "Two runs compared: worse" in page[1]
    assert "3.0 × as much" in page[1]
    assert "<script" not in page[1]
    assert "&lt;script&gt;" in page[1]
    assert f'href="../../{B}/diff/{A}"' in page[1]
    assert "Two runs compared: better" in other[1]
    assert json.loads(told[1])["verdict"] == "worse"


def test_what_is_not_there_or_damaged_is_told(server):
    missing, damaged = served(
        server, f"/runs/{A}/diff/20200101-000000-000000", f"/runs/{A}/diff/{BAD}"
    )
    assert missing[0] == 404
    assert damaged[0] == 200
    assert "These runs cannot be compared." in damaged[1]


def test_nobody_may_do_but_read(server):
    ((status, _),) = served(server, f"/runs/{A}/diff/{B}", method="POST")
    assert status == 405
