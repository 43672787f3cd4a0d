"""What runs of a demo gave, as tables and as plain data: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from dask_memdash.demos import terminal
from dask_memdash.demos.advice import taken_apart
from dask_memdash.demos.api import PEAKS
from dask_memdash.demos.cluster import Plan
from dask_memdash.demos.experiment import Result
from dask_memdash.text import UNKNOWN, count, format_bytes, format_duration

MiB = 2**20


def outcomes(results: Sequence[Result]) -> str:
    """Set what was run and how it ended in a table, beside the outcome of 2017."""
    compared = any(result.case.seed[1] for result in results)
    header = ["", "data", "partition", "runtime", "outcome", "deaths", "cause"]
    rows = []
    for result in results:
        case = result.case
        row = [
            case.name,
            format_bytes(case.data_bytes),
            format_bytes(case.partition_bytes),
            format_duration(result.runtime),
            result.outcome,
            str(result.deaths),
            result.cause or UNKNOWN,
        ]
        rows.append([*row, case.seed[1] or UNKNOWN] if compared else row)
    return terminal.table([*header, "in 2017"] if compared else header, rows)


def peaks(results: Sequence[Result]) -> str:
    """Set the most that each part of the cluster's breakdown reached in a table.

    A part of which no run had a MiB has no column.
    """
    had = [name for name in PEAKS if any(r.peaks[name] >= MiB for r in results)]
    names = ("process", *had)
    rows = [
        [result.case.name, *(format_bytes(result.peaks[name]) for name in names)]
        for result in results
    ]
    return terminal.table(["most of", *names], rows)


def before_and_after(before: Result, after: Result) -> str:
    """Set one computation beside itself, run as MemDash advises."""
    rows = [
        [
            name,
            format_duration(result.runtime),
            result.outcome,
            str(result.deaths),
            format_bytes(result.peaks["process"]),
        ]
        for name, result in (("as it was", before), ("as advised", after))
    ]
    header = ["", "runtime", "outcome", "deaths", "most memory on the cluster"]
    return terminal.table(header, rows)


def with_guard(result: Result) -> str:
    """Say what became of a run with the guard on, whatever that is."""
    took = format_duration(result.runtime)
    if result.outcome == "ok":
        died = "no worker died"
        if result.deaths:
            died = f"{count(result.deaths, 'worker')} died and came back"
        return f"With the guard: completed, {took}; {died}."
    return (
        f"With the guard: not completed ({result.outcome} after {took}, "
        f"{count(result.deaths, 'death')}). It could not save this one."
    )


def what_it_did(guard: Mapping[str, Any] | None, result: Result) -> str:
    """Say what a guard did in a run; that it had nothing to do where so it was."""
    if guard is None or guard["mode"] == "off":
        return "The guard could do nothing on these workers."
    counts = ("held", "opened", "drained", "braked", "fetch_limited")
    did = any(guard[name] for name in counts)
    if not did and result.outcome == "ok" and not result.deaths:
        return "It had nothing to hold back: this much fits task by task."
    return str(guard["text"])


def diagnoses(results: Sequence[Result]) -> list[str]:
    """Return what MemDash says of each run that had deaths or did not end well.

    Of each the first advice; one with a line that stands there already is short.
    """
    lines: list[str] = []
    told: dict[str, str] = {}
    for result in results:
        failure = result.failure
        if failure is None:
            continue
        title = f"{result.case.name}: {result.cause}"
        if result.responsible:
            title += f", responsible: {result.responsible}"
        text = f"{failure['text']} {failure['diagnosis']['text']}"
        lines += ["", title, *terminal.paragraph(text, "    ")]
        for advice in failure["diagnosis"]["advice"][:1]:
            apart = taken_apart(advice)
            line = advice if apart is None else apart.line
            if line in told:
                lines += terminal.paragraph(f"→ The same as of {told[line]}.", "    ")
                continue
            told[line] = result.case.name
            lines += ["", *terminal.advice(advice, "    ")]
    return lines


def document(demo: str, plans: Sequence[Plan], results: Sequence[Result]) -> Any:
    """Return everything as plain data; each run has its plan, in the same order."""
    runs = [
        {
            "workers": plan.workers,
            "threads": plan.threads,
            "memory_limit": plan.memory_limit,
            "config": dict(plan.config),
            **result.to_dict(),
        }
        for plan, result in zip(plans, results, strict=True)
    ]
    versions = {name: version(name) for name in ("dask", "distributed")}
    return {"demo": demo, "versions": versions, "runs": runs}
