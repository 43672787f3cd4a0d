"""A close look at a task that runs alone in its process.

Alone, whatever the process grows by is the task's, so the kernel's high-water mark
of the RSS sees what no count can: native libraries and Arrow's pool, and that
memory which was reserved has never been touched.  Pages of files (memory maps) are in
that mark too, and are no task's: what was seen of them is taken off.  Against it
stands what the tally has counted.  :func:`judge` says which of the two to believe, and
how far.

Covers the readings at begin and end, and the judgement.  Whether a task is alone is
known to :mod:`dask_memdash.plugins.worker.tasks`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

from dask_memdash.measure.arrow import ArrowPool, taken_between, uncounted_pool
from dask_memdash.measure.methods import EXACT, HWM
from dask_memdash.measure.tally import Tally, current
from dask_memdash.model.exactness import PART
from dask_memdash.system.proc import HighWater, RssParts

#: Disagreement of count and kernel, in bytes, that says nothing: the kernel hands out
#: huge pages of 2 MiB and keeps its own count of pages in batches.
COUNT_TOLERANCE = 2**21

#: The largest small object, in bytes: what is larger is counted one by one.
LARGEST_SMALL = 512


#: What was free is in the error where it is more than one part in so many of the count:
#: where much of it is heap that nobody used, and where it is room for small objects
#: alone, since all else is counted.
HEAP_PART, ARENAS_PART = 2, PART


def part_of(tally: Tally | None) -> int:
    """Return which part of a count must be free to be in its error."""
    return ARENAS_PART if tally is not None and tally.counts_resident else HEAP_PART


class Traffic(NamedTuple):
    """What a worker has moved so far, and what is on its way, in bytes."""

    #: Received, sent, written to disk and read from it: all of it, ever.
    moved: int = 0
    #: Outputs that are being received now.
    coming: int = 0


NO_TRAFFIC = Traffic()

#: How often what moves may be in memory at the same time: as frames, and as an object.
COPIES = 2


class AtBegin(NamedTuple):
    """What was read when a task began; sizes in bytes."""

    rss: int
    #: Storage in RAM, as Dask's sizeof says.
    stored: int
    #: What the allocators had free: a task may use it, and the process not grow.
    free: int
    #: Python's small objects, a number; 0 where they are counted one by one.
    blocks: int
    #: Of Arrow's pool; None where pyarrow has not been imported.
    arrow: ArrowPool | None
    #: What the RSS is made of; None where the kernel does not say.
    parts: RssParts | None = None
    traffic: Traffic = NO_TRAFFIC
    #: Of files that were mapped so far; None where nobody counts them.
    maps: int | None = None
    #: What of `free` is room for small objects in arenas.
    arenas: int = 0
    #: All that allocators may have kept: what is counted may be there already.
    kept: int = 0


class IsolatedPeak(NamedTuple):
    """What is made of a task that ran alone; sizes in bytes."""

    peak: int
    error: int
    method: str
    #: Resident, and not counted: native libraries; and what of it was Arrow's pool.
    native: int = 0
    arrow: int = 0
    #: Counted, and never resident.
    untouched: int = 0
    #: Small objects that went into arenas already there: neither sees them.
    small: int = 0
    #: Pages of files that came meanwhile: no task's.
    mapped: int = 0


class Mapped(NamedTuple):
    """Pages of files and heap while a task ran, the most that was seen; in bytes."""

    #: By how much more of files was resident than at its begin.
    file: int = 0
    #: By how much what is backed by no file had grown.
    anon: int = 0
    #: What was mapped of files: as many pages may have come and gone between two looks.
    unseen: int = 0


NO_MAPS = Mapped()


def judge(
    counted: int | None,
    grown: int,
    *,
    free: int = 0,
    moved: int = 0,
    arrow: tuple[int, int] = (0, 0),
    mapped: Mapped = NO_MAPS,
    part: int = HEAP_PART,
    hidden: int = 0,
) -> IsolatedPeak:
    """Say what a task that ran alone held at most.

    Parameters
    ----------
    counted
        Most that the tally has counted, in bytes; None without a tally.
    grown
        High-water mark of the RSS less the RSS at its begin, in bytes.
    free
        What the allocators had free at its begin: growth that need not have shown.
    moved
        What storage and transfers may have had meanwhile: growth that need not be the
        task's.
    arrow
        The least and the most that the task can have had from Arrow's pool, which keeps
        what is freed for itself, so that the process need not grow by it.
    mapped
        The most that was seen of files' pages, and of the heap, at any look.
    part
        What was free is in the error where it is more than one part in so many of the
        count.
    hidden
        What of the free neither the count nor the kernel would have seen used.

    Returns
    -------
    IsolatedPeak
        ``exact`` where count and kernel agree as far as they can; else ``hwm``, the
        kernel's figure.  The error is what is left between them, and all that was free
        where that was much of the count: as much could hide there.
    """
    grown = max(0, grown)
    if mapped.file > COUNT_TOLERANCE:
        return _judge_with_maps(counted, grown, free, moved, arrow, mapped)
    least, most = arrow
    if counted is None:
        peak = max(0, grown - moved // 2)
        return IsolatedPeak(peak, max(free + moved, most - grown), HWM)
    trifle = COUNT_TOLERANCE + counted // 50
    beyond = grown - counted
    if most > max(COUNT_TOLERANCE, least, beyond) or least > max(
        COUNT_TOLERANCE, grown
    ):
        # Arrow's arrays never change and mostly live as long as the task does; what
        # was counted may have gone before they came.
        error = counted + most - max(grown, least) + moved
        return IsolatedPeak(counted + most, error, HWM, native=most, arrow=most)
    if beyond > trifle + moved:
        # What moved was there once at least; whether a copy was too is not known.
        peak, beyond = grown - moved // 2, beyond - moved // 2
        if mapped.unseen > COUNT_TOLERANCE:
            return _judge_with_unseen_maps(counted, peak, moved + hidden, mapped)
        error, arrows = moved + hidden, min(beyond, most)
        return IsolatedPeak(peak, error, HWM, native=beyond, arrow=arrows)
    short = -beyond - free
    if short > trifle + moved:
        # What was free may have been used or not: the truth is within the error.
        return IsolatedPeak(grown, free + moved, HWM, untouched=short)
    unused = free + min(beyond, 0)
    if unused <= max(COUNT_TOLERANCE, counted // part):
        unused = 0
    if beyond > trifle:  # what moved was there once at least
        beyond = max(trifle, beyond - moved // 2)
    return IsolatedPeak(counted, max(abs(beyond), unused), EXACT)


def confirm(lacking: int, moved: int, doubt: int, kept: int) -> int:
    """Return how much of a count of resident memory the kernel does not confirm.

    Parameters
    ----------
    lacking
        By how much more was counted than the process grew, in bytes.
    moved
        By how much storage and transfers may have made it grow or shrink meanwhile.
    doubt
        By how much the count may be too high: what it saw neither come nor filled.
    kept
        What allocators had kept, and may have given again: all of it, at most.
    """
    return max(
        0, min(lacking + moved, doubt), _no_trifle(lacking - moved - doubt - kept)
    )


def not_looked_at(short_by: int, beyond: int, moved: int, kept: int) -> int:
    """Return by how much a count may be too low, in bytes, as the kernel confirms it.

    Parameters
    ----------
    short_by
        As far as the count knows: what was not looked at in time.
    beyond
        By how much more the process grew than was counted, in bytes.
    moved
        By how much storage and transfers may have made it grow or shrink meanwhile.
    kept
        What allocators had kept, and may have given again: the process did not grow.
    """
    return min(short_by, _no_trifle(beyond + moved + kept))


def _no_trifle(size: int) -> int:
    return size if size > COUNT_TOLERANCE else 0


def _judge_with_unseen_maps(
    counted: int, peak: int, moved: int, mapped: Mapped
) -> IsolatedPeak:
    """Judge a task that grew by more than was counted, while files were mapped.

    What is beyond the count, and beyond what was seen of the heap, may be pages of
    these files, up to their size.
    """
    known = min(peak, max(counted, mapped.anon))
    files = min(peak - known, mapped.unseen)
    return IsolatedPeak(
        peak - files,
        max(moved, files),
        HWM,
        native=peak - files - counted,
        mapped=files,
    )


def _judge_with_maps(
    counted: int | None,
    grown: int,
    free: int,
    moved: int,
    arrow: tuple[int, int],
    mapped: Mapped,
) -> IsolatedPeak:
    """Judge a task that files were mapped beside.

    The mark is of heap and files together, and a map is read faster than it is looked
    at: what neither the files nor the heap were seen to have is in the error.
    """
    heap = min(max(mapped.anon, counted or 0, 0), grown)
    found = judge(counted, heap, free=free, moved=moved, arrow=arrow)
    unseen = max(0, grown - mapped.file - found.peak)
    return found._replace(
        method=HWM, error=max(found.error, unseen), mapped=mapped.file
    )


def with_small_objects(
    found: IsolatedPeak, blocks: int, output: int | None
) -> IsolatedPeak:
    """Count small objects that took the place of others that had gone.

    Parameters
    ----------
    blocks
        How many small objects the process has more than at the task's begin.
    output
        Size of the task's output as Dask's sizeof says, in bytes.  It is believed as
        far as there are objects that it can be made of.
    """
    missing = min(output or 0, blocks * LARGEST_SMALL) - found.peak
    if missing <= COUNT_TOLERANCE:
        return found
    return found._replace(
        peak=found.peak + missing,
        error=max(found.error, missing),
        small=missing,
    )


class CloseLook:
    """Reads what :func:`judge` needs, at begin and end of a task that is alone.

    Parameters
    ----------
    high_water
        This process's.
    stored
        Gives the bytes of storage in RAM of all workers in this process.
    free
        Gives what the allocators had free when last asked, in bytes.
    traffic
        Gives what was moved so far, and what is on its way.
    arenas
        Gives what of the free is room for small objects in arenas, in bytes.
    kept
        Gives all that allocators may keep of what was freed, in bytes.
    """

    def __init__(
        self,
        high_water: HighWater,
        stored: Callable[[], int],
        free: Callable[[], int],
        traffic: Callable[[], Traffic] = Traffic,
        arenas: Callable[[], int] = int,
        kept: Callable[[], int] = int,
    ) -> None:
        self._arenas = arenas
        self._kept = kept
        self._traffic = traffic
        self._high_water = high_water
        self._stored = stored
        self._free = free

    def begin(self, rss: int | None) -> AtBegin | None:
        """Look at the process as a task begins; None where the kernel forbids it.

        Parameters
        ----------
        rss
            RSS of the process now, in bytes.
        """
        if rss is None or not self._high_water.reset():
            return None
        return AtBegin(
            rss,
            self._stored(),
            self._free(),
            sys.getallocatedblocks(),
            uncounted_pool(),
            self._high_water.parts(),
            self._traffic(),
            _files_mapped(),
            self._arenas(),
            self._kept(),
        )

    def end(
        self,
        before: AtBegin,
        counted: int | None,
        seen: tuple[int, int] | None = None,
        *,
        by_objects: bool = False,
        doubt: int = 0,
        short_by: int = 0,
        others: int = 0,
    ) -> tuple[IsolatedPeak, int] | None:
        """Judge a task that has ended and was alone from begin to end.

        Parameters
        ----------
        seen
            The most of files and of heap that the sampler saw meanwhile, in bytes; None
            where it saw nothing.
        by_objects
            Whether its small objects were counted one by one: then room for them hides
            nothing.
        doubt
            By how much the count may be too high, as far as it knows, in bytes.
        short_by
            By how much it may be too low, likewise.
        others
            What the task freed that was there before it, or may have been, in bytes.

        Returns
        -------
        tuple of IsolatedPeak and int
            The latter is how many small objects there are more than before.
        """
        high = self._high_water.read()
        if high is None:
            return None
        grown = high - before.rss
        moved = self._moved(before)
        tally = current()
        unconfirmed = 0
        if counted is not None and tally is not None and tally.counts_resident:
            # What allocators had kept may be used again, and the process not grow.
            lacking = counted - grown
            kept = before.kept + others
            unconfirmed = max(
                confirm(lacking, moved, doubt, kept),
                not_looked_at(short_by, -lacking, moved, kept),
            )
            grown = max(grown, counted)
        free = max(0, before.free - before.arenas) if by_objects else before.free
        found = judge(
            counted,
            grown,
            free=free,
            hidden=free if tally is not None and tally.counts_resident else 0,
            moved=moved,
            arrow=taken_between(before.arrow, uncounted_pool()),
            mapped=self._mapped(before, seen),
            part=part_of(tally),
        )
        found = found._replace(error=max(found.error, unconfirmed))
        return found, max(0, sys.getallocatedblocks() - before.blocks)

    def _moved(self, before: AtBegin) -> int:
        """Return what storage and transfers may have had since a task began."""
        now = self._traffic()
        passed = now.moved - before.traffic.moved
        coming = max(now.coming, before.traffic.coming)
        stored = abs(self._stored() - before.stored)
        return max(stored, COPIES * (max(0, passed) + max(0, coming)))

    def _mapped(self, before: AtBegin, seen: tuple[int, int] | None) -> Mapped:
        """Return what came of files' pages and of heap since a task began."""
        begun, now = before.parts, self._high_water.parts()
        if begun is None or now is None:
            return Mapped()
        file, anon = seen or (0, 0)
        return Mapped(
            max(file, now.file) - begun.file,
            max(anon, now.anon + now.shmem) - begun.anon - begun.shmem,
            (_files_mapped() or 0) - (before.maps or 0),
        )


def _files_mapped() -> int | None:
    """Return what was mapped of files so far, in bytes; None where nobody counts it."""
    tally = current()
    return None if tally is None else tally.files_mapped()
