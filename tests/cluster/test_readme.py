"""What README and docs/deploy.md tell people to type does what they say it does.

Every fenced block of the two pages is taken out and run: Python against a cluster with
MemDash on it, shell lines against a real scheduler, YAML as Dask's configuration.  What
cannot run here is listed in :data:`NOT_RUN` with the reason.  The files of
``docs/deploy`` are run as far as they can be without SLURM, Docker and Kubernetes.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import yaml
from clusters import Api, Processes, wait_for
from distributed import Client, KilledWorker, LocalCluster

import dask_memdash
from dask_memdash import config

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(60)]

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "docs" / "deploy"
PAGES = ("README.md", "docs/deploy.md")
SHELL, PYTHON, YAML = "sh", "python", "yaml"

#: Blocks that are not run: page and first line → why not.
NOT_RUN = {
    (
        "README.md",
        "make demo",
    ): "tests/cluster/test_demo.py runs it; `make test` is this",
    ("README.md", "pip install .          # in a clone of this repository"): (
        "tests/unit/test_packaging.py builds and installs a wheel"
    ),
    ("README.md", "pip install --no-deps --no-compile dask_memdash-*.whl"): (
        ".ci/worker_alone.py runs tasks on workers that are installed so"
    ),
    ("README.md", "import pytest"): (
        "tests/cluster/test_pytest_plugin.py runs such tests"
    ),
    ("README.md", "from dask_memdash import FSMemory, SharedStorage"): (
        "needs a bucket; tests/cluster/test_shared_storage.py registers a directory"
    ),
    ("docs/deploy.md", "salloc --nodes=4 --ntasks-per-node=1 "): "needs SLURM",
    ("docs/deploy.md", "ssh -L 8787:node1:8787 login.example.org"): "needs other hosts",
    ("docs/deploy.md", "python docs/deploy/jobqueue/cluster.py"): (
        "needs dask-jobqueue and SLURM; the file is looked through below"
    ),
    ("docs/deploy.md", "docker build -f docs/deploy/Dockerfile "): "needs Docker",
    ("docs/deploy.md", "kubectl port-forward service/memdash-scheduler 8787"): (
        "needs Kubernetes"
    ),
}

#: What batch jobs here are told that they may use: two workers of 200 MB and a nanny.
MEMORY = {"SLURM_MEM_PER_NODE": "500"}

#: Options that keep a server of the blocks on this machine, at ports that are free.
HERE = " --host 127.0.0.1 --dashboard-address 127.0.0.1:0"

#: Stands in for a program that is not here: notes how it is called, and goes on.
STAND_IN = """#!/bin/sh
env > "$NOTES/{name}.env"
printf '%s\\n' "$@" > "$NOTES/{name}.words"
echo $$ >> "$NOTES/{name}.pids"
"""
RUN_ITS_COMMAND = 'while [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n'


# -- the blocks ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str
    section: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.first}"

    @property
    def first(self) -> str:
        return self.text.splitlines()[0]

    @property
    def reason(self) -> str | None:
        """Why it is not run; None where it is."""
        for (page, first), reason in NOT_RUN.items():
            if page == self.page and self.first.startswith(first):
                return reason
        return None


def blocks_of(page: str) -> Iterator[Block]:
    section, language, lines = "", None, []
    for line in (REPOSITORY / page).read_text().splitlines():
        if line.startswith("```"):
            if language is None:
                language, lines = line.removeprefix("```").strip(), []
            else:
                yield Block(page, section, language, "\n".join(lines) + "\n")
                language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            section = line.lstrip("# ")
    assert language is None, f"{page} ends inside a block"


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def of_a_record(block: Block) -> bool:
    return block.section == "After the fact"


def blocks(
    language: str, where: Callable[[Block], bool] = lambda block: True
) -> pytest.MarkDecorator:
    found = [b for b in BLOCKS if b.language == language and not b.reason and where(b)]
    return pytest.mark.parametrize("block", found, ids=str)


def in_slurm(block: Block) -> bool:
    """Tell whether a block is a step of the SLURM recipe, run in one go."""
    return block.section == "SLURM"


def is_server(block: Block) -> bool:
    return re.search(r"^dask (scheduler|worker)\b", block.text, re.M) is not None


def test_every_block_runs_or_has_a_reason_not_to() -> None:
    known = {SHELL, PYTHON, YAML}
    unknown = [str(b) for b in BLOCKS if b.language not in known and not b.reason]
    assert not unknown, "give it a language that runs, or list it in NOT_RUN"
    listed = dict.fromkeys(NOT_RUN, 0)
    for block in BLOCKS:
        for page, first in NOT_RUN:
            listed[page, first] += page == block.page and block.first.startswith(first)
    assert not [key for key, n in listed.items() if not n], "no such block any more"
    counts = {name: sum(b.language == name for b in BLOCKS) for name in known}
    assert counts[PYTHON] >= 4
    assert counts[YAML] >= 3
    assert sum(b.language == SHELL and not b.reason for b in BLOCKS) >= 9


# -- a scheduler in a process of its own -----------------------------------------------


class Deployment:
    """A scheduler with MemDash and a shell beside it."""

    def __init__(self, folder: Path) -> None:
        self.servers = Processes(folder)
        self.folder = folder
        self.client: Client
        self.api: Api

    def start(self) -> None:
        setting = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
        self.client = self.servers.scheduler("--preload", "dask_memdash", env=setting)
        self.servers.worker(env=setting)
        self.client.wait_for_workers(1, timeout=30)
        self.api = Api(self.client.dashboard_link)

    @property
    def address(self) -> str:
        return self.client.scheduler.address.removeprefix("tcp://")

    @property
    def dashboard(self) -> str:
        return self.client.dashboard_link.removeprefix("http://").split("/")[0]

    def end(self) -> None:
        self.client.shutdown()
        self.servers.end()

    def adapted(self, text: str) -> str:
        """Return a block's text with this scheduler's addresses in it."""
        text = text.replace("localhost:8786", self.address)
        return text.replace("localhost:8787", self.dashboard)


def here(**more: str) -> dict[str, str]:
    """Return an environment in which ``dask`` is this one's, and the job is small."""
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    return {**os.environ, "PATH": os.pathsep.join(paths), **MEMORY, **more}


