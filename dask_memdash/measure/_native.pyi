"""The native half of :mod:`.native_tally`; see ``native/native.h``."""

from collections.abc import Callable
from typing import TypedDict

from dask_memdash.measure._tally import Mapping

#: Of small blocks one is noted for so many bytes that a task allocates.
SAMPLED: int

class State(TypedDict):
    """What is hooked now."""

    #: Whether what Python allocates reaches a wrapper.
    python: bool
    #: Slots of loaded objects that were pointed at wrappers.
    slots: int
    #: Whether arenas of small objects are seen.
    arenas: bool
    #: Whether each small object is allocated by itself (``PYTHONMALLOC=malloc``).
    objects: bool
    #: Whether Arrow's default pool is seen.
    arrow: bool
    #: Path of the library that the malloc family comes from; empty before an install.
    allocator: str
    #: Large blocks that tasks which run own now.
    blocks: int

def map_slots(fd: int, size: int, /) -> tuple[Mapping, memoryview]:
    """Map a file, or anonymous memory where `fd` is -1, for good; size in bytes.

    Raises
    ------
    ValueError
        The file is shorter than `size`.
    OSError
        The system refuses.
    """

def begin(mapping: Mapping, offset: int, by_objects: bool = False, /) -> bool:
    """Count this thread into the slot at `offset` from now on, starting at 0.

    Small objects one by one if `by_objects`, and this interpreter's can be: `end` says
    whether they were.  They also are while another task asks for it.

    False, and nothing counts, in a forked child and while not installed.

    Raises
    ------
    ValueError
        `offset` is outside of the mapping or no multiple of 8.
    """

def end() -> int:
    """End the last `begin` of this thread; return a sum of ``tally.MISSED_…``."""

def install(on_arrow: Callable[[], bool] | None, /) -> str | None:
    """Set the wrappers that are not set, or not any more; return why that cannot be.

    `on_arrow` is called in a task's thread when libarrow has come, at the task's begin
    or end, until it returns true.
    """

def uninstall() -> bool:
    """Take all wrappers out; return whether none is left."""

def look(whole: bool, /) -> int:
    """Look at objects that have come since the last look, or at the `whole` process.

    Return how many slots were hooked; -1 if another thread is looking.
    """

def attach_arrow(path: str, pool: bool, /) -> str | None:
    """Count what Arrow's pool gives and its threads do for tasks; or say why not.

    The threads alone if not `pool`.
    """

def mapped_by_allocators() -> int:
    """Return what allocators of their own that libraries have mapped so far, in bytes.

    Without files, from a place in code that maps again and again, or more than a buffer
    takes.  0 if there is none.  Python's arenas and Arrow's pool, if it is counted, are
    none.
    """

def objects() -> tuple[int, int]:
    """Return what this thread's last task by objects had of small ones at most.

    In bytes: counted one by one, and as new arenas say.
    """

def doubt() -> int:
    """Return by how much the last peak in this thread may be too high, in bytes."""

def short_by() -> int:
    """Return by how much it may be too low, in bytes: looks were left out or late."""

def others() -> int:
    """Return what this thread's last task freed of others', or may have, in bytes."""

def leave_looks_out(yes: bool) -> None:
    """For tests: leave looks out as where they cost too much."""

def files_mapped() -> int:
    """Return the bytes of files that were mapped while hooks were in."""

def carry(function: Callable[..., object], /) -> Callable[..., object]:
    """Return a function that counts for the task that this thread or context works for.

    The function itself where that is no task, or one that has ended.
    """

def apart(
    function: Callable[..., object], /, *args: object, **kwargs: object
) -> object:
    """Call a function as if no task ran here: threads that it starts are nobody's."""

def brake_set(line: int, /) -> bool:
    """Refuse allocations that would take the process beyond that RSS, in bytes.

    Return whether that can be; 0: refuse none from now on.
    """

def brake_begin(may: bool, /) -> bool:
    """Say whether this thread's task, which has begun, may be refused some."""

def brake_end() -> tuple[int, int, int, int]:
    """End that; return how many were refused, and of the first three sizes in bytes.

    What was asked for, the RSS, and what the task held.
    """

def arenas() -> int:
    """Return by how many bytes arenas have grown since they were hooked."""

def state() -> State:
    """Return what is hooked now."""

def use_lines(table: object, /) -> None:
    """Have the lines of large blocks known from now on, or no more where it is None."""
