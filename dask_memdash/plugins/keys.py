"""Keys of tasks and names of prefixes as they travel: text of bounded length.

A key is made by the user, and so is what happens when it is printed or split: nothing
here raises.
"""

from __future__ import annotations

from dask.utils import key_split

from dask_memdash.boundary import boundary
from dask_memdash.text import KEY_KEPT


def key_text(key: object) -> str:
    """Return a key as Dask prints it; never raises, whatever the key is made of."""
    return key if isinstance(key, str) else str(_printed(key))


def prefix_of(key: object) -> str:
    """Return the name of a key's task prefix; never raises."""
    if type(key) is str:  # the usual case, in which nothing can go wrong
        prefix: str = key_split(key)
        return prefix[:KEY_KEPT]
    return str(_split(key))[:KEY_KEPT]


# A key is made by the user, and so is what happens when it is printed.
_printed = boundary.guarded(str, "printing a key", "<a key that cannot be printed>")
_split = boundary.guarded(key_split, "splitting a key", "Other")
