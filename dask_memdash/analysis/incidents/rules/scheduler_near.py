"""A scheduler that is about to run out of memory."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, count, format_bytes

#: Share of the scheduler's process from which its graphs are the cause.
LEAST_SHARE = 0.3


def scheduler_near(case: Case) -> Iterator[Finding]:
    """Yield what fills a scheduler: arguments of tasks where these are much of it."""
    process = case.parts.process
    rows = case.facts.graph
    sent = {name: row.arguments for name, row in rows.items()}
    total = sum(sent.values())
    if rows and process and total >= LEAST_SHARE * process:
        prefix = largest(sent)[0]
        row = rows[prefix]
        yield Finding(
            cause="graph",
            weight=min(1.0, total / process),
            text=f"The tasks that it knows carry {format_bytes(total)} of arguments "
            f"and closures, {code(prefix)} {format_bytes(row.arguments)} with "
            f"{count(row.tasks, 'task')}. The scheduler keeps them until the tasks are "
            "forgotten.",
            prefix=prefix,
            advice=(
                "Send large arguments once: `x = client.scatter(x)`, and pass that to "
                f"{code(prefix)} instead of `x`. Or read the data in the tasks "
                "themselves.",
            ),
        )
        return
    yield Finding(
        cause="unaccounted",
        weight=0.6,
        text=f"Its process has {format_bytes(process)}, and what its tasks carry is "
        f"{format_bytes(total)} of that.",
        advice=(
            "Give the scheduler a host or container with more memory. Release futures "
            "that are not needed any more, so that it can forget their tasks.",
        ),
        thin="MemDash does not look into the rest of the scheduler's memory",
    )
