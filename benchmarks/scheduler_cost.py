"""What MemDash costs the scheduler: processor time and memory.

A real scheduler in this process, with 1,000 simulated workers (``simulated.py``), is
fed heartbeats and tasks with MemDash's hooks in place and without, in alternation.
Processor time is this process's, so others on the machine hardly count.  Memory is
what Python's own tracer (tracemalloc) says.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import mean
from typing import Any

import common
import simulated
from common import progress
from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import loads
from distributed.scheduler import heartbeat_interval

from dask_memdash import MemDash
from dask_memdash.boundary import boundary

#: Budgets, in bytes.
MEMORY_BUDGET = 64 * 2**20
TASK_BUDGET = 48

#: Heartbeats that come in turns, so that each tells of something new; of very many
#: workers, some of them tell what has finished, and some nothing.
IN_TURNS = 18

Heartbeats = dict[str, list[dict[str, Any]]]


class Setup:
    """The scheduler, MemDash on it, and the clock."""

    def __init__(
        self, scheduler: Scheduler, plugin: MemDash, clock: simulated.Clock
    ) -> None:
        self.scheduler = scheduler
        self.plugin = plugin
        self.clock = clock

    def switch(self, on: bool) -> None:
        """Put MemDash's hooks into the scheduler, or take them out."""
        if on:
            self.scheduler.plugins["memdash"] = self.plugin
        else:
            self.scheduler.plugins.pop("memdash", None)


class Nothing(SchedulerPlugin):
    """A plugin that does nothing: what the host pays for having one."""


class Catcher(SchedulerPlugin):
    """Keeps what a hook was called with."""

    name = "catcher"

    def __init__(self) -> None:
        self.graph: dict[str, Any] = {}
        self.transitions: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def update_graph(self, scheduler: Scheduler, **kwargs: Any) -> None:
        """Keep a graph's arguments."""
        self.graph = kwargs

    def transition(self, *args: Any, **kwargs: Any) -> None:
        """Keep a transition's arguments."""
        if len(self.transitions) < 10_000:
            self.transitions.append((args, kwargs))


def cpu(work: Callable[[], object]) -> float:
    """Return the processor time of a call, in seconds, collecting no garbage in it.

    What a collection takes depends on all that this process holds, and on when.
    """
    with no_collection():
        start = time.process_time()
        work()
        return time.process_time() - start


