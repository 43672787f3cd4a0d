"""The audit of real workers: what Dask was told, and what the kernel allows."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from clusters import Api, wait_for

from dask_memdash import MemDash

pytestmark = pytest.mark.cluster

GiB = 2**30


def total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def dashboard(client) -> Api:
    port = client.scheduler_info()["services"]["dashboard"]
    return Api(f"http://127.0.0.1:{port}/status")


def audited(api: Api, n: int = 1):
    """Wait until all workers' limits are audited, and give the audits."""

    def known():
        audits = api("limits")
        all_known = len(audits) == n and all(a["effective"] for a in audits)
        return audits if all_known else None

    return wait_for(known, f"the audits of {n} workers", 60)


@pytest.mark.slow
@pytest.mark.hooks
def test_a_limit_above_what_the_machine_has_is_too_high(processes):
    with processes.scheduler() as client:
        client.register_plugin(MemDash())
        processes.worker("--memory-limit=4TB", "--name=greedy")
        client.wait_for_workers(1, timeout=60)
        (audit,) = audited(dashboard(client))
    assert audit["name"] == "greedy"
    assert audit["limit"] <= total_memory()  # Dask does not believe in 4 TB
    assert audit["set_by"] == "clamped"
    assert audit["verdict"] == "too-high"
    assert audit["severity"] in ("bad", "warning")
    assert audit["sources"]["available"] < audit["limit"]
    assert audit["recommended"] < audit["limit"]
    assert audit["advice"][0].startswith("Start the worker with --memory-limit ")
    assert audit["trim_threshold"] == 65536  # set by the nanny
    assert audit["scratch"]["path"].startswith(str(processes.folder))
    assert [link["level"] for link in audit["chain"]][-1] == "worker"


@pytest.mark.slow
def test_an_address_space_limit_is_found(processes):
    """``ulimit -v``, as some batch systems set it."""
    address_space = 8 * GiB
    shell = f"ulimit -v {address_space // 1024} && exec " + " ".join(
        [
            sys.executable,
            "-m dask worker --host=127.0.0.1 --nthreads=1 --no-nanny",
            "--memory-limit=12GiB" if total_memory() > 13 * GiB else "",
            f"--scheduler-file={processes.folder / 'scheduler.json'}",
            f"--local-directory={processes.folder}",
        ]
    )
    with processes.scheduler() as client:
        client.register_plugin(MemDash())
        log = (Path(processes.folder) / "limited.log").open("w")
        with log, subprocess.Popen(["sh", "-c", shell], stdout=log, stderr=log) as it:
            try:
                client.wait_for_workers(1, timeout=60)
                (audit,) = audited(dashboard(client))
            finally:
                it.terminate()
                it.wait(timeout=30)
    assert audit["source"] == "rlimit"
    assert audit["sources"]["rlimit"] == address_space
    (link,) = [link for link in audit["chain"] if link["binding"]]
    assert (link["name"], link["effect"]) == ("RLIMIT_AS", "fails")
    if audit["limit"] > address_space:
        assert audit["verdict"] == "not-seen"
        assert "its rlimit allows only 8 GiB" in audit["findings"][0]["text"]


def test_a_worker_without_pressure_is_all_right_and_its_headroom_is_live(start):
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        pytest.skip("this machine has an rlimit of its own")
    session = start()
    audits = audited(session.api, 2)
    assert {a["siblings"] for a in audits} == {800_000_000}
    assert {a["n_siblings"] for a in audits} == {2}
    assert {a["set_by"] for a in audits} == {"given"}

    def measured():
        slopes = [a["headroom"]["slope"] for a in session.api("limits")]
        return None not in slopes

    wait_for(measured, "enough points for a slope", 60)
    for audit in session.api("limits"):
        assert 0 < audit["headroom"]["bytes"] < 400_000_000
