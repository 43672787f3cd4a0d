"""Real clusters for tests: made small, watched through the JSON API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster

from dask_memdash import MemDash


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 30) -> Any:
    """Wait until `condition` gives something true, and give that.

    It is asked less and less often, up to ten times a second: asking a scheduler fifty
    times a second took a quarter of a core from whatever the test waits for.
    """
    deadline = time.monotonic() + timeout
    pause = 0.02
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(pause)
        pause = min(0.1, 1.2 * pause)
    return result


class Api:
    """The JSON API of a scheduler's MemDash."""

    def __init__(self, dashboard: str) -> None:
        self.base = dashboard.removesuffix("/status") + "/memdash/api/"
        #: Path → its last answer, which was as its schema says.
        self._checked: dict[str, bytes] = {}

    def __call__(self, path: str) -> Any:
        with urllib.request.urlopen(self.base + path, timeout=10) as answer:
            text = answer.read()
        found = json.loads(text)
        if self._checked.get(path) != text:
            # Workers that import a test's tasks import this too, but ask nothing.
            from schema_check import check

            check(path, found)
            self._checked[path] = text
        return found

    def status(self, path: str) -> int:
        try:
            self(path)
        except urllib.error.HTTPError as error:
            return error.code
        return 200

    def deaths(self) -> list[dict[str, Any]]:
        """Incidents, newest first."""
        return list(self("incidents"))

    def wait_for_death(self, kind: str, n: int = 1, timeout: float = 30) -> Any:
        """Wait for the n-th incident of a kind, and give the newest one whole."""

        def found() -> Any:
            of_kind = [i for i in self("incidents") if i["kind"] == kind]
            return of_kind if len(of_kind) >= n else None

        try:
            found_ones = wait_for(found, f"{n} incidents of kind {kind}", timeout)
        except AssertionError as error:
            error.add_note(f"there are: {self('incidents')}"[:5000])
            raise
        return self("incidents/" + found_ones[0]["id"])


class Session:
    """A cluster, its client and its API."""

    def __init__(self, cluster: LocalCluster, client: Client) -> None:
        self.cluster = cluster
        self.client = client
        port = cluster.scheduler.http_server.port
        self.api = Api(f"http://127.0.0.1:{port}/status")

    def register(self) -> None:
        self.client.register_plugin(MemDash())
        self.wait_until_read()

    def wait_until_read(self) -> None:
        """Wait until every worker has reported, from a quiet moment on."""

        def all_read() -> bool:
            workers = self.api("workers")
            return len(workers) == len(self.cluster.scheduler.workers) and all(
                w["breakdown"]["process"] and not w["degraded"] for w in workers
            )

        wait_for(all_read, "every worker's first report", 120)

    def addresses(self) -> list[str]:
        return list(self.cluster.scheduler.workers)


class Processes:
    """Servers of a cluster as processes of their own, ended with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []

    def start(
        self,
        *command: str,
        python: str = sys.executable,
        env: dict[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        log = self.folder / f"log-{len(self.running)}"
        path = {"PYTHONPATH": str(Path(__file__).parent)}
        with log.open("w") as output:
            process = subprocess.Popen(
                [python, *command],
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, **path, **(env or {})},
                cwd=self.folder,
            )
        self.running.append(process)
        return process

    def log(self, index: int) -> str:
        return (self.folder / f"log-{index}").read_text()

    def scheduler(self, *options: str, **kwargs: Any) -> Client:
        """Start ``dask scheduler`` and give a client of it."""
        file = self.folder / "scheduler.json"
        self.start(
            "-m",
            "dask",
            "scheduler",
            "--host=127.0.0.1",
            "--port=0",
            "--dashboard-address=127.0.0.1:0",
            f"--scheduler-file={file}",
            *options,
            **kwargs,
        )
        wait_for(file.exists, "the scheduler's file")
        return Client(scheduler_file=str(file), timeout=30)

    def worker(self, *options: str, **kwargs: Any) -> subprocess.Popen[str]:
        """Start ``dask worker``."""
        return self.start(
            "-m",
            "dask",
            "worker",
            "--host=127.0.0.1",
            "--nthreads=1",
            "--memory-limit=400MB",
            f"--scheduler-file={self.folder / 'scheduler.json'}",
            f"--local-directory={self.folder}",
            *options,
            **kwargs,
        )

    def end(self) -> None:
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=15)
