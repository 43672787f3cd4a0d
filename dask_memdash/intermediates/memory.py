"""What a store of intermediates must offer: the protocol :class:`Memory`.

A memory keeps objects, which are sequences of bytes under short names such as
``objects/3f2a…`` or ``names/regridded``.  It knows nothing of Dask, keys or manifests:
those stand in :mod:`dask_memdash.intermediates.object_format` and
:mod:`dask_memdash.intermediates.manifest`.  Anything with these five methods can be
plugged in; ``tests/unit/memory_suite.py`` is what it has to pass.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dask_memdash.errors import StorageError

#: What frames may be; all of one byte per item when cast.
Buffer = bytes | bytearray | memoryview

#: Where the three kinds of objects are: values, finished sets, sets under way.
OBJECTS = "objects/"
NAMES = "names/"
DRAFTS = "drafts/"

#: A name that a memory must accept: no path leads out of the store.
OBJECT_NAME = re.compile(r"(?:[a-z]+/)?[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored object, as a listing shows it."""

    name: str
    #: In bytes.
    size: int
    #: Unix time of the last write, in seconds; None where the store does not say.
    modified: float | None


@runtime_checkable
class Memory(Protocol):
    """A store that all workers share.  Every method may be called from any thread.

    Every method raises :class:`~dask_memdash.errors.UnreachableError` if the store
    does not answer, which says nothing about whether an object is there.
    """

    def put(self, name: str, frames: Sequence[Buffer], new: bool = False) -> None:
        """Store frames, one after the other, under a name: all of them or nothing.

        Raises
        ------
        NameTakenError
            With `new`, there is such an object already; it stays as it is.
        StorageError
            The store refuses to write (full, read only, no permission).
        """

    def get(self, name: str) -> Buffer:
        """Return all bytes of an object; a buffer of the caller's own.

        Raises
        ------
        MissingError
            The store answers, and has no such object.
        """

    def exists(self, name: str) -> bool:
        """Return whether there is such an object."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Return all objects whose names begin so, in any order."""

    def delete(self, name: str) -> None:
        """Delete an object; it is no error if it is not there."""


def check_object_name(name: str) -> None:
    """Raise StorageError for a name that might lead out of the store."""
    if not OBJECT_NAME.fullmatch(name):
        raise StorageError(
            f"{name[:120]!r} is no name of a stored object: letters, digits, dots, "
            "underscores and dashes, at most 100, in a folder or in none"
        )


def address_of(memory: Memory) -> str:
    """Return how a memory is called in messages; it holds no password."""
    return str(getattr(memory, "address", None) or type(memory).__name__)


def key_text(key: object) -> str:
    """Return the text that stands for a Dask key, the same in every session.

    Numbers of NumPy's are written as Python's own: they are equal as keys.
    """
    return repr(_plain_key(key))


def _plain_key(key: object) -> object:
    if isinstance(key, tuple):
        return tuple(map(_plain_key, key))
    if isinstance(key, str):
        return str(key)
    if hasattr(key, "dtype") and hasattr(key, "item"):
        return key.item()
    return key


def object_id(key: object, edition: str = "") -> str:
    """Return the name of a key's object, without its folder.

    Parameters
    ----------
    edition
        What beside the key decides about the value, as
        :func:`dask_memdash.intermediates.code_versions.edition` makes it: the source of
        the user's own functions, and the user's version.  Empty for neither.
    """
    digest = hashlib.sha256(key_text(key).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:40] + (f"-{edition}" if edition else "")
