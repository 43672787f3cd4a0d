"""Scripts that run in a process of their own with the native tally; no tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

MB = 1_000_000

#: What every script begins with.
PRELUDE = """
import ctypes, os, struct, sys, threading, time
from dask_memdash.measure import native_tally as face
MB = 1_000_000
tally = face.load()

class Slots:
    def __init__(self):
        self.mapping, self.buffer = tally.map_slots(-1, 4096)
    def begin(self, index=0):
        return tally.begin(self.mapping, 512 * index)
    def read(self, index=0):
        return struct.unpack_from("<qq", self.buffer, 512 * index)

def close(seen, size, error=0.01):
    assert abs(seen - size) <= error * size, (seen, size)

def counts(slots, size=10 * MB, index=0):
    assert slots.begin(index)
    held = b"x" * size
    del held
    missed = tally.end()
    now, peak = slots.read(index)
    close(peak, size)
    assert abs(now) < 0.01 * size, now
    return missed
"""


def start(script: str, *options: str, **environment: str) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONMALLOC"}
    return subprocess.Popen(
        [sys.executable, *options, "-c", PRELUDE + textwrap.dedent(script)],
        env=inherited | environment,
        cwd=here,  # not the checkout: what is installed is what is tested
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: str, *options: str, **environment: str) -> str:
    with start(script, *options, **environment) as process:
        try:
            out, err = process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 0, f"{process.returncode}\n{out}\n{err}"
    return out
