"""The thread that writes a run: a bounded queue, one transaction a second.

Whoever records puts rows into the queue and never waits.  What a slow or full disk
leaves no room for is dropped, counted and said.  All files of the run are made,
written, closed and removed by this thread alone.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from dask_memdash.boundary import boundary
from dask_memdash.runs import retention
from dask_memdash.runs.detail import Histories
from dask_memdash.runs.directory import (
    KINDS,
    Manifest,
    Segment,
    closed_name,
    live_name,
    write_manifest,
)
from dask_memdash.runs.left_out import LeftOut
from dask_memdash.runs.living import this_place
from dask_memdash.runs.rows import fit
from dask_memdash.runs.segment import LiveSegment, remove
from dask_memdash.runs.waiting import Row, Waiting, weight_of
from dask_memdash.text import count, format_bytes, format_instant

#: Seconds between two transactions, and to the next try after a failure at most.
EACH = 1.0
PATIENCE = 15.0

#: When a segment is closed: after so many seconds, or at so many bytes.
CLOSE_AFTER = 600.0
CLOSE_AT = 16 * 2**20

#: Seconds between two manifests, so that a list of runs is about right.
MANIFEST_EACH = 20.0

#: The same where what a list tells of failures and deaths has changed.
MANIFEST_SOON = 2.0

#: Seconds without an answer of the disk after which that is said.
SILENT = 10.0

#: Size of the log from which a notice is shown, in bytes.
LARGE_LOG = 64 * 2**20

#: Tables that say what `id` means; each segment has those of what it tells of.
DIMENSIONS = ("processes", "workers")

#: Errors that a disk, a file system or SQLite may have.
Trouble = (OSError, sqlite3.Error)


class Destination(Protocol):
    """Where closed segments go beside the directory that they are written in."""

    def changed(self) -> None:
        """Say that there are new files, and a new manifest after them."""

    def removed(self, names: Iterable[str]) -> None:
        """Say that segments have been removed."""

    def trouble(self) -> str | None:
        """Return what is wrong, in one sentence."""

    def close(self, timeout: float) -> None:
        """Send what there is, and end."""


class Writer:
    """Writes one run.

    Parameters
    ----------
    manifest
        Of the run; this thread alone changes it.
    prepare
        Called in the thread: makes the directory that the segments are written in
        and returns it, with where they go from there (None: nowhere).  May raise
        OSError, and is tried again.
    limit
        Of the run, in bytes.
    queue
        Rows that may wait at most (:class:`~dask_memdash.runs.waiting.Waiting`).
    """

    def __init__(
        self,
        manifest: Manifest,
        prepare: Callable[[], tuple[Path, Destination | None]],
        *,
        limit: int,
        queue: int = 50_000,
        close_after: float = CLOSE_AFTER,
        each: float = EACH,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.manifest = manifest
        self.home: Path | None = None
        self.destination: Destination | None = None
        #: Processor time of the thread, in seconds.
        self.cpu = 0.0
        self._prepare = prepare
        self._limit = limit
        self._waiting = Waiting(queue)
        self._close_after = close_after
        self._close_at = min(CLOSE_AT, max(2**18, limit // 8))
        self._each = each
        self._clock = clock
        self._left_out = LeftOut(manifest.started)
        # When the turn began that goes on: by the clock, and monotonic.
        self._turning: tuple[float, float] | None = None
        self._stop = threading.Event()
        self._histories = Histories()
        # Kind → rows by table that are still to be written.
        self._pending: dict[str, list[Row]] = {kind: [] for kind in KINDS}
        self._live: dict[str, LiveSegment] = {}
        self._dimensions: dict[Row, Row] = {}
        self._number = 0
        self._error: str | None = None
        self._why = ""
        self._lost_since: float | None = None
        self._failures = 0
        self._retry = 0.0
        self._written = 0.0
        self._told: tuple[int | None, ...] = ()
        self._summary: dict[str, int | None] = {}
        self._thread = threading.Thread(
            target=self._run, name="MemDash records", daemon=True
        )

    # -- called by whoever records ---------------------------------------------

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    @property
    def lost(self) -> int:
        """Rows that were dropped."""
        return self._waiting.lost

    def put(self, rows: list[Row]) -> None:
        """Hand rows over, oldest first; what there is no room for is lost."""
        self._waiting.put(rows)

    def keep_detail(self, moment: float) -> None:
        """Keep the history by the second around an instant."""
        self._waiting.keep_detail(moment)

    def texts(self) -> tuple[str, ...]:
        """Return what is wrong, in sentences."""
        texts = [] if self._error is None else [self._error]
        turning = self._turning
        if turning is not None and time.monotonic() > turning[1] + SILENT:
            since = format_instant(turning[0])
            texts.append(f"the record's disk has not answered since {since}")
        if self.lost:
            lost = count(self.lost, "row")
            texts.append(f"{lost} of the record lost: its disk is too slow or full")
        destination = self.destination
        trouble = None if destination is None else destination.trouble()
        return (*texts, *([trouble] if trouble else []))

    def close(self, timeout: float = 5.0) -> bool:
        """Write what there is, close the segments; True if all is done by then."""
        self._deadline = time.monotonic() + timeout
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- the thread ------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(self._each):
            self._guarded_turn()
        self._guarded_turn()
        boundary.guarded(self._finish, "ending a record")()

    def _guarded_turn(self) -> None:
        begun = time.thread_time()
        self._turning = self._clock(), time.monotonic()
        boundary.guarded(self._turn, "writing a record")()
        self._turning = None
        self.cpu += time.thread_time() - begun

    def _turn(self) -> None:
        now = self._clock()
        self._take(now)
        self._left_out.look(self.lost, now)
        stopping = self._stop.is_set()
        if time.monotonic() < self._retry and not stopping:
            return
        try:
            self._make_ready(now)
            for kind in KINDS:
                self._write(kind, now)
            if not stopping:
                self._look_after(now)
        except Trouble as error:
            self._failed(error, now)
        else:
            self._recovered(now)

    def _take(self, now: float) -> None:
        """Take what is in the queue, and sort it by segment."""
        self._summary = dict(self.manifest.summary)  # before the rows that it tells of
        rows, around = self._waiting.take()
        history, main = [], self._pending["main"]
        for table, values in rows:
            try:
                made = fit(table, values)
            except (TypeError, ValueError, RecursionError, MemoryError) as error:
                boundary.note("a row of the record", error)
                continue
            if table == "breakdown":
                history.append(made)
            else:
                main.append((table, made))
        for moment in around:
            main += [("breakdown", r) for r in self._histories.around(moment)]
        for kind, some in self._histories.add(history, now).items():
            self._pending[kind] += [("breakdown", r) for r in some]
        self._hold()

    def _hold(self) -> None:
        """Say what is still to be written."""
        rows = (values for some in self._pending.values() for _, values in some)
        self._waiting.hold(sum(map(weight_of, rows)))

    def _make_ready(self, now: float) -> None:
        """Have a directory, and live segments in it."""
        if self.home is None:
            self.home, self.destination = self._prepare()
            self.manifest.live = this_place(self.home)
        for kind, segment in list(self._live.items()):
            if not segment.there:
                segment.abandon()
                del self._live[kind]
                self._left_out.say(
                    f"the {kind} segment begun at {format_instant(segment.opened)} "
                    "vanished while it was written"
                )
        for kind in KINDS:
            if kind not in self._live:
                self.home.mkdir(0o700, parents=True, exist_ok=True)
                path = self.home / live_name(kind)
                self._live[kind] = LiveSegment(path, kind, self.manifest.id, now)
                self._pending[kind][:0] = self._dimension_rows()

    def _write(self, kind: str, now: float) -> None:
        pending = self._pending[kind]
        if not pending:
            return
        by_table: dict[str, list[tuple[Any, ...]]] = {}
        for table, values in pending:
            by_table.setdefault(table, []).append(values)
            if table in DIMENSIONS:
                self._dimensions[(table, values[:1])] = (table, values)
        if kind == "main":
            new = {t: by_table[t] for t in DIMENSIONS if t in by_table}
            for other in KINDS if new else ():
                if other != "main":
                    self._live[other].write(new)
        self._live[kind].write(by_table)
        self._pending[kind] = []
        self._hold()

    def _look_after(self, now: float) -> None:
        """Close what is old or large, drop what is no longer kept."""
        closed = False
        for kind, segment in list(self._live.items()):
            old = now - segment.opened
            full = segment.size + segment.log_size // 2 >= self._close_at
            if segment.rows and (full or not -1.0 < old < self._close_after):
                self._close(kind, now)
                closed = True
        logs = sum(segment.log_size for segment in self._live.values())
        large = f"logs of the record take {format_bytes(logs)}: a reader has it open"
        self._error = large if logs > LARGE_LOG else None
        if closed:
            self._write_and_let_go(now)
        else:
            each = MANIFEST_SOON if self._told != self._worst() else MANIFEST_EACH
            if not 0 <= now - self._written < each:
                self._write_manifest(now)

    def _close(self, kind: str, now: float) -> None:
        assert self.home is not None
        segment = self._live[kind]
        self._number += 1
        name = closed_name(self._number, kind)
        size = segment.close(self.home / name, now)
        del self._live[kind]
        self.manifest.segments.append(Segment(name, kind, segment.opened, now, size))

    def _write_and_let_go(self, now: float) -> None:
        """Write the manifest without what is no longer kept, then remove that.

        In this order no reader, whenever it comes, looks for a file that is gone.
        """
        gone = self._let_go(now)
        self._write_manifest(now)
        assert self.home is not None
        for name in gone:
            remove(self.home / name)
        if gone and self.destination is not None:
            self.destination.removed(gone)

    def _let_go(self, now: float) -> set[str]:
        """Take from the manifest what is no longer kept; give the names."""
        segments, live = self.manifest.segments, self._live.values()
        old = retention.too_old(segments, now)
        left = [one for one in segments if one not in old]
        size = sum(segment.size for segment in live)
        much = retention.too_much(left, size, self._limit)
        self._left_out.limit_took(retention.sentences(much, self._limit))
        gone = {one.name for one in (*old, *much)}
        self.manifest.segments = [one for one in left if one not in much]
        # Those of workers that have left are in the segments that tell of them.
        for key, (table, values) in list(self._dimensions.items()):
            if table == "workers" and values[-1] is not None:
                del self._dimensions[key]
        return gone

    def _write_manifest(self, now: float) -> None:
        assert self.home is not None
        manifest = self.manifest
        manifest.updated, manifest.lost_rows = now, self.lost
        self._left_out.look(self.lost, self._clock())
        manifest.left_out = self._left_out.texts()
        worst = self._worst()
        write_manifest(self.home, replace(manifest, summary=self._summary))
        self._written, self._told = now, worst
        if self.destination is not None:
            self.destination.changed()

    def _worst(self) -> tuple[int | None, ...]:
        """Return what a list of runs may not be late to tell."""
        return self._summary.get("failures"), self._summary.get("deaths")

    def _failed(self, error: Exception, now: float) -> None:
        self._failures += 1
        pause = min(PATIENCE, self._each * 2 ** min(self._failures, 6))
        self._retry = time.monotonic() + pause
        where = self.home or "its directory"
        self._error = f"the record cannot be written to {where}: {error}"
        self._error = self._why = self._error[:300]
        self._lost_since = self._lost_since or now
        if not Path(where).exists():
            for segment in self._live.values():
                segment.abandon()
            self._live.clear()

    def _recovered(self, now: float) -> None:
        if not self._failures:
            return
        self._failures, self._retry = 0, 0.0
        began, self._lost_since = self._lost_since or now, None
        self._left_out.say(
            f"from {format_instant(began)} to {format_instant(now)} nothing could be "
            f"written ({self._why})"
        )
        if self._error == self._why:
            self._error = None

    def _dimension_rows(self) -> list[Row]:
        return list(self._dimensions.values())

    def _finish(self) -> None:
        """Close all segments, the manifest last."""
        now = self._clock()
        try:
            if self.home is None:
                return
            for kind, rows in self._histories.rest().items():
                self._pending[kind] += [("breakdown", r) for r in rows]
                self._write(kind, now)
            for kind, segment in list(self._live.items()):
                if segment.rows or kind == "main":
                    self._close(kind, now)
                else:
                    segment.abandon()
                    remove(segment.path)
                    del self._live[kind]
            self.manifest.ended, self.manifest.live = now, None
            self._write_and_let_go(now)
        finally:
            if self.destination is not None:
                self.destination.close(max(0.1, self._deadline - time.monotonic()))
