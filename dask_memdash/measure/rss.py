"""A process's resident set size, read again and again as cheaply as can be.

Covers the RSS alone; what else the kernel says of a process is
:mod:`dask_memdash.system.proc`'s.  Where there is no ``/proc``, psutil stands in.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import psutil

#: Reads an open ``statm`` and keeps the GIL, which a task's thread may have to wait
#: long for to get back; None without the extension.
_native_rss: Callable[[int], int | None] | None
try:
    from dask_memdash.measure._tally import rss as _native_rss
except ImportError:
    _native_rss = None

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
        self._process: psutil.Process | None = None
        try:
            self._fd = os.open(f"{root}/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
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

    def close(self) -> None:
        """Release the file; further reads give None."""
        fd, self._fd, self._process = self._fd, None, None
        if fd is not None:
            os.close(fd)