@contextmanager
def no_collection() -> Iterator[None]:
    """Collect garbage first, and then not."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# -- heartbeats ------------------------------------------------------------------------


def print_heartbeats(
    setup: Setup, caught: Heartbeats, workers: int, rounds: int
) -> dict[str, float]:
    """Print what heartbeats cost; give what MemDash adds to one of each, in s."""
    added: dict[str, float] = {}
    print("\n**Heartbeats**, unpacked and handled, microseconds of processor time\n")
    common.header(
        "worker", "bytes", "with MemDash", "bare, µs", "with MemDash, µs",
        "added, µs (quartiles)", "of these unpacking", "ratio",
    )  # fmt: skip
    interval = heartbeat_interval(workers)
    # Where there are few workers, each heartbeat reports whether its RSS holds or not.
    whether = (False, True) if interval >= simulated.MANY_WORKERS else (False,)
    turns = max(map(len, caught.values()))
    kinds = [
        (f"{name}, {'its RSS holds' if holds else 'its RSS changes'}", messages, holds)
        for name, messages in caught.items()
        for messages in [(messages * turns)[:turns]]
        for holds in whether
    ]
    for name, messages, holds in kinds:
        messages = simulated.as_many_tell(messages, interval, holds=holds)
        sent = [
            [simulated.packed(m, workers, with_memdash=ours) for m in messages]
            for ours in (False, True)
        ]
        for frames in sent[True]:
            simulated.beat(setup.scheduler, frames)
        times: list[tuple[float, float, float]] = []
        for number in range(rounds):
            setup.clock.now += interval
            turn = number % len(messages)
            bare, full = sent[False][turn], sent[True][turn]
            pair = {}
            for frames in (bare, full) if number % 2 else (full, bare):
                pair[frames is full] = cpu(
                    lambda frames=frames: simulated.beat(setup.scheduler, frames)
                )
            unpack = [
                cpu(lambda frames=frames: [loads(f) for f in frames])
                for frames in (bare, full)
            ]
            times.append((pair[False], pair[True], unpack[1] - unpack[0]))
        times = _turns(times, len(messages))
        one = 1e6 / workers
        low, middle, high = common.quartiles([(w - b) * one for b, w, _ in times])
        added[name] = middle / 1e6
        common.row(
            name,
            f"{round(mean(_size(frames[0]) for frames in sent[False])):,}",
            f"{round(mean(_size(frames[0]) for frames in sent[True])):,}",
            f"{statistics.median(b for b, _, _ in times) * one:.1f}",
            f"{statistics.median(w for _, w, _ in times) * one:.1f}",
            f"{middle:.1f} ({low:.1f} to {high:.1f})",
            f"{statistics.median(u for _, _, u in times) * one:.1f}",
            f"{statistics.median(w / b for b, w, _ in times):.2f}",
        )
        progress(f"heartbeats, {name}: {middle:.1f} µs added")
    return added


def _turns(
    times: list[tuple[float, float, float]], length: int
) -> list[tuple[float, float, float]]:
    """Return the means of whole turns: heartbeats in one differ."""
    starts = range(0, len(times) - length + 1, length)
    turns = (zip(*times[start : start + length], strict=True) for start in starts)
    return [(mean(bare), mean(full), mean(unpack)) for bare, full, unpack in turns]


def _size(frames: list[Any]) -> int:
    return sum(len(memoryview(frame).cast("B")) for frame in frames)


# -- tasks -----------------------------------------------------------------------------


async def run_graph(setup: Setup, name: str, tasks: int) -> tuple[float, float]:
    """Take a graph from its arrival to its being forgotten.

    Returns
    -------
    tuple of float
        Processor time of a task in ``update_graph``, and of a transition, in seconds.
    """
    scheduler = setup.scheduler
    graph = simulated.Graph(name, tasks)
    with no_collection():
        start = time.process_time()
        await graph.submit(scheduler)
        arrived = time.process_time()
        before = scheduler.transition_counter
        graph.compute(scheduler)
        graph.release(scheduler)
        spent = time.process_time() - arrived
    transitions = scheduler.transition_counter - before
    await _flush()
    if scheduler.tasks:
        raise RuntimeError(f"{len(scheduler.tasks)} tasks were not forgotten")
    return (arrived - start) / len(graph.dsk), spent / transitions


async def print_tasks(setup: Setup, tasks: int, per_graph: int) -> None:
    """Print what tasks cost, from graph to forgotten, with MemDash and bare."""
    rounds = max(2, round(tasks / per_graph / 2) * 2)
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for number in range(-2, rounds):  # two that warm up
        on = number % 4 in (1, 2)  # bare, with, with, bare: a drift weighs on both
        setup.switch(on)
        times = await run_graph(setup, f"{number + 2:08d}x", per_graph)
        if number >= 0:
            found[on].append(times)
            progress(f"tasks: {(number + 1) * per_graph:,} of {rounds * per_graph:,}")
    setup.switch(True)
    print(f"\n**Tasks**, {rounds * per_graph:,} of them, processor time\n")
    common.header("", "bare, µs", "with MemDash, µs", "ratio (quartiles)")
    for place, what in enumerate(("a task in update_graph", "a transition")):
        bare = [times[place] for times in found[False]]
        full = [times[place] for times in found[True]]
        common.row(
            what,
            f"{statistics.median(bare) * 1e6:.2f}",
            f"{statistics.median(full) * 1e6:.2f}",
            common.spread([f / b for b, f in zip(bare, full, strict=True)]),
        )


async def print_hooks(setup: Setup, per_graph: int, rounds: int) -> None:
    """Print what the hooks alone cost, called as the scheduler calls them."""
    catcher = Catcher()
    setup.switch(False)
    setup.scheduler.plugins["catcher"] = catcher
    graph = simulated.Graph("hooks", per_graph)
    await graph.submit(setup.scheduler)
    graph.compute(setup.scheduler)
    setup.switch(True)

    def call(plugin: Any) -> None:
        transition = plugin.transition
        for args, kwargs in catcher.transitions:
            transition(*args, **kwargs)

    plugins = {"MemDash": setup.plugin, "a plugin that does nothing": Nothing()}
    times: dict[str, list[float]] = {name: [] for name in plugins}
    for _ in range(rounds):
        for name, plugin in plugins.items():
            spent = cpu(lambda plugin=plugin: call(plugin))
            times[name].append(spent / len(catcher.transitions))
    print("\n**Hooks alone**, processor time\n")
    common.header("hook", "µs (quartiles)")
    for name, taken in times.items():
        common.row(f"`transition` of {name}", _micros(taken))
    arrivals = [
        cpu(lambda: setup.plugin.update_graph(setup.scheduler, **catcher.graph))
        / len(graph.dsk)
        for _ in range(max(3, rounds // 4))
    ]
    common.row("`update_graph`, a task", _micros(arrivals))
    common.row(
        f"`tick`, two a second, {len(graph.keys):,} outputs stored",
        _micros([tick(setup, 20) for _ in range(3)]),
    )
    del setup.scheduler.plugins["catcher"]
    graph.release(setup.scheduler)
    await _flush()


def _micros(seconds: list[float]) -> str:
    low, middle, high = (1e6 * value for value in common.quartiles(seconds))
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


async def _flush() -> None:
    """Let the scheduler's messages go out, which is none of what is measured."""
    for _ in range(5):
        await asyncio.sleep(0.02)


