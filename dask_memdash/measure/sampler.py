"""The sampler: one thread per process that ticks whatever is to be sampled.

Never on an event loop, since a nanny's has been seen stalled for two minutes under
memory pressure.  All workers or nannies of a process share the thread; it starts
with the first watch and ends with the last.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Tick = Callable[[float], None]


class Sampler:
    """Calls all ticks at the least of their intervals.  Thread-safe.

    A tick gets the Unix time in seconds and must not raise (put it behind the
    boundary).  After :meth:`remove` returns, the tick is not running and will not be
    called again, unless it is the tick itself that called.
    """

    def __init__(self, name: str = "MemDash sampler") -> None:
        self._name = name
        self._ticks: dict[Tick, float] = {}
        self._lock = threading.Lock()
        self._busy = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()

    def add(self, tick: Tick, interval: float) -> None:
        """Call `tick` every `interval` seconds from now on."""
        with self._lock:
            self._ticks[tick] = interval
            if self._thread is None:
                self._wake = threading.Event()
                thread = threading.Thread(
                    target=self._run, args=(self._wake,), name=self._name, daemon=True
                )
                try:
                    thread.start()
                except BaseException:  # no more threads are to be had
                    del self._ticks[tick]
                    raise
                self._thread = thread

    def remove(self, tick: Tick) -> None:
        """Stop calling `tick`; the thread ends with the last one."""
        with self._lock:
            self._ticks.pop(tick, None)
            thread, last = self._thread, not self._ticks
            if last and thread is not None:
                self._thread = None
                self._wake.set()
        if thread is None or threading.current_thread() is thread:
            return
        if last:
            thread.join(timeout=5)
        else:
            with self._busy:
                pass

    def _run(self, wake: threading.Event) -> None:
        while not wake.is_set():
            started = time.monotonic()
            with self._lock:
                ticks = list(self._ticks)
                interval = min(self._ticks.values(), default=1.0)
            now = time.time()
            for tick in ticks:
                with self._busy:
                    if tick in self._ticks:
                        tick(now)
            spent = time.monotonic() - started
            # A tick that takes long (many workers, a busy host) slows the rate down
            # rather than taking over a core.
            wake.wait(max(interval - spent, spent))


#: The sampler of this process.
sampler = Sampler()
