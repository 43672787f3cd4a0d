"""Watching one worker process: its RSS over time and the tasks in its recorders.

Covers sampling, attribution of the RSS to the running tasks where no native code
counts, and what is left to be read after a death.  Used by the nanny on its worker,
and by workers without a nanny on their own process, in which there may be several,
each with its recorder.  Not thread-safe: it belongs to the sampler's thread.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dask_memdash.flight import format as layout
from dask_memdash.flight.reader import RecorderReader
from dask_memdash.measure.attribution import TaskBegin, share_out
from dask_memdash.measure.children import ChildWatch
from dask_memdash.measure.moments import Moments, Values
from dask_memdash.measure.regression import PrefixRegression, Share
from dask_memdash.measure.rss import RssReader
from dask_memdash.model.breakdown import scale
from dask_memdash.model.event_parts import ChildRow
from dask_memdash.model.event_readers import to_dict
from dask_memdash.system.proc import RssParts

#: Seconds of RSS kept.
SPAN = 60.0
#: Samples kept at most, whatever the rate.
MAX_SAMPLES = 2400
#: Seconds between two solutions of what tasks of each prefix use, at least; and at most
#: one part in so many of the time goes into them.
SOLVE_INTERVAL = 0.25
SHARE_OF_TIME = 200
#: Seconds for which counts must stand still until what was counted and is not resident
#: is no page that is about to be touched.
STILL = 0.25


@dataclass(frozen=True, slots=True)
class Glance:
    """A worker process at an instant, seen from outside."""

    #: Unix time in seconds.
    time: float
    #: In bytes.
    rss: int
    tasks: tuple[layout.Slot, ...]
    #: What the RSS is made of; None where the kernel does not say.
    parts: RssParts | None = None


class WorkerWatch:
    """Samples one process.

    Parameters
    ----------
    pid
        The worker's process.
    recorders
        Its flight recorders; may be added to and taken from by whoever made them.
    prefix_of
        Gives the prefix of a key's text.
    moments
        Notes what the process was made of at each sample; None: nobody will ask.
    """

    def __init__(
        self,
        pid: int,
        recorders: Sequence[RecorderReader] = (),
        prefix_of: Callable[[str], str] = str,
        moments: Moments | None = None,
    ) -> None:
        self.pid = pid
        self.moments = moments
        #: (Unix time in seconds, RSS in bytes) of the last minute, oldest first.
        self.samples: deque[tuple[float, int]] = deque(maxlen=MAX_SAMPLES)
        self.recorders = list(recorders)
        self._rss = RssReader(pid)
        # What the recorders' workers last read, in their order; None where torn.
        self._readings: list[Values | None] = []
        #: What the RSS was made of at the last sample; None where not known.
        self.parts: RssParts | None = None
        # The task that runs alone: its begin, pages of files just before it, and the
        # most of files and of heap that was seen since, in bytes.
        self._alone = (0.0, 0, 0, 0)
        # What tasks hold and is stored, the most since none ran; and how much of that
        # has gone: allocators may have kept it.  In bytes.
        self._most = self._let_go = 0
        # What all tasks hold, in bytes, and since when.
        self._still = (-1, 0.0)
        # What the process had at the last sample, and its tasks held, in bytes; None
        # before the first.
        self._seen: tuple[int, int] | None = None
        # What a counted task that runs alone held at the last sample: (begin, bytes).
        self._held = (0.0, 0)
        #: Processes that its tasks started.
        self.children = ChildWatch(pid, prefix_of)
        self._told: tuple[ChildRow, ...] = ()
        self._prefix_of = prefix_of
        self._use = PrefixRegression()
        self._solve_from = 0.0

    def tick(self, now: float) -> Glance | None:
        """Take a sample; None when the process is gone."""
        rss = self._rss.read()
        if rss is None:
            return None
        self.samples.append((now, rss))
        while self.samples[0][0] < now - SPAN:
            self.samples.popleft()
        before, self.parts = self.parts, self._rss.parts() or self.parts
        tasks = self._attribute(rss, now, before)
        if rss:  # else it is a zombie
            self._seen = rss, sum(task.now for task in tasks)
            if self.moments is not None:
                resident = all(recorder.resident for recorder in self.recorders)
                self.moments.note(
                    now, rss, self.parts, self._readings, tasks, resident=resident
                )
            self._look_at_children(tasks)
        return Glance(now, rss, tuple(tasks), self.parts)

    def last_tasks(self) -> list[layout.Slot]:
        """Read the tasks in the recorders as they are now, or were at the death."""
        return [task for recorder in self.recorders for task in recorder.tasks()]

    def rss_at_death(self, sampled: int) -> int:
        """Return the most that the process is known to have had at the end, in bytes.

        What tasks came to hold after the last sample is part of it, where what they
        hold is known to be resident.

        Parameters
        ----------
        sampled
            The most that the last samples had, in bytes; 0 without one.
        """
        if not all(recorder.resident for recorder in self.recorders):
            return sampled
        tasks = self.last_tasks()
        held = sum(task.now for task in tasks)
        if self._seen is None:
            return max(sampled, held + min((task.rss for task in tasks), default=0))
        rss, held_then = self._seen
        return max(sampled, rss + held - held_then)

    def tasks_at_death(self, rss: int) -> list[layout.Slot]:
        """Read the tasks as they were at the death, with what they were filling.

        Blocks that were being filled have been seen a moment before: what the process
        grew by beyond all counts is theirs, at most what they had left to fill.  What
        is left of that may be theirs, too, and is in the error.

        Parameters
        ----------
        rss
            The most that the process is known to have had at the end, in bytes.
        """
        tasks = self.last_tasks()
        filling = {str(n): task.filling for n, task in enumerate(tasks)}
        if not any(filling.values()):
            return tasks
        self._readings = [recorder.reading() for recorder in self.recorders]
        beyond = self._beyond(rss)
        if beyond is None:  # it was never idle
            beyond = rss - min(task.rss for task in tasks)
        seen = max(0, beyond - sum(task.now for task in tasks))
        theirs = scale(filling, min(seen, sum(filling.values())))
        return [_filled(task, theirs[str(n)]) for n, task in enumerate(tasks)]

    def close(self) -> None:
        """Let go of the process and its recorders."""
        self._rss.close()
        while self.recorders:
            self.recorders.pop().close()

    def _attribute(
        self, rss: int, now: float, before: RssParts | None
    ) -> list[layout.Slot]:
        tasks = []
        sampled: list[tuple[RecorderReader, layout.Slot]] = []
        counted: list[tuple[RecorderReader, layout.Slot]] = []
        for recorder in list(self.recorders):
            for task in recorder.tasks():
                running = task.state == layout.RUNNING and task.measured
                running = running and not task.gathering
                if running and not recorder.tallied:
                    sampled.append((recorder, task))
                    continue
                tasks.append(task)
                if running:
                    counted.append((recorder, task))
        self._readings = [recorder.reading() for recorder in self.recorders]
        self._note_let_go(tasks)
        if len(counted) + len(sampled) == 1:
            self._look_at_maps(*(counted or sampled)[0], before)
        if len(counted) == len(tasks) == 1:
            self._look_at_remainder(rss, *counted[0])
        elif len(counted) > 1:
            held = sum(task.now for task in tasks)
            self._share_remainder(rss, now, held, counted)
        if counted:
            tasks = self._with_doubt(
                rss, now, tasks, [task.index for _, task in counted]
            )
        if sampled:
            pending = sum(task.now for task in tasks)
            shares = self._share_out(rss, now, pending, [task for _, task in sampled])
            for (recorder, task), share in zip(sampled, shares, strict=True):
                peak, error = task.peak, task.error
                if share.bytes >= peak:
                    peak, error = share
                recorder.write_counters(task.index, share.bytes, peak, error)
                tasks.append(replace(task, now=share.bytes, peak=peak, error=error))
        return tasks

    def _note_let_go(self, tasks: Sequence[layout.Slot]) -> None:
        """Keep how much less tasks hold and is stored than at most since none ran."""
        held = sum(task.now for task in tasks)
        for reading in self._readings:
            held += int((reading or {}).get("managed_claimed") or 0)
        self._most = max(self._most, held) if tasks else held
        self._let_go = self._most - held

    def _look_at_children(self, tasks: Sequence[layout.Slot]) -> None:
        """Look at the processes that tasks started, and tell the worker of them."""
        self.children.look(tasks, self._threads)
        rows = self.children.rows()
        if rows == self._told or not self.recorders:
            return
        self._told = rows
        # The largest come first: where there is no room for all, the others go.
        for most in range(len(rows), -1, -1):
            text = json.dumps(to_dict(rows[:most]), ensure_ascii=False)
            if self.recorders[0].tell(text.encode("utf-8", "replace")):
                return

    def _threads(self) -> dict[int, int]:
        threads: dict[int, int] = {}
        for recorder in list(self.recorders):
            threads |= recorder.threads()
        return threads

    def _look_at_maps(
        self, recorder: RecorderReader, task: layout.Slot, before: RssParts | None
    ) -> None:
        """Keep the most of files' pages and of heap while a task runs alone.

        A map that a task lets go again shows neither at its begin nor at its end.

        Parameters
        ----------
        before
            What the RSS was made of at the sample before this one.
        """
        parts = self.parts
        if parts is None:
            return
        begin, begun_with, file, anon = self._alone
        if begin != task.begin:
            begun_with = before.file if before is not None else parts.file
            begin, file, anon = task.begin, 0, 0
        file, anon = max(file, parts.file), max(anon, parts.anon + parts.shmem)
        self._alone = (begin, begun_with, file, anon)
        recorder.write_seen(begin, file, anon)

    def _mapped_since(self, task: layout.Slot) -> int:
        """Return the pages of files that came since a task that runs alone began."""
        begin, begun_with, _, _ = self._alone
        if self.parts is None or begin != task.begin:
            return 0
        return max(0, self.parts.file - begun_with)

    def _with_doubt(
        self, rss: int, now: float, tasks: list[layout.Slot], running: list[int]
    ) -> list[layout.Slot]:
        """Return tasks with what nothing explains now in the errors of those that run.

        Parameters
        ----------
        running
            Slots of the counted ones that run.
        """
        beyond = self._beyond(rss)
        if beyond is None:
            return tasks
        held = sum(task.now for task in tasks)
        gap = self._unexplained(beyond - held)
        if held != self._still[0]:
            self._still = held, now
        if gap < 0 and now < self._still[1] + STILL:
            return tasks  # pages that are about to be touched
        if gap > 0 and len(running) > 1:
            shares = [self._use.of(self._prefix_of(task.key)) for task in tasks]
            gap -= sum(max(0, share.bytes) for share in shares if share is not None)
            gap = max(0, gap)
        doubt = abs(gap)
        return [
            replace(task, error=max(task.error, doubt))
            if task.index in running
            else task
            for task in tasks
        ]

    def _share_remainder(
        self,
        rss: int,
        now: float,
        held: int,
        counted: list[tuple[RecorderReader, layout.Slot]],
    ) -> None:
        """Widen the errors of counted tasks by their share of what is not counted."""
        remainder = self._beyond(rss)
        if remainder is None:
            return
        names = [self._prefix_of(task.key) for _, task in counted]
        # Less than was counted: pages that are about to be touched.
        self._learn(max(0, self._unexplained(remainder - held)), names, now)
        for (recorder, task), name in zip(counted, names, strict=True):
            share = self._use.of(name)
            if share is not None:
                error = abs(share.bytes) + share.error
                if error > task.error:
                    recorder.write_error(task.index, error)

    def _learn(self, total: int, names: list[str], now: float) -> None:
        self._use.observe(total, names)
        if now > self._solve_from:
            begun = time.monotonic()
            self._use.solve()
            took = time.monotonic() - begun
            self._solve_from = now + max(SOLVE_INTERVAL, SHARE_OF_TIME * took)

    def _share_out(
        self, rss: int, now: float, pending: int, tasks: list[layout.Slot]
    ) -> list[Share]:
        """Share out what the process has beyond storage, baseline and pending tasks."""
        total = self._beyond(rss)
        if total is not None:
            total -= pending
        names = [self._prefix_of(task.key) for task in tasks]
        if total is not None and len(tasks) > 1:
            self._learn(total, names, now)
        begun = [
            TaskBegin(task.rss, name, self._use.of(name))
            for task, name in zip(tasks, names, strict=True)
        ]
        if len(tasks) == 1:
            rss -= self._mapped_since(tasks[0])
        return share_out(rss, begun, total)

    def _beyond(self, rss: int) -> int | None:
        """Return what it has beyond storage and beyond what was left when last idle."""
        beyond, base, base_file = rss, None, None
        for values in self._readings:
            reading = values or {}
            if base is None:
                base, base_file = reading.get("last_rest"), reading.get("base_file")
            for name in ("managed_claimed", "incoming", "outgoing", "shuffle"):
                beyond -= int(reading.get(name) or 0)
        if base is None:
            return None
        mapped = 0
        if base_file is not None and self.parts is not None:
            mapped = max(0, self.parts.file - int(base_file))
        return beyond - int(base) - mapped

    def _unexplained(self, gap: int) -> int:
        """Return what the process has beyond all counts, or lacks, in bytes.

        What tasks had and freed since may still be there, and is nobody's.
        """
        return max(0, gap - self._let_go) if gap > 0 else gap

    def _look_at_remainder(
        self, rss: int, recorder: RecorderReader, task: layout.Slot
    ) -> None:
        """Widen the error of a counted task alone by what its count does not explain.

        Only while its count stands still: pages that have been allocated and not been
        touched yet are no error.
        """
        held, self._held = self._held, (task.begin, task.now)
        if held == self._held:
            grown = rss - task.rss - self._mapped_since(task)
            remainder = abs(self._unexplained(grown - task.now))
            if remainder > task.error:
                recorder.write_error(task.index, remainder)


def _filled(task: layout.Slot, size: int) -> layout.Slot:
    """Return a task that had filled so much more than was seen, in bytes."""
    now, left = task.now + size, task.filling - size
    return replace(
        task,
        now=now,
        peak=max(task.peak, now),
        error=max(task.error, left),
        filling=left,
    )
