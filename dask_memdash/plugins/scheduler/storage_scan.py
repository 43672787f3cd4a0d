"""Why each output is held: a slow scan over all workers, and a quick look at one.

No hook tells when a client lets go of a key or when the last task waiting for one
has run, so the answer is looked up: worker after worker, a slice at a time, at a
duty of some percent of the event loop whatever the number of tasks.  A worker that is
about to be removed is looked at whole, or in a sample where that would take too long.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from dask_memdash.model.event_parts import Held
from dask_memdash.model.events import StorageHeld

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler, TaskState, WorkerState

    Fetched = Callable[[WorkerState, TaskState], bool]
    Kept = Callable[[object], str | None]

#: Time spent in one go, in seconds, and tasks looked at between two looks at the clock.
BUDGET = 0.002
CHUNK = 200

#: How many times longer than a pass over all outputs took nothing is looked at after
#: it, and for how many seconds at most: on a few workers a pass would follow the other.
REST = 200
LONGEST_REST = 5.0

#: Waiting tasks looked at for each output; they are nearly always of one prefix.
MAX_WAITERS = 8

#: Holders of an output that are asked whether they fetched it, at most.
MAX_HOLDERS = 8

#: Types of outputs and clients named for each prefix, and characters of a name.
MAX_TYPES = 4
MAX_CLIENTS = 4
SHOWN = 100


class StorageScan:
    """Goes over the workers' outputs, over and over.

    Parameters
    ----------
    scheduler
        Whose workers.
    fetched
        Whether a worker is known to hold an output as a copy.
    clock
        Returns the time in seconds.
    find_kept
        Returns what says of a key whether it is "stored" or "pending" in the cluster's
        memory of intermediates, or None where the cluster has no memory.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        fetched: Fetched | None = None,
        clock: Callable[[], float] = time.perf_counter,
        find_kept: Callable[[], Kept | None] = lambda: None,
    ) -> None:
        self._find_kept = find_kept
        self._scheduler = scheduler
        self._clock = clock
        self._fetched = fetched
        self._todo: list[str] = []
        self._current: _Look | None = None
        # Workers of which it was last said that they hold something.
        self._holding: set[str] = set()
        # Of this pass, in seconds; and until when there is no other.
        self._spent = 0.0
        self._rests_until = 0.0

    def step(self, now: float) -> Iterator[StorageHeld]:
        """Go on for `BUDGET` seconds; yield what is known of each worker looked at.

        Parameters
        ----------
        now
            Unix time in seconds, for the events.
        """
        begun = self._clock()
        deadline = begun + BUDGET
        workers = self._scheduler.workers
        if self._current is None and not self._todo:
            if begun < self._rests_until:
                return
            if not self._scheduler.tasks and not self._holding:
                return
            self._spent = 0.0
            self._holding.intersection_update(workers)
            self._todo = [
                address
                for address, worker in workers.items()
                if worker.has_what or address in self._holding
            ]
        while self._current is not None or self._todo:
            if self._current is None:
                worker = workers.get(self._todo.pop())
                if worker is None:
                    continue
                self._current = _Look(worker, self._fetched, kept=self._find_kept())
            if self._current.go_on():
                look, self._current = self._current, None
                address, held = look.worker.address, look.result()
                if address in workers:
                    (self._holding.add if held else self._holding.discard)(address)
                    yield StorageHeld(now, address, held)
            if self._clock() >= deadline:
                break
        seen = self._clock()
        self._spent += seen - begun
        if self._current is None and not self._todo:
            self._rests_until = seen + min(LONGEST_REST, REST * self._spent)


def look_at(
    worker: WorkerState,
    seconds: float,
    fetched: Fetched | None = None,
    kept: Kept | None = None,
) -> tuple[dict[str, Held], float]:
    """Say why a worker's outputs are held, now.

    Parameters
    ----------
    worker
        As the scheduler knows it.
    seconds
        How long that may take.  Where it is not enough, outputs that lie evenly over
        all of them are looked at, with every one that is larger than a hundredth of
        the whole, and the figures are scaled up.
    fetched
        Whether a worker is known to hold an output as a copy.
    kept
        Whether a key is "stored" or "pending" in the cluster's memory.

    Returns
    -------
    dict
        Prefix → why its outputs are held.
    float
        Share of the outputs that was looked at: 1.0 where all were.
    """
    deadline = time.perf_counter() + seconds
    look = _Look(worker, fetched, large_first=True, kept=kept)
    while not look.go_on() and time.perf_counter() < deadline:
        pass
    share = look.share
    return look.result(), share


