"""`dask memdash top` on a real terminal; `watch` beside a scheduler that restarts."""

from __future__ import annotations

import codecs
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

import pytest
from clusters import wait_for
from distributed import Client, LocalCluster

from dask_memdash import MemDash

pytestmark = pytest.mark.cluster

COMMAND = (sys.executable, "-m", "dask", "memdash")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def hold(size):
    time.sleep(0.2)
    return bytes(size)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments):
        self._ours, self.theirs = pty.openpty()
        termios.tcsetwinsize(self.theirs, (24, 100))
        self.before = termios.tcgetattr(self.theirs)
        self._process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            env={**os.environ, "TERM": "xterm"},
        )
        self.seen = ""
        # a read may end within a character
        self._decoded = codecs.getincrementaldecoder("utf-8")().decode

    def sees(self, text):
        """Wait until the screen has had a text on it since the last key."""

        def seen():
            while select.select([self._ours], [], [], 0.05)[0]:
                self.seen += self._decoded(os.read(self._ours, 65536))
            return text in ESCAPES.sub("", self.seen)

        wait_for(seen, f"{text!r} on the screen", 60)

    def press(self, key):
        self.seen = ""
        os.write(self._ours, key.encode())

    def ends(self):
        """Wait for the end; give the exit status."""
        wait_for(lambda: self._process.poll() is not None, "the end", 20)
        return self._process.returncode

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._ours)
        os.close(self.theirs)


@pytest.fixture
def terminal():
    """Return a function that runs a command on a terminal."""
    opened = []

    def start(*arguments):
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_top_shows_a_cluster_obeys_keys_and_leaves_the_terminal_as_it_was(
    start, terminal
):
    session = start(n_workers=1)
    held = session.client.submit(hold, 30_000_000)
    held.result(timeout=30)
    top = terminal("top", session.client.scheduler.address, "--interval", "200ms")
    top.sees("1 worker, ")
    top.sees("No failures.")
    top.sees("hold")
    top.press("1")
    top.sees("1 of 1, fullest first")
    top.press("s")
    top.sees("most memory first")
    top.press("3")
    top.sees("No failures.")
    top.press("q")
    assert top.ends() == 0
    assert termios.tcgetattr(top.theirs) == top.before


def test_watch_says_that_its_scheduler_restarted_and_ends_with_ctrl_c(tmp_path):
    def cluster(port):
        made = LocalCluster(
            n_workers=0, scheduler_port=port, dashboard_address="127.0.0.1:0"
        )
        client = Client(made)
        client.register_plugin(MemDash())
        return made, client

    first, client = cluster(0)
    address = first.scheduler_address
    file = tmp_path / "log"
    with file.open("wb") as out:
        watch = subprocess.Popen(
            [*COMMAND, "watch", address, "--interval", "200ms"],
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        wait_for(lambda: "watching" in file.read_text(), "it to watch", 30)
        client.close()
        first.close()
        wait_for(lambda: "trying again" in file.read_text(), "the loss", 30)
        second, client = cluster(int(address.rpartition(":")[2]))
        try:
            wait_for(
                lambda: "it is another scheduler" in file.read_text(), "the return", 30
            )
            watch.send_signal(signal.SIGINT)
            assert watch.wait(timeout=20) == 130
        finally:
            client.close()
            second.close()
    finally:
        if watch.poll() is None:
            watch.kill()
        watch.wait()
    told = file.read_text()
    assert len(told.splitlines()) == 5, told  # with a blank one and "Interrupted."
    assert "Traceback" not in told
