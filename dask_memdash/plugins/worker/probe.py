"""The probe on a worker: marks tasks, keeps the storage's books, speaks in heartbeats.

Runs in the worker's process, set up by the shim that the scheduler sends
(:mod:`dask_memdash.plugins.shims`).  Must stay light to import: no Bokeh, Panel or
pandas.  Everything here but task marks runs on the worker's event loop.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar

from dask_memdash.boundary import boundary, guard_entry_points
from dask_memdash.config import Settings, terminate_fraction
from dask_memdash.errors import RecorderError
from dask_memdash.flight.format import READING_FIELDS
from dask_memdash.flight.recorder import FlightRecorder, sweep
from dask_memdash.measure.attribution import ESTIMATED, EXACT, HWM
from dask_memdash.measure.marks import MarkedThreads
from dask_memdash.measure.meter import Mark, Meter, RssMeter, TallyMeter
from dask_memdash.measure.regression import PrefixRegression
from dask_memdash.measure.tally import Tally, load, why_not
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.event_parts import SelfCost, Thresholds
from dask_memdash.model.event_readers import to_dict
from dask_memdash.plugins.protocol import PROTOCOL
from dask_memdash.plugins.worker.limit_facts import LimitReporter
from dask_memdash.plugins.worker.shared_process import process
from dask_memdash.plugins.worker.tasks import RunningTasks
from dask_memdash.plugins.worker.worker_errors import ErrorWatch
from dask_memdash.plugins.worker.worker_storage import Holdings
from dask_memdash.self_cost import Backoff, CostMeter, metered_methods, weigh

if TYPE_CHECKING:
    from distributed.worker import Worker

#: States of a task in which it is still executing.
EXECUTING = frozenset({"executing", "long-running", "cancelled", "resumed"})

#: States that matter when a task enters or leaves them.
FOLLOWED = EXECUTING | {"memory", "error"}

#: Change of the stored bytes that the flight recorder need not hear of at once.
WRITE_STEP = 2**20

#: Seconds between two looks at what our own data weighs.
WEIGHED_EVERY = 10.0

#: Least time between two looks at the baseline beside heartbeats, in seconds.
SETTLE_INTERVAL = 0.1

#: What is said where the kernel keeps no high-water mark that can be set back.
NO_HIGH_WATER = (
    "the kernel does not let the high-water mark of the RSS be set back (clear_refs); "
    "what native libraries use in a task that runs alone is not measured"
)

#: What is said where there is no /proc.
NO_PROC = (
    f"this system ({sys.platform}) has no /proc: the RSS is read through psutil; what "
    "native libraries use, what was reserved and never touched, and what the kernel "
    "killed are not measured"
)

#: Spilled outputs in use that are looked at between two readings, at most.
FEW_INPUTS = 100

#: Seconds between two looks for a chance to take a thread dict out again.
RESTORE_INTERVAL = 0.1


@metered_methods("heartbeat")
@guard_entry_points
class WorkerProbe:
    """All of MemDash on one worker: plugin hooks and heartbeat extension."""

    #: What the host gets when one of these fails: a heartbeat must say something.
    ON_FAILURE: ClassVar[dict[str, Any]] = {
        "heartbeat": lambda: {"protocol": PROTOCOL, "notices": boundary.texts()}
    }

    BARE = ("transition",)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._up = False
        self.cost = CostMeter()
        self._backoff = Backoff(settings.budget, most=2)
        self._follow = self.cost.metered(
            boundary.guarded(self._follow_task, "following a task's state")
        )

    # -- called by the host ----------------------------------------------------

    def setup(self, worker: Worker) -> None:
        """Attach to a worker."""
        self._worker = worker
        self._address = str(worker.contact_address or worker.address)
        self._holdings = Holdings(worker)
        self._claimed_written = 0
        self._spilled_written = (0, 0)
        self._settled = 0.0
        self._notices: list[str] = []
        self._weighed_at = 0.0
        self._weight = 0
        slots = self._settings.recorder_slots or 16 + 4 * worker.state.nthreads
        self._has_nanny = bool(worker.nanny)
        if self._has_nanny:
            sweep(self._settings.recorder_directory)
        self._tally = self._acquire_tally()
        self._recorder = self._make_recorder(slots)
        shares = PrefixRegression()
        self.tasks = RunningTasks(
            self._recorder, self._make_meter(shares), process, shares
        )
        reporter = boundary.guarded(LimitReporter, "reading what limits the memory")
        self._limits: LimitReporter | None = reporter(worker)
        process.join(self)
        if not sys.platform.startswith("linux"):
            self._notices.append(NO_PROC)
        elif not process.high_water:
            self._notices.append(NO_HIGH_WATER)
        watch = boundary.guarded(ErrorWatch, "listening for troubles")
        self._worker_errors: ErrorWatch | None = watch(worker)
        self._up = True
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
        if self._worker_errors is not None:
            self._worker_errors.remove()
        self._restore_threads()
        process.stop_sampling(self._recorder)
        process.leave(self)
        if self._tally is not None:
            self._tally.release()
        self._recorder.close()

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Follow a task's state on the worker; half of what it hears is of no use."""
        if self._up and (finish in FOLLOWED or start in FOLLOWED):
            self._follow(key, start, finish)

    def _follow_task(self, key: Any, start: str, finish: str) -> None:
        if finish == "error" and self._worker_errors is not None:
            self._worker_errors.task_erred(key)
        if finish == "memory":
            size = self._holdings.store(key)
            self._write_held()
            if start in EXECUTING:
                mark = self.tasks.leave(key, size)
                if mark is not None and mark.left is not None:
                    self._explain(mark, mark.left, size)
            self._settle()
        elif start == "memory":
            self._holdings.release(key)
            self._write_held()
        elif start in EXECUTING:
            if finish not in EXECUTING:
                self.tasks.leave(key, None)
        elif finish == "executing" and self._runs_elsewhere(key):
            self.tasks.begin_elsewhere(key)

    def heartbeat(self) -> dict[str, Any]:
        """Return what travels with the worker's next heartbeat."""
        spills = self._holdings.look_at_spilled()
        known = self._worker.state.tasks.__contains__
        self.tasks.drop_forgotten(known)
        now = time.time()
        executing = self.tasks.executing(now)
        reading = self._read(spills=spills, now=now)
        self._write_reading(reading)
        return {
            "protocol": PROTOCOL,
            "pid": self._recorder.pid,
            "reading": to_dict(reading),
            "rows": self._holdings.new_rows(),
            "executing": to_dict(tuple(executing)),
            "finished": to_dict(self.tasks.take_finished()),
            "thresholds": to_dict(self._thresholds()),
            "method": self._method(),
            "cost": to_dict(self._own_cost(now)),
            "notices": self._all_notices(),
            "nanny_cost": to_dict(self._nanny_cost()),
            "limits": to_dict(self._limits.report()) if self._limits else None,
        }

    # -- what other workers of this process see --------------------------------

    def stored(self) -> int:
        """Bytes of storage in RAM; may be called from any thread."""
        return self._holdings.stored()

    def moving(self) -> int:
        """Bytes of transfers."""
        return sum(self._holdings.moving())

    def quiet(self) -> bool:
        """Whether no task, output, transfer or shuffle is under way."""
        state = self._worker.state
        return not (
            self.tasks.busy
            or state.executing
            or state.transfer_incoming_count
            or self._worker.transfer_outgoing_count
            or self._holdings.shuffles()
        )

    # -- what MemDash itself costs ---------------------------------------------

    def _own_cost(self, now: float) -> SelfCost:
        """Say what it costs here, and hold back where that is too much."""
        rate = self.cost.rate()
        self.tasks.held_back = self._backoff.judge(rate)
        if now > self._weighed_at + WEIGHED_EVERY:
            self._weighed_at = now
            self._weight = len(self._recorder.buffer) + weigh(self._holdings.ledger)
        return SelfCost(rate, self._weight, self._backoff.level)

    def _nanny_cost(self) -> SelfCost:
        """Say what sampling costs, as the sampler has left it in the recorder."""
        if not self._has_nanny:
            return SelfCost(process.cost.rate())
        cost, interval = self._recorder.sampler()
        stretched = interval is not None and interval > self._settings.sample_interval
        return SelfCost(cost, held_back=int(stretched))

    # -- parts ---

    def _acquire_tally(self) -> Tally | None:
        """Return the tally with its hooks installed; None, and say why, without."""
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

    def _make_meter(self, shares: PrefixRegression) -> Meter:
        shared_out = RssMeter(self._recorder, process.beyond, shares.of)
        if self._tally is None:
            return shared_out
        return TallyMeter(self._tally, self._recorder, shared_out)

    def _method(self) -> str:
        """Name the best method that tasks are measured by here."""
        if self._tally is not None:
            return EXACT
        alone = self._worker.state.nthreads == 1 and process.high_water
        return HWM if alone else ESTIMATED

    # -- task marks ------------------------------------------------------------

    def _mark_threads(self) -> None:
        worker = self._worker
        self._marks = MarkedThreads(
            worker.active_threads,
            self.cost.metered(
                boundary.guarded(self._begin, "the mark of a task's begin")
            ),
            self.cost.metered(boundary.guarded(self._end, "the mark of a task's end")),
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

    def _begin(self, ident: int, key: Any) -> None:
        self.tasks.begin(ident, key)
        if self._holdings.spilled()[0] or self._spilled_written[0]:
            self._write_held()  # its inputs may just have come back from disk

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
                boundary.guarded(self._restore_threads, "restoring active_threads"),
            )

    def _runs_elsewhere(self, key: Any) -> bool:
        """Whether a task runs on the event loop or in an executor of its own kind."""
        task = self._worker.state.tasks.get(key)
        if task is None:
            return False
        if getattr(task.run_spec, "is_coro", False):
            return True
        annotations = task.annotations
        name = annotations.get("executor", "default") if annotations else "default"
        executor = self._worker.executors.get(name)
        return "ThreadPoolExecutor" not in type(executor).__name__

    # -- reading ---------------------------------------------------------------

    def _read(self, *, spills: bool = True, now: float | None = None) -> Reading:
        now = time.time() if now is None else now
        rss = process.read_rss() or 0
        process.observe(time.monotonic(), rss)
        holdings = self._holdings
        moving = holdings.moving()
        spilled, spilled_disk = holdings.ledger.spilled
        return Reading(
            time=now,
            rss=rss,
            managed_claimed=holdings.stored(),
            incoming=moving.incoming,
            outgoing=moving.outgoing,
            shuffle=moving.shuffle,
            free=process.free,
            base=process.baseline.bytes,
            live=self.tasks.live(),
            busy=self.tasks.busy,
            spilled=spilled if spills else None,
            spilled_disk=spilled_disk if spills else None,
            inputs=holdings.inputs() if spills else None,
            shuffle_disk=holdings.shuffle_disk(),
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

    def _write_held(self) -> None:
        """Keep the recorder's figures true between two readings, but for trifles."""
        claimed = self._holdings.stored()
        if abs(claimed - self._claimed_written) > WRITE_STEP:
            self._claimed_written = claimed
            self._recorder.write_field("managed_claimed", claimed)
        spilled = self._holdings.spilled()
        if not (spilled[0] or self._spilled_written[0]):
            return
        if spilled != self._spilled_written:
            self._spilled_written = spilled
            self._recorder.write_field("spilled", spilled[0])
            self._recorder.write_field("spilled_disk", spilled[1])
        inputs = self._holdings.inputs(FEW_INPUTS)
        if inputs is not None:
            self._recorder.write_field("inputs", inputs)

    def _explain(self, mark: Mark, left: int, size: int) -> None:
        """Find out why an output weighs much less than Dask believes, once a prefix."""
        because = self.tasks.because
        if size > 2 * max(left, 0) + WRITE_STEP and mark.prefix not in because:
            because[mark.prefix] = self._holdings.borrowed(mark.key)

    def _write_reading(self, reading: Reading) -> None:
        self._claimed_written = reading.managed_claimed
        self._spilled_written = (reading.spilled or 0, reading.spilled_disk or 0)
        values = {name: getattr(reading, name, None) for name in READING_FIELDS}
        self._recorder.write_reading({**values, "last_rest": process.left()})

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
        notices = [*self._notices, *boundary.texts()]
        if self._tally is not None:
            notices += self._tally.check()
        if self._backoff.level:
            notices.append(
                f"MemDash cost more than {self._settings.budget:.2%} of a core here "
                "and measures more coarsely until it does not (memdash.budget)"
            )
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