class _Look:
    """A look at one worker's outputs, in an order in which each part is a sample.

    Parameters
    ----------
    worker
        As the scheduler knows it.
    fetched
        Whether a worker is known to hold an output as a copy.
    large_first
        Whether to begin with every output that is larger than a hundredth of all, which
        then counts for itself alone.
    """

    def __init__(
        self,
        worker: WorkerState,
        fetched: Fetched | None = None,
        *,
        large_first: bool = False,
        kept: Kept | None = None,
    ) -> None:
        self.worker = worker
        self._kept = kept
        self._fetched = fetched
        self._large: dict[str, _Sums] = {}
        self._held: dict[str, _Sums] = {}
        self._tasks = list(worker.has_what)
        self._least = math.inf
        self._todo = len(self._tasks)
        self._looked = 0
        if large_first and len(self._tasks) > CHUNK:
            self._least = least = worker.nbytes / 100
            large = [task for task in self._tasks if task.nbytes > least]
            self._todo -= len(large)
            for task in large:
                self._add(task, self._large)
        # Every so many-th output is looked at, from as many beginnings: so few times
        # that cutting out a slice costs nothing.  A prime, since outputs that differ by
        # turns (every second one, every tenth) are all met then.
        self._step = _prime_from(len(self._tasks) // CHUNK)
        self._starts = iter(range(self._step))

    @property
    def share(self) -> float:
        """Share of the outputs, but the large ones, that was looked at so far."""
        return self._looked / self._todo if self._todo else 1.0

    def go_on(self) -> bool:
        """Look at the next outputs; True when all have been looked at."""
        start = next(self._starts)
        for task in self._tasks[start :: self._step]:
            if task.nbytes <= self._least:
                self._looked += 1
                self._add(task, self._held)
        return start == self._step - 1

    def result(self) -> dict[str, Held]:
        """Return what was found, by prefix, scaled up to all outputs."""
        share = self.share
        found = {prefix: sums.scaled(share) for prefix, sums in self._held.items()}
        for prefix, sums in self._large.items():
            found.setdefault(prefix, _Sums()).add(sums)
        return {prefix: sums.held() for prefix, sums in found.items()}

    def _add(self, task: TaskState, held: dict[str, _Sums]) -> None:
        if task.state != "memory":
            return
        size = max(0, task.nbytes)
        sums = held.setdefault(str(task.prefix.name), _Sums())
        sums.keys += 1
        if task.type and len(sums.types) < MAX_TYPES:
            sums.types.add(str(task.type)[:SHOWN])
        if task.who_wants:
            sums.pinned += size
        if task.waiters:
            sums.awaited += size
            waiters = islice(task.waiters, MAX_WAITERS)
            for name in {str(waiter.prefix.name) for waiter in waiters}:
                sums.awaited_by[name] = sums.awaited_by.get(name, 0) + size
        holders = task.who_has or ()
        if len(holders) > 1:
            sums.shared += size
            sums.n_shared += 1
            sums.max_copies = max(sums.max_copies, len(holders))
        if len(holders) > 1 and self.worker is not min(
            holders, key=lambda holder: holder.address
        ):
            sums.replicas += size
            sums.n_replicas += 1
        copied = self._copied(task, size)
        if self._kept is not None:
            # a copy lies in the store no second time, and nobody waits for one
            kept = self._kept(task.key)
            if kept == "stored":
                sums.stored += size - copied
            elif kept == "pending":
                sums.stored_pending += size - copied
        if copied:
            sums.because["replica"] = sums.because.get("replica", 0) + copied
            size -= copied
            if not size:
                return
        if task.waiters:
            why = "awaited"
        elif task.who_wants:
            why = "pinned"
            for client in islice(task.who_wants, MAX_CLIENTS):
                name = str(client.client_key)[:SHOWN]
                if name in sums.clients or len(sums.clients) < MAX_CLIENTS:
                    sums.clients[name] = sums.clients.get(name, 0) + size
        else:
            why = "other"
        sums.because[why] = sums.because.get(why, 0) + size

    def _copied(self, task: TaskState, size: int) -> int:
        """Return how much of an output is a copy here, in bytes.

        Where nobody is known to have fetched it, each of its holders has its share.
        """
        holders = task.who_has or ()
        if self._fetched is not None:
            if self._fetched(self.worker, task):
                return size
            others = islice(holders, MAX_HOLDERS)
            if len(holders) > 1 and any(self._fetched(w, task) for w in others):
                return 0
        return size * (len(holders) - 1) // len(holders) if holders else 0


def _prime_from(least: int) -> int:
    """Return the smallest prime of at least that; 1 for less than 2."""
    number = max(1, least)
    while any(number % factor == 0 for factor in range(2, math.isqrt(number) + 1)):
        number += 1
    return number


class _Sums:
    """Running sums of one prefix on one worker, in bytes."""

    COUNTS = (
        "awaited",
        "keys",
        "n_replicas",
        "n_shared",
        "pinned",
        "replicas",
        "shared",
        "stored",
        "stored_pending",
    )
    SPLITS = ("awaited_by", "because", "clients")
    __slots__ = (*COUNTS, *SPLITS, "max_copies", "types")

    def __init__(self) -> None:
        self.pinned = self.awaited = self.replicas = self.n_replicas = 0
        self.keys = self.shared = self.n_shared = self.max_copies = 0
        self.stored = self.stored_pending = 0
        self.awaited_by: dict[str, int] = {}
        self.because: dict[str, int] = {}
        self.clients: dict[str, int] = {}
        self.types: set[str] = set()

    def scaled(self, share: float) -> _Sums:
        """Return the sums of all outputs, of which a share was looked at."""
        if share >= 1:
            return self
        scaled = _Sums()
        for name in self.COUNTS:
            setattr(scaled, name, round(getattr(self, name) / share))
        for name in self.SPLITS:
            parts = getattr(self, name).items()
            setattr(scaled, name, {part: round(n / share) for part, n in parts})
        scaled.types, scaled.max_copies = self.types, self.max_copies
        return scaled

    def add(self, other: _Sums) -> None:
        """Add another's sums to these."""
        for name in self.COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in self.SPLITS:
            parts = getattr(self, name)
            for part, number in getattr(other, name).items():
                parts[part] = parts.get(part, 0) + number
        self.types |= other.types
        self.max_copies = max(self.max_copies, other.max_copies)

    def held(self) -> Held:
        """Return the sums as they are told."""
        return Held(
            pinned=self.pinned,
            awaited=self.awaited,
            awaited_by=self.awaited_by,
            replicas=self.replicas,
            n_replicas=self.n_replicas,
            because=self.because,
            types=tuple(sorted(self.types)[:MAX_TYPES]),
            clients=self.clients,
            keys=self.keys,
            shared=self.shared,
            n_shared=self.n_shared,
            max_copies=self.max_copies,
            stored=self.stored,
            stored_pending=self.stored_pending,
        )
