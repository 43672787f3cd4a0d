"""What the workers of one process share: its RSS, its heap, its baseline.

One worker has a process to itself, but with ``processes=False`` several live in
one.  Its RSS, the allocator's free bytes and the baseline belong to all of them, and
what each running task may have is worked out among all that run in the process.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from dask_memdash.measure.arrow import arrow_pool, uncounted_pool
from dask_memdash.measure.baseline import Baseline
from dask_memdash.measure.isolated import CloseLook, Traffic
from dask_memdash.measure.methods import UNMEASURED
from dask_memdash.measure.rss import RssReader
from dask_memdash.measure.running_task import RunningTask
from dask_memdash.measure.tally import current
from dask_memdash.system.proc import HighWater, RssParts, allocator_free

#: Growth that is no trifle, where it came with a task, in bytes.
LEAST_LOADED = 2**20


#: Libraries that bring an allocator of their own along, which nothing counts: where no
#: tally sees which map memory for themselves.
OWN_ALLOCATORS = frozenset({"duckdb", "polars"})

#: Whether large blocks always come from the kernel and go back to it: glibc does not
#: learn to keep them where its thresholds were set before the process began.
LARGE_ARE_MAPPED = any(
    f"MALLOC_{name}_" in os.environ
    for name in ("TRIM_THRESHOLD", "MMAP_THRESHOLD", "TOP_PAD")
)


class MemberTasks(Protocol):
    """The tasks of a worker, as the process needs to see them."""

    #: Running in a thread of their own, by thread.
    by_thread: dict[int, RunningTask]
    #: What counted tasks have left behind beside their outputs, in bytes, so far.
    left_behind: int

    def live(self) -> int:
        """Sum what running and pending tasks hold as far as measured, in bytes."""


class Member(Protocol):
    """A worker of this process, as the others need to see it."""

    @property
    def tasks(self) -> MemberTasks:
        """Its tasks that are running or pending."""

    def stored(self) -> int:
        """Return the bytes of storage in RAM; may be called from any thread."""

    def traffic(self) -> Traffic:
        """Return what it has moved so far; may be called from any thread."""

    def moving(self) -> int:
        """Return the bytes of transfers."""

    def named(self) -> int:
        """Return the bytes of actors and graph; may be called from any thread."""

    def quiet(self) -> bool:
        """Whether nothing is under way."""


class SharedProcess:
    """The process that this code runs in, with the workers that MemDash watches."""

    def __init__(self) -> None:
        self.baseline = Baseline()
        #: What the allocator had free when last asked, in bytes; None if not known.
        self.free: int | None = None
        #: What the RSS was made of when last asked; None where the kernel does not say.
        self.parts: RssParts | None = None
        #: What Arrow's pool may keep of what was freed, in bytes; None without one.
        self.arrow_kept: int | None = None
        #: What came with tasks that were about to begin while nothing was under way, in
        #: bytes, so far: modules that their functions import.
        self.loaded = 0
        # Whether nothing has been under way since the last quiet instant.
        self._undisturbed = False
        # The least that was left when nothing ran, ever; and what was kept when it was
        # idle last, in bytes.
        self._least_rest: int | None = None
        self._least_own: int | None = None  # as far as no file backs it
        self._kept_when_idle = 0
        self._members: list[Member] = []
        self._rss: RssReader | None = None
        self._high_water: HighWater | None = None
        self._close_look: CloseLook | None = None
        self._moving = 0
        self._left_when_idle = 0
        # What Arrow's pool held, and storage, at the last quiet instant, in bytes.
        self._arrow_when_idle = (0, 0)
        self._recent: int | None = None
        self._recent_at = 0.0
        self._lock = threading.Lock()
        # What the heap had free in the moment that this thread is in (see `moment`).
        self._asked = threading.local()

    # -- its workers -----------------------------------------------------------

    def join(self, member: Member) -> None:
        """Take in a worker of this process."""
        with self._lock:
            if not self._members:
                self.baseline = Baseline()
                self.loaded, self._undisturbed = 0, False
                self._recent_at = 0.0
                self._rss = RssReader(os.getpid())
                self._high_water = HighWater()
                self._close_look = CloseLook(
                    self._high_water,
                    self.stored,
                    self.reusable,
                    self.traffic,
                    self.arena_room,
                    self.kept,
                )
            self._members = [*self._members, member]

    def leave(self, member: Member) -> None:
        """Let a worker go, and with the last one all that was held for them."""
        with self._lock:
            self._members = [m for m in self._members if m is not member]
            if self._members:
                return
            for held in (self._rss, self._high_water):
                if held is not None:
                    held.close()
            self._rss = None

    @property
    def n_members(self) -> int:
        """How many workers live in it."""
        return len(self._members)

    def running(self) -> list[RunningTask]:
        """Return the tasks that run and are measured in this process."""
        return [
            task
            for member in self._members
            for task in list(member.tasks.by_thread.values())
            if task.method != UNMEASURED
        ]

    def stored(self) -> int:
        """Sum the bytes of storage in RAM."""
        return sum(member.stored() for member in self._members)

    def traffic(self) -> Traffic:
        """Sum what workers have moved so far, and what is on its way."""
        of_each = [member.traffic() for member in self._members]
        return Traffic(sum(t.moved for t in of_each), sum(t.coming for t in of_each))

    def named(self) -> int:
        """Sum the bytes of actors and graph, as last counted."""
        return sum(member.named() for member in self._members)

    def held_by_tasks(self) -> int:
        """Sum what running and pending tasks hold as far as measured, in bytes."""
        return sum(member.tasks.live() for member in self._members)

    # -- what the kernel and the allocators say --------------------------------

    def read_rss(self) -> int | None:
        """Read this process's RSS in bytes; may be called from any thread."""
        rss = self._rss
        return None if rss is None else rss.read()

    def read_parts(self) -> RssParts | None:
        """Read what the RSS is made of; may be called from any thread."""
        rss = self._rss
        return None if rss is None else rss.parts()

    def recent_rss(self, age: float) -> int | None:
        """Return the RSS in bytes as it was at most `age` seconds ago."""
        now = time.monotonic()
        if now - self._recent_at > age:
            self._recent = self.read_rss()
            self._recent_at = now
        return self._recent

    @contextlib.contextmanager
    def moment(self) -> Iterator[None]:
        """Take what this thread does within it as one moment: a heartbeat, say.

        What the heap has free is asked once in it: that takes long where there are many
        threads, or pieces.
        """
        self._asked.free = []
        try:
            yield
        finally:
            del self._asked.free

    def _heap_free(self) -> int | None:
        known: list[int | None] | None = getattr(self._asked, "free", None)
        if known is None:
            return allocator_free()
        if not known:
            known.append(allocator_free())
        return known[0]

    @property
    def high_water(self) -> bool:
        """Whether the kernel has a high-water mark that can be set back."""
        return self._high_water is not None and self._high_water.available

    def high_mark(self) -> int | None:
        """Read the mark in bytes and set it back; None where that cannot be."""
        mark = self._high_water
        high = None if mark is None else mark.read()
        return high if mark is not None and mark.reset() else None

    def files_mapped(self) -> int:
        """Return the bytes of files mapped so far; 0 where nobody counts them."""
        tally = current()
        return (tally.files_mapped() if tally is not None else 0) or 0

    @property
    def close_look(self) -> CloseLook:
        """How tasks that run alone are looked at; there is one once anybody joined."""
        assert self._close_look is not None
        return self._close_look

    def arena_room(self) -> int:
        """Return the room for small objects in arenas that are there, in bytes."""
        tally = current()
        return tally.arena_free() if tally is not None else 0

    def reusable(self) -> int:
        """Return what may be used unseen, without growing, in bytes.

        Room in arenas, and what allocators of their own that libraries bring along may
        keep; and the free heap, unless each block that comes from there is counted.
        May be called from any thread.
        """
        tally = current()
        unseen = self._kept_by_others() + self.arena_room()
        if tally is not None and tally.counts_resident and LARGE_ARE_MAPPED:
            return unseen  # of blocks that threads without a task take, only small ones
        return unseen + (self._heap_free() or 0)

    def kept(self) -> int:
        """Return all that allocators may keep of what was freed, in bytes.

        A count of resident memory may be of that, and the process not grow.
        """
        free = self._heap_free() or 0
        return self.kept_unseen() + free + self._kept_by_others()

    def kept_unseen(self) -> int:
        """Return what Arrow's pool and arenas keep of what was freed, in bytes.

        What the C library has free is known from the last idle instant on.
        """
        pool = arrow_pool()
        by_arrow = 0 if pool is None else max(0, pool.most - pool.held)
        return by_arrow + self.arena_room()

    def _kept_by_others(self) -> int:
        """Return what allocators that nobody counts may keep of what was freed.

        Where there is such an allocator (its library maps memory for itself): all that
        the process has more than when it had least, but for files, and that no count
        explains.
        """
        tally = current()
        mapped = tally.mapped_by_allocators() if tally is not None else 0
        if self._least_own is None or not (
            mapped or any(name in sys.modules for name in OWN_ALLOCATORS)
        ):
            return 0
        counted = max(0, self.held_by_tasks()) + max(0, self._left_behind())
        return max(0, self._own_rest(self.read_parts()) - counted - self._least_own)

    def _own_rest(self, parts: RssParts | None) -> int:
        """Return what no file backs, no storage explains and glibc has not free."""
        if parts is None:
            return 0
        known = self.stored() + self._moving + self.named() + (self._heap_free() or 0)
        return max(0, parts.anon + parts.shmem - known)

    # -- since it was idle last ------------------------------------------------

    def observe(self, time: float, rss: int, parts: RssParts | None = None) -> None:
        """Let the baseline see this instant.

        Parameters
        ----------
        time
            In seconds, on a clock that only goes forward.
        rss
            RSS of the process now, in bytes.
        parts
            What it is made of; asked for where it is not given.
        """
        self.free = self._heap_free()
        self.parts = parts or self.read_parts()
        self._moving = sum(member.moving() for member in self._members)
        rest = max(0, rss - self.stored() - self._moving - self.named())
        quiet = self.is_quiet()
        kept = self._kept_by_arrow(rest, quiet=quiet)
        self._undisturbed = quiet
        if quiet:
            self._kept_when_idle = kept
            pool = uncounted_pool()
            self._arrow_when_idle = (0 if pool is None else pool.held, self.stored())
            self._left_when_idle = self._left_behind()
        file = None if self.parts is None else self.parts.file
        own = rest - kept
        self.baseline.see(time, own, quiet=quiet, free=self.free or 0, file=file)

    def is_quiet(self) -> bool:
        """Whether nothing is under way on any of its workers."""
        return all(member.quiet() for member in self._members)

    def disturb(self) -> None:
        """Take note that something gets under way: a task, or what is like it."""
        self._undisturbed = False

    def load(self) -> bool:
        """Take what came since the last quiet instant as loaded with a task.

        To be called on the event loop when a task is about to begin while nothing is
        under way: what grew since no other task can have left behind.

        Returns
        -------
        bool
            Whether that was more than a trifle.
        """
        rss, last, parts = self.read_rss(), self.baseline.last, self.read_parts()
        if rss is None or last is None or not self._undisturbed:
            return False
        moving = sum(member.moving() for member in self._members)
        rest = rss - self.stored() - moving - self.named() - self._kept_when_idle
        grown = rest - last
        if grown < LEAST_LOADED:
            return False
        before = self.baseline.last_file
        file = 0 if parts is None else _more(parts.file, before)
        self.baseline.load(grown, min(file, grown))
        if self._least_rest is not None:
            self._least_rest += grown  # Arrow keeps none of that
        self.loaded += grown
        return True

    def idle_rest(self) -> int | None:
        """Return what is no running task's.

        That is what was left when it was idle last, what has come free since, and
        what actors and graph weigh now.  In bytes; None before a quiet instant.  Pages
        of files beyond those of the baseline are not in it.
        """
        last = self.baseline.last
        if last is None:
            return None
        freed = max(0, (self._heap_free() or 0) - self.baseline.last_free)
        mapped = _more(self.baseline.last_file, self.baseline.file)
        kept = self._kept_when_idle
        return max(0, last - mapped) + kept + freed + self.named()

    def in_execution(self, rss: int) -> int | None:
        """Return what the process has beside storage, transfer and `idle_rest`.

        Pages of files that came since are in nobody's execution.  May be called from
        any thread: what needs the event loop is as last observed.

        Returns
        -------
        int or None
            In bytes, of either sign; None before a quiet instant has been seen.
        """
        rest = self.idle_rest()
        if rest is None:
            return None
        return rss - self.stored() - self._moving - rest - self._mapped()

    def left_since_idle(self) -> int:
        """Return what tasks have left beside their outputs since it was idle last.

        In bytes, at least 0.  It may be gone again, with outputs that are larger than
        Dask believes.
        """
        return max(0, self._left_behind() - self._left_when_idle)

    def arrow_growth(self) -> int:
        """Return what Arrow's pool holds more than at the last quiet instant.

        Less what has been stored since, in bytes; 0 without pyarrow.
        """
        pool = uncounted_pool()
        if pool is None:
            return 0
        held, stored = self._arrow_when_idle
        return pool.held - held - max(0, self.stored() - stored)

    def _kept_by_arrow(self, rest: int, *, quiet: bool) -> int:
        """Return what Arrow's pool may keep of what was freed, in bytes.

        It tells what it holds and held at most, and not what it gave back: the growth
        since the process had least, which nothing else explains, is the bound.  While
        tasks run, as much as when it was idle last at most.
        """
        if quiet and (self._least_rest is None or rest < self._least_rest):
            self._least_rest = rest
            self._least_own = self._own_rest(self.parts)
        pool = arrow_pool()
        if pool is None or self._least_rest is None:
            self.arrow_kept = None
            return 0
        grown = max(0, rest - self._least_rest - (self.free or 0))
        kept = min(max(0, pool.most - pool.held), grown)
        if not quiet:
            kept = min(kept, self._kept_when_idle)
        self.arrow_kept = kept
        return kept

    def _mapped(self) -> int:
        """Return by how much more of files is resident than the baseline has."""
        parts = self.read_parts()
        return 0 if parts is None else _more(parts.file, self.baseline.file)

    def _left_behind(self) -> int:
        return sum(member.tasks.left_behind for member in self._members)


def _more(now: int | None, before: int | None) -> int:
    """Return by how much a size has grown; 0 where either is not known."""
    return 0 if now is None or before is None else max(0, now - before)


#: This process.
process = SharedProcess()
