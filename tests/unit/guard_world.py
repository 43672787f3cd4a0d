"""A worker's real state machine in a world of its own, with or without the guard.

Time is virtual.  Tasks take memory while they run and leave outputs behind; some wait
for another task as ``get_client().gather`` does, secede, need a resource, are actors,
or ran elsewhere, so that their output has to be fetched.  A small scheduler sends what
can be computed, frees what nobody needs any more, steals and cancels.  The worker is
paused, goes on and spills as Dask's memory monitor has it, other workers ask for its
outputs and are busy themselves at times, and nobody dies.

What comes of it is ``done``, with all that others have asked for, or ``stuck``: no
event is left but ticks, and for two minutes of these nothing has come of them.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import distributed.worker_state_machine as machine
from distributed.core import Status
from guard_plans import MB, Plan
from guard_storage import Pause, Request, SpillBuffer

from dask_memdash.guard import making_room, moves, on_worker, sending, snapshots
from dask_memdash.guard.leftovers import Leftovers
from dask_memdash.measure.brake import Refused

OWN, OTHER = "tcp://own:1", "tcp://other:1"
TICK = 0.1
STUCK_AFTER = 120.0


class World:
    """One run of a plan."""

    def __init__(self, plan: Plan, monkeypatch: Any, *, guarded: bool) -> None:
        self.plan = plan
        self.now = 1000.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.done: set[int] = set()
        self.cancelled: set[int] = set()
        self.sent: set[int] = set()
        self._waiting: dict[int, int] = {}
        self._stops = [task.stopped for task in plan.tasks]
        self._busy = [task.busy for task in plan.tasks]
        self.requests = [Request(self.now + when, n) for when, n in plan.asks]
        self.told: list[Any] = []
        self.running: dict[int, SimpleNamespace] = {}
        self.most_running = 0
        self.most = 0
        self.moved = self.now
        resources = {"GPU": 1.0}
        self.state = machine.WorkerState(
            nthreads=plan.nthreads,
            address=OWN,
            validate=True,
            resources=resources,
            transfer_incoming_bytes_limit=100 * MB,
            data=SpillBuffer(self._size, sticks=plan.sticks) if plan.spills else None,
        )
        self.worker = SimpleNamespace(
            state=self.state,
            status=Status.running,
            data=self.state.data,
            nanny="tcp://nanny:1",
            stream_handlers={},
            memory_manager=SimpleNamespace(
                memory_limit=plan.limit * MB,
                memory_pause_fraction=0.8,
                memory_spill_fraction=0.7 if plan.spills else False,
                memory_target_fraction=0.6 if plan.spills else False,
                _throttled_gc=SimpleNamespace(collect=lambda: None),
            ),
            handle_stimulus=self.handle,
            batched_send=self.told.append,
            handlers={"get_data": self.get_data},
            transfer_outgoing_bytes=0,
            _client=None,
        )
        self.tasks = SimpleNamespace(by_thread={}, pending={}, elsewhere={}, heard=None)
        self.guard: on_worker.WorkerGuard | None = None
        if guarded:
            self._install(monkeypatch)

    def _install(self, monkeypatch: Any) -> None:
        clock = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now)
        for module in (on_worker, snapshots, moves, sending, making_room):
            monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(on_worker.WorkerGuard, "_again", lambda guard: None)
        monkeypatch.setattr(Leftovers, "collect_soon", lambda leftovers: None)
        process = SimpleNamespace(
            n_members=1,
            recent_rss=lambda age: self.rss(),
            baseline=SimpleNamespace(bytes=self.plan.idle * MB),
        )
        recorder = SimpleNamespace(
            counters=lambda number: (self.running[number].held,) * 2 + (0,),
            filling=lambda number: 0,
        )
        learnt = {name: size * MB for name, size in self.plan.learnt.items()}
        self.guard = on_worker.WorkerGuard(
            self.worker,
            self.tasks,
            recorder,
            process,
            acts=True,
            learnt={"prefixes": learnt, "keys": {}},
        )
        self.guard._stillness._cpu_of = self._cpu
        self.guard.install()

    # -- what happens ----------------------------------------------------------

    def run(self) -> str:
        """Run the plan, and say what came of it."""
        self.at(0.0, self.send_ready)
        for when in self.plan.steals:
            self.at(when, self.steal)
        for when in self.plan.cancels:
            self.at(when, self.cancel)
        wanted = len(self.plan.tasks)
        next_tick = self.now
        while len(self.done | self.cancelled) < wanted or self.requests:
            if self._events and self._events[0][0] <= next_tick:
                self.now, _, happen = heapq.heappop(self._events)
                self.moved = self.now
                happen()
            elif not self._events and self.now - self.moved > STUCK_AFTER:
                return "stuck"
            else:
                self.now, next_tick = next_tick, next_tick + TICK
                self.tick()
            self.most = max(self.most, self.rss())
            self.most_running = max(self.most_running, len(self.running))
        self.state.validate_state()
        return "done"

    def at(self, delay: float, happen: Callable[[], None]) -> None:
        """Let something happen in so many seconds."""
        heapq.heappush(self._events, (self.now + delay, next(self._order), happen))

    def rss(self) -> int:
        stored = sum(self._size(key) for key in self._in_memory)
        held = sum(
            task.held
            for task in self.running.values()
            if task.key not in self.state.data
        )
        return self.plan.idle * MB + stored + held

    def tick(self) -> None:
        """Do what goes by the clock: Dask's memory monitor, and the guard's look."""
        if self.plan.spills and self.rss() > 0.7 * self.plan.limit * MB:
            data: Any = self.state.data
            while data.fast and self.rss() > 0.6 * self.plan.limit * MB:
                data.evict()
        over = self.rss() > 0.8 * self.plan.limit * MB
        if over and self.worker.status == Status.running:
            self.worker.status = Status.paused
            self.handle(machine.PauseEvent(stimulus_id="pause"))
        elif not over and self.worker.status == Status.paused:
            self.worker.status = Status.running
            self.handle(machine.UnpauseEvent(stimulus_id="unpause"))
        if self.guard is not None:
            self.guard._look_now()
        for request in list(self.requests):
            if request.instant <= self.now and request.coroutine is None:
                self.ask(request)

    @property
    def _in_memory(self) -> Any:
        if not self.plan.spills:
            return self.state.data
        return {*self.state.data.fast, *self.state.data.slow.cache}

    def _size(self, key: Any) -> int:
        task = self.state.tasks.get(key)
        return 0 if task is None else task.nbytes or 0

    # -- other workers ---------------------------------------------------------

    def ask(self, request: Request) -> None:
        """Ask for an output, if it is there."""
        key = self.key(request.number)
        if key not in self.state.data:
            self.requests.remove(request)
        elif request.ask(self.worker.handlers["get_data"], key):
            request.sent_at = self.now
            self.at(0.2, lambda: self.deliver(request))

    def deliver(self, request: Request) -> None:
        request.end()
        self.requests.remove(request)

    async def get_data(self, comm: Any, keys: Any) -> None:
        """Stand in for the host's own."""
        for key in keys:
            self.state.data[key]
        size = sum(map(self._size, keys))
        self.worker.transfer_outgoing_bytes += size
        try:
            await Pause()
        finally:
            self.worker.transfer_outgoing_bytes -= size

    def handle(self, *events: machine.StateMachineEvent) -> None:
        """Stand in for ``Worker.handle_stimulus``."""
        for instruction in self.state.handle_stimulus(*events):
            if isinstance(instruction, machine.Execute):
                self.at(0.001, lambda key=instruction.key: self.begin(key))
            elif isinstance(instruction, machine.GatherDep):
                self.at(0.05, lambda fetch=instruction: self.fetched(fetch))
            elif isinstance(instruction, machine.RetryBusyWorkerLater):
                event = machine.RetryBusyWorkerEvent(
                    worker=instruction.worker, stimulus_id="retry"
                )
                self.at(0.15, lambda event=event: self.handle(event))
            elif isinstance(instruction, machine.StealResponseMsg):
                if instruction.state in ("ready", "constrained", "waiting"):
                    number = int(instruction.key.rpartition("-")[2])
                    self.at(1.0, lambda number=number: self.finished(number))
            elif isinstance(instruction, machine.RescheduleMsg):
                self.sent.discard(int(instruction.key.rpartition("-")[2]))
                self.at(0.05, self.send_ready)
            elif isinstance(instruction, machine.TaskErredMsg):
                raise AssertionError(instruction)

    # -- tasks -----------------------------------------------------------------

    def key(self, number: int) -> str:
        return f"{self.plan.tasks[number].prefix}-{number}"

    def begin(self, key: str) -> None:
        number = int(key.rpartition("-")[2])
        plan = self.plan.tasks[number]
        for dep in plan.deps:
            self.state.data.get(self.key(dep))
        task = SimpleNamespace(
            key=key,
            text=key,
            prefix=plan.prefix,
            slot=number,
            begin=self.now,
            thread=number + 1,
            measured=plan.measured,
            held=plan.peak * MB,
        )
        self.running[number] = task
        self.tasks.by_thread[number + 1] = task
        if plan.waits_for is None:
            self.at(plan.seconds, lambda: self.end(number))
            return
        self.worker._client = object()
        if plan.secedes:
            event = machine.SecedeEvent(
                key=key, compute_duration=0.1, stimulus_id="secede"
            )
            self.handle(event)
        if plan.waits_for in self.done | self.cancelled:
            self.at(0.01, lambda: self.end(number))
        else:
            self._waiting[number] = plan.waits_for

    def end(self, number: int) -> None:
        plan, task = self.plan.tasks[number], self.running[number]
        output = plan.output * MB
        peak, task.held = task.held, output
        stopped = self.guard is not None and self._stops[number] > 0
        if stopped and self.guard is not None:
            self._stops[number] -= 1
            refused = Refused(1, asked=50 * MB, rss=self.rss(), held=peak)
            self.guard._braking.stopped[task.key] = refused
        self.tasks.pending[task.key] = self.tasks.by_thread.pop(number + 1)
        self.handle(
            machine.ExecuteSuccessEvent(
                key=task.key,
                run_id=self.state.tasks[task.key].run_id,
                value=None,
                start=task.begin,
                stop=self.now,
                nbytes=output,
                type=int,
                stimulus_id="end",
            )
        )
        del self.running[number], self.tasks.pending[task.key]
        if self.tasks.heard is not None:
            self.tasks.heard(plan.prefix, peak if plan.measured else None)
        if not stopped:
            self.finished(number)

    def finished(self, number: int) -> None:
        """Hear that a task has ended, wherever it ran."""
        self.done.add(number)
        for waiter, other in list(self._waiting.items()):
            if other == number:
                del self._waiting[waiter]
                self.at(0.01, lambda waiter=waiter: self.end(waiter))
        self.free()
        self.send_ready()

    def fetched(self, fetch: machine.GatherDep) -> None:
        numbers = [int(key.rpartition("-")[2]) for key in fetch.to_gather]
        busy = next((number for number in numbers if self._busy[number]), None)
        if busy is not None:
            self._busy[busy] -= 1
            event = machine.GatherDepBusyEvent(
                worker=fetch.worker, total_nbytes=fetch.total_nbytes, stimulus_id="busy"
            )
            self.handle(event)
            return
        self.handle(
            machine.GatherDepSuccessEvent(
                worker=fetch.worker,
                total_nbytes=fetch.total_nbytes,
                data=dict.fromkeys(fetch.to_gather, 0),
                stimulus_id="fetched",
            )
        )

    def _cpu(self, threads: Any) -> dict[int, float]:
        return {
            number: self.now - task.begin
            for number, task in self.running.items()
            if self.plan.tasks[number].waits_for is None
        }

    # -- the scheduler ---------------------------------------------------------

    def send_ready(self) -> None:
        """Send what can be computed; what belongs elsewhere is computed there."""
        for number, plan in enumerate(self.plan.tasks):
            gone = number in self.sent or number in self.cancelled
            if gone or not set(plan.deps) <= self.done:
                continue
            self.sent.add(number)
            if plan.elsewhere:
                self.at(plan.seconds, lambda number=number: self.finished(number))
                continue
            holders = {self.key(dep): [self._holder(dep)] for dep in plan.deps}
            sizes = {
                self.key(dep): self.plan.tasks[dep].output * MB for dep in plan.deps
            }
            self.handle(
                machine.ComputeTaskEvent.dummy(
                    self.key(number),
                    who_has=holders,
                    nbytes=sizes,
                    priority=(number,),
                    resource_restrictions={"GPU": 1.0} if plan.resource else None,
                    actor=plan.actor,
                    stimulus_id="compute",
                )
            )

    def _holder(self, number: int) -> str:
        task = self.state.tasks.get(self.key(number))
        here = task is not None and task.state == "memory"
        return OWN if here and task.key in self.state.data else OTHER

    def _needed(self, number: int) -> bool:
        return any(
            number in plan.deps or plan.waits_for == number
            for other, plan in enumerate(self.plan.tasks)
            if other not in self.done and other not in self.cancelled
        )

    def free(self) -> None:
        """Free what no task needs any more."""
        keys = [
            self.key(number)
            for number in self.done
            if not self._needed(number)
            and self.key(number) in self.state.tasks
            and not (self.plan.keeps and not self._has_dependents(number))
        ]
        if keys:
            self.handle(machine.FreeKeysEvent(keys=keys, stimulus_id="free"))

    def _has_dependents(self, number: int) -> bool:
        return any(number in plan.deps for plan in self.plan.tasks)

    def _ready(self) -> list[machine.TaskState]:
        ready = [*self.state.ready, *self.state.constrained]
        return sorted(ready, key=lambda task: task.priority or ())

    def _is_actor(self, key: str) -> bool:
        return self.plan.tasks[int(key.rpartition("-")[2])].actor

    def steal(self) -> None:
        """Steal the task that would start last."""
        ready = [task for task in self._ready() if not self._is_actor(task.key)]
        if ready:
            event = machine.StealRequestEvent(key=ready[-1].key, stimulus_id="steal")
            self.handle(event)

    def cancel(self) -> None:
        """Cancel the first ready task that nobody needs."""
        for task in self._ready():
            number = int(task.key.rpartition("-")[2])
            if not self._needed(number):
                self.cancelled.add(number)
                self.handle(
                    machine.FreeKeysEvent(keys=[task.key], stimulus_id="cancel")
                )
                return
