"""A flight recorder seen from outside: another process's, or one's own.

Covers finding, opening and reading it.  The byte layout is
:mod:`dask_memdash.flight.format`'s, name and place :mod:`dask_memdash.flight.files`'s.

Another process's recorder is read by copies and not mapped: a map of a file that
somebody truncates is a SIGBUS, which ends the nanny's process (in a LocalCluster: the
client's).  A record counts only if two copies of it agree.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from dask_memdash.errors import RecorderError
from dask_memdash.flight import files, sampler_fields
from dask_memdash.flight import format as layout
from dask_memdash.flight.block_format import same_block
from dask_memdash.flight.open_file import OpenFile

#: For so long after a process was first seen, in seconds, its recorder in anonymous
#: memory is looked for at every look, later only now and then.
SOON = 30.0
SELDOM = 0.5

_FLAGS = os.O_RDWR | os.O_CLOEXEC


class RecorderReader:
    """A recorder seen from outside.  Not thread-safe.

    One that was opened stays readable after the worker's death and after its file was
    removed.

    Parameters
    ----------
    source
        The buffer of a recorder of this process, or an open file.

    Raises
    ------
    RecorderError
        The source does not begin with a recorder's header.
    """

    def __init__(self, source: memoryview | OpenFile, path: Path | None = None) -> None:
        self.path = path
        self._source = source
        header = self.header()
        self.slots = header.slots
        self._size = layout.file_size(header.slots)
        #: Whether native code writes the counters.
        self.tallied = header.tallied
        #: Whether that is what is resident: what counts is part of the RSS.
        self.resident = header.resident

    @classmethod
    def find(cls, pid: int, directory: str | None = None) -> RecorderReader | None:
        """Open the recorder of a living worker of this process; None if there is none.

        Raises
        ------
        RecorderError
            There is one, and it cannot be read.
        """
        return RecorderSearch(pid, directory).find()

    @classmethod
    def open(cls, path: Path) -> RecorderReader:
        """Open a recorder's file.

        Raises
        ------
        RecorderError
            It is not there, not a recorder, or not this user's alone.
        """
        try:
            files.check_directory(path.parent)
            fd = os.open(path, _FLAGS | getattr(os, "O_NOFOLLOW", 0))
            return cls._of(fd, path, memory=False)
        except OSError as error:
            raise RecorderError(f"the recorder cannot be opened: {error}") from error

    @classmethod
    def open_memory(cls, link: str) -> RecorderReader:
        """Open a living process's recorder in anonymous memory, by its link in /proc.

        Raises
        ------
        RecorderError
            It is gone, not a recorder, or not this user's.
        """
        try:
            return cls._of(os.open(link, _FLAGS), Path(link), memory=True)
        except OSError as error:
            raise RecorderError(f"the recorder cannot be opened: {error}") from error

    @classmethod
    def _of(cls, fd: int, path: Path, *, memory: bool) -> RecorderReader:
        file = OpenFile(fd)
        try:
            files.check_file(fd, path, memory=memory)
            return cls(file, None if memory else path)
        except BaseException:
            file.close()
            raise

    def header(self) -> layout.Header:
        """Read the header as it is now.

        Raises
        ------
        RecorderError
            It has become something else, or was cut short.
        """
        if isinstance(self._source, memoryview):
            return layout.read_header(self._source)
        return layout.read_header(
            self._source.copy(layout.HEADER_SIZE), self._source.size
        )

    def reading(self) -> dict[str, float | None] | None:
        """Read the worker's latest reading; None before the first or if it is torn."""
        if isinstance(self._source, memoryview):
            return layout.read_reading(self._source)
        before = self._source.copy(layout.HEADER_SIZE)
        now = self._source.copy(layout.HEADER_SIZE)
        return layout.read_reading(now) if layout.same_reading(before, now) else None

    def threads(self) -> dict[int, int]:
        """Read the threads that have run tasks: identifier → the kernel's number."""
        if isinstance(self._source, memoryview):
            return sampler_fields.read_threads(self._source)
        copy = self._source.copy(layout.HEADER_SIZE)
        return (
            sampler_fields.read_threads(copy) if len(copy) == layout.HEADER_SIZE else {}
        )

    def tasks(self) -> list[layout.Slot]:
        """Read the tasks that are running or pending."""
        if isinstance(self._source, memoryview):
            return list(layout.read_slots(self._source, self.slots))
        before, now = self._source.copy(self._size), self._source.copy(self._size)
        return [
            slot
            if same_block(before, now, layout.slot_offset(slot.index))
            else replace(slot, block=None)
            for slot in layout.read_slots(now, self.slots)
            if layout.same_task(before, now, slot.index)
        ]

    def write_counters(self, index: int, now: int, peak: int, error: int) -> None:
        """Set a slot's counters from outside (where no native code does)."""
        layout.write_counters(self._source, index, now, peak, error)

    def write_sampler(self, cost: float, interval: float) -> None:
        """Say what the sampler costs, as a share of a core, and its interval."""
        sampler_fields.write_sampler(self._source, cost, interval)

    def write_seen(self, begin: float, file: int, anon: int) -> None:
        """Say what was seen at most while a task ran alone; see the format."""
        sampler_fields.write_seen(self._source, begin, file, anon)

    def tell(self, raw: bytes) -> bool:
        """Tell the worker something; False where it is too long for that."""
        return sampler_fields.write_told(self._source, raw)

    def write_error(self, index: int, error: int) -> None:
        """Set a slot's error from outside, beside native code's counters."""
        layout.write_error(self._source, index, error)

    def remove(self) -> None:
        """Remove the file of a worker that is dead."""
        path, self.path = self.path, None
        if path is not None:
            files.remove(path)

    def close(self) -> None:
        """Let go of another process's recorder; nothing can be read any more."""
        if isinstance(self._source, OpenFile):
            self._source.close()


