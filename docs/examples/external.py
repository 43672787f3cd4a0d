"""Somebody ends a worker with SIGKILL while it works and has memory to spare.

There is nothing to mend in the program.
"""

from __future__ import annotations

import os
import signal
import time

from example import Setup, main


def simulate(seconds):
    time.sleep(seconds)


def fail(client):
    future = client.submit(simulate, 30)
    time.sleep(2)
    (pid,) = client.run(os.getpid).values()
    os.kill(pid, signal.SIGKILL)
    future.result(timeout=60)


if __name__ == "__main__":
    main(Setup(fail))
