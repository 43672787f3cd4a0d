"""``FSMemory``: a memory on any file system or object store that fsspec reaches.

Says whether an object is *missing* or its store is *unreachable*: each store holds a
small object, ``memdash-store``, with an id of its own.  Where that is gone, the store
is gone (a mount that was lost, a folder that was renamed, another machine's disk), and
nothing is known about any object.  An address that was sent to a worker carries the id
and never makes a store there: a worker that does not share the store says so instead of
filling a folder of its own.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dask_memdash.errors import (
    MissingError,
    NameTakenError,
    StorageError,
    UnreachableError,
)
from dask_memdash.intermediates.local_files import LocalFiles
from dask_memdash.intermediates.memory import (
    Buffer,
    Entry,
    check_object_name,
)
from dask_memdash.intermediates.remote_files import RemoteFiles
from dask_memdash.intermediates.retry import with_retries
from dask_memdash.intermediates.settings import lifetime, ram_share, version_text
from dask_memdash.redact import without_secrets

T = TypeVar("T")

#: Name of the object that says which store this is.
MARKER = "memdash-store"

#: Packages that fsspec needs for a protocol, where their name differs from it.
PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "adl": "adlfs",
    "oss": "ossfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "smb": "smbprotocol",
    "hdfs": "pyarrow",
    "http": "aiohttp",
    "https": "aiohttp",
}


#: Addresses and ids of the stores that this process has seen.
_SEEN: set[tuple[str, str | None]] = set()


class FSMemory:
    """A store of intermediates at an fsspec address that client and workers share.

    Parameters
    ----------
    url
        Such as ``/scratch/me/store``, ``file:///…``, ``s3://bucket/folder`` or
        ``gs://…``.  A folder of its own: everything in it belongs to the store.
        ``memory://`` is one process's: for ``LocalCluster(processes=False)``.
    storage_options
        For fsspec's file system: credentials, endpoint.  They travel to the workers in
        the graph.  Keys that lie in each worker's environment need not be given.
    ram
        Share of each worker's memory ("25%", 0.25) or size ("2 GiB") in which a storage
        for the whole cluster keeps stored chunks.  Pinned collections keep none there,
        and do not read it.
    ttl
        Age ("7d") from which ``dask memdash storage gc`` deletes objects that belong to
        no name; None: it asks.
    version
        Of your own code or data.  What was stored with another version is not used.
    create
        Whether the first ``put`` may make the store.

    Raises
    ------
    StorageError
        A package is missing (the message names it), or an argument makes no sense.
    """

    #: Whether what is stored outlives workers, and may be loaded in place of computing.
    outlives_workers = True

    def __init__(
        self,
        url: str | os.PathLike[str],
        storage_options: Mapping[str, Any] | None = None,
        ram: str | float | None = None,
        ttl: str | float | None = "7d",
        version: str | None = None,
        *,
        create: bool = True,
    ) -> None:
        self.url = _whole_url(os.fspath(url))
        self.storage_options = dict(storage_options or {})
        self.ram = ram_share(ram)
        self.ttl = lifetime(ttl)
        self.version = version_text(version)
        self.store_id: str | None = None
        self._may_create = create
        self._opened: LocalFiles | RemoteFiles | None = None
        self._files  # noqa: B018 - a missing package is told now

    @property
    def address(self) -> str:
        """The address without user and password, for messages."""
        return without_secrets(self.url)

    def __repr__(self) -> str:
        version = f", version={self.version!r}" if self.version else ""
        return f"FSMemory({self.address!r}{version})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FSMemory) and other._same == self._same

    def __hash__(self) -> int:
        return hash(self._same)

    @property
    def _same(self) -> tuple[str, str | None]:
        return self.url, self.version

    def __dask_tokenize__(self) -> tuple[str, ...]:
        return ("dask_memdash.FSMemory", self.url, self.version or "")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "_may_create": False}

    # -- the store itself ------------------------------------------------------

    @property
    def _files(self) -> LocalFiles | RemoteFiles:
        """The backend, which each process opens once."""
        if self._opened is None:
            self._opened = _open_files(self.url, self.storage_options)
        return self._opened

    @property
    def local_root(self) -> Path | None:
        """The store's directory, where it is one of this machine's."""
        return self._files.root if isinstance(self._files, LocalFiles) else None

    def create(self) -> None:
        """Make the store unless it is there, and remember which one it is."""
        marker = {"format": 1, "id": uuid.uuid4().hex, "made": time.time()}
        content = json.dumps(marker).encode()

        def make() -> None:
            self._files.make_root()
            try:
                self._files.write(MARKER, [content], True)
            except FileExistsError:
                return

        try:
            with_retries(make, f"{self.address} cannot be written")
        except FileNotFoundError as error:
            raise UnreachableError(
                f"{self.address} cannot be made: {error}. Make the bucket first."
            ) from error
        self._check_marker()

    def _check_marker(self) -> None:
        """Raise UnreachableError unless the store is there, and is the right one."""
        try:
            content = with_retries(
                lambda: self._files.read(MARKER), f"{self.address} cannot be read"
            )
            found = str(json.loads(bytes(content))["id"])
        except (FileNotFoundError, NotADirectoryError):
            raise UnreachableError(
                f"there is no store at {self.address} as {socket.gethostname()} sees "
                f"it: {self._why_not_there()}"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise StorageError(
                f"{MARKER} in {self.address} cannot be read: it is damaged, or no "
                "store of MemDash's"
            ) from None
        if self.store_id is not None and found != self.store_id:
            raise UnreachableError(
                f"{socket.gethostname()} sees another store at {self.address} than the "
                "client does. Choose an address that all workers share."
            )
        self.store_id = found
        _SEEN.add((self.url, found))

    def _why_not_there(self) -> str:
        if self.url.startswith("memory://"):
            return (
                "memory:// belongs to one process. Start workers in it or use file://."
            )
        if self.local_root is not None:
            return (
                "the directory was moved, is not mounted, or belongs to another "
                "machine. All workers and the client must share it."
            )
        return "nothing was stored there, or it was deleted."

    def _ask(self, doing: str, name: str, call: Callable[[], T]) -> T:
        """Call the backend; say which of the two it is that is not there."""
        check_object_name(name)
        try:
            return with_retries(call, f"{self.address} cannot be {doing}")
        except FileNotFoundError:
            self._check_marker()
            raise MissingError(
                f"{name} is not in {self.address}. It was deleted, or never stored. "
                "Persist the collection again: only what is not stored is computed."
            ) from None

    # -- the five methods ------------------------------------------------------

    def put(self, name: str, frames: Sequence[Buffer], new: bool = False) -> None:
        """Store frames under a name, all or nothing; see :class:`~.memory.Memory`."""
        if self._may_create and self.store_id is None:
            self.create()
        elif (self.url, self.store_id) not in _SEEN:
            # a bucket, or a directory of this machine's, takes objects whether or not
            # it is the right store: each process looks once
            self._check_marker()
        try:
            self._ask("written", name, lambda: self._files.write(name, frames, new))
        except FileExistsError:
            raise NameTakenError(f"{name} is in {self.address} already") from None

    def get(self, name: str) -> Buffer:
        """Return an object's bytes; see :class:`~.memory.Memory`."""
        return self._ask("read", name, lambda: self._files.read(name))

    def exists(self, name: str) -> bool:
        """Return whether there is such an object; see :class:`~.memory.Memory`."""
        if self._ask("read", name, lambda: self._files.exists(name)):
            return True
        self._check_marker()
        return False

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Return the objects whose names begin so; see :class:`~.memory.Memory`."""

        def look() -> list[Entry]:
            return [e for e in self._files.list(prefix) if e.name != MARKER]

        try:
            found = with_retries(look, f"{self.address} cannot be listed")
        except FileNotFoundError:
            found = []
        if not found:
            self._check_marker()
        return iter(found)

    def delete(self, name: str) -> None:
        """Delete an object if it is there; see :class:`~.memory.Memory`."""
        try:
            self._ask("written", name, lambda: self._files.delete(name))
        except MissingError:
            return

    def check(self) -> None:
        """Look whether the store answers, and is the right one: one small read.

        Raises
        ------
        UnreachableError
            It is not, or cannot be read.
        """
        self._check_marker()

    def leftovers(self, before: float) -> Iterator[tuple[Path, int]]:
        """Return files of writes that were killed before an instant, with sizes."""
        files = self._files
        return files.leftovers(before) if isinstance(files, LocalFiles) else iter(())


def _whole_url(url: str) -> str:
    """Return an address that means the same in every process."""
    if not url.strip():
        raise StorageError("a store needs an address, such as /scratch/me/store")
    path = url.removeprefix("file://").removeprefix("local://")
    if "://" in path:
        return url.rstrip("/")
    whole = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111
    return f"file://{whole}"


def _open_files(url: str, options: Mapping[str, Any]) -> LocalFiles | RemoteFiles:
    if url.startswith("file://"):
        if options:
            raise StorageError(f"{url} takes no storage_options")
        return LocalFiles(url.removeprefix("file://"))
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0].rpartition("::")[2]
    try:
        fs, root = url_to_fs(url, **{**options, "use_listings_cache": False})
    except ImportError as error:
        package = PACKAGES.get(protocol, protocol)
        raise StorageError(
            f"{protocol}:// needs the package {package}, which {socket.gethostname()} "
            f"does not have ({error}). Install it for client and workers: "
            f"pip install {package}"
        ) from error
    except (ValueError, TypeError) as error:
        address = without_secrets(url)
        raise StorageError(f"{address} is no address of a store: {error}") from error
    return RemoteFiles(fs, root)
