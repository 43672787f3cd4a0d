"""The site's pages can be followed: their code runs, from top to bottom.

All Python of a page runs in one session, as a reader types it; README and the pages of
recipes are :mod:`test_readme`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import pytest
import yaml
from clusters import wait_for
from test_readme import PYTHON, SHELL, YAML, Block, Doomed, blocks_of, same

import dask_memdash
from dask_memdash import MemDash, config

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(90)]

PAGES = ("docs/start.md", "docs/died.md", "docs/fits.md", "docs/configuration.md")

#: Shell lines of these pages → which test runs them.
ELSEWHERE = {
    "pip install .          # in a clone of the repository": (
        "tests/unit/test_packaging.py builds and installs a wheel"
    ),
    "make demo": "tests/cluster/test_demo.py",
    "dask memdash limits": "tests/cluster/test_readme.py",
}


def blocks(page: str, language: str) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == language]


def follow(page: str, names: dict[str, Any]) -> None:
    """Run all Python of a page."""
    for block in blocks(page, PYTHON):
        exec(compile(block.text, str(block), "exec"), names)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the pages write goes into a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        yield


def test_start_leads_to_a_page_and_its_figures(capsys) -> None:
    names: dict[str, Any] = {}
    begin, compute, ask = blocks("docs/start.md", PYTHON)
    # a port of its own: others may have Dask's
    text = begin.text.replace('MB")', 'MB", dashboard_address="127.0.0.1:0")')
    exec(compile(text, str(begin), "exec"), names)
    with names["cluster"], names["client"] as client:
        exec(compile(compute.text, str(compute), "exec"), names)

        def measured() -> bool:
            memdash = dask_memdash.connect(client)
            prefixes = memdash.prefixes()
            return bool(
                memdash.workers()["process"].notna().all()
                and prefixes["peak_max"].notna().any()
            )

        wait_for(measured, "figures of workers and tasks")
        exec(compile(ask.text, str(ask), "exec"), names)
    told = capsys.readouterr().out
    assert re.search(r"^0\.4\d+\nhttp://127\.0\.0\.1:\d+/memdash$", told, re.M)
    assert "managed" in told
    assert "peak_max" in told


def test_died_is_followed_from_the_error_to_the_record(start, tmp_path, capsys) -> None:
    session = start(n_workers=1, register=False)
    session.client.register_plugin(
        MemDash(record=str(tmp_path / "runs"), run="nightly")
    )
    session.wait_until_read()
    names = {"client": session.client, "result": Doomed(session.client)}
    explain, ask, loop, record, register = blocks("docs/died.md", PYTHON)
    exec(compile(explain.text, str(explain), "exec"), names)
    told = capsys.readouterr().out
    assert "Dask gave up on hog-" in " ".join(told.split())
    for heading in ("Cause: ", "Tasks that were running", "What to change"):
        assert heading in told
    exec(compile(ask.text, str(ask), "exec"), names)
    exec(compile(loop.text, str(loop), "exec"), names)
    assert "hog" in capsys.readouterr().out

    def kept() -> bool:
        with dask_memdash.open_run("runs/", "nightly") as run:
            return len(run.failures()) == 1

    wait_for(kept, "the failure in the record")
    exec(compile(record.text, str(record), "exec"), names)
    assert "hog" in capsys.readouterr().out
    exec(compile(register.text, str(register), "exec"), names)


@pytest.mark.slow
def test_fits_is_followed_on_a_cluster_that_has_run_it(start, capsys) -> None:
    session = start(n_workers=1)
    collection = da.ones((4000, 1000), chunks=(1000, 1000)).map_blocks(same)
    assert collection.sum().compute() == 4_000_000
    session.wait_until_read()
    names = {"client": session.client, "collection": collection}
    follow("docs/fits.md", names)
    told = capsys.readouterr().out
    assert names["need"].minimum == 32_000_000
    assert re.search(r"^\d+ MB of storage at task \d+$", told, re.M)
    assert told.count("Would have lived") + told.count("Cannot say") == 2
    assert "effective" in told


def test_configuration_is_read_as_its_page_writes_it(start) -> None:
    (written,) = blocks("docs/configuration.md", YAML)
    with dask.config.set(yaml.safe_load(written.text)):
        assert config.load() != config.defaults()
    session = start(n_workers=1, register=False)
    follow("docs/configuration.md", {"client": session.client, "MemDash": MemDash})
    session.wait_until_read()


def test_every_block_of_these_pages_is_run_somewhere() -> None:
    found = [block for page in PAGES for block in blocks_of(page)]
    assert {block.language for block in found} == {SHELL, PYTHON, YAML}
    assert {b.first for b in found if b.language == SHELL} == set(ELSEWHERE)
