"""The probe on a worker: marks tasks, keeps the storage's books, speaks in heartbeats.

Runs in the worker's process, set up by the shim that the scheduler sends
(:mod:`dask_memdash.plugins.shims`).  Must stay light to import: no Bokeh, Panel or
pandas.  Everything here but task marks runs on the worker's event loop.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from dask_memdash.border import border, guard_entry_points
from dask_memdash.config import Settings, terminate_fraction
from dask_memdash.errors import RecorderError
from dask_memdash.model.breakdown import Reading, break_down
from dask_memdash.model.events import Thresholds, to_dict
from dask_memdash.plugins.process import process
from dask_memdash.plugins.tasks import RunningTasks, prefix_of
from dask_memdash.recorder.attribution import ESTIMATED, EXACT
from dask_memdash.recorder.flight import FlightRecorder, sweep
from dask_memdash.recorder.ledger import StorageLedger
from dask_memdash.recorder.marks import MarkedThreads
from dask_memdash.recorder.meter import Meter, RssMeter, TallyMeter
from dask_memdash.recorder.proc import allocator_free
from dask_memdash.recorder.tally import Tally, load, why_not

if TYPE_CHECKING:
    from distributed.worker import Worker

#: Version of what workers, nannies and scheduler say to each other.
PROTOCOL = 1

#: States of a task in which it is still executing.
EXECUTING = frozenset({"executing", "long-running", "cancelled", "resumed"})

#: Spilled inputs looked at in one heartbeat; with more, their sum is not known.
MAX_INPUTS = 2_000

#: Change of the stored bytes that the flight recorder need not hear of at once.
TRIFLE = 2**20

#: Least time between two looks at the baseline beside heartbeats, in seconds.
SETTLE_INTERVAL = 0.1

#: Seconds between two looks for a chance to take a thread dict out again.
RESTORE_INTERVAL = 0.1


@guard_entry_points
class WorkerProbe:
    """All of MemDash on one worker: plugin hooks and heartbeat extension."""

    #: What the host gets when one of these fails: a heartbeat must say something.
    ON_FAILURE: ClassVar[dict[str, Any]] = {
        "heartbeat": lambda: {"protocol": PROTOCOL, "notices": border.texts()}
    }

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._up = False

    # -- called by the host ----------------------------------------------------

    def setup(self, worker: Worker) -> None:
        """Attach to a worker."""
        self._worker = worker
        self._address = str(worker.contact_address or worker.address)
        self._ledger = StorageLedger()
        self._rows_sent = -1
        self._remainder = 0
        self._claimed_written = 0
        self._settled = 0.0
        self._notices: list[str] = []
        slots = self._settings.recorder_slots or 16 + 4 * worker.state.nthreads
        self._has_nanny = bool(worker.nanny)
        if self._has_nanny:
            sweep(self._settings.recorder_directory)
        self._tally = self._acquire_tally()
        self._recorder = self._make_recorder(slots)
        read_rss = process.read_rss if self._tally is None else process.recent_rss
        self.tasks = RunningTasks(
            self._recorder, self._make_meter(), read_rss, process.running
        )
        process.join(self)
        self._up = True
        for key in list(worker.data):
            self._store(key)
        self._mark_threads()
        if not self._has_nanny:
            process.sample(self._recorder, self._settings.sample_interval)
        worker.extensions["memdash"] = self
        self._write_reading(self._read())

    def teardown(self, worker: Worker) -> None:
        """Detach from the worker, leaving nothing behind."""
        if not self._up:
            return
        self._up = False
        if worker.extensions.get("memdash") is self:
            del worker.extensions["memdash"]
        if worker.status.name.startswith("clos"):
            self._recorder.mark_closing(worker.status.name)
        self._marks.disarm()
        self._restore_threads()
        process.stop_sampling(self._recorder)
        process.leave(self)
        if self._tally is not None:
            self._tally.release()
        self._recorder.close()

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Follow a task's state on the worker."""
        if not self._up:
            return
        if finish == "memory":
            size = self._store(key)
            if start in EXECUTING:
                self.tasks.leave(key, size)
            self._settle()
        elif start == "memory":
            self._ledger.release(key)
            self._write_claimed()
        elif start in EXECUTING:
            if finish not in EXECUTING:
                self.tasks.leave(key, None)
        elif finish == "executing" and self._runs_elsewhere(key):
            self.tasks.begin_elsewhere(key)

    def heartbeat(self) -> dict[str, Any]:
        """Give what travels with the worker's next heartbeat."""
        spills = self._look_at_spilled()
        known = self._worker.state.tasks.__contains__
        self.tasks.drop_forgotten(known)
        now = time.time()
        executing = self.tasks.executing(now)
        reading = self._read(spills=spills, now=now)
        self._remainder = break_down(reading).error
        self._write_reading(reading)
        rows = None
        if self._rows_sent != self._ledger.version:
            rows = {prefix: list(row) for prefix, row in self._ledger.rows().items()}
            self._rows_sent = self._ledger.version
        return {
            "protocol": PROTOCOL,
            "pid": self._recorder.pid,
            "reading": to_dict(reading),
            "rows": rows,
            "executing": to_dict(tuple(executing)),
            "finished": to_dict(self.tasks.take_finished()),
            "thresholds": to_dict(self._thresholds()),
            "method": EXACT if self._tally is not None else ESTIMATED,
            "notices": self._all_notices(),
        }

    # -- what other workers of this process see --------------------------------

    def stored_and_moving(self) -> int:
        """Bytes of storage in RAM and of transfers."""
        return self._claimed() + sum(self._moving())

    def quiet(self) -> bool:
        """Whether no task, output, transfer or shuffle is under way."""
        state = self._worker.state
        return not (
            self.tasks.busy
            or state.executing
            or state.transfer_incoming_count
            or self._worker.transfer_outgoing_count
            or self._shuffles()
        )

    # -- parts ---

    def _acquire_tally(self) -> Tally | None:
        """Give the tally with its hooks installed; None, and say why, without."""
        tally = load() if self._settings.tally else None
        if tally is not None and tally.acquire():
            return tally
        if self._settings.tally:
            why = tally.refused if tally is not None else why_not()
            text = f"{why}; in-execution memory is estimated from the RSS instead"
            self._notices.append(text)
            self._worker.log_event("memdash", {"action": "lacks", "text": text})
        return None

    def _make_recorder(self, slots: int) -> FlightRecorder:
        map_slots = None if self._tally is None else self._tally.map_slots
        try:
            recorder = FlightRecorder(
                slots,
                self._address,
                self._settings.recorder_directory,
                private=not self._has_nanny,
                map_slots=map_slots,
            )
        except RecorderError as error:
            self._notices.append(f"{error}: a death leaves no record")
            recorder = FlightRecorder(
                slots, self._address, private=True, map_slots=map_slots
            )
        if recorder.degraded:
            self._notices.append(recorder.degraded)
        return recorder

    def _make_meter(self) -> Meter:
        if self._tally is None:
            return RssMeter(self._recorder)
        return TallyMeter(self._tally, self._recorder, lambda: self._remainder)

    # -- task marks ------------------------------------------------------------

    def _mark_threads(self) -> None:
        worker = self._worker
        self._marks = MarkedThreads(
            worker.active_threads,
            border.guarded(self.tasks.begin, "the mark of a task's begin"),
            border.guarded(self._end, "the mark of a task's end"),
        )
        with worker.active_threads_lock:
            running = dict(worker.active_threads)
            worker.active_threads = self._marks  # type: ignore[assignment]
        for ident, key in running.items():
            task = worker.state.tasks.get(key)
            if task is not None:
                self.tasks.adopt(ident, key, task.start_time or time.time())
        for key in list(worker.active_keys):
            if key not in running.values() and self._runs_elsewhere(key):
                self.tasks.begin_elsewhere(key)

    def _end(self, ident: int) -> None:
        self.tasks.end(ident, stored=self._worker.state.tasks.__contains__)

    def _restore_threads(self) -> None:
        """Put a plain dict back as soon as no task would miss its entry."""
        worker, marks = self._worker, self._marks
        with worker.active_threads_lock:
            current: object = worker.active_threads
            if current is not marks:
                return  # somebody else's by now, who shows what is left in ours
            if not marks:
                worker.active_threads = {}
                return
        if not worker.status.name.startswith("clos"):
            worker.loop.call_later(
                RESTORE_INTERVAL,
                border.guarded(self._restore_threads, "restoring active_threads"),
            )

    def _runs_elsewhere(self, key: Any) -> bool:
        """Whether a task runs on the event loop or in an executor of its own kind."""
        task = self._worker.state.tasks.get(key)
        if task is None:
            return False
        if getattr(task.run_spec, "is_coro", False):
            return True
        name = (task.annotations or {}).get("executor", "default")
        executor = self._worker.executors.get(name)
        return "ThreadPoolExecutor" not in str(type(executor))

    # -- storage ---------------------------------------------------------------

    def _store(self, key: Any) -> int:
        task = self._worker.state.tasks.get(key)
        size = int(getattr(task, "nbytes", None) or 0)
        prefix = getattr(task, "prefix", None) or prefix_of(key)
        self._ledger.store(key, str(prefix), size)
        self._write_claimed()
        return size

    def _claimed(self) -> int:
        return max(0, self._ledger.total - self._ledger.spilled[0])

    def _write_claimed(self) -> None:
        """Keep the recorder's figure true between two readings, but for trifles."""
        claimed = self._claimed()
        if abs(claimed - self._claimed_written) > TRIFLE:
            self._claimed_written = claimed
            self._recorder.write_claimed(claimed)

    def _look_at_spilled(self) -> bool:
        """Bring the spilled bytes up to date; False if they cannot be told."""
        data = self._worker.data
        if isinstance(data, dict):
            return True
        sizes = _spilled_sizes(data)
        if sizes is None:
            return False
        total = tuple(getattr(data, "spilled_total", ()))
        if total != self._ledger.spilled or self._ledger.looking:
            self._ledger.look_at_spilled(sizes)
        return True

    def _inputs(self) -> int | None:
        """Spilled bytes that are in RAM all the same, as somebody refers to them."""
        data = self._worker.data
        if isinstance(data, dict):
            return 0
        cache = getattr(getattr(data, "slow", None), "cache", None)
        sizes = _spilled_sizes(data)
        if cache is None or sizes is None or len(cache) > MAX_INPUTS:
            return None
        return sum(int(sizes[key][0]) for key in list(cache) if key in sizes)

    # -- reading ---------------------------------------------------------------

    def _read(self, *, spills: bool = True, now: float | None = None) -> Reading:
        now = time.time() if now is None else now
        rss = process.read_rss() or 0
        process.observe(time.monotonic(), rss)
        incoming, outgoing, shuffle = self._moving()
        spilled, spilled_disk = self._ledger.spilled
        return Reading(
            time=now,
            rss=rss,
            managed_claimed=self._claimed(),
            incoming=incoming,
            outgoing=outgoing,
            shuffle=shuffle,
            free=allocator_free(),
            base=process.baseline.bytes,
            live=self.tasks.live(),
            busy=self.tasks.busy,
            spilled=spilled if spills else None,
            spilled_disk=spilled_disk if spills else None,
            inputs=self._inputs() if spills else None,
            shuffle_disk=self._shuffle_disk(),
        )

    def _settle(self) -> None:
        """Look at the baseline when the last task's output has just been stored."""
        now = time.monotonic()
        if now < self._settled + SETTLE_INTERVAL or self.tasks.busy:
            return
        self._settled = now
        rss = process.read_rss()
        if rss is not None:
            process.observe(now, rss)

    def _moving(self) -> tuple[int, int, int]:
        incoming = int(self._worker.state.transfer_incoming_bytes)
        outgoing = int(self._worker.transfer_outgoing_bytes)
        shuffle = sum(
            int(run[side].get("memory", 0))
            for run in self._shuffles().values()
            for side in ("disk", "comm")
        )
        return incoming, outgoing, shuffle

    def _shuffle_disk(self) -> int:
        return sum(
            max(0, int(run["disk"].get("written", 0)) - int(run["disk"].get("read", 0)))
            for run in self._shuffles().values()
        )

    def _shuffles(self) -> dict[Any, Any]:
        extension = self._worker.extensions.get("shuffle")
        return {} if extension is None else extension.heartbeat()

    def _write_reading(self, reading: Reading) -> None:
        self._claimed_written = reading.managed_claimed
        self._recorder.write_reading(
            {
                name: getattr(reading, name)
                for name in (
                    "time",
                    "rss",
                    "managed_claimed",
                    "incoming",
                    "outgoing",
                    "shuffle",
                    "free",
                    "base",
                    "spilled",
                    "spilled_disk",
                )
            }
        )

    def _thresholds(self) -> Thresholds:
        manager = self._worker.memory_manager
        limit = manager.memory_limit

        def of_limit(fraction: Any) -> int | None:
            return int(limit * fraction) if limit and fraction else None

        return Thresholds(
            target=of_limit(manager.memory_target_fraction),
            spill=of_limit(manager.memory_spill_fraction),
            pause=of_limit(manager.memory_pause_fraction),
            terminate=of_limit(terminate_fraction()) if self._has_nanny else None,
        )

    def _all_notices(self) -> list[str]:
        notices = [*self._notices, *border.texts()]
        if self._tally is not None:
            notices += self._tally.check()
        if not process.baseline.certain:
            notices.append(
                "no idle moment has been seen yet: the baseline still contains memory "
                "of tasks, so execution is shown too small"
            )
        if self.tasks.without_slot:
            notices.append(
                f"{self.tasks.without_slot:,} tasks ran without a slot in the flight "
                "recorder and were not measured; raise memdash.recorder.slots"
            )
        return notices


def _spilled_sizes(data: object) -> Mapping[Any, tuple[int, int]] | None:
    """Give ``{key: (bytes in memory, bytes on disk)}`` of Dask's own spill buffer.

    None for a ``data`` of another kind, which cannot say.
    """
    slow = getattr(getattr(data, "slow", None), "data", None)
    sizes = getattr(slow, "weight_by_key", None)
    return sizes if isinstance(sizes, Mapping) else None
