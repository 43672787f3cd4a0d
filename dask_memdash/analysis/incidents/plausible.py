"""How far memory can be the cause of an end at all."""

from __future__ import annotations

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.need import ramp
from dask_memdash.analysis.incidents.request_judgement import Judgement, judge
from dask_memdash.analysis.incidents.requests import Request, parse

#: Shares of the limit between which an end that nobody explains becomes one by memory.
NO_PRESSURE, PRESSURE = 0.75, 0.92

#: Most that a crash can be a matter of memory: native code that was refused some.
BY_CRASH = 0.4

#: Kinds that happen for memory and for nothing else.
BY_MEMORY = frozenset(
    {"terminated", "oom-killed", "spill-failed", "kernel-near", "stuck"}
)

#: Verdicts on a request that was refused for want of the worker's memory.
BY_REQUEST = frozenset({"mistake", "too-large", "shortage"})

#: Kinds that never happen for memory alone.
BY_ITSELF = frozenset({"crashed", "exited"})


def plausible(case: Case) -> float:
    """Say how far memory can be the cause, from 0 to 1."""
    if case.unresponsive is not None:
        return 0.0
    if case.kind in BY_MEMORY:
        return 1.0
    if case.kind == "exited":
        return 0.0
    if case.stage == "child":  # another process: what the worker had says nothing
        return 1.0
    if case.stage == "receiving":  # there is nothing else that it can be about
        return 1.0
    if case.kind == "memory-error" and (request := parse(case.detail)) is not None:
        verdict = judge_request(case, request).verdict
        if verdict != "unknown":
            return 1.0 if verdict in BY_REQUEST else 0.0
    if case.breakdown is None:
        return 0.0
    pressed = ramp(_pressure(case), NO_PRESSURE, PRESSURE)
    return BY_CRASH * pressed if case.kind == "crashed" else pressed


def _pressure(case: Case) -> float:
    """Return the process as a share of its limit, or of what it is really allowed.

    What the host has is no cap of its own: the kernel's counters tell when it ran out.
    """
    host = case.facts.host
    known = host is not None and host.effective and host.source != "host"
    if case.kind != "killed" or not known or host is None:
        return case.pressure or 0.0
    return max(case.pressure or 0.0, case.parts.process / (host.effective or 1))


def judge_request(case: Case, request: Request) -> Judgement:
    """Set what was asked for against the worker that refused it."""
    host = case.facts.host
    return judge(request, case.limit, None if host is None else host.machine)


def is_refused(case: Case) -> bool:
    """Say whether a task was refused more than any empty worker of this limit has.

    What else the worker held at that instant does not matter then.
    """
    if case.kind != "memory-error" or (request := parse(case.detail)) is None:
        return False
    return judge_request(case, request).verdict in ("mistake", "too-large")
