"""Jobs that a task gives to a pool of threads that was there before count for the task.

Covers ``concurrent.futures.ThreadPoolExecutor``: its `submit` is wrapped for as long as
the native tally is in, and so is all that goes through it: `map`, asyncio's
`run_in_executor` and `to_thread`, also from an event loop in a thread of its own that
the task has given a coroutine (Zarr's).  Whose a job is: ``native/pool_jobs.c``.

Dask's own pools are left out: what they do is a task of its own, or a transfer.
"""

from __future__ import annotations

import functools
from concurrent.futures import Future
from concurrent.futures.thread import ThreadPoolExecutor
from typing import Any

#: What the names of threads of pools begin with that Dask keeps for itself.
DASKS = ("Dask-", "DaskThreadPoolExecutor")


class PoolJobs:
    """The wrapper of `submit`, put in and taken out with the tally's hooks.

    Parameters
    ----------
    native
        The extension: gives `carry` and `apart`.
    """

    def __init__(self, native: Any) -> None:
        self._native = native
        # What was there before, and ours; None while ours is not in.
        self._former: Any = None
        self._submit: Any = None

    def put_in(self) -> None:
        """Wrap `submit`, unless it still is: whoever has wrapped ours calls it."""
        if self._submit is None:
            self._former = ThreadPoolExecutor.submit
            self._submit = _wrapper(self._former, self._native)
            ThreadPoolExecutor.submit = self._submit  # type: ignore[method-assign]

    def take_out(self) -> None:
        """Undo that.

        Whoever has wrapped ours keeps it: with the tally out it passes everything on.
        """
        if self._submit is not None and ThreadPoolExecutor.submit is self._submit:
            ThreadPoolExecutor.submit = self._former  # type: ignore[method-assign]
            self._former = self._submit = None


def _wrapper(former: Any, native: Any) -> Any:
    carry, apart = native.carry, native.apart

    @functools.wraps(former)
    def submit(
        self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        try:
            job = carry(fn)
            dasks = job is not fn and _of_dask(self)
        except Exception:  # noqa: BLE001 - a pool of the host's may be of any kind
            job, dasks = fn, False
        if dasks:
            return apart(former, self, fn, *args, **kwargs)  # type: ignore[no-any-return]
        return former(self, job, *args, **kwargs)  # type: ignore[no-any-return]

    return submit


def _of_dask(pool: ThreadPoolExecutor) -> bool:
    module = str(type(pool).__module__).partition(".")[0]
    name = getattr(pool, "_thread_name_prefix", "")
    return module == "distributed" or str(name).startswith(DASKS)
