"""Events and other pieces for tests, with values that nobody has to care about.

:func:`check_invariants` says what must hold of a model after any event.
"""

from __future__ import annotations

from dask_memdash.model.breakdown import PARTS, Breakdown, Reading
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import (
    Executing,
    Finished,
    Held,
    StorageRow,
    TaskInfo,
    Thresholds,
)
from dask_memdash.model.events import (
    DeathReported,
    TaskKilled,
    WorkerAdded,
    WorkerRemoved,
    WorkerReported,
    WorkerSampled,
)
from dask_memdash.model.quantiles import QuantileSketch

MiB = 2**20
A, B, C = "tcp://10.0.0.1:1", "tcp://10.0.0.2:1", "tcp://10.0.0.3:1"
T0 = 1_760_000_000.0


def added(address=A, pid=100, time=T0, **more):
    values = {
        "name": "0",
        "host": "10.0.0.1",
        "nthreads": 2,
        "limit": 1000 * MiB,
        "nanny": True,
        "status": "running",
    }
    return WorkerAdded(time=time, address=address, pid=pid, **{**values, **more})


def reported(address=A, pid=100, time=T0 + 1, rss=400 * MiB, **more):
    """Make a heartbeat; `reading` may hold more fields of the reading."""
    reading = Reading(time=time, rss=rss, **more.pop("reading", {}))
    values = {
        "rows": None,
        "executing": (),
        "finished": {},
        "thresholds": Thresholds(),
        "method": "estimated",
    }
    return WorkerReported(
        time=time, address=address, pid=pid, reading=reading, **{**values, **more}
    )


def sampled(address=A, pid=100, time=T0 + 2, rss=400 * MiB, **more):
    values = {"reading": None, "executing": ()}
    return WorkerSampled(
        time=time, address=address, pid=pid, rss=rss, **{**values, **more}
    )


def removed(address=A, time=T0 + 10, **more):
    values = {
        "expected": False,
        "stimulus": "handle-worker-cleanup-1",
        "n_assigned": 0,
        "assigned": (),
        "assigned_hashes": (),
        "keys_lost": 0,
        "bytes_lost": 0,
    }
    return WorkerRemoved(time=time, address=address, **{**values, **more})


def died(address=A, pid=100, time=T0 + 11, **more):
    values = {
        "died": time,
        "code": None,
        "signal": 9,
        "by": "unknown",
        "asked": False,
        "closing": False,
        "reading": None,
        "executing": (),
        "samples": (),
        "recorded": True,
    }
    return DeathReported(time=time, address=address, pid=pid, **{**values, **more})


def executing(key="sum-1", size: int | None = 100 * MiB, **more):
    values = {
        "digest": "",
        "prefix": key.partition("-")[0],
        "thread": 7,
        "seconds": 2.0,
        "bytes": size,
        "peak": size,
        "error": None if size is None else 0,
        "method": "unmeasured" if size is None else "estimated",
    }
    return Executing(key=key, **{**values, **more})


def finished(*peaks, outputs=(), errors=()):
    return Finished(
        count=len(peaks),
        method="estimated",
        peaks=QuantileSketch.of(peaks),
        errors=QuantileSketch.of(errors),
        outputs=QuantileSketch.of(outputs),
    )


def info(key="sum-1", priority: tuple[float, ...] | None = (0.0, 1.0, 5.0)):
    prefix = key.partition("-")[0]
    return TaskInfo(key=key, prefix=prefix, group=prefix, priority=priority)


def killed(key="sum-1", address=A, time=T0 + 10, allowed_failures=3):
    """Make a ``KilledWorker``; the hash is that of the key, as in `removed`."""
    return TaskKilled(
        time=time,
        task=info(key),
        hash=hash(key),
        address=address,
        allowed_failures=allowed_failures,
    )


def row(claimed=0, spilled=0, keys=1):
    return StorageRow(keys, claimed, spilled, spilled // 2)


def check_breakdown(breakdown: Breakdown) -> None:
    parts = [getattr(breakdown, name) for name in PARTS]
    assert sum(parts) == breakdown.process
    assert min(parts) >= 0
    assert breakdown.error >= 0
    assert breakdown.managed <= breakdown.managed_claimed


def check_invariants(model: ClusterModel) -> None:
    """Check what must hold of a model after any event."""
    _check_processes(model)
    _check_prefixes(model)
    histories = [process.history for process in model.processes.by_key.values()]
    for history in (model.processes.history, *histories):
        assert len(history) <= history.capacity
        times = history.columns()["time"]
        assert times == sorted(times)
    if not model.processes.workers:
        assert not any(
            getattr(model.processes.total, name) for name in Breakdown.__slots__
        )


def _check_processes(model):
    processes = model.processes
    members = [
        (address, key)
        for key, process in processes.by_key.items()
        for address in process.members
    ]
    assert sorted(members) == sorted((a, w.key) for a, w in processes.workers.items())
    known = []
    for process in processes.by_key.values():
        assert process.members
        if process.breakdown is None:
            assert process.managed == {}
        else:
            check_breakdown(process.breakdown)
            assert sum(process.managed.values()) == process.breakdown.managed
            _check_execution(process)
            known.append(process.breakdown)
    for name in Breakdown.__slots__:
        total = getattr(processes.total, name) or 0
        assert total == sum(getattr(b, name) or 0 for b in known), name


def _check_execution(process):
    """Check that tasks have what they count, together at most what is executing."""
    executing = process.breakdown.executing
    tasks = [t for w in process.members.values() for t in w.executing]
    shares = [n for w in process.members.values() for n in w.shares]
    counts = [None if t.bytes is None else max(0, t.bytes) for t in tasks]
    assert sum(process.counted.values()) == sum(n or 0 for n in shares)
    if sum(n or 0 for n in counts) <= executing:
        assert shares == counts
    else:
        assert sum(n or 0 for n in shares) == executing


def _check_prefixes(model):
    workers = model.processes.workers.values()
    prefixes = model.prefixes.by_name
    nothing_held, nothing_stored = Held(0, 0, {}), StorageRow(0, 0, 0, 0)
    for name in {
        *prefixes,
        *(name for w in workers for name in (*w.rows, *w.held)),
        *(task.prefix for w in workers for task in w.executing),
    }:
        state = prefixes[name]
        assert state.managed == sum(
            p.managed.get(name, 0) for p in model.processes.by_key.values()
        )
        rows = [w.rows.get(name, nothing_stored) for w in workers]
        assert state.count == sum(r.keys for r in rows)
        assert state.claimed == sum(r.claimed for r in rows)
        assert state.spilled == sum(r.spilled for r in rows)
        assert state.spilled_disk == sum(r.spilled_disk for r in rows)
        held = [w.held.get(name, nothing_held) for w in workers]
        assert state.pinned == sum(h.pinned for h in held)
        assert state.awaited == sum(h.awaited for h in held)
        assert state.replicas == sum(h.replicas for h in held)
        assert state.n_replicas == sum(h.n_replicas for h in held)
        for waiter, size in state.awaited_by.items():
            assert size == sum(h.awaited_by.get(waiter, 0) for h in held)
            assert size > 0
        tasks = [t for w in workers for t in w.executing if t.prefix == name]
        assert state.running == len(tasks)
        assert state.measured == sum(t.bytes is not None for t in tasks)
        shares = [
            (t, n) for w in workers for t, n in zip(w.executing, w.shares, strict=True)
        ]
        assert state.executing == sum(n or 0 for t, n in shares if t.prefix == name)
        assert state.finished >= 0
