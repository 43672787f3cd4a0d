"""A worker believes that it has 600 MB, and its control group allows 350 MB.

The kernel ends it long before Dask would. It takes root, to make the control group.
What helps is a limit that is true: `dask memdash limits` in the same group names one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from distributed import wait
from example import Setup, main, wait_for

from dask_memdash import connect

ALLOWED = 350_000_000


@contextlib.contextmanager
def control_group(size):
    """Make a control group with so much memory, of version 1 or 2."""
    root = Path("/sys/fs/cgroup")
    old = (root / "memory").is_dir()
    group = root / ("memory" if old else "") / f"memdash-example-{os.getpid()}"
    group.mkdir()
    (group / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(size))
    try:
        yield group
    finally:
        while pids := (group / "cgroup.procs").read_text().split():
            for pid in map(int, pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        group.rmdir()


@contextlib.contextmanager
def worker_in(group, client, limit):
    """Start a worker with its nanny in a control group."""
    code = (
        f"import os; open('{group}/cgroup.procs', 'w').write(str(os.getpid()));"
        f"os.execvp('{sys.executable}', ['{sys.executable}', '-m', 'dask', 'worker',"
        f"'{client.scheduler.address}', '--nthreads=1', '--memory-limit={limit}'])"
    )
    nanny = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        client.wait_for_workers(1, timeout=60)
        time.sleep(2)
        yield
        # its nanny reports what it has read
        wait_for(lambda: all(f["settled"] for f in connect(client).ask("failures")))
    finally:
        nanny.kill()
        nanny.wait()


def grow(most):
    """Take 8 MB at a time."""
    blocks = []
    for _ in range(0, most, 8):
        blocks.append(np.ones(1_000_000))
        time.sleep(0.02)
    return len(blocks)


def fail(client):
    with control_group(ALLOWED) as group, worker_in(group, client, "600MB"):
        future = client.submit(grow, 500)
        wait(future, timeout=60)
    future.result()


if __name__ == "__main__":
    main(Setup(fail, workers=0))
