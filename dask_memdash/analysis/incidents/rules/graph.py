"""Arguments, closures and records of the tasks that a worker was sent."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import UNNAMED, give_out
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, count, format_bytes

#: Tasks that one task of a batch replaces, in the advice on many small tasks.
BATCH = 100

UNSEEN = "Dask does not count that as stored and cannot spill it."


def graph(case: Case) -> Iterator[Finding]:
    """Yield what was sent with the tasks themselves."""
    kept = give_out(case).graph
    if not kept:
        return
    prefix = largest(kept)[0]
    if prefix == UNNAMED:
        yield Finding(
            cause="graph",
            weight=sum(kept.values()) / case.above,
            text="Arguments, closures and records of the tasks that had been sent to "
            f"the worker took {format_bytes(kept[prefix])}. {UNSEEN}",
            advice=(
                "Send large arguments once: `x = client.scatter(x)`, and pass that to "
                "your functions instead of `x`: Dask can see and spill scattered data.",
            ),
        )
        return
    row = case.facts.graph[prefix]
    by_records = row.records > row.arguments
    what = "Dask's records of them" if by_records else "their arguments and closures"
    came = row.records if by_records else row.arguments
    there = f"took {format_bytes(kept[prefix])}"
    if format_bytes(came) != format_bytes(kept[prefix]) and came > kept[prefix]:
        there = (
            f"are {format_bytes(came)}, of which at least "
            f"{format_bytes(kept[prefix])} was in its memory"
        )
    yield Finding(
        cause="graph",
        weight=sum(kept.values()) / case.above,
        text=f"{count(row.tasks, 'task')} of {code(prefix)} had been sent to the "
        f"worker, and {what} {there}. {UNSEEN}",
        prefix=prefix,
        advice=(_advice(prefix, row.tasks, row.arguments, row.records),),
    )


def _advice(prefix: str, tasks: int, arguments: int, records: int) -> str:
    if records > arguments:
        return (
            f"Let one task do the work of {BATCH}: `client.map(lambda batch: "
            f"[{_name(prefix)}(x) for x in batch], toolz.partition_all({BATCH}, items))"
            f"`. {count(tasks, 'record')} take {format_bytes(records)}; "
            f"{count(-(-tasks // BATCH), 'record')} will take "
            f"{format_bytes(records / BATCH)}."
        )
    return (
        "Send large arguments once: `x = client.scatter(x)`, and pass that to "
        f"{code(prefix)} instead of `x`. {format_bytes(arguments)} came with "
        f"{count(tasks, 'task')}; scattered data is stored once, and Dask can see and "
        "spill it."
    )


def _name(prefix: str) -> str:
    """Return how the function of a prefix is called, as far as one can tell."""
    return prefix if prefix.isidentifier() else "f"
