"""Ends that are not about memory: a fault of the program, somebody from outside.

:func:`plausible` says how far memory can be the cause at all; every rule about memory
is weighed with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.text import code, format_bytes, format_share

#: Shares of the limit between which an end that nobody explains becomes one by memory.
NO_PRESSURE, PRESSURE = 0.75, 0.92

#: A request of so many times the limit is no shortage of memory but a mistake.
ABSURD = 50

#: Kinds that happen for memory and for nothing else.
BY_MEMORY = frozenset(
    {"terminated", "oom-killed", "paused", "spill-failed", "kernel-near"}
)

#: Kinds that never happen for memory alone.
BY_ITSELF = frozenset({"crashed", "exited"})

_REQUEST = re.compile(r"allocate (\d+(?:\.\d+)?) (bytes|[KMGTPE]iB)")
_UNITS = {"bytes": 1, **{f"{u}iB": 2 ** (10 * n) for n, u in enumerate("KMGTPE", 1)}}


def ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to `low`, 1 from `high` on, and a straight line between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


def plausible(case: Case) -> float:
    """Say how far memory can be the cause, from 0 to 1."""
    if case.kind in BY_MEMORY:
        return 1.0
    if case.kind in BY_ITSELF or case.breakdown is None:
        return 0.0
    if case.kind == "memory-error" and (wanted := requested(case)) is not None:
        return 0.0 if case.limit and wanted > ABSURD * case.limit else 1.0
    return ramp(case.pressure or 0.0, NO_PRESSURE, PRESSURE)


def requested(case: Case) -> int | None:
    """Return what a ``MemoryError`` says was asked for, in bytes; None if not said."""
    found = _REQUEST.search(case.detail)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None


def crash(case: Case) -> Iterator[Finding]:
    """Yield an end by a fault or by the program's own will."""
    if case.kind == "memory-error":
        yield from _mistaken_request(case)
    if case.kind not in BY_ITSELF:
        return
    one = case.suspects[0] if len(case.suspects) == 1 else None
    running = f" while {code(one.prefix)} was running" if one else ""
    how = {
        "crashed": "A fault in native code ended the process",
        "exited": "The process ended by itself",
    }[case.kind]
    yield Finding(
        cause="crash",
        weight=1.0,
        text=f"{how}{running}, not a shortage of memory{_used(case)}.",
        prefix=one.prefix if one else None,
        key=one.key if one else None,
        advice=(_advice_on_crash(case),),
    )


def external(case: Case) -> Iterator[Finding]:
    """Yield an end from outside without pressure."""
    if case.kind != "killed":
        return
    weight = 1 - plausible(case)
    if weight <= 0:
        return
    yield Finding(
        cause="external",
        weight=weight,
        text="Neither the nanny nor, as far as its counters say, the kernel ended it"
        f"{_used(case)}.",
        advice=(
            "Look for who sends signals to workers: a batch system at its time limit, "
            "a container's runtime, a person.",
        ),
        thin="" if case.evidence == "flight-recorder" else "no flight recorder",
    )


def _mistaken_request(case: Case) -> Iterator[Finding]:
    wanted = requested(case)
    name = case.tasks[0].prefix if case.tasks else None
    who = code(name) if name else "A task"
    weight = 1 - plausible(case)
    if weight <= 0:
        return
    if wanted is None:
        text = f"{who} raised MemoryError, though the worker had memory{_used(case)}."
        advice = f"Look at what {who} asks for at once."
    else:
        times = wanted / case.limit if case.limit else 0
        text = (
            f"{who} asked for {format_bytes(wanted)} at once, {times:,.0f} times the "
            f"worker's limit: a mistake in the computation, no shortage{_used(case)}."
        )
        advice = f"Look at the shape that {who} asks for: no chunking makes that fit."
    yield Finding(
        cause="crash",
        weight=weight,
        text=text,
        prefix=name,
        key=case.tasks[0].key if case.tasks else None,
        advice=(advice,),
        thin="" if wanted is not None else "the error does not say what was asked for",
    )


def _used(case: Case) -> str:
    if case.breakdown is None:
        return ""
    size = format_bytes(case.breakdown.process)
    if case.pressure is None:
        return f": it used {size}"
    return f": it used {size}, {format_share(case.pressure)} of its limit"


def _advice_on_crash(case: Case) -> str:
    signal = case.exit.signal if case.exit else None
    if case.kind == "exited":
        return "Look for what ends the process in the task's own code or its libraries."
    return (
        f"Run the task alone with `python -X faulthandler` to see where signal "
        f"{signal} comes from; native libraries are the usual place."
    )