def tick(setup: Setup, count: int = 100) -> float:
    """Return the processor time of one of MemDash's ticks, in seconds.

    No worker falls silent meanwhile: a thousand of them would be noted at each tick.
    And no report waits: what it takes to take one in counts with the heartbeats.
    """
    setup.plugin.store.cluster()
    while setup.plugin._reports.waiting:
        setup.plugin.store.cluster()
    workers = list(setup.scheduler.workers.values())
    spent = 0.0
    with no_collection():
        for _ in range(count):
            setup.clock.now += 0.5
            for worker in workers:
                worker.last_seen = setup.clock.now
            start = time.process_time()
            setup.plugin.tick()
            spent += time.process_time() - start
    return spent / count


# -- memory ----------------------------------------------------------------------------


def print_memory(setup: Setup, caught: Heartbeats, workers: int, rounds: int) -> None:
    """Feed MemDash until its histories are full; print what it holds."""
    busy, idle = (
        simulated.packed(caught[name][0], workers, with_memdash=True)
        for name in ("busy", "idle")
    )
    # In the order of the heartbeats, which is not the scheduler's own.
    states = [
        setup.scheduler.workers[simulated.address_of(number)]
        for number in range(workers)
    ]
    gc.collect()
    tracemalloc.start(1)
    before = tracemalloc.get_traced_memory()[0]
    for state in states:
        setup.plugin.add_worker(setup.scheduler, state.address)
    for number in range(rounds):
        setup.clock.now += 6.0
        frames = idle if number % 20 else busy  # which take longer, traced
        for state, packet in zip(states, frames, strict=True):
            setup.plugin.heartbeat(state, loads(packet)["extensions"]["memdash"])
        setup.plugin.tick()
        if number % 50 == 0:
            progress(f"memory: {number} of {rounds} heartbeats of each worker")
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    known = [w for w in setup.plugin.store.workers() if w["breakdown"]["process"]]
    if len(known) != workers:
        raise RuntimeError(f"MemDash has heard of {len(known)} workers only")
    print("\n**Memory**\n")
    common.header("what", "held", "budget")
    common.row(
        f"{workers:,} workers, {rounds} heartbeats each",
        f"{held / 2**20:.1f} MiB",
        f"{MEMORY_BUDGET / 2**20:.0f} MiB for 1,000 workers",
    )