class RecorderSearch:
    """Looks for the flight recorder of a worker, from the nanny's process.

    The name is worked out once, while the worker lives; from then on a look costs a
    ``stat``, and one after the death finds what no earlier look did.

    Parameters
    ----------
    pid
        The worker's process.
    directory
        Where flight recorders are made; ``None`` for the usual place.
    """

    def __init__(self, pid: int, directory: str | None) -> None:
        #: Why the recorder cannot be read, in words; empty while it can be.
        self.trouble = ""
        self._pid = pid
        self._directory = directory
        self._path = files.recorder_path(pid, os.getpid(), directory)
        self._until = time.monotonic() + SOON
        self._next = 0.0

    def look(self) -> RecorderReader | None:
        """Look for the recorder of a worker that lives; None if there is none (yet)."""
        return self._try(dead=False)

    def look_again(self) -> RecorderReader | None:
        """Look for what a worker left that has just died; None if there is none."""
        return self._try(dead=True)

    def find(self, *, dead: bool = False) -> RecorderReader | None:
        """Look for the recorder.

        Raises
        ------
        RecorderError
            There is one, and it cannot be read.
        """
        if self._path is None and not dead:
            self._path = files.recorder_path(self._pid, os.getpid(), self._directory)
        paths = [] if self._path is None else [self._path]
        if dead and not paths:
            paths = files.paths_left_by(self._pid, os.getpid(), self._directory)[:1]
        refused: RecorderError | None = None
        for path in paths:
            if os.path.lexists(path):
                try:
                    return self._checked(RecorderReader.open(path))
                except RecorderError as error:
                    refused = error  # the worker may have used anonymous memory
        if not dead and self._due():
            link = files.memory_link(self._pid)
            if link is not None:
                return self._checked(RecorderReader.open_memory(link))
        if refused is not None:
            raise refused
        return None

    def _checked(self, reader: RecorderReader) -> RecorderReader:
        """Refuse the recorder of another process."""
        try:
            pid = reader.header().pid
            if pid != self._pid:
                raise RecorderError(f"the recorder is that of process {pid}")
        except RecorderError:
            reader.close()
            raise
        return reader

    def _try(self, *, dead: bool) -> RecorderReader | None:
        try:
            found = self.find(dead=dead)
        except RecorderError as error:
            self.trouble = str(error)
            return None
        self.trouble = ""
        return found

    def _due(self) -> bool:
        """Whether to look through the process's open files, of which it has many."""
        now = time.monotonic()
        if now < self._next:
            return False
        if now > self._until:
            self._next = now + SELDOM
        return True
