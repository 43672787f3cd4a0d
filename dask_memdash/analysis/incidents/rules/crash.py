"""The process's own fault or exit."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.phrases import used
from dask_memdash.analysis.incidents.plausible import (
    BY_ITSELF,
    NO_PRESSURE,
    plausible,
)
from dask_memdash.text import code


def crash(case: Case) -> Iterator[Finding]:
    """Yield an end by a fault or by the program's own will."""
    if case.kind not in BY_ITSELF or case.unresponsive is not None:
        return
    one = case.suspects[0] if len(case.suspects) == 1 else None
    running = f" while {code(one.prefix)} was running" if one else ""
    how = {
        "crashed": "A fault in native code ended the process",
        "exited": "The process ended by itself",
    }[case.kind]
    pressed = plausible(case) > 0
    what = "Memory was not short"
    if pressed:
        what = "Memory was short then, and native code may fail when it gets none"
    elif (case.pressure or 0.0) > NO_PRESSURE:
        what = "Neither its nanny nor the kernel ended it"
    yield Finding(
        cause="crash",
        weight=1 - plausible(case),
        text=f"{how}{running}. {what}{used(case)}.",
        prefix=one.prefix if one else None,
        key=one.key if one else None,
        advice=(_advice(case),),
        thin="the worker was nearly full" if pressed else "",
    )


def _advice(case: Case) -> str:
    signal = case.exit.signal if case.exit else None
    if case.kind == "exited":
        return (
            "Look for what ends the process in the task's own code or its libraries: "
            "`sys.exit`, `os._exit`, or an error outside of a task."
        )
    return (
        "Run the task alone with `python -X faulthandler` to see where signal "
        f"{signal} comes from. Native libraries are the usual place."
    )
