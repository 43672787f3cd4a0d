"""The audits of the workers' memory limits, in the shape of :class:`LimitAudit`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import cast

from dask_memdash.analysis.limits.context import SEVERITIES, LimitContext, Verdict
from dask_memdash.analysis.limits.rules import (
    Headroom,
    contexts,
    headroom,
    judge,
    recommended,
)
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.limit_facts import Cap, LiveFigures
from dask_memdash.model.processes import WorkerState
from dask_memdash.store.limit_shapes import (
    LimitAudit,
    LimitFinding,
    LimitHeadroom,
    LimitLink,
    LimitLive,
    LimitScratch,
)
from dask_memdash.store.natural_order import natural

#: Kinds of cap that are shown as sources.
SOURCES = ("host", "cgroup", "batch", "rlimit")


#: Audits made in one second of the model's time at most, but for small clusters:
#: an audit takes some 50 µs, and limits change slowly.
RATE = 200
SMALL = 100


class Audits:
    """The audits of a model's workers, made again when they are asked for and old."""

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        self._version = -1
        # The audits made are good between these two instants, in Unix time.
        self._since, self._until = float("inf"), float("-inf")
        self._made: list[LimitAudit] = []

    def read(self) -> list[LimitAudit]:
        """Return the audit of every worker, worst first; at most some seconds old."""
        model = self._model
        fresh = self._since <= model.time < self._until  # a clock may go back too
        if model.version != self._version and not fresh:
            self._made = audits(model)
            self._version = model.version
            if len(self._made) >= SMALL:
                self._since = model.time
                self._until = model.time + len(self._made) / RATE
        return self._made


def in_turn(model: ClusterModel) -> Iterator[LimitAudit]:
    """Make the audit of one worker after another, of those that there are now."""
    for worker, context in contexts(model.processes, model.incidents, model.time):
        yield _audit(worker, context)


def audits(model: ClusterModel) -> list[LimitAudit]:
    """Return the audit of every worker, worst first."""
    made = list(in_turn(model))
    order = (*SEVERITIES, "unknown", "ok")
    return sorted(made, key=lambda a: (order.index(a["severity"]), natural(a["name"])))


def _audit(worker: WorkerState, context: LimitContext) -> LimitAudit:
    facts, info, machine = context.process.facts, worker.info, context.machine
    findings = judge(context)
    least = context.least
    known = "unknown" if least is None else "ok"
    scratch = context.facts.scratch
    sources: dict[str, int | None] = {}
    for kind in SOURCES:
        cap = context.facts.least(kind)
        sources[kind] = None if cap is None else cap.bytes
    sources["available"] = context.facts.first.available
    return {
        "address": info.address,
        "name": info.name,
        "host": info.host,
        "pid": info.pid,
        "nthreads": info.nthreads,
        "machine": context.facts.machine,
        "environment": None if facts is None else facts.environment,
        "limit": info.limit,
        "set_by": context.facts.set_by,
        "dask": context.facts.dask,
        "effective": None if least is None else least.bytes,
        "source": None if least is None else least.kind,
        "sources": sources,
        "siblings": machine.limits,
        "n_siblings": len(machine.members),
        "chain": _chain(worker, context, least),
        "verdict": findings[0].verdict if findings else known,
        "severity": findings[0].severity if findings else known,
        "advice": list(dict.fromkeys(f.advice for f in findings)),
        "findings": [_finding(finding) for finding in findings],
        "recommended": recommended(context, findings),
        "live": _live(context.live),
        "headroom": _headroom(headroom(context)),
        "swap_total": context.facts.swap_total,
        "swap_limit": context.facts.swap_limit,
        "trim_threshold": context.facts.allocator.trim_threshold,
        "allocator": context.facts.allocator.name,
        "scratch": None if scratch is None else cast(LimitScratch, asdict(scratch)),
        "skipped": list(context.facts.skipped),
    }


def _finding(verdict: Verdict) -> LimitFinding:
    return {
        "verdict": verdict.verdict,
        "severity": verdict.severity,
        "text": verdict.text,
        "advice": verdict.advice,
        "numbers": dict(verdict.numbers),
    }


def _live(live: LiveFigures) -> LimitLive:
    return {
        "available": live.available,
        "cgroup_used": live.cgroup_used,
        "swapped": live.swapped,
        "pressure": live.pressure,
        "scratch_free": live.scratch_free,
    }


def _headroom(left: Headroom) -> LimitHeadroom:
    return {"bytes": left.bytes, "slope": left.slope, "seconds": left.seconds}


def _chain(
    worker: WorkerState, context: LimitContext, least: Cap | None
) -> list[LimitLink]:
    """Return the chain from the machine to the worker's limit."""
    chain: list[LimitLink] = []
    if context.facts.first.available is not None:
        available = context.facts.first.available
        chain.append(
            _link("available", "MemAvailable", "/proc/meminfo", available, "none")
        )
    caps = [
        _link(c.kind, c.name, c.where, c.bytes, c.effect, binding=c is least)
        for c in context.facts.caps
    ]
    chain = [*caps[:1], *chain, *caps[1:]]
    siblings, members = context.machine.limits, len(context.machine.members)
    if siblings is not None and chain:
        workers = "1 worker" if members == 1 else f"{members} workers"
        chain.append(_link("siblings", workers, "this machine", siblings, "none"))
    if worker.info.limit is not None and chain:
        set_by = context.facts.set_by or "not known how"
        chain.append(_link("worker", "memory limit", set_by, worker.info.limit, "dask"))
    return chain


def _link(
    level: str, name: str, where: str, size: int, effect: str, *, binding: bool = False
) -> LimitLink:
    return {
        "level": level,
        "name": name,
        "where": where,
        "bytes": size,
        "effect": effect,
        "binding": binding,
    }
