"""Stored outputs: run ahead, awaited, pinned, larger than believed, or not spilled."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.analysis.incidents.retention_reasons import (
    held_in_memory,
    waiting_for,
    wanted_by,
)
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, count, format_bytes, format_share, join, short

#: Share of what is stored that is left to be spilled while all is well: one output may
#: be on its way to the disk.
SLACK = 1.1

#: Words for why an output could not be spilled.
REASONS = {
    "max-spill": "as much had been spilled as `distributed.worker.memory.max-spill` "
    "allows",
    "disk-full": "the disk was full",
    "disk-error": "the disk could not be written to",
    "unpicklable": "outputs could not be pickled",
}

ADVICE_ON_SPILL = {
    "max-spill": "Raise `distributed.worker.memory.max-spill` above {spilled}.",
    "disk-full": "Give workers a larger disk (`--local-directory`), by "
    "{excess} at least.",
    "disk-error": "See to the workers' `--local-directory`.",
    "unpicklable": "Let {prefix} return something that can be pickled.",
}


def run_ahead(case: Case) -> Iterator[Finding]:
    """Yield outputs that were produced earlier than the order needed them."""
    order = case.facts.order
    held = held_in_memory(case, "run-ahead")
    if order is None or not held:
        return
    prefix = largest(held)[0]
    yield Finding(
        cause="run-ahead",
        weight=sum(held.values()) / case.above,
        text=f"At {order.done:,} of {count(order.total, 'task')}, the order needs "
        f"{format_bytes(order.ideal)} of storage on the cluster, and "
        f"{format_bytes(order.held)} were held; on this worker "
        f"{_by_prefix(held)} had been produced too early.",
        prefix=prefix,
        advice=(
            f"Slow {code(prefix)} down: lower "
            "`distributed.scheduler.worker-saturation`, or give "
            f"the tasks that consume it ({_waiters(case, prefix)}) more threads.",
        ),
    )


def awaited(case: Case) -> Iterator[Finding]:
    """Yield outputs that tasks still to run wait for."""
    held = held_in_memory(case, "awaited")
    unknown = held_in_memory(case, "other")
    thin = ""
    if unknown and sum(unknown.values()) > sum(held.values()):
        # What is stored, and nobody has looked at yet, is most likely awaited.
        held = {p: held.get(p, 0) + unknown.get(p, 0) for p in {*held, *unknown}}
        thin = "why they were held had not been looked at yet"
    if not held:
        return
    prefix = largest(held)[0]
    order = case.facts.order
    if order is None:
        note = "how much of it the order needs is not known"
    else:
        note = (
            f"the order of this graph needs {format_bytes(order.minimum)} of storage "
            "at its peak, however it is run"
        )
    yield Finding(
        cause="awaited",
        weight=sum(held.values()) / case.above,
        text=f"{_by_prefix(held)} were in memory because "
        f"{_waiters(case, prefix)} still had to run; {note}.",
        prefix=prefix,
        advice=tuple(_advice_on_awaited(case, prefix)),
        thin=thin,
    )


def pinned(case: Case) -> Iterator[Finding]:
    """Yield outputs that are there because a client holds them."""
    held = held_in_memory(case, "pinned")
    if not held:
        return
    prefix = largest(held)[0]
    total = sum(held.values())
    yield Finding(
        cause="pinned",
        weight=total / case.above,
        text=f"{_by_prefix(held)} were in memory because {_client(case, prefix)} holds "
        "their futures, and no task waited for them.",
        prefix=prefix,
        advice=(
            f"Persist less of {code(prefix)}, or release its futures before the next "
            f"step: {format_bytes(total)} of this worker's "
            f"{format_bytes(case.limit or case.parts.process)} would be free.",
        ),
    )


def sizeof(case: Case) -> Iterator[Finding]:
    """Yield outputs that are much larger than Dask believes."""
    hidden = give_out(case).hidden
    if not hidden:
        return
    prefix = largest(hidden)[0]
    weighed = case.facts.expected[prefix].weighed
    believed, measured = weighed.believed, weighed.left
    each = max(1, weighed.count)
    yield Finding(
        cause="sizeof",
        weight=sum(hidden.values()) / case.above,
        text=f"Dask believes the outputs of {code(prefix)} to be "
        f"{format_bytes(believed / each)} each, and {format_bytes(measured / each)} "
        f"were measured: {format_bytes(hidden[prefix])} on this worker that it cannot "
        "see, and so does not spill.",
        prefix=prefix,
        advice=(
            "Register a size with `dask.sizeof.sizeof.register` for what "
            f"{code(prefix)} returns: {format_bytes(measured / each)} each.",
        ),
    )


def spill_blocked(case: Case) -> Iterator[Finding]:
    """Yield stored outputs that should have been spilled, and were not."""
    target, stored = case.target, case.stored()
    if case.kind == "spill-failed":
        yield _blocked(case, 1.0, case.tasks[0].prefix if case.tasks else None, 0)
        return
    if case.spilling is None or target is None or not stored:
        return
    total = sum(stored.values())
    failed = bool(case.spill_failures)
    if case.spilling and not failed:
        # What has been spilled is known as of the last heartbeat; so is what was not.
        total = min(total, sum(case.facts.claimed.values()))
    if failed:
        excess = total - target // 2
    elif case.spilling:
        excess = total - round(target * SLACK)
    else:
        # With its defaults Dask spills by what the whole process uses, too.
        excess = min(total, case.parts.process - target)
    if excess <= 0:
        return
    prefix = largest(stored)[0]
    if failed:
        unpicklable = [f for f in case.spill_failures if f.reason == "unpicklable"]
        prefix = unpicklable[0].prefix if unpicklable else prefix
    lived = case.ceiling is not None and case.parts.process - excess < case.ceiling
    share = total / case.above
    weight = share if lived or failed else max(excess / case.above, 0.5 * share)
    yield _blocked(case, weight, prefix, excess)


def _blocked(case: Case, weight: float, prefix: str | None, excess: int) -> Finding:
    stored = sum(case.stored().values())
    reasons = [f.reason for f in case.spill_failures]
    if case.kind == "spill-failed":
        reasons = [case.detail.partition(":")[0]]
    told = join([REASONS.get(r, r) for r in dict.fromkeys(reasons)])
    spilled = case.parts.spilled or 0
    if case.spilling is False:
        why = "spilling is off"
    elif told:
        why = told
    else:
        why = "what stopped it is not known"
    target = case.target or 0
    share = f", {format_share(target / case.limit)} of the limit" if case.limit else ""
    if case.spilling is False:
        usual = (
            f"with its defaults Dask would have spilled {format_bytes(excess)} of "
            f"them, as the process, {format_bytes(case.parts.process)}, was beyond "
            f"{format_bytes(target)}{share}"
        )
    else:
        usual = f"Dask keeps {format_bytes(target)} there{share}, and spills the rest"
    text = (
        f"{format_bytes(stored)} of outputs were in memory; {usual}. "
        f"{format_bytes(spilled)} had been spilled; {why}."
    )
    names = {
        "spilled": format_bytes(spilled + excess),
        "excess": format_bytes(excess),
        "prefix": code(prefix or "the task"),
    }
    advice = [
        ADVICE_ON_SPILL[r].format(**names)
        for r in dict.fromkeys(reasons)
        if r in ADVICE_ON_SPILL
    ]
    if case.spilling is False:
        advice.append(
            "Turn spilling on (`distributed.worker.memory.target` and `.spill`): "
            f"{format_bytes(excess)} would have gone to disk."
        )
    return Finding(
        cause="spill-blocked",
        weight=weight,
        text=text,
        prefix=prefix,
        advice=tuple(advice),
        thin="" if case.spilling is False or told else "nothing says what stopped it",
    )


def _by_prefix(held: dict[str, int]) -> str:
    named = [f"{format_bytes(held[p])} of {code(p)}" for p in largest(held, 3)]
    return join(named)


def _client(case: Case, prefix: str) -> str:
    name = wanted_by(case, prefix)
    return "a client" if name is None else f"client {short(name)}"


def _waiters(case: Case, prefix: str) -> str:
    waiting = waiting_for(case, prefix)
    return join([code(name) for name in waiting]) if waiting else "other tasks"


def _advice_on_awaited(case: Case, prefix: str) -> Iterator[str]:
    order = case.facts.order
    if order is not None and order.capacity and order.minimum > order.capacity:
        yield (
            f"The graph needs {format_bytes(order.minimum)} of storage in any order, "
            f"and the workers have {format_bytes(order.capacity)}: add workers, or "
            "compute it in parts."
        )
        return
    expected = case.expected(prefix)
    each = ""
    if expected is not None and expected.output_p95:
        each = f" (each {format_bytes(expected.output_p95)}, 95 % of them)"
    yield (
        f"Let {_waiters(case, prefix)} need fewer outputs of {code(prefix)} at once"
        f"{each}: combine them in steps, or make them smaller."
    )
