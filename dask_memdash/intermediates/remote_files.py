"""Objects in whatever fsspec reaches: ``s3://``, ``gs://``, ``abfs://``, ``memory://``.

Covers: one call that writes a whole object where the store is atomic, a temporary name
and a move where it is not; conditional writes where the store has them; listings that
are never cached.  Retries and the question which store this is stand in
:mod:`dask_memdash.intermediates.fs_memory`.

Missing objects raise FileNotFoundError; what else goes wrong is the backend's error.
"""

from __future__ import annotations

import datetime
import inspect
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from dask_memdash.intermediates.memory import Buffer, Entry

#: Protocols whose stores show an object whole or not at all.
ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"}

#: Stores that can refuse to replace an object themselves (fsspec's mode "create").
CONDITIONAL = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}

#: Where an object says when it was written; backends differ.
WRITTEN = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")

#: Only one thread of a process at a time asks "is it there?" and then writes.
_EMULATED = threading.Lock()


class RemoteFiles:
    """A folder of an fsspec file system."""

    def __init__(self, fs: Any, root: str) -> None:
        self.fs = fs
        self.root = root.rstrip("/")
        kinds = fs.protocol if isinstance(fs.protocol, tuple | list) else (fs.protocol,)
        self.kinds = set(kinds)

    def make_root(self) -> None:
        """Make the folder where the store has any; a bucket must be there already."""
        if not self.kinds & CONDITIONAL:
            self.fs.makedirs(self.root, exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def write(self, name: str, frames: Sequence[Buffer], new: bool) -> None:
        """Write an object whole; with `new`, FileExistsError if it is there."""
        content = b"".join(frames)
        path = self._path(name)
        if not self.kinds & ATOMIC:
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        if not new:
            self._write_whole(path, content)
        elif self.kinds & CONDITIONAL and self._knows_create():
            self.fs.pipe_file(path, content, mode="create")
        else:
            with _EMULATED:
                if self.fs.exists(path):
                    raise FileExistsError(path)
                self._write_whole(path, content)
            if bytes(self.fs.cat_file(path)) != content:
                # another process was faster, or slower: theirs is what is there
                raise FileExistsError(path)

    def _knows_create(self) -> bool:
        method = getattr(self.fs, "_pipe_file", self.fs.pipe_file)
        return "mode" in inspect.signature(method).parameters

    def _write_whole(self, path: str, content: bytes) -> None:
        if self.kinds & ATOMIC:
            self.fs.pipe_file(path, content)
            return
        unfinished = f"{path.rpartition('/')[0]}/.unfinished-{uuid.uuid4().hex}"
        self.fs.pipe_file(unfinished, content)
        self.fs.mv(unfinished, path)

    def read(self, name: str) -> Buffer:
        """Return an object's bytes."""
        content: bytes = self.fs.cat_file(self._path(name))
        return content

    def exists(self, name: str) -> bool:
        """Return whether there is such an object; other troubles are raised."""
        try:
            self.fs.info(self._path(name), refresh=True)
        except FileNotFoundError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[Entry]:
        """Return the objects whose names begin so."""
        self.fs.invalidate_cache()
        folder = prefix.rpartition("/")[0]
        last = self.root.rpartition("/")[2]
        found = self.fs.find(self._path(folder).rstrip("/"), detail=True)
        for path, info in found.items():
            # backends differ in what precedes; the end of the path is the same
            _, inside, name = path.rpartition(f"{last}/{folder}")
            name = (folder + name).lstrip("/") if inside else ""
            if name.startswith(prefix) and "/." not in f"/{name}":
                yield Entry(name, int(info.get("size") or 0), _written(info))

    def delete(self, name: str) -> None:
        """Delete an object; FileNotFoundError if it is not there, where one is told."""
        self.fs.rm_file(self._path(name))


def _written(info: dict[str, Any]) -> float | None:
    """Return the Unix time of an object's last write, in seconds, if it is told."""
    for field in WRITTEN:
        value = info.get(field)
        if isinstance(value, str):
            try:
                value = datetime.datetime.fromisoformat(value)
            except ValueError:
                continue
        if isinstance(value, datetime.datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
            return aware.timestamp()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None
