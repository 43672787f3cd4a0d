"""An end from outside, without pressure."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.phrases import used
from dask_memdash.analysis.incidents.plausible import plausible


def external(case: Case) -> Iterator[Finding]:
    """Yield an end from outside without pressure."""
    if case.kind != "killed" or case.unresponsive is not None:
        return
    weight = 1 - plausible(case)
    if weight <= 0:
        return
    yield Finding(
        cause="external",
        weight=weight,
        text="Neither the nanny nor, as far as its counters say, the kernel ended "
        f"it{used(case)}.",
        advice=(
            "Look for who sends signals to workers: a batch system at its time limit, "
            "a container's runtime, a person.",
        ),
        thin="" if case.evidence == "flight-recorder" else "no flight recorder",
    )
