"""A few daemon threads that write: a store that hangs must not hold a process up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class DaemonThreads:
    """Run what is handed in, in order, in threads that nobody waits for at the end."""

    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._name = name
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = (
            queue.SimpleQueue()
        )
        self._started: list[threading.Thread] = []

    def submit(self, call: Callable[[], object]) -> None:
        """Have something called in a thread; it must not raise."""
        if len(self._started) < self._number:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._started.append(thread)
            thread.start()
        self._queue.put(call)

    def stop(self) -> None:
        """Let the threads end once they have done what was handed in."""
        for _ in self._started:
            self._queue.put(None)
        self._started = []

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            call()
            del call
