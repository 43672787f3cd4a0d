"""Tasks for the guard's tests; imported by workers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from distributed import Event, Lock, Queue, get_client, worker_client


def large(i: int, size: int = 220_000_000, seconds: float = 0.2) -> float:
    """Take much memory for a moment."""
    held = np.ones(size // 8)
    time.sleep(seconds)
    return float(held[i])


def make(i: int, size: int) -> np.ndarray:
    """Return an array of `size` bytes."""
    return np.full(size // 8, float(i))


def first(array: np.ndarray) -> float:
    return float(array[0])


def works_until(flag: str, size: int) -> float:
    """Hold memory and work until a file is there, for a minute at most."""
    held = np.ones(size // 8)
    end = time.monotonic() + 60
    while not Path(flag).exists() and time.monotonic() < end:
        sum(range(10_000))
    return float(held[0])


def swallows(size: int) -> str:
    """Answer whether there was memory, whatever that is worth."""
    try:
        np.ones(size // 8)
    except MemoryError:
        return "none"
    return "enough"


def of_python(size: int) -> int:
    """Take memory that the brake does not see."""
    return len(b"x" * size)


def waits_for_another(size: int) -> float:
    """Wait for a task without seceding, while holding much."""
    held = np.ones(size // 8)
    other = get_client().submit(large, 1, size, 0.0, pure=False)
    return float(held[0] + other.result())


def waits_in_worker_client(size: int) -> float:
    held = np.ones(size // 8)
    with worker_client() as client:
        other = client.submit(large, 1, size, 0.0, pure=False)
        return float(held[0] + other.result())


def waits_for_event(name: str, size: int) -> bool:
    held = np.ones(size // 8)
    return bool(Event(name).wait(timeout=60)) and bool(held[0])


def sets_event(name: str, size: int) -> bool:
    held = np.ones(size // 8)
    Event(name).set()
    return bool(held[0])


def takes_from_queue(name: str, size: int) -> int:
    held = np.ones(size // 8)
    return int(Queue(name).get(timeout=60) + held[0])


def puts_into_queue(name: str, size: int) -> bool:
    held = np.ones(size // 8)
    Queue(name).put(1)
    return bool(held[0])


def takes_lock(name: str, size: int) -> float:
    held = np.ones(size // 8)
    with Lock(name):
        time.sleep(0.05)
        return float(held[0])