async def print_graph_memory(setup: Setup, tasks: int) -> None:
    """Print what MemDash holds of a graph that is alive."""
    catcher = Catcher()
    catcher.transitions = [((), {})] * 10_000  # of no interest here
    setup.switch(False)
    setup.scheduler.plugins["catcher"] = catcher
    graph = simulated.Graph("memory", tasks)
    await graph.submit(setup.scheduler)
    del setup.scheduler.plugins["catcher"]
    gc.collect()
    tracemalloc.start(1)
    before = tracemalloc.get_traced_memory()[0]
    setup.plugin.update_graph(setup.scheduler, **catcher.graph)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    setup.switch(True)
    common.row(
        f"a task of a live graph of {len(graph.dsk):,}",
        f"{held / len(graph.dsk):.1f} bytes",
        f"{TASK_BUDGET} bytes",
    )
    graph.compute(setup.scheduler)
    graph.release(setup.scheduler)
    await _flush()


# -- all of it -------------------------------------------------------------------------


async def measure(options: argparse.Namespace, caught: Heartbeats) -> None:
    """Measure everything on one scheduler."""
    clock = simulated.Clock()
    with clock.installed():
        async with simulated.scheduler() as scheduler:
            plugin = MemDash()
            await plugin.start(scheduler)  # before the workers: none of them is real
            metrics = caught["idle"][0]["metrics"]
            await simulated.add_workers(scheduler, options.workers, metrics)
            setup = Setup(scheduler, plugin, clock)
            print_memory(setup, caught, options.workers, options.history)
            await print_graph_memory(setup, options.graph)
            setup.switch(True)
            added = print_heartbeats(setup, caught, options.workers, options.rounds)
            each_tick = tick(setup)
            rate = options.workers / heartbeat_interval(options.workers)
            for name, spent in added.items():
                share = spent * rate + 2 * each_tick
                print(
                    f"\n{options.workers:,} workers, {name}: {rate:.0f} heartbeats a"
                    f" second at {spent * 1e6:.1f} µs and two ticks at"
                    f" {each_tick * 1e6:,.0f} µs: **{share:.2%} of a core**."
                )
            await print_tasks(setup, options.tasks, options.graph)
            await print_hooks(setup, options.graph, options.rounds)
            if faults := boundary.texts():  # what failed was cheap, and no measurement
                raise RuntimeError(f"MemDash failed meanwhile: {'; '.join(faults)}")
            setup.switch(False)
            await plugin.close()


def main() -> None:
    """Measure, and print the tables."""
    parser = common.parser(__doc__)
    parser.add_argument("--workers", type=int, help="(default 1000)")
    parser.add_argument("--tasks", type=int, help="in all (default 1000000)")
    parser.add_argument("--graph", type=int, help="tasks of one graph (default 50000)")
    parser.add_argument("--rounds", type=int, help="of heartbeats (default 60)")
    parser.add_argument(
        "--history", type=int, help="heartbeats of each worker before memory is read"
    )
    options = parser.parse_args()
    defaults = {
        "workers": (1000, 1000, 20),
        "tasks": (1_000_000, 100_000, 400),
        "graph": (50_000, 10_000, 100),
        "rounds": (72, 36, 4),
        "history": (660, 60, 3),
    }
    for name, sizes in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, common.sized(options, *sizes))
    progress("catching heartbeats of a real worker")
    caught = simulated.catch_several(common.sized(options, IN_TURNS, IN_TURNS, 2))
    asyncio.run(measure(options, caught))


if __name__ == "__main__":
    main()