def shell(text: str, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def deployment(tmp_path_factory) -> Iterator[Deployment]:
    """A scheduler, and a worker that has died once of a task that took everything."""
    started = Deployment(tmp_path_factory.mktemp("deployment"))
    try:
        started.start()
        assert started.client.submit(block_of, 1).result(timeout=30).size
        with pytest.raises(KilledWorker):
            started.client.submit(hog, key="hog-1").result(timeout=40)
        started.api.wait_for_death("killed-worker")
        started.client.wait_for_workers(1, timeout=30)
        yield started
    finally:
        started.end()


def block_of(_: object) -> np.ndarray:
    time.sleep(0.1)
    return np.ones(1_000_000)


def same(x: np.ndarray) -> np.ndarray:
    time.sleep(0.05)
    return x


def hog(*_: object) -> None:
    """Take memory, 16 MB at a time, until somebody ends it."""
    taken = []
    while True:
        taken.append(np.ones(2_000_000))
        time.sleep(0.02)


# -- Python ----------------------------------------------------------------------------


class Doomed:
    """A collection whose computation takes all the memory that a worker has."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def compute(self) -> None:
        self.client.submit(hog, pure=False).result(timeout=40)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """A directory with ``runs/``: of one run, ended by a task that took everything."""
    folder = tmp_path_factory.mktemp("recorded")
    registered = dask_memdash.MemDash(
        record=str(folder / "runs"), run="nightly", tags={"branch": "main"}
    )
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit="300MB",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(registered)
        api = Api(client.dashboard_link)
        assert client.submit(block_of, 1).result(timeout=30).size

        def measured() -> bool:
            known = {row["prefix"]: row["execution"] for row in api("prefixes")}
            told = known.get("block_of", {}).get("finished")
            return bool(told and api("history")["time"])  # which a tick records

        wait_for(measured, "the first task's peak, and the cluster's memory")
        with pytest.raises(KilledWorker):
            client.submit(hog, key="hog-1").result(timeout=40)
        api.wait_for_death("killed-worker")
    return folder


@blocks(PYTHON, lambda block: not in_slurm(block))
def test_python_runs(block, start, tmp_path, recorded, monkeypatch, capsys) -> None:
    monkeypatch.chdir(recorded if "open_run" in block.text else tmp_path)
    registers = "register_plugin" in block.text
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        session = start(n_workers=1, register=not registers)
    client = session.client
    collection = da.ones((4000, 1000), chunks=(1000, 1000)).map_blocks(same).sum()
    names = {
        "MemDash": dask_memdash.MemDash,
        "dask_memdash": dask_memdash,
        "client": client,
        "collection": collection,
        "result": Doomed(client),
        "KilledWorker": KilledWorker,
    }
    if "connect" in block.text:
        assert collection.compute() == 4_000_000
        with pytest.raises(KilledWorker):
            names["result"].compute()
        session.api.wait_for_death("killed-worker")
        client.wait_for_workers(1, timeout=30)
    # there is one run, which is the same as itself
    text = block.text.replace('"branch")', '"nightly")')
    exec(compile(text, str(block), "exec"), names)
    verify, found = EXPECTED[block.first], capsys.readouterr().out
    verify(names, found, session)


def verify_registered(names: Any, output: str, session: Any) -> None:
    session.wait_until_read()
    (worker,) = session.api("workers")
    assert worker["breakdown"]["process"] > 10_000_000


def verify_guarded(names: Any, output: str, session: Any) -> None:
    session.wait_until_read()
    (worker,) = session.api("workers")
    assert worker["guard"]["mode"] == "on"


def verify_order(names: Any, output: str, session: Any) -> None:
    need = names["need"]
    assert need.verdict in str(need)
    assert "needs 8 B" in str(need)  # each chunk is made and summed in one task


def verify_kept(names: Any, output: str, session: Any) -> None:
    assert names["z"].compute() == 4_000_000
    assert Path("memdash-store/objects").is_dir()


def verify_explained(names: Any, output: str, session: Any) -> None:
    """What is told holds whenever task, report and end come; see `test_deaths`.

    A report that comes late leaves less to be told, and never another's guilt.
    """
    words = " ".join(output.split())
    assert re.match(r"Incident \d+: task given up \(KilledWorker\), ", words)
    assert "Dask gave up on hog-" in words
    assert re.search(r"ause: one task needs too much|cause is not known", words)
    assert re.search(r"Page: http://127\.0\.0\.1:\d+/memdash#incident-\d+", words)


def verify_connection(names: Any, output: str, session: Any) -> None:
    memdash = names["memdash"]
    for name in ("cluster", "workers", "prefixes", "incidents", "order", "limits"):
        frame = getattr(memdash, name)()
        assert isinstance(frame, pd.DataFrame)
        assert len(frame) >= 1, name
    assert len(names["workers"]) == 1
    assert names["told"].id == "1"
    page = Path("memory.html").read_text(encoding="utf-8")
    assert "hog" in page
    assert len(page) > 100_000


def verify_recorded(names: Any, output: str, session: Any) -> None:
    session.wait_until_read()
    wait_for(lambda: list(Path("runs").glob("*/run.json")), "the record")
    with dask_memdash.open_run("runs", "nightly") as run:
        assert run.tags == {"branch": "main"}


def verify_opened(names: Any, output: str, session: Any) -> None:
    assert "hog" in output
    assert len(names["failures"]) == 1
    assert "hog" in Path("run.html").read_text(encoding="utf-8")
    names["run"].close()


def verify_compared(names: Any, output: str, session: Any) -> None:
    assert "Both are the same run." in output
    table = names["found"].table()
    # What the recorded run did: a task that ended, one that took everything, a death.
    told = set(zip(table.subject, table.measure, strict=True))
    assert told >= {
        *(("block_of", "peak"), ("block_of", "output"), ("block_of", "stored")),
        *(("hog", "peak"), ("hog", "failures"), ("the cluster", "memory")),
    }
    assert {"workers"} < set(table.area)
    assert (table.a == table.b).all()
    assert set(table.verdict) <= {"same", "cannot say"}
    by = table.set_index(["subject", "measure"])
    assert by.loc[("hog", "failures"), "a"] == 1
    assert by.loc[("hog", "peak"), "a"] > 80_000_000
    assert by.loc[("block_of", "output"), "a"] == pytest.approx(8_000_000, rel=0.05)
    assert len(names["worse"]) == 0


#: First line of a Python block → what must be true when it has run.
EXPECTED: dict[str, Callable[[Any, str, Any], None]] = {
    "from dask_memdash import MemDash": verify_registered,
    "client.register_plugin(MemDash(guard=True))": verify_guarded,
    'need = dask_memdash.order(collection, sizes={"load": "100 MB"})': verify_order,
    "import dask_memdash": verify_explained,
    "memdash = dask_memdash.connect(client)": verify_connection,
    "from dask_memdash import FSMemory, open_persisted, persist": verify_kept,
    'run = dask_memdash.open_run("runs/", "nightly")': verify_opened,
    'found = dask_memdash.open_run("runs/", "nightly").diff(': verify_compared,
    'client.register_plugin(MemDash(record="runs/", run="nightly", '
    'tags={"branch": "main"}))': verify_recorded,
}


# -- the shell -------------------------------------------------------------------------


@blocks(SHELL, of_a_record)
def test_shell_lines_open_a_recorded_run(block, recorded, processes) -> None:
    if "sqlite3" in block.text:
        if shutil.which("sqlite3") is None:
            pytest.skip("sqlite3's shell is not installed")
        (run,) = (recorded / "runs").iterdir()
        _, line = block.text.splitlines()
        found = shell(line, here(), run)
        assert re.search(r"^block_of\s+.*(counted|exact)", found, re.M)
        return
    if "memdash runs export" in block.text:
        found = shell(block.text, here(), recorded)
        assert re.search(r"tables/incidents\.parquet: [1-9]\d* rows", found)
        assert "There is nothing to remove." in found
        return
    if "memdash runs ls" in block.text:
        found = shell(block.text, here(), recorded)
        assert re.search(r"nightly .* 1 +1 +1 .*branch=main", found)
        return
    text = f"cd {recorded}\n{block.text}"
    if "runs diff" in block.text:
        told = shell(text.replace("branch", "nightly"), here(), recorded)
        assert "Both are the same run." in told
        return
    if "runs what-if" in block.text:
        told = shell(text, here(), recorded)
        # One task took everything, and nobody knows how much it would have taken.
        assert told.startswith("Cannot say with 2 times the limit: `hog` was cut short")
        assert told.endswith("no, or cannot say\n")
        return
    run_shell(processes, text, here(PYTHONUNBUFFERED="1"))
    (address,) = wait_for(
        lambda: re.findall(r"http://127\.0\.0\.1:\d+/", processes.log(0)),
        "its address",
    )
    if "runs serve" in block.text:
        with urllib.request.urlopen(address, timeout=40) as listed:
            (link,) = re.findall(r'href="(runs/[^"]*)"', listed.read().decode())
        address += link
    with urllib.request.urlopen(address, timeout=40) as page:
        assert page.url.endswith("/memdash")
    with urllib.request.urlopen(f"{page.url}/api/failures", timeout=10) as told:
        assert len(json.load(told)) == 1


@blocks(SHELL, lambda b: not (in_slurm(b) or is_server(b) or of_a_record(b)))
def test_shell_lines_run(block, deployment, stand_ins, tmp_path) -> None:
    cwd = DEPLOY / "compose" if block.section == "Docker Compose" else tmp_path
    env = here(**stand_ins, RESERVE="100 MiB")
    output = shell(deployment.adapted(block.text), env, cwd)
    if "curl" in block.text:
        (incident,) = json.loads(output)
        assert int(incident["id"]) >= 1
        assert incident["kind"] in {"killed-worker", "terminated"}
    elif "dask memdash limits" in block.text:
        assert re.search(r"^  dask worker SCHEDULER --nworkers \d", output, re.M)
        assert ("largest tasks measured" in output) == ("--scheduler" in block.text)
    elif "dask memdash top" in block.text:
        assert re.search(r"^MemDash of http://\S+ at [\d:]+: \d workers?", output, re.M)
    else:
        assert block.first == "./start.sh --detach"
        verify_compose_was_started(stand_ins, output)


@blocks(SHELL, lambda block: not in_slurm(block) and is_server(block))
def test_servers_start_as_shown(block, deployment, processes, tmp_path) -> None:
    text = deployment.adapted(block.text).rstrip("\n") + HERE
    if "dask scheduler" in text:
        file = tmp_path / "scheduler.json"
        run_shell(processes, f"{text} --port 0 --scheduler-file {file}", here())
        wait_for(file.exists, "the scheduler's file")
        assert_memdash_is_on(file)
    else:
        assert_workers_come(deployment, processes, text, here())


def run_shell(
    processes: Processes, text: str, env: dict[str, str], program: str = "bash"
) -> None:
    """Start a shell that becomes the server of its last line."""
    *before, last = re.sub(r"\\\n\s*", " ", text).strip().splitlines()
    last = "exec " + last.strip().removeprefix("exec ")
    processes.start("-euc", "\n".join([*before, last]), python=program, env=env)


def assert_memdash_is_on(scheduler_file: Path) -> None:
    with Client(scheduler_file=str(scheduler_file), timeout=30) as client:
        assert Api(client.dashboard_link)("cluster")["degraded"] == []


def assert_workers_come(
    deployment: Deployment,
    processes: Processes,
    text: str,
    env: dict[str, str],
    program: str = "bash",
) -> list[dict[str, Any]]:
    """Start workers, and see that they have the limits that were worked out."""
    before = {worker["address"] for worker in deployment.api("workers")}

    def new() -> list[dict[str, Any]]:
        workers = deployment.api("workers")
        return [w for w in workers if w["address"] not in before]

    run_shell(processes, text, env, program)
    workers = wait_for(new, "workers")
    for worker in workers:
        # 500 MB less the nanny's, for one worker or two
        assert 150 * 2**20 < worker["limit"] < 480 * 2**20
    processes.end()
    wait_for(lambda: not new(), "workers to go")
    return workers


# -- configuration ---------------------------------------------------------------------


@blocks(YAML)
def test_yaml_is_configuration_that_is_read(block, processes, tmp_path) -> None:
    tree = yaml.safe_load(block.text)
    if "memdash" in tree:
        with dask.config.set(tree):
            changed = config.load()  # refuses keys and values that it does not know
        assert changed != config.defaults()
    if "distributed" in tree:
        folder = tmp_path / "configuration"
        folder.mkdir()
        (folder / "given.yaml").write_text(block.text)
        with processes.scheduler(env={"DASK_CONFIG": str(folder)}) as client:
            assert Api(client.dashboard_link)("cluster")["degraded"] == []
    assert set(tree) <= {"distributed", "memdash", "jobqueue"}


# -- recipes ---------------------------------------------------------------------------


@pytest.fixture
def stand_ins(tmp_path) -> dict[str, str]:
    """Programs that are not here: an environment that finds them."""
    programs, notes = tmp_path / "programs", tmp_path / "notes"
    programs.mkdir()
    notes.mkdir()
    for name, action in (("srun", RUN_ITS_COMMAND), ("docker", "")):
        program = programs / name
        program.write_text(STAND_IN.replace("{name}", name) + action)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = f"{programs}{os.pathsep}{here()['PATH']}"
    return {"PATH": path, "NOTES": str(notes)}


def called(stand_ins: dict[str, str], name: str, times: int = 1) -> list[str]:
    """Return the words of the last of so many calls, which may be yet to come."""
    notes = Path(stand_ins["NOTES"])
    pids = notes / f"{name}.pids"
    wait_for(
        lambda: pids.exists() and len(pids.read_text().split()) == times,
        f"{name} to be called",
    )
    return (notes / f"{name}.words").read_text().splitlines()


def last_pid(stand_ins: dict[str, str], name: str) -> int:
    text = (Path(stand_ins["NOTES"]) / f"{name}.pids").read_text()
    return int(text.split()[-1])


@pytest.mark.slow
def test_slurm_recipe_runs_from_start_to_end(stand_ins, tmp_path) -> None:
    steps = [b for b in BLOCKS if in_slurm(b) and not b.reason]
    assert [b.language for b in steps] == [SHELL, PYTHON, SHELL, SHELL]
    start, connect, again, stop = (b.text for b in steps)
    file = tmp_path / "scheduler_7.json"
    env = here(
        **stand_ins,
        SCRATCH=str(tmp_path),
        SLURM_JOB_ID="7",
        SLURM_JOB_NUM_NODES="1",
        DASK_INTERFACE="lo",
        DASHBOARD_ADDRESS="127.0.0.1:0",
        LOCAL_DIRECTORY=str(tmp_path),
        LIMITS="--nworkers 1",
        SCHEDULER_FILE=str(file),
    )
    file.write_text('{"address": "tcp://127.0.0.1:1"}')  # an earlier job's
    output = Output(tmp_path / "output")
    started: list[int] = []
    try:
        output.of(start, env)
        assert f"Scheduler file: {file}" in output.text
        started.append(int(Path(f"{file}.pid").read_text()))
        options = called(stand_ins, "srun")
        assert options[:3] == ["--nodes=1", "--ntasks=1", "--ntasks-per-node=1"]
        started.append(last_pid(stand_ins, "srun"))
        names: dict[str, Any] = {}
        with mock.patch.dict(os.environ, SCHEDULER_FILE=str(file)):
            exec(compile(connect, "docs/deploy.md", "exec"), names)
        with names["client"] as client:
            api = Api(client.dashboard_link)
            (worker,) = wait_for(lambda: api("workers"), "a worker's report")
            assert 350 * 2**20 < worker["limit"] < 500 * 2**20
            os.kill(started[-1], signal.SIGKILL)
            wait_for(lambda: not api("workers"), "the worker to go with its nanny")
            output.of(again, env)
            options = called(stand_ins, "srun", times=2)
            assert options[6:9] == ["--nodelist=node7", "--nodes=1", "--ntasks=1"]
            started.append(last_pid(stand_ins, "srun"))
            client.wait_for_workers(1, timeout=30)
            assert client.submit(sum, [1, 2]).result(timeout=30) == 3
        output.of(stop, env)
        wait_for(lambda: not any(map(alive, started)), "everything to end")
    finally:
        for pid in filter(alive, started):
            os.kill(pid, signal.SIGKILL)


class Output:
    """What shells and their children in the background write."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def text(self) -> str:
        return self.file.read_text()

    def of(self, text: str, env: dict[str, str]) -> None:
        with self.file.open("a") as output:
            subprocess.run(
                ["bash", "-euc", text],
                env=env,
                cwd=DEPLOY / "slurm",
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=40,
                check=True,
            )


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except FileNotFoundError:
        return False


def test_workers_without_a_scheduler_are_not_started(stand_ins, tmp_path) -> None:
    done = subprocess.run(
        ["./add_workers.sh"],
        env=here(**stand_ins, SCHEDULER_FILE=str(tmp_path / "none.json")),
        cwd=DEPLOY / "slurm",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert "run start_scheduler.sh first" in done.stderr
    assert not list(Path(stand_ins["NOTES"]).iterdir())


def verify_compose_was_started(stand_ins: dict[str, str], output: str) -> None:
    assert called(stand_ins, "docker") == ["compose", "up", "--detach"]
    env = (Path(stand_ins["NOTES"]) / "docker.env").read_text()
    (size,) = map(int, re.findall(r"^AVAILABLE_MEMORY_FOR_DASK=(\d+)$", env, re.M))
    assert f"gets {size} bytes" in output
    # 500 MB less the nanny's and what was kept
    assert 250 * 2**20 < size < 400 * 2**20


# -- containers, without one -----------------------------------------------------------


def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())


def daskcluster() -> Any:
    return yaml.safe_load((DEPLOY / "kubernetes" / "daskcluster.yaml").read_text())


def container(part: str) -> Any:
    """Return the one container of a part of the DaskCluster."""
    (found,) = daskcluster()["spec"][part]["spec"]["containers"]
    return found


def as_compose_does(text: str, variables: dict[str, str]) -> str:
    """Put variables in: ``${NAME:-default}``; two dollars are one."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1]) or match[2]

    return re.sub(r"\$\$|\$\{(\w+):-([^}]*)\}", value, text)


def as_kubernetes_does(text: str, variables: dict[str, str]) -> str:
    """Put variables in: ``$(NAME)``; two dollars are one."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\((\w+)\)", value, text)


