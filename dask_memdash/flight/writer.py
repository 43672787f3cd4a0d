"""The worker's side of the flight recorder: one small mapped file that it writes.

Covers making the file and writing into it.  The byte layout is
:mod:`dask_memdash.flight.format`'s, name and place :mod:`dask_memdash.flight.files`'s.

The file's blocks are reserved before it is mapped, since a page of a sparse file on a
full disk is a SIGBUS.  Where no file can be made, the recorder is an anonymous memory
file, which the nanny opens through ``/proc`` while the worker lives.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dask_memdash.errors import RecorderError
from dask_memdash.flight import files, sampler_fields
from dask_memdash.flight import format as layout
from dask_memdash.flight.block_format import Block, read_block


class FlightRecorder:
    """The worker's side: a recorder that this process writes.

    A task's slot is taken by :meth:`begin` in the task's thread and given back by
    :meth:`release` in any thread.  The mapping is never unmapped while the process
    lives, since other threads may be writing into it.

    Parameters
    ----------
    slots
        Tasks that can be running or pending at once.
    directory
        Where to make the file; ``None`` to choose.
    private
        Whether no other process will read it: then no file is made.
    map_slots
        ``(fd, size) -> (mapping, buffer)`` of the native code that will write the
        slots' counters; ``None`` where they are sampled.

    Raises
    ------
    RecorderError
        Neither a file nor anonymous memory is to be had.
    """

    def __init__(
        self,
        slots: int,
        address: str,
        directory: str | None = None,
        *,
        private: bool = False,
        map_slots: Callable[[int, int], tuple[Any, memoryview]] | None = None,
    ) -> None:
        self.path: Path | None = None
        #: Why the recorder is in anonymous memory, or what was wrong with its
        #: directory; empty when all is well.
        self.degraded = ""
        size = layout.file_size(slots)
        self._fd = -1
        if not private:
            try:
                self.degraded = files.tighten(files.default_directory(directory))
                self._fd, self.path = _create_file(size, directory)
            except OSError as error:
                self.degraded = (
                    "the flight recorder is in memory only, as no file could be made "
                    f"({error})"
                )
                self._fd = _create_memory(size, error)
        #: What native code knows the recorder by; None where none writes it.
        self.mapping: Any = None
        self.pid = os.getpid()
        try:
            if map_slots is None:
                self._map = mmap.mmap(self._fd, size)
                self.buffer = memoryview(self._map)
            else:
                self.mapping, self.buffer = map_slots(self._fd, size)
            layout.write_header(
                self.buffer,
                slots=slots,
                pid=self.pid,
                created=time.time(),
                address=address,
                tallied=map_slots is not None,
            )
        except BaseException:
            self.close()
            raise
        self._free = deque(range(slots))

    def begin(
        self,
        key: str,
        thread: int,
        begin: float,
        rss: int,
        *,
        measured: bool = True,
        gathering: bool = False,
    ) -> int | None:
        """Take a slot for a task that begins now; None when all are taken.

        Parameters
        ----------
        thread
            Identifier of the task's thread, 0 where it has none of its own.
        begin
            Unix time in seconds.
        rss
            RSS of this process now, in bytes.
        gathering
            It is about to begin, and inputs of it are read back from disk.
        """
        flags = 0 if measured else layout.FLAG_UNMEASURED
        try:
            index = self._free.popleft()
        except IndexError:
            return None
        layout.write_task(
            self.buffer,
            index,
            state=layout.RUNNING,
            flags=layout.FLAG_GATHERING if gathering else flags,
            thread=thread,
            begin=begin,
            rss=rss,
            key=key or "(empty key)",
        )
        return index

    def pend(self, index: int) -> None:
        """Mark that the task's run has ended and its output is not stored yet."""
        layout.write_state(self.buffer, index, layout.PENDING)

    def release(self, index: int) -> None:
        """Give a slot back."""
        layout.write_state(self.buffer, index, layout.FREE)
        self._free.append(index)

    def counters(self, index: int) -> tuple[int, int, int]:
        """Return a slot's bytes held now, held at most, and their error."""
        return layout.read_counters(self.buffer, index)

    def filling(self, index: int) -> int:
        """Return the bytes that a slot's task is about to fill, beside its own."""
        return layout.read_filling(self.buffer, index)

    def raw_counters(self, index: int) -> tuple[int, int, int]:
        """Return the counters as they stand: what a task holds now may be negative."""
        return layout.raw_counters(self.buffer, index)

    def block(self, index: int) -> Block | None:
        """Return the largest block of the task in a slot; None where there is none."""
        return read_block(self.buffer, layout.slot_offset(index))

    def write_counters(self, index: int, now: int, peak: int, error: int) -> None:
        """Set a slot's counters (where no native code does)."""
        layout.write_counters(self.buffer, index, now, peak, error)

    def write_reading(self, values: Mapping[str, float | None]) -> None:
        """Store the latest reading for whoever opens the recorder after a death."""
        layout.write_reading(self.buffer, dict(values))

    def write_field(self, name: str, value: float) -> None:
        """Bring one field of the reading up to date, between two readings."""
        layout.write_field(self.buffer, name, value)

    def sampler(self) -> tuple[float | None, float | None]:
        """Read what the sampler costs, as a share of a core, and its interval."""
        return sampler_fields.read_sampler(self.buffer)

    def seen(self, begin: float) -> tuple[int, int] | None:
        """Read what the sampler saw at most of files and heap while a task ran alone.

        In bytes; None where it saw nothing of the task that began then.
        """
        return sampler_fields.read_seen(self.buffer, begin)

    def told(self) -> bytes:
        """Read what the sampler tells this worker; empty where that is nothing."""
        return sampler_fields.read_told(self.buffer)

    def note_thread(self, number: int, ident: int, native: int) -> None:
        """Note the `number`-th thread that runs tasks, by both of its names."""
        sampler_fields.write_thread(self.buffer, number, ident, native)

    def mark_resident(self) -> None:
        """Say that native code counts what is resident, and not what was reserved."""
        layout.write_resident(self.buffer)

    def mark_closing(self, reason: str) -> None:
        """Mark that the worker closes in good order."""
        layout.write_closing(self.buffer, reason)

    def close(self) -> None:
        """Remove the file.  The mapping stays as long as the process."""
        path, self.path = self.path, None
        if path is not None:
            files.remove(path)
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _create_file(size: int, directory: str | None) -> tuple[int, Path]:
    path = files.own_path(directory)
    if path is None:
        raise OSError("the start time of this process cannot be read")
    for attempt in range(3):
        try:
            fd = _open_new(path)
            break
        except FileNotFoundError:  # somebody swept the empty directory just now
            if attempt == 2:
                raise
    try:
        files.check_file(fd, path)
        _reserve(fd, size)
    except OSError:
        os.close(fd)
        path.unlink()
        raise
    return fd, path


def _open_new(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.check_directory(path.parent)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _create_memory(size: int, cause: OSError) -> int:
    if not hasattr(os, "memfd_create"):
        raise RecorderError(f"no flight recorder can be made: {cause}") from cause
    fd = -1
    try:
        fd = os.memfd_create(files.MEMORY_NAME)
        _reserve(fd, size)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise RecorderError(f"no flight recorder can be made: {error}") from error
    return fd


def _reserve(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    else:
        os.write(fd, bytes(size))
