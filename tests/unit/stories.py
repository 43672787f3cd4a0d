"""Clusters for tests of views and web, told in events to the real model.

Each story is told once; what the real store answers is handed out as copies, which
tests may edit.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from builders import added, died, executing, removed, reported

from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import (
    Finished,
    Held,
    SelfCost,
    StorageRow,
    Storing,
    TaskInfo,
    Thresholds,
    Weighed,
)
from dask_memdash.model.events import (
    GraphArrived,
    IntermediatesTold,
    Noticed,
    SpillFailed,
    StorageHeld,
    TaskKilled,
    Ticked,
)
from dask_memdash.model.last_seconds import LastSeconds, TaskSeconds
from dask_memdash.model.quantiles import QuantileSketch
from dask_memdash.store.live import LiveStore

MiB = 2**20
NOW = 1_760_000_000.0
LIMIT = 1024 * MiB

#: Seconds of history, and of tasks that ran: each takes six, and they overlap by two.
SPAN = 119
TASK, STEP = 6, 4

OWN_THRESHOLDS = Thresholds(
    target=int(LIMIT * 0.6),
    spill=int(LIMIT * 0.7),
    pause=int(LIMIT * 0.8),
    terminate=int(LIMIT * 0.95),
)

#: Stored on each worker beside `random_sample`, in bytes.
STORED = {"rechunk-split": 100 * MiB, "getitem": 20 * MiB, "sum": MiB}


def address(number: int) -> str:
    return f"tcp://10.0.0.{number}:4000"


def identity(number: int) -> dict:
    """Return what a worker is called, wherever an event says so."""
    return {"address": address(number), "pid": 1000 + number}


def joins(number: int, time: float = NOW - SPAN - 1, **more):
    """Make a worker of 1 GiB join."""
    values = {"name": f"worker-{number}", "host": f"10.0.0.{number}", "limit": LIMIT}
    return added(**{**identity(number), **values, "time": time, **more})


def reports(number: int, time: float = NOW, **more):
    """Make a worker report all that there is; it has filled up to its present size."""
    age = NOW - time
    wobble = (number * 37) % 11 * 14 * MiB
    managed = int((250 * MiB + wobble) * (1 - 0.006 * age))
    running = int((180 * MiB + wobble // 2) * (1 - (age % 13) * 0.05))
    transfer = 40 * MiB if age < 60 else int(age % 40) * MiB
    retained, base = 60 * MiB, 110 * MiB
    spilled = max(0, 200 - 4 * int(age)) * MiB if number % 2 else 0
    rest = managed - sum(STORED.values())
    rows = {prefix: StorageRow(3, size, 0, 0) for prefix, size in STORED.items()}
    rows["random_sample"] = StorageRow(3, rest, spilled, spilled // 2)
    values = {
        "rss": managed + transfer + running + retained + base,
        "reading": {
            "managed_claimed": managed,
            "incoming": transfer // 2,
            "outgoing": transfer // 2,
            "free": retained,
            "base": base,
            "live": running - 5 * MiB,
            "busy": True,
            "spilled": spilled,
            "spilled_disk": spilled // 2,
            "inputs": 0,
            "unmanaged_old": base,
        },
        "rows": rows,
        "executing": tuple(runs(number, time)),
        "thresholds": OWN_THRESHOLDS,
        "cost": SelfCost(0.003, 3 * MiB),
        "nanny_cost": SelfCost(0.002),
    }
    return reported(**{**identity(number), **values, "time": time, **more})


def runs(number: int, time: float):
    """Yield the tasks that a worker runs at an instant; at the end one alone."""
    for n in range(SPAN // STEP):
        begin = NOW - SPAN + 5 + STEP * n
        if begin <= time < min(begin + TASK, NOW - 3.5):
            yield task(f"('sum', {100 + n})", time - begin, thread=1 + n % 2)
    if time >= NOW - 3.5:
        yield task(f"('sum', {number})", time - NOW + 3.5)


def task(key: str, seconds: float, **more):
    values = {
        "prefix": "sum",
        "thread": 1,
        "seconds": seconds,
        "peak": 120 * MiB,
        "error": 4 * MiB,
    }
    return executing(key, 90 * MiB, **{**values, **more})


def done(tasks: int = 40) -> Finished:
    """Make tasks of a prefix that have finished: outputs of 8 MiB, peaks of 60."""
    sizes = [MiB, *[8 * MiB] * (tasks - 4), *[9 * MiB] * 3]
    peaks = [*[60 * MiB] * (tasks - 4), *[140 * MiB] * 3, 150 * MiB]
    return Finished(
        count=tasks,
        method="estimated",
        peaks=QuantileSketch.of(peaks),
        errors=QuantileSketch.of([6 * MiB] * tasks),
        outputs=QuantileSketch.of(sizes),
        weighed=Weighed(tasks, sum(sizes), sum(sizes)),
    )


def held(number: int) -> StorageHeld:
    """Make a look at why outputs are held: half of each waits for `sum`."""
    half = {prefix: size // 2 for prefix, size in STORED.items()}
    half["random_sample"] = 60 * MiB
    return StorageHeld(
        NOW,
        address(number),
        {
            prefix: Held(0, size, {"sum": size}, because={"awaited": size})
            for prefix, size in half.items()
        },
    )


#: Called before each event with the model and the event, while a story is told.
listeners: list = []


def tell(model: ClusterModel, *events) -> None:
    for event in events:
        for listen in listeners:
            listen(model, event)
        model.handle(event)


def compute(model: ClusterModel, workers: int, **more) -> None:
    """Tell of workers that compute up to now; many of them have a shorter past."""
    span = SPAN if workers < 10 else 5
    for number in range(1, workers + 1):
        status = "paused" if number == 3 else "running"
        tell(model, joins(number, status=status))
    for age in range(span - 1, -1, -1):
        for number in range(1, workers + 1):
            tell(model, reports(number, NOW - age, **more))
    finished = dict.fromkeys((*STORED, "random_sample"), done())
    tell(model, reports(1, finished=finished, **more))
    tell(model, *(held(number) for number in range(1, workers + 1)))
    tell(model, Ticked(NOW, SelfCost(0.006, 3 * MiB)))


@cache
def busy(workers: int = 4) -> LiveStore:
    """Tell of a cluster that computes."""
    model = ClusterModel()
    compute(model, workers)
    return LiveStore(model)


@cache
def one(number: int) -> LiveStore:
    """Tell of one worker that computes."""
    model = ClusterModel()
    tell(model, joins(number), reports(number), held(number), Ticked(NOW))
    return LiveStore(model)


@cache
def shared_process() -> LiveStore:
    """Tell of three workers that are threads of one process."""
    model = ClusterModel()
    one = {"pid": 4242, "host": "127.0.0.1"}
    for number in (1, 2, 3):
        tell(model, joins(number, **one))
    for number in (3, 2, 1):
        tell(model, reports(number, pid=4242))
    return LiveStore(model)


@cache
def degraded() -> LiveStore:
    """Tell of a cluster that MemDash sees only in part: nothing of its first worker."""
    model = ClusterModel()
    text = "dask_memdash is not installed there, so its tasks are not seen."
    tell(model, *(joins(number) for number in range(1, 5)))
    for age in range(5, -1, -1):
        tell(model, *(reports(number, NOW - age) for number in (2, 3, 4)))
    tell(model, *(Noticed(NOW, f"worker {address(n)}", (text,)) for n in range(1, 8)))
    return LiveStore(model)


#: A task that was running at every death.
CULPRIT = "('rechunk-split-abc', 37)"
BLAMED = TaskInfo(CULPRIT, "rechunk-split", "rechunk-split-abc", (0.0, 1.0, 37.0))
GRAPH = GraphArrived(
    NOW - 100,
    "graph-1",
    ("rechunk-split-abc",),
    {"0.0,1.0": tuple(float(n) for n in range(1, 1211))},
    name="mean_agg-aggregate",
    tasks=1210,
)


def growing(time: float, key: str) -> LastSeconds:
    """Let the blamed task grow for 12 s upon what is stored, up to 990 MiB."""
    process = [(300 + 23 * n) * MiB for n in range(31)]
    held = [max(0, 200 * (n - 18) // 12) * MiB for n in range(31)]
    stored = [a - b - 90 * MiB for a, b in zip(process, held, strict=True)]
    return LastSeconds(
        time=tuple(time - 30 + n for n in range(31)),
        process=tuple(process),
        parts={
            "managed": tuple(stored),
            "executing": tuple(held),
            "baseline": (90 * MiB,) * 31,
        },
        tasks=(
            TaskSeconds(key, "", "rechunk-split", 1, time - 12, 18, tuple(held[18:])),
        ),
        others=(0,) * 31,
        n_others=(0,) * 31,
    )


def falls(
    model: ClusterModel, number: int, time: float, *, last_straw: bool = False, **how
) -> None:
    """Tell of a worker that dies at 97 % of its limit, with one task to blame.

    With the last straw Dask gives that task up.
    """
    who = identity(number)
    culprit = task(CULPRIT, 12.0, prefix="rechunk-split", thread=7, peak=240 * MiB)
    culprit = {"executing": (replace(culprit, bytes=200 * MiB),)}
    stored = {"random_sample": StorageRow(90, 764 * MiB, 64 * MiB, 32 * MiB)}
    reading = {
        "managed_claimed": 700 * MiB,
        "live": 200 * MiB,
        "base": 90 * MiB,
        "free": 0,
        "busy": True,
        "spilled": 64 * MiB,
        "spilled_disk": 32 * MiB,
    }
    last = reported(
        **who,
        time=time - 0.5,
        rss=990 * MiB,
        reading=reading,
        rows=stored,
        thresholds=OWN_THRESHOLDS,
        **culprit,
    )
    others = (TaskInfo(f"('sum', {n})", "sum", "sum", None) for n in (1, 2))
    assigned = (BLAMED, *others)
    tell(model, last)
    if last_straw:
        tell(model, TaskKilled(time, BLAMED, hash(CULPRIT), who["address"], 3))
    tell(
        model,
        removed(
            who["address"],
            time,
            n_assigned=3,
            assigned=assigned,
            assigned_hashes=tuple(hash(a.key) for a in assigned),
            keys_lost=90,
            bytes_lost=764 * MiB,
        ),
        died(
            **who,
            time=time,
            reading=last.reading,
            samples=tuple((time - 30 + n, (300 + 23 * n) * MiB) for n in range(31)),
            last_seconds=growing(time, culprit["executing"][0].key),
            known=(BLAMED,),
            **culprit,
            **how,
        ),
    )


@cache
def after_incident() -> LiveStore:
    """Tell of a cluster that lost three workers, and could not spill."""
    model = ClusterModel()
    tell(model, *(joins(number, NOW - 110) for number in range(1, 5)), GRAPH)
    tell(model, *(reports(number, NOW - 60, rows=None) for number in range(1, 5)))
    by_nanny = {"signal": 15, "by": "nanny"}
    falls(model, 1, NOW - 50, **by_nanny)
    falls(model, 2, NOW - 40, signal=9, by="kernel")
    tell(model, SpillFailed(NOW - 30, address(3), "sum-9", "sum", "disk-full", MiB, ""))
    falls(model, 4, NOW - 20, last_straw=True, **by_nanny)
    tell(model, *(joins(number, NOW - 9) for number in (1, 2, 4)))
    tell(model, *(reports(number) for number in range(1, 5)), Ticked(NOW))
    return LiveStore(model)


def store_told(**more) -> IntermediatesTold:
    """Make what a scheduler says of its memory: 20 results stored, 3 pending."""
    figures = dict.fromkeys(("failed", "never", "stand_ins"), 0)
    values = {"objects": 30, "stored": 20, "pending": 3, **figures, **more}
    return IntermediatesTold(NOW, "file:///shared/store", **values)


#: What each worker has done for it.
STORING = Storing(
    *(10, 200 * MiB, 0.5, 2, 24 * MiB),
    read_back=4,
    read_back_bytes=80 * MiB,
    read_back_seconds=0.02,
)


def storing(storing_of_each: Storing = STORING, **more) -> LiveStore:
    """Tell of two workers whose outputs are stored in part, in a memory of theirs."""
    model = ClusterModel()
    for number in (1, 2):
        kept = {"sum": Held(0, 0, {}, stored=30 * number * MiB, stored_pending=2 * MiB)}
        tell(
            model,
            joins(number),
            reports(number, storing=storing_of_each),
            StorageHeld(NOW, address(number), kept),
        )
    tell(model, store_told(**more), Ticked(NOW))
    return LiveStore(model)