def test_workers_of_compose_start_with_limits(deployment, processes, tmp_path) -> None:
    program, options, text = compose()["services"]["workers"]["command"]
    assert (program, options) == ("sh", "-euc")
    env = compose()["services"]["workers"]["environment"]
    env |= {"DASK_SCHEDULER_ADDRESS": deployment.address}
    env |= {"LOCAL_DIRECTORY": str(tmp_path)}
    command = as_compose_does(text, {}).rstrip() + HERE
    workers = assert_workers_come(deployment, processes, command, here(**env), program)
    assert workers


def test_compose_file_limits_the_workers_by_what_was_measured() -> None:
    services = compose()["services"]
    for key in ("mem_limit", "memswap_limit"):
        value = services["workers"][key]
        assert as_compose_does(value, {"AVAILABLE_MEMORY_FOR_DASK": "123"}) == "123"
        assert as_compose_does(value, {}) == "0"
    assert services["scheduler"]["command"] == ["dask", "scheduler"]
    assert services["scheduler"]["image"] == services["workers"]["image"]
    ports = services["scheduler"]["ports"]
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.slow
def test_worker_of_kubernetes_starts_with_its_limit_and_name(
    deployment, processes, tmp_path
) -> None:
    program, options, text = container("worker")["args"]
    assert (program, options) == ("sh", "-euc")
    env = {item["name"]: item["value"] for item in container("worker")["env"]}
    # what the operator adds
    env |= {"DASK_SCHEDULER_ADDRESS": deployment.address, "DASK_WORKER_NAME": "pod-1"}
    env |= {"LOCAL_DIRECTORY": str(tmp_path)}
    command = as_kubernetes_does(text, env).rstrip() + HERE
    (worker,) = assert_workers_come(
        deployment, processes, command, here(**env), program
    )
    assert worker["name"] == "pod-1"


