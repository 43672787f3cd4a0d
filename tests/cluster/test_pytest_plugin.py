"""The pytest plugin over a real cluster, in sessions of its own."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

pytest_plugins = "pytester"
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

#: How the plugin is loaded where the package was installed before it had one.
LOADED = (
    []
    if entry_points(group="pytest11", name="memdash")
    else ["-p", "dask_memdash.pytest_plugin"]
)

TESTS = """
import time
import numpy as np
import pytest
from distributed import Client, LocalCluster

def load(mb, seconds=0.1):
    x = np.ones(mb * 125_000)
    time.sleep(seconds)
    return float(x[0])

def cluster():
    return LocalCluster(n_workers=1, threads_per_worker=1, processes=False,
                        memory_limit="2GB", dashboard_address=":0")

@pytest.fixture(scope="module")
def client():
    with cluster() as running, Client(running) as made:
        yield made

@pytest.mark.memdash(peak="60 MB", no_deaths=True)
def test_small(client):
    assert client.submit(load, 40).result() == 1

@pytest.mark.memdash(peak="60 MB", stored="1 GB")
def test_large(client):
    assert client.submit(load, 120, 1.5, key="load-7").result() == 1

def test_own_figures_of_a_test(memdash, client):
    memdash(client)
    client.submit(load, 41).result()
    memdash.check(peak={"load": "60 MB"})

@pytest.mark.memdash(peak="60 MB")
def test_nothing_measured(client):
    pass

@pytest.mark.memdash(peak="60 MB")
def test_fails_by_itself(client):
    assert client.submit(load, 10).result() == 2
"""

UNUSED = """
import sys

def test_nothing_is_loaded():
    assert "dask_memdash.pytest_plugin" in sys.modules
    assert not {"dask", "distributed", "sqlite3"} & set(sys.modules)
"""


@pytest.fixture
def session(pytester):
    """Run pytest on some tests, in a process of its own."""

    def run(tests: str, *options: str):
        pytester.makepyfile(tests)
        options = ("-p", "no:cacheprovider", "-W", "ignore", *LOADED, *options)
        return pytester.runpytest_subprocess(*options, timeout=100)

    return run


def test_what_a_marker_says_is_checked_and_failing_records_are_kept(session, pytester):
    records = pytester.path / "kept"
    done = session(TESTS, "--memdash-records", str(records), "--strict-markers")
    done.assert_outcomes(passed=2, failed=3)
    done.stdout.fnmatch_lines(["*test_large*", "*Recorded by memdash*"])
    text = done.stdout.str()
    assert "A task of 'load', such as 'load-7', took " in text
    assert "more than 57.2 MiB." in text
    assert ".py:7 in np.ones: more" in text
    assert "No task was measured" in text
    kept = sorted(records.iterdir())
    assert len(kept) == 3
    for run in kept:
        assert f"dask memdash runs open {run}" in text
        assert (run / "run.json").exists()


def test_workers_of_xdist_share_a_directory(session, pytester):
    records = pytester.path / "kept"
    done = session(
        TESTS, "-n", "2", "-k", "small or large", "--memdash-records", str(records)
    )
    done.assert_outcomes(passed=1, failed=1)
    assert len(list(records.iterdir())) == 1


def test_a_session_without_it_loads_nothing(session):
    session(UNUSED, "-p", "no:xdist").assert_outcomes(passed=1)
