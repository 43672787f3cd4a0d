"""A worker and its nanny die together, as when their machine is switched off.

Nobody is left who could read what the worker wrote until then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from example import Setup, main


def simulate(seconds):
    time.sleep(seconds)


def fail(client):
    command = [sys.executable, "-m", "dask", "worker", client.scheduler.address]
    command += ["--nworkers=1", "--nthreads=1", "--memory-limit=300MB"]
    worker = subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.DEVNULL
    )
    client.wait_for_workers(1, timeout=60)
    future = client.submit(simulate, 30)
    time.sleep(3)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    future.result(timeout=60)


if __name__ == "__main__":
    main(Setup(fail, workers=0))
