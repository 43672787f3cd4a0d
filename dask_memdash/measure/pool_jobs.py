"""Jobs that a task gives to a pool of threads that was there before count for the task.

Covers ``concurrent.futures.ThreadPoolExecutor``: its `submit` is wrapped for as long as
the native tally is in, and so is all that goes through it: `map`, asyncio's
`run_in_executor` and `to_thread`, also from an event loop in a thread of its own that
the task has given a coroutine (Zarr's).  And ``multiprocessing.pool.ThreadPool``
(joblib's threads) with each of its ways to take jobs.  Whose a job is:
``native/pool_jobs.c``.

Dask's own pools are left out: what they do is a task of its own, or a transfer.  Of a
thread that takes work from a queue of the user's own nobody knows whom it works for:
see :mod:`dask_memdash.measure.high_marks`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.thread import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import Any

#: What the names of threads of pools begin with that Dask keeps for itself.
DASKS = ("Dask-", "DaskThreadPoolExecutor")

#: The methods of `ThreadPool` that take a function first; all others call one of them.
TAKES = ("apply_async", "_map_async", "imap", "imap_unordered")


class PoolJobs:
    """The wrappers, put in and taken out with the tally's hooks.

    Parameters
    ----------
    native
        The extension: gives `carry` and `apart`.
    """

    def __init__(self, native: Any) -> None:
        self._native = native
        # (class, name) → what the class had itself before (None: nothing), and ours.
        self._put: dict[tuple[type, str], tuple[Any, Any]] = {}

    def put_in(self) -> None:
        """Wrap them, unless they still are: whoever has wrapped ours calls it."""
        self._wrap(ThreadPoolExecutor, "submit", _submit)
        for name in TAKES:
            if hasattr(ThreadPool, name):
                self._wrap(ThreadPool, name, _take)

    def take_out(self) -> None:
        """Undo that.

        Whoever has wrapped one of ours keeps it: with the tally out it passes
        everything on.
        """
        for (owner, name), (former, ours) in list(self._put.items()):
            if vars(owner).get(name) is not ours:
                continue
            if former is None:
                delattr(owner, name)
            else:
                setattr(owner, name, former)
            del self._put[owner, name]

    def _wrap(self, owner: type, name: str, wrapper: Callable[[Any, Any], Any]) -> None:
        if (owner, name) not in self._put:
            ours = wrapper(getattr(owner, name), self._native)
            self._put[owner, name] = vars(owner).get(name), ours
            setattr(owner, name, ours)


def _submit(former: Any, native: Any) -> Any:
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


def _take(former: Any, native: Any) -> Any:
    carry = native.carry

    @functools.wraps(former)
    def take(*args: Any, **kwargs: Any) -> Any:
        if len(args) > 1:  # the pool and the function
            args = (args[0], carry(args[1]), *args[2:])
        elif "func" in kwargs:
            kwargs["func"] = carry(kwargs["func"])
        return former(*args, **kwargs)

    return take


def _of_dask(pool: ThreadPoolExecutor) -> bool:
    module = str(type(pool).__module__).partition(".")[0]
    name = getattr(pool, "_thread_name_prefix", "")
    return module == "distributed" or str(name).startswith(DASKS)
