"""The pytest plugin over a real cluster, in sessions of its own."""

from __future__ import annotations

import json
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

#: Clusters that are asynchronous, those of distributed's own tests, and fixtures that
#: fail: "bad" are those that have to.
ASYNCHRONOUS = """
import time
import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.utils_test import gen_cluster

def load(mb):
    x = np.ones(mb * 125_000)
    time.sleep(0.1)
    return float(x[0])

def cluster():
    return LocalCluster(n_workers=1, threads_per_worker=1, processes=False,
                        memory_limit="2GB", dashboard_address=":0", asynchronous=True)

@pytest.mark.parametrize("mb", [20, pytest.param(120, id="bad")])
@pytest.mark.memdash(peak="60 MB")
@pytest.mark.asyncio
async def test_a_cluster_that_is_closed_at_once(mb):
    async with cluster() as running, Client(running, asynchronous=True) as client:
        assert await client.submit(load, mb) == 1

@pytest.mark.memdash(peak="60 MB")
@gen_cluster(client=True)
async def test_of_distributed_bad(c, s, a, b):
    assert await c.submit(load, 120) == 1

@gen_cluster(client=True)
async def test_awaited(c, s, a, b, memdash):
    await memdash(c)
    assert await c.submit(load, 120) == 1
    with pytest.raises(pytest.fail.Exception, match="took 11"):
        await memdash.check(peak="60 MB")
    assert "memdash" not in s.plugins

@gen_cluster(client=True)
async def test_not_awaited_bad(c, s, a, b, memdash):
    await memdash(c)
    assert await c.submit(load, 120) == 1
    memdash.check(peak="60 MB")

@pytest.fixture
def ends_badly():
    yield
    raise LookupError("ends badly")

@gen_cluster(client=True)
async def test_fixture_bad(c, s, a, b, ends_badly, memdash):
    await memdash(c)
    assert await c.submit(load, 20) == 1
    memdash.check(peak="60 MB")

def test_nothing_is_left(tmp_path):
    starts = Client._start, Client._close
    assert all(one.__module__ == "distributed.client" for one in starts)
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_asynchronous_clusters_side_by_side_on_workers_of_xdist(
    session, pytester, monkeypatch
):
    # in CI pytest says each message twice: its summary is not cut there
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    records = pytester.path / "kept"
    mode = ("-o", "asyncio_default_fixture_loop_scope=function")
    options = ("-n", "2", *mode, "--memdash-records", str(records))
    done = session(ASYNCHRONOUS, *options)
    done.assert_outcomes(passed=4, failed=3, errors=1)
    text = done.stdout.str()
    assert text.count("A task of 'load'") == 3
    kept = [json.loads(path.read_text()) for path in records.glob("*/run.json")]
    assert len(kept) == 4
    assert all("bad" in run["tags"]["test"] for run in kept)
    assert {run["tags"]["xdist"] for run in kept} <= {"gw0", "gw1"}
    assert all(run["ended"] for run in kept)


def test_a_session_without_it_loads_nothing(session):
    session(UNUSED, "-p", "no:xdist").assert_outcomes(passed=1)
