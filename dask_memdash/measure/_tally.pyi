"""The native half of the tally; see :mod:`dask_memdash.measure.tally`."""

from typing import Literal, TypedDict

class Mapping:
    """A piece of memory that slots are in; opaque, does not exist at run time."""

class Hooks(TypedDict):
    """The state of each hook."""

    #: ``wrapped``: somebody else's is called first and passes on to ours.
    raw: Literal["none", "ours", "wrapped", "lost"]
    arenas: Literal["none", "ours", "lost"]
    #: Ours where every object is allocated by itself (``PYTHONMALLOC=malloc``).
    objects: Literal["none", "ours"]
    #: ``raw``: no hook is needed, as NumPy's own handler uses the raw domain (2.5).
    numpy: Literal["not loaded", "chained", "raw", "unusable"]

def map_slots(fd: int, size: int, /) -> tuple[Mapping, memoryview]:
    """Map a file, or anonymous memory where `fd` is -1, for good; size in bytes.

    Raises
    ------
    ValueError
        The file is shorter than `size`.
    OSError
        The system refuses.
    """

def begin(mapping: Mapping, offset: int, /) -> bool:
    """Count this thread into the slot at `offset` from now on, starting at 0.

    False, and nothing counts, in a forked child and while not installed.

    Raises
    ------
    ValueError
        `offset` is outside of the mapping or no multiple of 8.
    """

def end() -> int:
    """End the last `begin` of this thread; give a sum of ``tally.MISSED_…``."""

def arenas() -> int:
    """Give by how many bytes arenas have grown since they were hooked."""

def rss(fd: int, /) -> int | None:
    """Read an open ``/proc/<pid>/statm`` without letting the GIL go; RSS in bytes."""

def install() -> str | None:
    """Set the hooks that are not set, or not any more; give why that cannot be."""

def uninstall() -> bool:
    """Take the hooks out that nobody has wrapped; give whether none is left."""

def hooks() -> Hooks:
    """Give the state of the hooks."""

def use_lines(table: object, /) -> None:
    """Have the lines of large blocks known from now on, or no more where it is None."""
