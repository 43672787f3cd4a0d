"""The zoo of ways to die: each incident is told with its kind, cause and prefix."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zoo_tasks
from clusters import Api, Processes, wait_for
from distributed import Client
from zoo_scenarios import ZOO, NotHereError, Scenario, cluster_of, incidents_of

from dask_memdash import MemDash
from dask_memdash.boundary import boundary
from dask_memdash.terms import CAUSES, NOT_MEMORY

pytestmark = pytest.mark.cluster

#: Causes that are about memory.
MEMORY = frozenset(CAUSES) - NOT_MEMORY

#: Limits of the cgroup, and of the worker that knows nothing of it, in MB.
ALLOWED, PROMISED = 350, 600


@pytest.fixture(autouse=True)
def nothing_noted() -> Iterator[None]:
    """No rule has failed on the evidence."""
    boundary.clear()
    yield
    assert boundary.texts() == ()
    boundary.clear()


@pytest.mark.parametrize("scenario", ZOO, ids=str)
def test_what_happened_is_told_with_its_cause_and_who_is_responsible(
    scenario: Scenario,
) -> None:
    try:
        with cluster_of(scenario) as session:
            scenario.run(session)
            if scenario.kind is None:
                time.sleep(1.0)  # the time that an incident is allowed to take
                assert session.api("incidents") == []
                return
            first = incidents_of(session, scenario)[0]
            every = session.api("incidents")
    except NotHereError as error:
        pytest.skip(str(error))
    diagnosis = first["diagnosis"]
    named = diagnosis["responsible"]["prefix"]
    assert (diagnosis["cause"], named) == (scenario.cause, scenario.prefix)
    assert diagnosis["confidence"] >= 0.5
    if scenario.relief is not None:
        assert diagnosis["relief"] == scenario.relief
    assert (diagnosis["relief"] is None) == (scenario.cause not in MEMORY)
    weights = [finding["weight"] for finding in first["findings"]]
    assert weights == sorted(weights, reverse=True)
    assert first["findings"][0]["cause"] == scenario.cause
    if scenario.cause not in MEMORY:
        causes = {i["diagnosis"]["cause"] for i in every}
        causes |= {finding["cause"] for finding in first["findings"]}
        assert not causes & MEMORY
    for given_up in every:
        if given_up["kind"] == "killed-worker":
            assert given_up["diagnosis"]["cause"] == scenario.cause


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """Make a memory cgroup below this process's own, v1 or v2, where one may."""
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()
        paths = {line.split(":")[1]: line.split(":", 2)[2] for line in own}
        if "memory" in paths:
            root, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
            place = paths["memory"]
        else:
            root, name, place = Path("/sys/fs/cgroup"), "memory.max", paths[""]
        made = root / place.lstrip("/") / f"memdash-zoo-{os.getpid()}"
        made.mkdir()
    except (OSError, LookupError) as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        try:
            (made / name).write_text(str(ALLOWED * 1_000_000))
        except OSError as error:
            pytest.skip(f"no cgroup can be limited here: {error}")
        yield made
    finally:
        wait_for(lambda: not (made / "cgroup.procs").read_text(), "the cgroup to empty")
        made.rmdir()


@pytest.mark.slow
def test_a_limit_above_the_cgroups_is_told_with_both(
    cgroup: Path, processes: Processes
) -> None:
    with processes.scheduler() as client:
        _start_in(cgroup, processes)
        client.wait_for_workers(1, timeout=30)
        client.register_plugin(MemDash())
        client.run_on_scheduler(_allow_no_failure)
        api = Api(client.dashboard_link)
        wait_for(lambda: api("workers")[0]["breakdown"]["process"], "the first report")
        _grow_until_it_ends(client)
        death = api.wait_for_death("oom-killed")
        wait_for(lambda: api(f"incidents/{death['id']}")["settled"], "the report")
        death = api(f"incidents/{death['id']}")
    _end_all_in(cgroup)
    assert death["exit"] == {"code": None, "signal": 9, "by": "kernel"}
    assert death["diagnosis"]["cause"] == "overcommitted"
    text = death["diagnosis"]["text"]
    assert "The worker's limit is 572 MiB" in text
    assert death["diagnosis"]["relief"] == "limit-above-memory"
    allowed = re.search(r"its cgroup allows (\d+) MiB", text)
    assert allowed is not None
    assert 200 < int(allowed[1]) <= 334, "334 MiB, less what its nanny uses"


def _start_in(cgroup: Path, processes: Processes) -> None:
    """Start a worker, with its nanny, inside of a cgroup."""
    enter = (
        "import os, runpy, sys\n"
        f"open({str(cgroup / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'dask', 'worker',"
        " '--host=127.0.0.1', '--nthreads=1', '--memory-limit', sys.argv[1],"
        " '--scheduler-file', sys.argv[2], '--local-directory', sys.argv[3]])"
    )
    folder = processes.folder
    file = folder / "scheduler.json"
    limit = f"{PROMISED}MB"
    processes.start("-c", enter, limit, str(file), str(folder), python=sys.executable)


def _end_all_in(cgroup: Path) -> None:
    """End what runs in the cgroup, all of which this test has started."""
    for pid in (cgroup / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _allow_no_failure(dask_scheduler) -> None:
    dask_scheduler.allowed_failures = 0


def _grow_until_it_ends(client: Client) -> None:
    future = client.submit(zoo_tasks.oversized)
    wait_for(future.done, "the task to end", 60)
