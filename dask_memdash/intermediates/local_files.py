"""Objects as files of a directory that all workers see: ``file://``.

Covers: writing whole or not at all (a temporary name, then ``os.replace``; with `new`
a hard link, which never replaces), reading into a buffer that NumPy may write to,
listing, and what a write that was killed left behind.  Knows nothing of retries and of
which store this is; see :mod:`dask_memdash.intermediates.fs_memory`.

Missing files raise FileNotFoundError, other troubles an OSError with its number.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from distributed.protocol.utils import host_array

from dask_memdash.intermediates.memory import NAMES, Buffer, Entry

#: What the name of an unfinished file begins with; no object's name does.
UNFINISHED = ".unfinished-"

#: How an unfinished file is opened.
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

#: Buffers that one system call takes.
MOST_BUFFERS = 512

#: File systems without hard links answer so.
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class LocalFiles:
    """A directory; names with a folder lie one level below it."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def make_root(self) -> None:
        """Make the directory and those above it; for this user alone if it is new."""
        self.root.parent.mkdir(parents=True, exist_ok=True)
        self.root.mkdir(mode=0o700, exist_ok=True)

    def write(self, name: str, frames: Sequence[Buffer], new: bool) -> None:
        """Write a file whole; with `new`, FileExistsError if it is there."""
        target = f"{self.root}/{name}"
        folder = os.path.dirname(target)  # noqa: PTH120 - paths are a tenth of a write
        unfinished = f"{folder}/{UNFINISHED}{os.getpid()}-{uuid.uuid4().hex}"
        mode = stat.S_IMODE(self.root.stat().st_mode)
        try:
            descriptor = os.open(unfinished, NEW_FILE, mode & 0o666)
        except FileNotFoundError:
            # never the root itself: where it is gone, the store is gone
            _make_folder(folder, mode)
            descriptor = os.open(unfinished, NEW_FILE, mode & 0o666)
        try:
            try:
                os.fchmod(descriptor, mode & 0o666)
                _write_all(descriptor, frames)
                if name.startswith(NAMES):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                _link(unfinished, target)
            else:
                os.replace(unfinished, target)  # noqa: PTH105
                return
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise
        Path(unfinished).unlink(missing_ok=True)

    def read(self, name: str) -> Buffer:
        """Return a file's bytes in a buffer of the caller's own."""
        with (self.root / name).open("rb", buffering=0) as file:
            # not a bytearray, which is filled with zeros first
            view, read = host_array(os.fstat(file.fileno()).st_size), 0
            while read < len(view):
                got = file.readinto(view[read:])
                if not got:
                    # cut meanwhile: the reader's checks will say so
                    return view[:read]
                read += got
        return view

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return (self.root / name).is_file()

    def list(self, prefix: str) -> Iterator[Entry]:
        """Return the finished files whose names begin so."""
        folder, _, begin = prefix.rpartition("/")
        if folder:
            yield from self._in_folder(folder + "/", begin)
            return
        yield from self._in_folder("", begin)
        for sub in sorted(self.root.iterdir()):
            if sub.is_dir() and sub.name.startswith(begin):
                yield from self._in_folder(sub.name + "/", "")

    def _in_folder(self, folder: str, begin: str) -> Iterator[Entry]:
        with os.scandir(self.root / folder) as found:
            for file in found:
                if not file.name.startswith(begin) or file.name.startswith("."):
                    continue
                try:
                    status = file.stat()
                except FileNotFoundError:  # deleted meanwhile
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield Entry(folder + file.name, status.st_size, status.st_mtime)

    def delete(self, name: str) -> None:
        """Delete a file; FileNotFoundError if it is not there."""
        (self.root / name).unlink()

    def leftovers(self, before: float) -> Iterator[tuple[Path, int]]:
        """Return unfinished files last written before an instant, with their sizes."""
        for path in sorted(self.root.glob(f"*/{UNFINISHED}*")):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if status.st_mtime < before:
                yield path, status.st_size


def _make_folder(folder: str, mode: int) -> None:
    path = Path(folder)
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        return
    path.chmod(mode)


def _write_all(descriptor: int, frames: Sequence[Buffer]) -> None:
    views = [memoryview(frame) for frame in frames if len(frame)]
    while views:
        written = os.writev(descriptor, views[:MOST_BUFFERS])
        while views and written >= views[0].nbytes:
            written -= views.pop(0).nbytes
        if written:
            views[0] = views[0][written:]


def _link(unfinished: str, target: str) -> None:
    """Give a finished file its name, unless the name is taken."""
    try:
        os.link(unfinished, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # no hard links here: the name is made first, which is as exclusive
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.replace(unfinished, target)  # noqa: PTH105
