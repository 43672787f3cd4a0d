"""Readings from the kernel, one small function for each.

Covers a process's RSS, its high-water mark and start time, the allocator's free bytes
and the kernel's count of OOM kills.  Each works on a fake tree (``root``) in tests,
and says ``None`` for what it cannot read; none of them raises.  Where there is no
``/proc``, psutil stands in for the RSS.
"""

from __future__ import annotations

import ctypes
import os
import threading
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psutil


class RssParts(NamedTuple):
    """A process's resident memory by what stands behind it; sizes in bytes."""

    #: Backed by nothing: heap, stacks, what a program allocates.
    anon: int
    #: Pages of files: libraries, memory maps.  The kernel drops them when it needs
    #: memory, and reads them again.
    file: int
    #: Shared memory (``/dev/shm``, tmpfs), which can only be swapped.
    shmem: int


def rss_parts_in(status: bytes) -> RssParts | None:
    """Read the parts of the RSS from the text of a ``/proc/<pid>/status``.

    None where the kernel does not tell them apart (before 4.5), or the process is gone.
    """
    start = status.find(b"RssAnon:")
    if start < 0:
        return None
    words = status[start : start + 160].split(None, 8)
    try:
        anon, file, shmem = int(words[1]), int(words[4]), int(words[7])
    except (ValueError, IndexError):
        return None
    return RssParts(anon * 1024, file * 1024, shmem * 1024)


class HighWater:
    """The most that this process's RSS has been since a moment of one's choice.

    Writing ``5`` to ``/proc/self/clear_refs`` sets the kernel's high-water mark back
    to the RSS; ``VmHWM`` of ``/proc/self/status`` gives it (both: proc(5)).  Setting it
    back shows in the process's ``ru_maxrss`` too.  May be used from any thread.
    """

    def __init__(self, root: str = "/proc") -> None:
        self._files: tuple[int, int] | None = None
        # A number that is closed may be somebody else's file a moment later.
        self._lock = threading.Lock()
        clear = status = -1
        try:
            clear = os.open(f"{root}/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
            status = os.open(f"{root}/self/status", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            if clear >= 0:
                os.close(clear)
            return
        self._files = clear, status
        if not self.reset() or self.read() is None:
            self.close()

    @property
    def available(self) -> bool:
        """Whether this kernel and container allow it."""
        return self._files is not None

    def reset(self) -> bool:
        """Set the mark back to the RSS of now; False where that is not allowed."""
        with self._lock:
            if self._files is None:
                return False
            try:
                return os.write(self._files[0], b"5") == 1
            except OSError:
                return False

    def parts(self) -> RssParts | None:
        """Read the parts of the RSS as they are now; None where they cannot be read."""
        return rss_parts_in(self._status())

    def _status(self) -> bytes:
        with self._lock:
            if self._files is None:
                return b""
            try:
                return os.pread(self._files[1], 4096, 0)
            except OSError:
                return b""

    def read(self) -> int | None:
        """Read the mark, in bytes; None where it cannot be read."""
        _, found, rest = self._status().partition(b"VmHWM:")
        try:
            return int(rest.split(None, 1)[0]) * 1024 if found else None
        except (ValueError, IndexError):
            return None

    def close(self) -> None:
        """Release the files; not available any more."""
        with self._lock:
            files, self._files = self._files, None
            for fd in files or ():
                os.close(fd)


def start_ticks(pid: int, root: str = "/proc") -> int | None:
    """Return when a process started, in clock ticks since boot.

    With the pid it names a process for as long as the machine is up.
    """
    try:
        stat = Path(f"{root}/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        pass
    try:
        return int(psutil.Process(pid).create_time() * 100)
    except psutil.Error:
        return None


@cache
def pid_namespace(root: str = "/proc") -> int | None:
    """Return the inode of the pid namespace that this process is in.

    Pids of two processes can be compared only if this is the same.  None where the
    system has no such thing.
    """
    try:
        return Path(f"{root}/self/ns/pid").stat().st_ino
    except OSError:
        return None


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


_mallinfo_lock = threading.Lock()


@cache
def _mallinfo2() -> ctypes._NamedFuncPointer | None:
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError, TypeError):
        return None
    function.restype = _Mallinfo2
    return function


def allocator_free() -> int | None:
    """Return the bytes that the program freed and glibc's allocator keeps.

    ``fordblks`` of mallinfo2(3): free chunks inside arenas.  Pages of them that a
    trim gave back are still counted, so it is an upper bound of what is resident.
    None where the C library has no ``mallinfo2`` (glibc before 2.33, musl, macOS).
    """
    function = _mallinfo2()
    if function is None:
        return None
    with _mallinfo_lock:
        return int(function().fordblks)


def oom_kills(pid: int, root: str = "/") -> int | None:
    """Return how many processes the kernel has killed for memory in a pid's cgroup.

    Reads ``memory.events`` (cgroup v2) or ``memory.oom_control`` (v1); None where
    neither can be read.
    """
    base = Path(root)
    try:
        lines = (base / f"proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        group = path.lstrip("/")
        if not controllers:
            files = [base / "sys/fs/cgroup" / group / "memory.events"]
        elif "memory" in controllers.split(","):
            files = [base / "sys/fs/cgroup/memory" / group / "memory.oom_control"]
        else:
            continue
        count = _counter(files[0], "oom_kill")
        if count is not None:
            return count
    return None


def _counter(file: Path, name: str) -> int | None:
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return None
