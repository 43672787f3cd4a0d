"""What a stopped task leaves behind: its inputs, and all that it had made so far.

The host keeps the exception of a task that failed in the frame that caught it, and the
exception keeps its frames: a cycle, which only a collection of garbage lets go of.  Of
a stopped task that is as much as the worker has not got, so it is collected at once.

Runs on the worker's event loop.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

from dask_memdash.boundary import boundary

#: Seconds of rest for each second that a collection takes.
REST = 10.0


class Leftovers:
    """Collects garbage once stopped tasks are out of all frames."""

    def __init__(self) -> None:
        self._timer: Any = None
        self._not_before = 0.0
        self._collect = boundary.guarded(
            self._collect_now, "collecting what a stopped task left behind"
        )

    def collect_soon(self) -> None:
        """Collect when what runs in this moment has returned, and not too often."""
        if self._timer is None:
            delay = max(0.0, self._not_before - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._collect)

    def _collect_now(self) -> None:
        self._timer = None
        begin = time.monotonic()
        gc.collect()
        end = time.monotonic()
        self._not_before = end + REST * (end - begin)
