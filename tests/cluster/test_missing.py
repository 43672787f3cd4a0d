"""Environments that lack something: one clear sentence, and the cluster unharmed."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from clusters import Api, wait_for
from distributed import Client

import dask_memdash
from dask_memdash import MemDash

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory) -> tuple[str, dict[str, str]]:
    """An environment with distributed and without dask_memdash: Python, variables.

    A virtual environment that sees this one's packages through ``PYTHONPATH``, from
    which those that were installed in editable mode cannot be imported, or through
    links that leave the package out.
    """
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=False)
    packages = folder / "packages"
    packages.mkdir()
    for item in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "memdash" not in item.name.lower():
            (packages / item.name).symlink_to(item)
    python = str(folder / "venv" / "bin" / "python")
    env = {"PYTHONPATH": str(packages)}
    missing = subprocess.run(
        [python, "-c", "import distributed, dask_memdash"],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "No module named 'dask_memdash'" in missing.stderr
    return python, env


def computes(client: Client) -> None:
    assert client.submit(sum, [1, 2], pure=False).result(timeout=30) == 3


def register_and_wait_for_notices(client: Client, api: Api, n: int = 1) -> None:
    """Register, and wait until so many notices are shown and have been warned of."""
    client.register_plugin(MemDash())
    wait_for(lambda: len(api("cluster")["degraded"]) == n, f"{n} notices")
    client.submit(sum, [1], pure=False).result(timeout=30)  # behind the warnings


@pytest.mark.parametrize(
    "nanny", [pytest.param("--nanny", marks=pytest.mark.slow), "--no-nanny"]
)
def test_workers_without_the_package_work_on_and_are_named(
    processes, bare_python, nanny
):
    python, env = bare_python
    with processes.scheduler() as client:
        processes.worker(nanny, python=python, env=env)
        client.wait_for_workers(1, timeout=60)
        client.register_plugin(MemDash())
        api = Api(client.dashboard_link)
        notices = wait_for(
            lambda: [n for n in api("cluster")["degraded"] if "worker" in n["where"]],
            "the notice",
        )
        assert "dask_memdash cannot be imported" in notices[0]["text"]
        assert "install it there" in notices[0]["text"]
        computes(client)

        processes.worker(nanny, python=python, env=env)  # joins later
        client.wait_for_workers(2, timeout=60)
        wait_for(
            lambda: (
                sum(n["where"].startswith("worker") for n in api("cluster")["degraded"])
                == 2
            ),
            "the notice about the second worker",
        )
        processes.worker(nanny)  # and one that has the package
        client.wait_for_workers(3, timeout=60)
        wait_for(
            lambda: (
                sum(w["breakdown"]["process"] is not None for w in api("workers")) == 1
            ),
            "the report of the worker that has it",
        )
        computes(client)
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 3


@pytest.mark.slow
def test_a_scheduler_without_the_package_says_so_to_whoever_registers(
    processes, bare_python
):
    python, env = bare_python
    with processes.scheduler(python=python, env=env) as client:
        processes.worker(python=python, env=env)
        client.wait_for_workers(1, timeout=60)
        with pytest.raises(RuntimeError, match="install dask-memdash where the sched"):
            client.register_plugin(MemDash())
        computes(client)


@pytest.mark.parametrize(
    "module", ["panel", pytest.param("bokeh", marks=pytest.mark.slow)]
)
def test_a_scheduler_without_panel_or_bokeh_serves_the_api_and_says_what_is_missing(
    processes, tmp_path, module
):
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(
        f"import sys\nsys.modules[{module!r}] = None\n"
    )
    with processes.scheduler(env={"PYTHONPATH": str(blocker)}) as client:
        processes.worker()
        client.wait_for_workers(1, timeout=60)
        port = client.scheduler_info()["services"]["dashboard"]
        api = Api(f"http://127.0.0.1:{port}/status")
        with pytest.warns(UserWarning, match="MemDash has no page"):
            register_and_wait_for_notices(client, api)
        wait_for(lambda: api("workers")[0]["breakdown"]["process"], "a report")
        (notice,) = api("cluster")["degraded"]
        assert "Install bokeh and panel" in notice["text"]
        computes(client)


@pytest.mark.slow
def test_a_worker_of_another_protocol_is_named_and_works_on(start, monkeypatch):
    monkeypatch.setattr("dask_memdash.plugins.scheduler.install.PROTOCOL", 99)
    session = start(register=False)
    with pytest.warns(UserWarning, match="do not understand each other"):
        register_and_wait_for_notices(session.client, session.api, 4)
    texts = {n["where"]: n["text"] for n in session.api("cluster")["degraded"]}
    assert sorted(where.split()[0] for where in texts) == 2 * ["nanny"] + 2 * ["worker"]
    assert all(dask_memdash.__version__ in text for text in texts.values())
    computes(session.client)


def test_a_recorder_directory_that_cannot_be_written_is_said_and_done_without(
    start, tmp_path
):
    import dask

    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with dask.config.set({"memdash.recorder.directory": str(blocked)}):
        session = start(n_workers=1, register=False)
        session.client.register_plugin(MemDash())

    def said() -> bool:
        notices = session.api("workers")[0]["degraded"]
        return any("flight recorder is in memory only" in text for text in notices)

    wait_for(said, "the worker's notice", 60)
    # It is found in memory all the same, and speaks after a death.
    session.cluster.scheduler.allowed_failures = 0
    future = session.client.submit(die, key="dying")
    with pytest.raises(Exception, match="dying"):
        future.result(timeout=60)
    death = session.api.wait_for_death("exited")
    assert death["evidence"] == "flight-recorder"
    assert [s["key"] for s in death["suspects"]] == ["dying"]


def die() -> None:
    import os
    import time

    time.sleep(1)
    os._exit(7)


if sys.platform != "linux":  # pragma: no cover
    pytestmark = [pytestmark, pytest.mark.skip(reason="needs /proc and memfd")]
