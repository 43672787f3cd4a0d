"""A worker that the scheduler gave up because it did not answer."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.phrases import used
from dask_memdash.text import code, format_duration, join

#: Room that the advice leaves above what was seen.
TIMES = 10


def unresponsive(case: Case) -> Iterator[Finding]:
    """Yield a worker that was silent for longer than ``worker-ttl``."""
    silent = case.unresponsive
    if silent is None:
        return
    names = list(dict.fromkeys(s.prefix for s in case.suspects))
    one = case.suspects[0] if len(case.suspects) == 1 else None
    running = ""
    if names:
        verb = "was" if len(names) == 1 else "were"
        running = (
            f" {join([code(name) for name in names[:3]])} {verb} running: a task that "
            "holds the GIL keeps its worker from answering."
        )
    seconds = max(60, round(TIMES * silent / 60) * 60)
    yield Finding(
        cause="unresponsive",
        weight=1.0,
        text="The scheduler gave the worker up, because it had not answered for "
        f"{format_duration(silent)}, longer than `distributed.scheduler.worker-ttl` "
        f"allows. Memory was not the reason{used(case)}.{running}",
        prefix=names[0] if len(names) == 1 else None,
        key=one.key if one else None,
        advice=(
            "Allow more time, before the scheduler starts: `dask.config.set("
            f'{{"distributed.scheduler.worker-ttl": "{seconds}s"}})`. The worker was '
            f"silent for {format_duration(silent)}.",
        ),
    )
