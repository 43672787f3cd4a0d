"""Where flight recorders stand, what they are called, and whom they may belong to.

Covers names, directory, permissions and the sweep of what dead workers left; making
and writing a recorder is :mod:`dask_memdash.flight.writer`'s, opening one
:mod:`dask_memdash.flight.reader`'s.

A file stands outside the worker's own directory, which goes at its death, and belongs
to the user alone (0600 in a directory of 0700).  Its name says whose it is::

    <pid>-<start>-<namespace>-<nanny's pid>-<nanny's start>.flight

Starts are in clock ticks since boot, as a pid may be used again; the namespace is the
inode of the pid namespace in which these pids hold, since containers may share
``/dev/shm``.  A nanny can work out the name as soon as it knows its worker's pid.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import stat
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from dask_memdash.system.proc import pid_namespace, start_ticks

SUFFIX = ".flight"
MEMORY_NAME = "dask-memdash-flight"

#: How long one sweep may take, in seconds: it runs on a worker's event loop.
SWEEP_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a recorder is, as its name says; older names know the worker only."""

    pid: int
    #: Start of the process, in clock ticks since boot.
    start: int
    #: Inode of the pid namespace; None where the name does not say.
    namespace: int | None = None
    nanny: int | None = None
    nanny_start: int | None = None

    @property
    def name(self) -> str:
        """Name of the file."""
        numbers = (self.pid, self.start, self.namespace, self.nanny, self.nanny_start)
        return "-".join(str(n) for n in numbers if n is not None) + SUFFIX

    @classmethod
    def parse(cls, name: str) -> Owner | None:
        """Read a file's name; None where it is not that of a recorder."""
        stem = name.removesuffix(SUFFIX)
        parts = stem.split("-")
        digits = stem.isascii() and all(part.isdigit() for part in parts)
        if stem == name or not digits or len(parts) not in (2, 5):
            return None
        return cls(*map(int, parts))


def default_directory(base: str | None = None) -> Path:
    """Return the directory of this user's flight recorders, which may not exist yet."""
    if base is None:
        shm = Path("/dev/shm")
        base = str(shm) if os.access(shm, os.W_OK) else tempfile.gettempdir()
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(base) / f"dask-memdash-{user}"


def recorder_path(pid: int, nanny: int, base: str | None = None) -> Path | None:
    """Return where the recorder of a living process stands; None if it is gone.

    Parameters
    ----------
    pid
        The worker's process.
    nanny
        The nanny's process.
    """
    start = start_ticks(pid)
    if start is None:
        return None
    owner = Owner(pid, start, pid_namespace() or 0, nanny, start_ticks(nanny) or 0)
    return default_directory(base) / owner.name


def own_path(base: str | None = None) -> Path | None:
    """Return where this worker's own recorder is to stand; None if not to be known."""
    parent = multiprocessing.parent_process()
    nanny = parent.pid if parent is not None else None
    return recorder_path(os.getpid(), nanny or os.getppid(), base)


def paths_left_by(pid: int, nanny: int, base: str | None = None) -> list[Path]:
    """Return what a dead worker of a nanny left, newest first.

    For a worker whose start was not seen; its pid may have been another's before.
    """
    found = [
        (owner.start, path)
        for owner, path in _recorders(base)
        if owner.pid == pid
        and owner.nanny == nanny
        and owner.namespace == (pid_namespace() or 0)
    ]
    return [path for _, path in sorted(found, reverse=True)]


def memory_link(pid: int) -> str | None:
    """Return the link to a living process's recorder in anonymous memory, if any."""
    if not sys.platform.startswith("linux"):
        return None
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                if MEMORY_NAME in os.readlink(f"{folder}/{name}"):
                    return f"{folder}/{name}"
    return None


# -- permissions ---------------------------------------------------------------


def tighten(path: Path) -> str:
    """Close a directory of this user's to others, if it is open to them.

    Returns
    -------
    str
        What was done, for a person to read; empty where nothing had to be.
    """
    if not hasattr(os, "getuid"):
        return ""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except OSError:
        return ""  # what is wrong with it is said when it is checked
    try:
        found = os.fstat(fd)
        if found.st_uid != os.getuid() or not found.st_mode & 0o022:
            return ""
        os.fchmod(fd, 0o700)
    finally:
        os.close(fd)
    return (
        f"other users could write into {path} (mode {found.st_mode & 0o777:o}); it is "
        "this user's alone now (mode 700)"
    )


def check_directory(path: Path) -> None:
    """Refuse a directory in which somebody else could put or change files.

    Raises
    ------
    OSError
        It is a link, another user's, or open to others; or there is none.
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise PermissionError(f"{path} is a link")
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(f"{path} is not a directory")
    _check_owner(path, found)
    if found.st_mode & 0o022:
        raise PermissionError(f"{path} can be written by others")


def check_file(fd: int, path: Path, *, memory: bool = False) -> None:
    """Refuse an open file that is not a recorder of this user.

    Parameters
    ----------
    memory
        Whether it is anonymous memory, whose mode says nothing.

    Raises
    ------
    OSError
        It is no plain file, another user's, or open to others.
    """
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise PermissionError(f"{path} is not a plain file")
    _check_owner(path, found)
    if found.st_mode & 0o077 and not memory:
        raise PermissionError(f"{path} is open to others")


def _check_owner(path: Path, found: os.stat_result) -> None:
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to somebody else")


# -- removal -------------------------------------------------------------------


def remove(path: Path) -> None:
    """Remove a recorder's file, and the directory with the last of them."""
    with contextlib.suppress(OSError):
        path.unlink()
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def sweep(directory: str | None = None, watched: Collection[int] | None = None) -> int:
    """Remove recorders that nobody is going to read, for a while; return how many.

    Those are the recorders of dead workers whose nanny is gone too: a nanny that lives
    may be about to read one.  Recorders from another pid namespace are left alone,
    since from here nobody can tell who lives there.  What `SWEEP_SECONDS` do not
    suffice for is left to the next sweep.

    Parameters
    ----------
    watched
        In a nanny's process: its workers that are watched.  What its other dead
        workers left goes too.
    """
    deadline = time.monotonic() + SWEEP_SECONDS
    swept = 0
    for owner, path in _recorders(directory):
        if _is_left(owner, watched):
            remove(path)
            swept += 1
        if time.monotonic() > deadline:
            break
    return swept


def _is_left(owner: Owner, watched: Collection[int] | None) -> bool:
    if owner.namespace is not None and owner.namespace != (pid_namespace() or 0):
        return False
    if start_ticks(owner.pid) == owner.start:
        return False
    if owner.nanny is None or start_ticks(owner.nanny) != owner.nanny_start:
        return True
    mine = watched is not None and owner.nanny == os.getpid()
    return mine and watched is not None and owner.pid not in watched


def _recorders(directory: str | None) -> Iterator[tuple[Owner, Path]]:
    folder = default_directory(directory)
    try:
        with os.scandir(folder) as found:
            for entry in found:
                owner = Owner.parse(entry.name)
                if owner is not None:
                    yield owner, folder / entry.name
    except OSError:
        return
