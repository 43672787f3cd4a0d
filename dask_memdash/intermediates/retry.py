"""Bounded retries with jitter, and what an error of a store means.

A store that fails may be busy (try again), gone (say so after some tries) or refusing
(say so at once).  Whether an *object* is missing is another question, which its store
answers: see :mod:`dask_memdash.intermediates.fs_memory`.
"""

from __future__ import annotations

import errno
import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from dask_memdash.errors import StorageError, UnreachableError
from dask_memdash.text import plain

T = TypeVar("T")

#: Tries of one call, and the longest wait before the second, in seconds; it doubles
#: from try to try, and each wait is drawn from the whole range (full jitter).
TRIES = 5
FIRST_WAIT = 0.2

#: Seconds after which no more tries begin: clients' libraries try again on their own,
#: and a task that loads has one of the worker's threads meanwhile.
MOST_SECONDS = 10.0

#: What the store will answer however often it is asked.
REFUSED = {
    errno.ENOSPC: "it is full",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "it is read only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EFBIG: "the object is too large for it",
    errno.ENAMETOOLONG: "the name is too long for it",
}

#: Errors of clients' libraries that are no OSError; looked up only where loaded.
LIBRARIES = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "HTTPClientError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("aiohttp.client_exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
    ("requests.exceptions", "RequestException"),
    ("redis.exceptions", "RedisError"),
    ("fsspec.exceptions", "FSTimeoutError"),
)


def failures() -> tuple[type[Exception], ...]:
    """Return the errors by which stores say that a call failed."""
    found: list[type[Exception]] = [OSError, TimeoutError]
    for module, name in LIBRARIES:
        known = getattr(sys.modules.get(module), name, None)
        if isinstance(known, type):
            found.append(known)
    return tuple(found)


def with_retries(
    call: Callable[[], T],
    doing: str,
    *,
    tries: int = TRIES,
    first_wait: float = FIRST_WAIT,
    sleep: Callable[[float], None] = time.sleep,
    draw: Callable[[float, float], float] = random.uniform,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Call until it succeeds, a few times at most.

    FileNotFoundError and FileExistsError are answers, not failures: they pass through.

    Parameters
    ----------
    doing
        Begins the message: "s3://bucket/store cannot be read".

    Raises
    ------
    StorageError
        The store refuses; trying again would not help.
    UnreachableError
        Every try failed.
    """
    wait, begun = first_wait, clock()
    for tried in range(1, tries + 1):
        try:
            return call()
        except (FileNotFoundError, FileExistsError, StorageError):
            raise
        except failures() as error:
            number = getattr(error, "errno", None)
            if isinstance(error, PermissionError) or number in REFUSED:
                why = REFUSED.get(number or errno.EACCES, "permission denied")
                raise StorageError(f"{doing}: {why} ({_said(error)})") from error
            if tried == tries or clock() - begun >= MOST_SECONDS:
                times = "once" if tried == 1 else f"{tried} times"
                raise UnreachableError(
                    f"{doing}: {_said(error)}. It was tried {times}. Whether the "
                    "object is there is not known."
                ) from error
        sleep(draw(0, wait))
        wait *= 2
    raise AssertionError("at least one try")


def _said(error: BaseException) -> str:
    return plain(f"{type(error).__name__}: {error}", 300)
