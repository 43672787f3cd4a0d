"""The probe on a worker: hears of its tasks, and says in heartbeats what they use.

Runs in the worker's process, set up by the shim that the scheduler sends
(:mod:`dask_memdash.plugins.shims`).  Must stay light to import: no Bokeh, Panel or
pandas.  Everything here but task marks runs on the worker's event loop.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from dask_memdash.boundary import TOLD_FOR, boundary, guard_entry_points
from dask_memdash.config import Settings, lines_allowed, tally_allowed
from dask_memdash.flight.files import sweep
from dask_memdash.measure.brief_tasks import MAX_PREFIXES
from dask_memdash.measure.isolated import Traffic
from dask_memdash.measure.regression import PrefixRegression
from dask_memdash.measure.running_task import RunningTask
from dask_memdash.measure.shared_process import process
from dask_memdash.measure.tally import Tally
from dask_memdash.measure.tally_choice import acquire_tally, best_method, choose_meter
from dask_memdash.model.event_parts import SelfCost
from dask_memdash.model.event_readers import to_dict
from dask_memdash.plugins.keys import prefix_of
from dask_memdash.plugins.protocol import PROTOCOL
from dask_memdash.plugins.worker import notices
from dask_memdash.plugins.worker.active_threads import ActiveThreads, runs_elsewhere
from dask_memdash.plugins.worker.known_unmanaged import KnownUnmanaged
from dask_memdash.plugins.worker.limit_facts import LimitReporter
from dask_memdash.plugins.worker.metrics import serve_metrics
from dask_memdash.plugins.worker.own_sampler import own_sampler
from dask_memdash.plugins.worker.packing import pack
from dask_memdash.plugins.worker.reading import read_thresholds, read_worker
from dask_memdash.plugins.worker.recorder_figures import (
    WRITE_STEP,
    RecorderFigures,
    make_recorder,
    told_children,
)
from dask_memdash.plugins.worker.report_pace import ReportPace
from dask_memdash.plugins.worker.storing import storing
from dask_memdash.plugins.worker.tasks import RunningTasks
from dask_memdash.plugins.worker.worker_errors import ErrorWatch
from dask_memdash.plugins.worker.worker_storage import WorkerStorage
from dask_memdash.self_cost import Backoff, CostMeter, Scale, metered_methods

if TYPE_CHECKING:
    from distributed.worker import Worker

    from dask_memdash.guard.on_worker import WorkerGuard
    from dask_memdash.model.breakdown import Reading

#: States of a task in which it is still executing.
EXECUTING = frozenset({"executing", "long-running", "cancelled", "resumed"})

#: States that matter when a task enters or leaves them.
FOLLOWED = EXECUTING | {"memory", "error"}

#: Rates of our own cost that are a worker's start, when much is looked at for the first
#: time.  And the part of the budget below which it holds back less: what holding back
#: saves depends on its tasks, and may be little.
YOUNG = 4
EASED = 0.75

#: Rates in a row that a worker must hold back for until that is told in words: it shows
#: beside its cost at once, and a busy moment is no state to warn of.
LASTING = 6

#: Seconds between two looks at what our own data weighs.
WEIGHED_EVERY = 10.0

#: Time between two looks at the baseline beside heartbeats: so many times what a look
#: takes (a large heap is slow to ask), within these bounds in seconds.
SETTLE_REST = 500
SETTLE_LEAST = 0.1
SETTLE_MOST = 1.0


@metered_methods("heartbeat")
@guard_entry_points
class WorkerProbe:
    """All of MemDash on one worker: plugin hooks and heartbeat extension."""

    #: What the host gets when one of these fails: a heartbeat must say something.
    ON_FAILURE: ClassVar[dict[str, Any]] = {
        "heartbeat": lambda: {"protocol": PROTOCOL, "notices": boundary.recent()}
    }

    BARE = ("transition",)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        #: What the guard knew when this worker came: by prefix, and by key.
        self.learnt: dict[str, dict[str, Any]] | None = None
        #: What its last heartbeat told: the reading, and what MemDash costs.
        self.told: tuple[Reading | None, SelfCost] = (None, SelfCost())
        self._up = False
        self.cost = CostMeter()
        self._backoff = Backoff(settings.budget, most=2, young=YOUNG, eased=EASED)
        self._follow = self._guarded(self._follow_task, "following a task's state")
        self._come_or_go = self._guarded(self._follow_arrival, "a task's arrival")

    # -- called by the host ----------------------------------------------------

    def setup(self, worker: Worker) -> None:
        """Attach to a worker; where that fails half way, nothing of it remains."""
        self._worker = worker
        with contextlib.ExitStack() as undo:
            try:
                self._attach(worker, undo)
            except Exception as error:
                notices.say_missing(worker, error)
                raise
            self._undo = undo.pop_all()
        self._up = True

    def teardown(self, worker: Worker) -> None:
        """Detach from the worker, leaving nothing behind."""
        if not self._up:
            return
        self._up = False
        self._undo.close()

    def _attach(self, worker: Worker, undo: contextlib.ExitStack) -> None:
        """Attach step by step; `undo` gets what takes each of them back.

        Undone in the reverse order, each whatever becomes of the others.
        """
        self._has_nanny = bool(worker.nanny)
        self._settles_at = 0.0
        self._scale = Scale(WEIGHED_EVERY)
        self._pace = ReportPace(worker)
        self._storage = WorkerStorage(worker)
        self._notices: list[str] = []
        # Prefixes of which a task has been about to begin.
        self._loaded: set[str] = set()
        self._tally = self._acquire_tally(undo)
        self._make_recorder(undo)
        unmanaged = KnownUnmanaged(worker, self._recorder, self.cost.metered)
        undo.callback(unmanaged.close)
        self._unmanaged = unmanaged
        unmanaged.meet_tasks()
        shares = PrefixRegression()
        meter = choose_meter(
            self._tally, self._recorder, process.in_execution, shares.of
        )
        self.tasks = RunningTasks(self._recorder, meter, process, shares)
        reporter = boundary.guarded(LimitReporter, "reading what limits the memory")
        self._limits: LimitReporter | None = reporter(worker)
        undo.callback(process.leave, self)
        process.join(self)
        self._notices += notices.of_the_system(high_water=process.high_water)
        watch = boundary.guarded(ErrorWatch, "listening for troubles")
        self._worker_errors: ErrorWatch | None = watch(worker)
        if self._worker_errors is not None:
            undo.callback(self._worker_errors.remove)
        self._mark_threads(undo)
        undo.callback(own_sampler.remove, self._recorder)
        if not self._has_nanny:
            own_sampler.add(self._recorder, self._settings.sample_interval)
        reading = self._read(time.time())
        self._figures.write(reading, process.idle_rest())
        self._guard = boundary.guarded(self._make_guard, "putting the guard in place")(
            undo
        )
        if self._settings.metrics:
            serving = boundary.guarded(serve_metrics, "serving metrics")
            withdraw = serving(self, worker)
            if withdraw is not None:
                undo.callback(withdraw)
        undo.callback(self._leave_worker)
        worker.extensions["memdash"] = self

    def _make_guard(self, undo: contextlib.ExitStack) -> WorkerGuard | None:
        """Let tasks start when they fit, if that was asked for."""
        settings = self._settings
        if settings.guard == "off":
            return None
        from dask_memdash.guard.on_worker import WorkerGuard

        made = WorkerGuard(
            self._worker,
            self.tasks,
            self._recorder,
            process,
            acts=settings.guard == "on",
            learnt=self.learnt,
        )
        undo.callback(made.remove)
        made.install()
        return made

    def _leave_worker(self) -> None:
        """Answer no more heartbeats, and note it where the worker closes anyway."""
        worker = self._worker
        if worker.extensions.get("memdash") is self:
            del worker.extensions["memdash"]
        if worker.status.name.startswith("clos"):
            self._recorder.mark_closing(worker.status.name)

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Follow a task's state on the worker; much of what it hears is of no use."""
        if not self._up:
            return
        if finish in FOLLOWED or start in FOLLOWED:
            self._follow(key, start, finish)
        elif start == "released":
            self._come_or_go(key, finish)

    def heartbeat(self) -> dict[str, Any]:
        """Return what travels with the worker's next heartbeat."""
        with process.moment():
            report = self._report()
        return {"protocol": PROTOCOL} if report is None else pack(report)

    def _report(self) -> dict[str, Any] | None:
        """Return what the worker has to say since the last time, as plain data.

        None where that may wait.  The flight recorder hears of it in any case.
        """
        spills = self._storage.look_at_spilled()
        self.tasks.drop_forgotten(self._worker.state.tasks.__contains__)
        now = time.time()
        executing = self.tasks.executing(now)
        # A guard's scheduler learns from reports: they do not wait.
        waits = self._guard is None and self._pace.may_wait(process.read_rss())
        less = self._guard is None and self._pace.rest_may_wait()
        unmanaged = {} if waits else self._unmanaged.heartbeat(may_wait=less)
        reading = self._read(now, spills=spills)
        self._figures.write(reading, process.idle_rest())
        cost = self._own_cost(now)
        if waits:
            return None
        self._pace.reports(reading.rss)
        if not less:
            self._pace.tells_all()
        self.told = reading, cost
        thresholds = read_thresholds(self._worker, has_nanny=self._has_nanny)
        method = best_method(
            self._tally, self._worker.state.nthreads, high_water=process.high_water
        )
        return {
            "protocol": PROTOCOL,
            "pid": self._recorder.pid,
            "reading": to_dict(reading),
            "rows": self._storage.new_rows(),
            "executing": to_dict(tuple(executing)),
            "finished": {} if less else to_dict(self.tasks.take_finished()),
            "thresholds": to_dict(thresholds),
            "method": method,
            "cost": to_dict(cost),
            "notices": self._all_notices(),
            "nanny_cost": to_dict(self._nanny_cost()),
            "limits": self._limits and to_dict(self._limits.report(may_wait=less)),
            "children": told_children(self._recorder),
            "storing": storing(self._worker),
            **(self._guard.heartbeat() if self._guard else {}),
            **unmanaged,
        }

    def read(self) -> Reading:
        """Read the worker as it is now, on its event loop."""
        return self._read(time.time(), spills=self._storage.look_at_spilled())

    def _read(self, now: float, *, spills: bool = True) -> Reading:
        return read_worker(
            self._storage, self.tasks, process, self._unmanaged, now, spills=spills
        )

    # -- what other workers of this process see --------------------------------

    def stored(self) -> int:
        """Return the bytes of storage in RAM; may be called from any thread."""
        return self._storage.stored()

    def moved(self, key: Any, in_ram: bool) -> None:
        """Take note that a stored output was dropped from RAM, or read back."""
        (self._storage.store if in_ram else self._storage.release)(key)

    def traffic(self) -> Traffic:
        """Return what this worker has moved so far; may be called from any thread."""
        return self._storage.traffic()

    def moving(self) -> int:
        """Return the bytes of transfers."""
        return sum(self._storage.moving())

    def named(self) -> int:
        """Return the bytes of actors and graph; may be called from any thread."""
        return self._unmanaged.bytes

    def quiet(self) -> bool:
        """Whether no task, output, transfer or shuffle is under way."""
        return not (self._worker.state.executing or self._under_way())

    def _under_way(self) -> bool:
        """Whether any task, output, transfer or shuffle is, but tasks not begun."""
        return bool(
            self.tasks.busy
            or self._worker.state.transfer_incoming_count
            or self._worker.transfer_outgoing_count
            or self._storage.shuffles()
        )

    # -- following tasks -------------------------------------------------------

    def _follow_task(self, key: Any, start: str, finish: str) -> None:
        if finish == "error" and self._worker_errors is not None:
            self._worker_errors.task_erred(key, start)
        if finish == "memory":
            size = self._storage.store(key)
            self._unmanaged.stored(key)
            self._figures.storage_changed()
            if start not in EXECUTING:
                self._storage.receive(size)
            if start in EXECUTING:
                task = self.tasks.leave(key, size)
                if task is not None and task.net is not None:
                    self._explain(task, task.net, size)
            self._settle()
        elif start == "memory":
            self._storage.release(key)
            self._figures.storage_changed()
        elif start in EXECUTING:
            if finish not in EXECUTING:
                self.tasks.leave(key, None)
        elif finish == "executing":
            self._about_to_begin(key)
            if runs_elsewhere(self._worker, key):
                self.tasks.begin_elsewhere(key)
            elif self._storage.has_spilled_inputs(key):
                self._figures.storage_changed()
                self.tasks.gather(key)

    def _about_to_begin(self, key: Any) -> None:
        """Look at what came with the first task of a prefix, before it begins.

        Modules that its function imports are loaded as it arrives, on the event loop,
        and stay: a process that has them is as idle as one without.
        """
        prefix = prefix_of(key)
        if prefix not in self._loaded and len(self._loaded) < MAX_PREFIXES:
            self._loaded.add(prefix)
            if (
                not self._under_way()
                and self._unmanaged.all_weighed()
                and process.load()
            ):
                self._figures.loaded(process)
        self._unmanaged.task_begins()
        process.disturb()

    def _follow_arrival(self, key: Any, finish: str) -> None:
        if finish == "waiting":
            self._unmanaged.arrived(key)
        elif finish == "forgotten":
            self._unmanaged.forgotten(key)

    def _explain(self, task: RunningTask, net: int, size: int) -> None:
        """Find out why an output weighs much less or more than Dask believes.

        Once a prefix: what was left beside it is the output's only if that shows it.
        """
        because = self.tasks.because
        if size > 2 * max(net, 0) + WRITE_STEP and task.prefix not in because:
            because[task.prefix] = self._storage.memory_owner(task.key)
        elif net > 2 * size + WRITE_STEP and task.prefix not in because:
            because[task.prefix] = self._storage.holds_more(task.key, size)

    def _settle(self) -> None:
        """Look at the baseline when the last task's output has just been stored."""
        now = time.monotonic()
        if now < self._settles_at or self.tasks.busy:
            return
        rss = process.read_rss()
        if rss is not None:
            process.observe(now, rss)
        rest = SETTLE_REST * (time.monotonic() - now)
        self._settles_at = now + min(max(SETTLE_LEAST, rest), SETTLE_MOST)

    def _mark_threads(self, undo: contextlib.ExitStack) -> None:
        worker = self._worker
        threads = self._threads = ActiveThreads(
            worker,
            self._guarded(self._begin, "the mark of a task's begin"),
            self._guarded(self._end, "the mark of a task's end"),
        )
        undo.callback(threads.restore)
        undo.callback(threads.disarm)
        for ident, key in threads.before.items():
            task = worker.state.tasks.get(key)
            if task is not None:
                self.tasks.adopt(ident, key, task.start_time or time.time())
        for key in list(worker.active_keys):
            if key not in threads.before.values() and runs_elsewhere(worker, key):
                self.tasks.begin_elsewhere(key)

    def _guarded(self, function: Callable[..., Any], where: str) -> Callable[..., Any]:
        """Wrap what is called for every task: metered, and behind the boundary."""
        return boundary.metered(function, where, self.cost)

    def _begin(self, ident: int, key: Any) -> None:
        self.tasks.begin(ident, key)
        if self._worker.state.actors:
            self._count_for_actor(ident)
        self._figures.task_began()

    def _count_for_actor(self, ident: int) -> None:
        """Count what may be the call of an actor's method for the actor."""
        task = self.tasks.by_thread.get(ident)
        if task is not None:
            task.prefix = self._unmanaged.prefix_of(task.prefix)

    def _end(self, ident: int) -> None:
        self.tasks.end(ident, stored=self._worker.state.tasks.__contains__)

    # -- parts -----------------------------------------------------------------

    def _acquire_tally(self, undo: contextlib.ExitStack) -> Tally | None:
        """Return the tally with its hooks installed; None, and say why, without."""
        tally, why = acquire_tally(tally_allowed(self._settings.tally))
        if tally is not None:
            undo.callback(tally.release)
        if why and tally is not None:
            self._notices.append(why)
        elif why:
            text = f"{why}; in-execution memory is estimated from the RSS instead"
            self._notices.append(text)
            self._worker.log_event("memdash", {"action": "lacks", "text": text})
        if tally is not None and lines_allowed(self._settings.lines):
            why = tally.know_lines()
            self._notices += [why] if why else []
        return tally

    def _make_recorder(self, undo: contextlib.ExitStack) -> None:
        """Make the flight recorder, and sweep up what dead workers left."""
        worker, settings = self._worker, self._settings
        if self._has_nanny:
            sweep(settings.recorder_directory)
        self._recorder, degraded = make_recorder(
            settings.recorder_slots or 16 + 4 * worker.state.nthreads,
            str(worker.contact_address or worker.address),
            settings.recorder_directory,
            private=not self._has_nanny,
            map_slots=None if self._tally is None else self._tally.map_slots,
        )
        undo.callback(self._recorder.close)
        if self._tally is not None and self._tally.counts_resident:
            self._recorder.mark_resident()
        self._notices += [degraded] if degraded else []
        self._figures = RecorderFigures(self._recorder, self._storage)

    # -- what MemDash itself costs, and lacks ----------------------------------

    def _own_cost(self, now: float) -> SelfCost:
        """Say what it costs here, and hold back where that is too much."""
        rate = self.cost.rate()
        self.tasks.held_back = self._backoff.judge(rate)
        held = len(self._recorder.buffer) + self._scale.weight(
            self._storage.ledger, now
        )
        return SelfCost(rate, held, self._backoff.level)

    def _nanny_cost(self) -> SelfCost:
        """Say what sampling costs, as the sampler has left it in the recorder."""
        if not self._has_nanny:
            return SelfCost(own_sampler.cost.rate())
        cost, interval = self._recorder.sampler()
        stretched = interval is not None and interval > self._settings.sample_interval
        return SelfCost(cost, held_back=int(stretched))

    def _all_notices(self) -> list[str]:
        return [
            *self._notices,
            *(self._guard.notices() if self._guard is not None else ()),
            *(self._tally.check() if self._tally is not None else ()),
            *notices.of_now(
                over_budget=self._settings.budget
                if self._backoff.lasts >= LASTING
                else None,
                certain=process.baseline.certain,
                without_slot=self.tasks.without_slot
                if time.monotonic() - self.tasks.slots_lacked_at < TOLD_FOR
                else 0,
            ),
        ]
