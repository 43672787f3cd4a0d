"""Stored outputs that a client holds."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.phrases import by_prefix
from dask_memdash.analysis.incidents.retention_reasons import blamed, wanted_by
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, format_bytes, short

#: Characters of a client's name.
MAX_NAME = 24


def pinned(case: Case) -> Iterator[Finding]:
    """Yield outputs that are there because a client holds them."""
    held = blamed(case, "pinned")
    if not held:
        return
    prefix = largest(held)[0]
    total = sum(held.values())
    name = wanted_by(case, prefix)
    who = "a client" if name is None else f"the client {short(name, MAX_NAME)}"
    stays = max(0, case.parts.process - total)
    yield Finding(
        cause="pinned",
        weight=total / case.above,
        text=f"{by_prefix(held)} were in memory, because {who} holds futures or a "
        "persisted collection of them. No task was waiting for them.",
        prefix=prefix,
        advice=(
            f"Release what you hold of {code(prefix)} before the next step: "
            f"`client.cancel(futures)`, or `del` the collection. {format_bytes(total)} "
            f"of this worker's {format_bytes(case.parts.process)} would be free, and "
            f"{format_bytes(stays)} would stay.",
        ),
    )