def test_kubernetes_limits_are_requested_too_and_labels_agree() -> None:
    worker = container("worker")
    assert worker["resources"]["limits"] == worker["resources"]["requests"]
    (mount,) = worker["volumeMounts"]
    (volume,) = daskcluster()["spec"]["worker"]["spec"]["volumes"]
    assert mount["name"] == volume["name"]
    assert "medium" not in volume["emptyDir"]
    selector = daskcluster()["spec"]["scheduler"]["service"]["selector"]
    assert selector["dask.org/cluster-name"] == daskcluster()["metadata"]["name"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        compose()["services"]["scheduler"]["environment"],
        {item["name"]: item["value"] for item in container("scheduler")["env"]},
    ],
    ids=["compose", "kubernetes"],
)
def test_variables_of_schedulers_are_read_by_dask(variables, processes) -> None:
    read = dask.config.collect_env(variables)
    assert read == {"distributed": {"scheduler": {"preload": "dask_memdash"}}}
    assert dask.config.get("distributed.scheduler.preload", None) is not None
    with processes.scheduler(env=variables) as client:
        assert Api(client.dashboard_link)("cluster")["degraded"] == []


def test_jobqueue_file_and_yaml_say_the_same() -> None:
    (block,) = (
        b for b in BLOCKS if b.section == "dask-jobqueue" and b.language == YAML
    )
    text = (DEPLOY / "jobqueue" / "cluster.py").read_text()
    (call,) = (
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "SLURMCluster"
    )
    given = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    tree = yaml.safe_load(block.text)
    slurm = {key.replace("-", "_"): v for key, v in tree["jobqueue"]["slurm"].items()}
    assert given.pop("scheduler_options") == tree["distributed"]["scheduler"]
    assert given.pop("walltime")
    assert given == slurm


# -- the pages themselves --------------------------------------------------------------


@pytest.mark.parametrize("name", [*PAGES, "docs/accuracy.md"])
def test_links_of_the_pages_lead_somewhere(name) -> None:
    page = REPOSITORY / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.M)
            words = [re.sub(r"[^\w\s-]", "", title).lower() for title in titles]
            assert anchor in [title.replace(" ", "-") for title in words], target


def test_scripts_can_be_run_and_every_file_is_spoken_of() -> None:
    page = (REPOSITORY / "docs" / "deploy.md").read_text()
    for file in DEPLOY.rglob("*"):
        if file.is_file():
            assert f"deploy/{file.relative_to(DEPLOY)}" in page
            if file.suffix == ".sh":
                assert os.access(file, os.X_OK), file
