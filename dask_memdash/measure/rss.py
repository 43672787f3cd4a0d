"""A process's resident set size, read again and again as cheaply as can be.

Covers the RSS and its parts; what else the kernel says of a process is
:mod:`dask_memdash.system.proc`'s.  Where there is no ``/proc``, psutil stands in.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Callable

import psutil

from dask_memdash.flight.open_file import OpenFile, keeping_pread
from dask_memdash.system.proc import RssParts, rss_parts_in

#: Reads an open ``statm`` and keeps the GIL, which a task's thread may have to wait
#: long for to get back; None without the extension.
_native_rss: Callable[[int], int | None] | None
try:
    from dask_memdash.measure._tally import rss as _native_rss
except ImportError:
    _native_rss = None

_pread = keeping_pread()

#: Bytes of a process's ``status`` that are read: all of it.
STATUS = 4096

#: For how long what is known of shared memory serves, in seconds, and change of what is
#: of files or shared, in bytes, that it does not serve for.
SHMEM_SERVES = 2.0
MUCH = 2**24

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class RssReader:
    """Reads one process's resident set size, in bytes, again and again.

    Keeps ``/proc/<pid>/statm`` open: a reading costs one system call, and a pid
    that was given to another process is never read by mistake.  May be used from
    any thread.
    """

    def __init__(self, pid: int, root: str = "/proc") -> None:
        self.pid = pid
        self._fd: int | None = None
        self._status: OpenFile | None = None
        # What was of files or shared when shared memory was asked for, that, and when.
        self._shared = self._shmem = 0
        self._asked = -SHMEM_SERVES
        self._process: psutil.Process | None = None
        try:
            self._fd = os.open(f"{root}/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
            status = os.open(f"{root}/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
            self._status = OpenFile(status)
        except OSError:
            with contextlib.suppress(psutil.Error):
                self._process = psutil.Process(pid)

    def read(self) -> int | None:
        """Read the RSS in bytes; None once the process is gone."""
        fd = self._fd
        if fd is not None:
            if _native_rss is not None:
                return _native_rss(fd)
            try:
                return int(os.pread(fd, 128, 0).split()[1]) * PAGE or None
            except (OSError, ValueError, IndexError):
                return None
        if self._process is not None:
            try:
                return int(self._process.memory_info().rss)
            except psutil.Error:
                return None
        return None

    def parts(self) -> RssParts | None:
        """Read what the RSS is made of; None where the kernel does not say, or is gone.

        What of it is shared memory costs more to ask than the rest: that is known from
        a moment ago, or asked where what is backed by files or shared has moved much.
        """
        both = self._resident_and_shared()
        if both is None:
            return None
        resident, shared = both
        now = time.monotonic()
        if now >= self._asked + SHMEM_SERVES or abs(shared - self._shared) > MUCH:
            exact = self._exact_parts()
            if exact is None:
                return None
            self._asked, self._shared, self._shmem = now, shared, exact.shmem
            return exact
        shmem = min(self._shmem, shared)
        return RssParts(resident - shared, shared - shmem, shmem)

    def _resident_and_shared(self) -> tuple[int, int] | None:
        """Read ``statm``: the RSS, and what of it is of files or shared, in bytes."""
        fd = self._fd
        if fd is None:
            return None
        try:
            if _pread is None:
                text = os.pread(fd, 127, 0)
            else:
                room = ctypes.create_string_buffer(128)
                size = _pread(fd, room, 127, 0)
                text = room.raw[: max(0, size)]
            words = text.split(None, 3)
            resident, shared = int(words[1]) * PAGE, int(words[2]) * PAGE
        except (OSError, ValueError, IndexError):
            return None
        return (resident, min(shared, resident)) if resident else None

    def _exact_parts(self) -> RssParts | None:
        status = self._status
        return None if status is None else rss_parts_in(status.copy(STATUS).tobytes())

    def close(self) -> None:
        """Release the files; further reads give None."""
        if self._status is not None:
            self._status.close()
        fd, self._fd, self._process = self._fd, None, None
        if fd is not None:
            os.close(fd)
