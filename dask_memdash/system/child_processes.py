"""What Linux says of a process's children: who they are, whose, and what they use.

Covers ``/proc/<pid>/task/<tid>/children`` (proc(5), a kernel option), start times,
sizes and the way a child ended.  Each works on a fake tree (``root``) in tests; none
raises.  Where there is no such thing there are no children.

Files of ``/proc`` are read without letting the GIL go, as the flight recorder is: to
get it back in a busy process takes thousands of times longer than a read.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

#: Bytes that are read of a file.
MOST = 4096

#: Exit code of a process in its ``stat``, counted from the state on.
_EXIT_CODE = 49
_START = 19


class ProcessSizes(NamedTuple):
    """What a process has resident now, and had at most, in bytes."""

    rss: int
    high_water: int


@cache
def _libc() -> Any:
    try:
        library = ctypes.PyDLL(None, use_errno=False)
        library.open.argtypes = (ctypes.c_char_p, ctypes.c_int)
        library.read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
        library.read.restype = ctypes.c_ssize_t
        library.close.argtypes = (ctypes.c_int,)
    except (OSError, AttributeError, TypeError):
        return None
    return library


def read_file(path: str) -> bytes:
    """Return the beginning of a small file of the kernel's; empty where it is gone."""
    library = _libc()
    if library is None:
        return b""
    fd = library.open(os.fsencode(path), os.O_RDONLY | os.O_CLOEXEC)
    if fd < 0:
        return b""
    try:
        room = ctypes.create_string_buffer(MOST)
        size = library.read(fd, room, MOST)
        return room.raw[: max(0, size)]
    finally:
        library.close(fd)


def threads_of(pid: int, root: str = "/proc") -> list[int]:
    """Return the kernel's numbers of a process's threads."""
    try:
        return [int(name) for name in os.listdir(f"{root}/{pid}/task")]
    except (OSError, ValueError):
        return []


def children_of(
    pid: int, threads: Iterable[int], root: str = "/proc"
) -> dict[int, int]:
    """Return the children that some threads of a process started and that are there.

    Returns
    -------
    dict of int to int
        Pid of the child → the thread that started it, or has inherited it.
    """
    found: dict[int, int] = {}
    for thread in threads:
        for word in read_file(f"{root}/{pid}/task/{thread}/children").split():
            if word.isdigit():
                found[int(word)] = thread
    return found


def sizes_of(pid: int, root: str = "/proc") -> ProcessSizes | None:
    """Return a process's sizes; None where it is gone, or only waits to be reaped."""
    text = read_file(f"{root}/{pid}/status")
    rss, high = _kilobytes(text, b"\nVmRSS:"), _kilobytes(text, b"\nVmHWM:")
    return None if rss is None else ProcessSizes(rss, max(rss, high or 0))


def proportional(pid: int, root: str = "/proc") -> int | None:
    """Return what a process has resident, its share of what others have too, in bytes.

    A process that was forked shares its parent's pages until it writes to them.  Takes
    a millisecond for a large process, in which others run.
    """
    try:
        text = Path(f"{root}/{pid}/smaps_rollup").read_bytes()
    except OSError:
        return None
    return _kilobytes(text, b"\nPss:")


def same_program(pid: int, other: int, root: str = "/proc") -> bool:
    """Whether two processes have the same command line: one forked off the other."""
    line = read_file(f"{root}/{pid}/cmdline")
    return bool(line) and line == read_file(f"{root}/{other}/cmdline")


def command_of(pid: int, root: str = "/proc") -> str:
    """Return the name of a process's program, 15 characters at most."""
    return read_file(f"{root}/{pid}/comm").decode("utf-8", "replace").strip()


def killed(pid: int, root: str = "/proc") -> bool:
    """Whether a process that nobody has reaped yet was ended by SIGKILL."""
    fields = _stat(pid, root)
    if not fields or fields[0] != b"Z" or len(fields) <= _EXIT_CODE:
        return False
    return fields[_EXIT_CODE].isdigit() and int(fields[_EXIT_CODE]) & 0x7F == 9


def started(pid: int, root: str = "/proc") -> float | None:
    """Return when a process started, as Unix time in seconds, to a hundredth or so."""
    fields = _stat(pid, root)
    boot = boot_time(root)
    if len(fields) <= _START or boot is None or not fields[_START].isdigit():
        return None
    return boot + int(fields[_START]) / os.sysconf("SC_CLK_TCK")


@cache
def boot_time(root: str = "/proc") -> float | None:
    """Return when the machine was started, as Unix time in seconds."""
    try:
        uptime = float(Path(f"{root}/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return time.time() - uptime


def _stat(pid: int, root: str) -> list[bytes]:
    """Return the fields of a process's ``stat`` from its state on."""
    return read_file(f"{root}/{pid}/stat").rpartition(b")")[2].split()


def _kilobytes(text: bytes, name: bytes) -> int | None:
    _, found, rest = text.partition(name)
    words = rest[:40].split(None, 1)
    if not found or not words or not words[0].isdigit():
        return None
    return int(words[0]) * 1024
