"""Which error of a chain says that a worker's memory ran out.

An error that reaches a user is often another one's: raised from it, raised while it was
handled, or a group of several.  Libraries have classes and words of their own for
memory that ran out.  What an error asked for is read by
:mod:`dask_memdash.analysis.incidents.requests`.

Errors are made by users and libraries: nothing here raises.  Must stay light to import.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from dask_memdash.boundary import boundary

#: Name of the attribute by which a task's error says whose it is: a tuple of the text
#: of the task's key and its worker's address.
TASK_MARK = "memdash_task"

#: Characters of an error that is told.
MAX_TOLD = 500

#: Errors looked at in one chain.
MAX_CHAIN = 100

#: Characters looked at of an error's text.
MAX_TEXT = 5_000

#: What the text of an error of any class says when memory ran out.
WORDS = (
    *("cannot allocate", "can't allocate", "could not allocate", "unable to allocate"),
    *("failed to allocate", "out of memory", "bad_alloc", "memory allocation"),
    *("array is too big", "maximum allowed dimension exceeded"),
    *("maximum allowed size exceeded", "malloc of size", "realloc of size"),
)

#: Words of errors about a graphics card's memory, and libraries that have no other.
GPU_WORDS = ("cuda", "hip out of memory", "xpu out of memory", "mps backend")
GPU_LIBRARIES = frozenset({"cupy", "cupy_backends", "rmm", "cudf"})


def chain(error: BaseException) -> Iterator[BaseException]:
    """Return an error and what caused it, or is grouped in it, nearest first."""
    todo, seen = [error], set[int]()
    while todo and len(seen) < MAX_CHAIN:
        one = todo.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        todo += [e for e in (one.__cause__, one.__context__) if e is not None]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


def memory_error_in(error: BaseException) -> BaseException | None:
    """Return the error that says that memory ran out, out of a chain; None without.

    One whose class says so goes before one whose words do.
    """
    errors = list(chain(error))
    named = (one for one in errors if is_named_so(one))
    worded = (one for one in errors if _says_so(one))
    return next(named, None) or next(worded, None)


def is_named_so(error: BaseException) -> bool:
    """Whether an error's class says that a worker's memory ran out.

    Also for classes of libraries that are not installed here.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    names = (cls.__name__ for cls in type(error).__mro__)
    return any(name.endswith("MemoryError") for name in names) and not is_of_gpu(error)


def is_of_gpu(error: BaseException) -> bool:
    """Whether an error is about the memory of a graphics card."""
    library = type(error).__module__.partition(".")[0]
    return library in GPU_LIBRARIES or any(w in _text(error) for w in GPU_WORDS)


def told(error: BaseException) -> str:
    """Return an error as one line, as an incident keeps it: "MemoryError: …"."""
    text = f"{type(error).__name__}: {_printed(error)}"
    return " ".join(text[: 2 * MAX_TOLD].split())[:MAX_TOLD].removesuffix(":")


def _says_so(error: BaseException) -> bool:
    text = _text(error)
    return any(word in text for word in WORDS) and not is_of_gpu(error)


def _text(error: BaseException) -> str:
    return str(_printed(error))[:MAX_TEXT].lower()


# An error is made by the user, and so is what happens when it is printed.
_printed = boundary.guarded(str, "printing an error", "")
