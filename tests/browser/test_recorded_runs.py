"""Recorded runs in a real browser: their list, and the page of one with its slider."""

import os
import re
import subprocess
import sys
import time

import pytest
import stories
from recorded_runs import Segment, list_of_runs, write_run, write_store

from dask_memdash.runs.directory import Manifest, new_run_id, write_manifest
from dask_memdash.runs.living import this_place

pytestmark = pytest.mark.browser

NOW = 1_795_936_500.0
RUN = "20261129-070000-abcdef"


@pytest.fixture
def served(tmp_path):
    """Serve a directory with the command; give it and its address."""
    command = [sys.executable, "-m", "dask", "memdash", "runs", "serve", str(tmp_path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            line = process.stdout.readline()
            yield tmp_path, re.search(r"http://\S+/", line)[0]
        finally:
            process.terminate()


def names(page):
    return page.locator("tbody th a").all_inner_texts()


def test_runs_are_found_opened_and_moved_along(served, look):
    root, url = served
    path = write_run(root / RUN, stories.after_incident())
    later = Segment(path, number=2, opened=stories.NOW + 60)
    write_store(later, stories.after_incident(), stories.NOW + 100)
    later.close(stories.NOW + 120)
    (path / "0003-main.sqlite").write_bytes(b"no database" * 100)
    (path / "run.json").write_text("{")
    list_of_runs(root, 3, NOW - 7200)
    page = look(url)
    assert len(names(page)) == 4
    page.get_by_text("it is damaged").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("branch=main")
    page.get_by_text("1 of 4 runs").wait_for()
    assert names(page) == ["nightly 1"]
    assert "q=branch" in page.url
    page.keyboard.press("Escape")
    page.locator("#runs-summary", has_text=re.compile("^4 runs")).wait_for()
    # The damaged one is the newest; what of it can be read is shown.
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(f"/runs/{RUN}/memdash"))
    page.wait_for_selector("html[data-memdash=ready]")
    page.get_by_text("0003-main.sqlite is left out").wait_for()
    slider = page.get_by_role("slider", name="Instant that the page shows")
    shown = page.locator("#record-shown")
    last = shown.inner_text()
    slider.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('#record-at').value !== ''")
    page.get_by_role("button", name="Failure before").click()
    page.wait_for_url(re.compile("at=[0-9]"))
    assert shown.inner_text() < last
    page.get_by_role("link", name="All runs").click()
    page.wait_for_selector("html[data-memdash=ready]")
    assert len(names(page)) == 4


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(380, "dark"), pytest.param(1920, "light", marks=pytest.mark.corpora)],
)
def test_an_empty_list_explains_itself_and_fills(served, look, width, scheme):
    root, url = served
    page = look(url, width=width, scheme=scheme)
    page.get_by_text("There is no recorded run here yet.").wait_for()
    page.get_by_text("MemDash(record=").wait_for()
    name = "<b>bold</b> " + "long " * 20
    live = root / new_run_id()
    live.mkdir()
    write_manifest(
        live,
        Manifest(
            live.name,
            time.time(),
            name=name,
            tags={"a" * 60: "b" * 100},
            live=this_place(live),
            summary={"n_workers": 2, "failures": 0, "deaths": 0},
        ),
    )
    page.get_by_text("still written").wait_for()
    assert names(page) == [name.strip()]
    wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert not wide
