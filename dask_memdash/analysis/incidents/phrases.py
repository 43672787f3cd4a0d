"""Parts of sentences that several rules share."""

from __future__ import annotations

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.growth_attribution import hands_over
from dask_memdash.analysis.incidents.need import held_by
from dask_memdash.analysis.incidents.retention_reasons import waiting_for
from dask_memdash.model.evidence import largest
from dask_memdash.model.incidents import Suspect
from dask_memdash.text import code, format_bytes, format_share, join


def held(case: Case, suspect: Suspect) -> str:
    """Say what a task held at the instant, and how that was measured."""
    size = held_by(case, suspect)
    if not size and suspect.bytes is None:
        return "an unmeasured part"
    method = suspect.method if suspect.bytes else "not counted"
    if suspect.bytes and size > 2 * suspect.bytes:
        method = f"{format_bytes(suspect.bytes)} counted"
    share = f", {format_share(size, case.limit)} of the limit" if case.limit else ""
    return f"{format_bytes(size)} ({method}{share})"


def by_prefix(sizes: dict[str, int]) -> str:
    """Name the largest of several sizes by prefix."""
    named = [f"{format_bytes(sizes[p])} of {code(p)}" for p in largest(sizes, 3)]
    return join(named)


def waiters(case: Case, prefix: str) -> str:
    """Name the prefixes that wait for a stored one."""
    waiting = waiting_for(case, prefix)
    return join([code(name) for name in waiting]) if waiting else "other tasks"


def used(case: Case) -> str:
    """Say what the process used, after a colon; empty where that is not known."""
    if case.breakdown is None:
        return ""
    size = format_bytes(case.breakdown.process)
    if case.pressure is None:
        return f": it used {size}"
    return f": it used {size}, {format_share(case.pressure)} of its limit"


def thin_execution(case: Case, top: Suspect) -> str:
    """Say what is thin in the evidence on running tasks; empty where nothing is."""
    if case.evidence != "flight-recorder":
        return "what was running is known from the last heartbeat only"
    if top.gathering:
        return ""
    if top.bytes is None:
        return "the running task could not be measured"
    if top.method == "estimated" and len(case.suspects) > 1:
        return "what each task held is estimated"
    if held_by(case, top) > 2 * (top.bytes or 0) and not hands_over(top.prefix):
        return "most of what the task held was not counted"
    return ""
