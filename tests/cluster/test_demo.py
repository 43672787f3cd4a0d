"""``dask memdash demo rechunk`` as a person runs it: a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator

import psutil
import pytest

pytestmark = pytest.mark.cluster

#: How long processes may take to go once the command has ended, in seconds; the
#: resource tracker of multiprocessing outlives it by a moment.
GRACE = 15

Start = Callable[..., "subprocess.Popen[str]"]


def session(leader: int) -> list[psutil.Process]:
    """The processes of the session that a process leads."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != "zombie":
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def nothing_left(leader: int) -> bool:
    deadline = time.monotonic() + GRACE
    while session(leader):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the demo in a session of its own; what is left of it dies at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "dask", "memdash", "demo", "rechunk"]
        process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        for left in session(process.pid):
            left.kill()
        process.communicate(timeout=10)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"{text!r} was never printed")


@pytest.mark.hooks
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("details", [False, True])
def test_demo_runs_out_of_memory_and_completes_as_advised(
    start: Start, details: bool
) -> None:
    sizes = "--sizes=96,112,128,144,160"
    more = ["--details"] if details else []
    process = start("--workers=2", "--memory-limit=500MB", sizes, *more)
    output, errors = process.communicate(timeout=280)

    assert process.returncode == 0, output + errors
    assert errors == ""
    assert re.search(r"^Watch it live: http://127\.0\.0\.1:\d+/memdash$", output, re.M)
    (deaths,) = re.findall(r"KilledWorker after .*, (\d+) deaths, cause:", output)
    assert int(deaths) >= 4

    report = output[output.index("What happened") :]
    flat = " ".join(report.split())
    (together,) = re.findall(r"^What happened (\d+) deaths of ", flat)
    apart = re.findall(r"(\d+) more deaths? may be for another reason", flat)
    assert sum(map(int, [together, *apart])) == int(deaths)
    # Which of its tasks dies where is a race; what it is and whose is not.
    assert re.search(r"Why (Likely c|C)ause: one task needs too much\. ", flat)
    assert re.search(r"Responsible `rechunk-merge[a-z-]*` ", flat)
    paste = r'^        dask\.config\.set\(\{"array\.chunk-size": "\d+MiB"\}\)$'
    assert len(re.findall(paste, report, re.M)) == 1

    # the same rechunk, run again with that line
    after = re.compile(r"^as advised +[\d.]+ s +ok +0 +\d+ MiB$", re.M)
    assert after.search(report), report
    assert "\nIt completed: the advice helped.\n" in report
    # and task by task with the guard: what became of it is measured there and then
    assert re.search(r"^With the guard: (not )?completed\b.* s\b", report, re.M)

    each = re.findall(r"^#\d+  \d\d:\d\d:\d\d  terminated by its nanny$", report, re.M)
    if details:
        assert len(each) >= 4
    else:  # one screen
        assert each == []
        assert len(report.splitlines()) <= 46
        assert max(map(len, report.splitlines())) <= 100
    assert nothing_left(process.pid)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_held_page_stays_until_ctrl_c(start: Start) -> None:
    process = start("--workers=1", "--memory-limit=1GB", "--sizes=16", "--hold")
    page = read_until(process, "Watch it live").split(": ", 1)[1].strip()
    read_until(process, "The page stays up until Ctrl-C.")

    with urllib.request.urlopen(page, timeout=20) as response:
        assert response.status == 200
    with urllib.request.urlopen(f"{page}/api/cluster", timeout=20) as response:
        assert json.load(response)["n_workers"] == 1

    # a terminal sends Ctrl-C to every process of the command
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors == ""
    assert process.returncode == 1  # so small an array kills no worker
    assert nothing_left(process.pid)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "when"),
    [
        pytest.param("SIGINT", "Starting", marks=pytest.mark.slow),
        ("SIGINT", "Watch it live"),
        pytest.param("SIGTERM", "Watch it live", marks=pytest.mark.slow),
    ],
)
def test_interrupted_demo_leaves_nothing_behind(
    start: Start, name: str, when: str
) -> None:
    process = start("--workers=1", "--memory-limit=1GB", "--sizes=160")
    read_until(process, when)
    process.send_signal(signal.Signals[name])
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, output + errors
    assert errors == "\nInterrupted.\n"
    assert nothing_left(process.pid)
