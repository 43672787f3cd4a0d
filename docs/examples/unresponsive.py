"""A task sleeps in native code for 16 s, and holds Python's lock meanwhile.

The scheduler waits for 2 s here (`worker-ttl`; the default is 5 minutes). Mended, the
same function is called in a way that releases the lock.
"""

from __future__ import annotations

import ctypes

from example import Setup, main


def solve(seconds):
    ctypes.PyDLL(None).sleep(seconds)


def solve_without_the_lock(seconds):
    ctypes.CDLL(None).sleep(seconds)


def fail(client):
    client.submit(solve, 16).result(timeout=60)


def released(client):
    client.submit(solve_without_the_lock, 8).result(timeout=60)


SOON = {"distributed.scheduler.worker-ttl": "2s"}

if __name__ == "__main__":
    main(Setup(fail, config=SOON), Setup(released, config=SOON))
