"""Why nothing relieved the memory before the worker died of it.

The first that holds, in this order: the limit is above what there is; spilling is off,
fails, or is full, where there were outputs to spill; there was nothing to spill; memory
rose too fast.  What is not about memory has none.
"""

from __future__ import annotations

from dataclasses import dataclass

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.analysis.incidents.need import inputs_stored
from dask_memdash.analysis.incidents.plausible import is_refused
from dask_memdash.model.event_parts import Thresholds
from dask_memdash.terms import NOT_MEMORY, STORAGE_CAUSES
from dask_memdash.text import (
    code,
    count,
    format_bytes,
    format_duration,
    format_share,
    join,
)

#: Share of the memory to explain from which outputs that could have been spilled matter
#: to a cause that is not about outputs.
WORTH_SPILLING = 0.25

#: Share of the outputs in RAM that is in use from which spilling cannot free them.
MOSTLY_IN_USE = 0.5

#: Share of the memory to explain below which outputs are not worth a figure.
TRIFLE = 0.01

#: Of what may still be spilled, less than this is a full disk, in bytes.
NO_ROOM = 2**20

#: Seconds over which the rise of memory is told.
LATELY = 2.0

#: A kernel's kill at this share of what it allows speaks for its limit.
NEAR_IT = 0.85

#: Why an output could not be spilled → which relief that is.
FAILURES = {
    "max-spill": "spill-full",
    "disk-full": "spill-full",
    "disk-error": "spill-failing",
    "unpicklable": "spill-failing",
}

#: Words for the same.
SAID = {
    "max-spill": "as much had been spilled as `distributed.worker.memory.max-spill` "
    "allows",
    "disk-full": "the disk was full",
    "disk-error": "the disk could not be written to",
    "unpicklable": "outputs could not be pickled",
}


@dataclass(frozen=True, slots=True)
class Relief:
    """Why nothing relieved the memory."""

    #: One of :data:`terms.RELIEFS`.
    name: str
    #: One sentence, with its figures.
    text: str
    advice: tuple[str, ...] = ()


def relief_of(case: Case, cause: str) -> Relief | None:
    """Return the first relief that holds; None for what is not about memory."""
    if cause in NOT_MEMORY or case.stage in ("refused", "child", "scheduler"):
        return None  # what the scheduler refuses fills no memory
    if limit_above_memory(case):
        return Relief("limit-above-memory", _limit_text(case), _limit_advice(case))
    stored = spillable(case)
    if is_refused(case):
        return Relief(
            "nothing-to-spill",
            "Spilling cannot help: what it asked for has to be in memory at once.",
        )
    if cause in STORAGE_CAUSES or stored >= WORTH_SPILLING * case.above:
        found = _spilling_off(case, cause, stored) or _spilling_failed(case, stored)
        if found is not None:
            return found
    if cause not in STORAGE_CAUSES and stored < WORTH_SPILLING * case.above:
        return Relief("nothing-to-spill", _nothing_text(case, stored))
    if cause in STORAGE_CAUSES and _in_use(case) >= MOSTLY_IN_USE * _in_ram(case) > 0:
        text = f"{format_bytes(_in_use(case))} of them were in use, so spilling cannot "
        return Relief("nothing-to-spill", f"{text}free them.")
    return Relief("too-fast", _too_fast_text(case, stored))


def limit_above_memory(case: Case) -> bool:
    """Say whether the kernel acted because the limit is above what there is."""
    if case.kind == "kernel-near":
        return True
    host = case.facts.host
    effective = host.effective if host is not None else None
    known = effective is not None and case.limit is not None
    if known and (effective or 0) >= (case.limit or 0):
        return False
    if case.kind == "oom-killed":
        return True
    if case.kind not in ("killed", "memory-error") or not known:
        return False
    return case.parts.process >= NEAR_IT * (effective or 0)


def spillable(case: Case) -> int:
    """Return the outputs in RAM that no running task uses, in bytes."""
    hidden = sum(give_out(case).hidden.values())
    return max(0, case.parts.managed - inputs_stored(case)) + hidden


def _in_use(case: Case) -> int:
    return case.in_use + inputs_stored(case)


def _in_ram(case: Case) -> int:
    return case.parts.managed + case.in_use


def _spilling_off(case: Case, cause: str, stored: int) -> Relief | None:
    off = case.spilling is False
    if cause == "sizeof" and case.facts.thresholds != Thresholds():
        # What Dask takes for small is spilled by the size of the process only.
        off = off or case.facts.thresholds.spill is None
    if not off:
        return None
    target = case.target or 0
    goes = max(0, min(stored, case.parts.process - target))
    text = f"Spilling is off, so {format_bytes(stored)} of outputs stayed in memory."
    return Relief(
        "spilling-off",
        text,
        (advise.spill(goes, case.parts.process - goes),) if goes else (),
    )


def _spilling_failed(case: Case, stored: int) -> Relief | None:
    reasons = [f.reason for f in case.spill_failures]
    if case.kind == "spill-failed":
        reasons = [case.detail.partition(":")[0]]
    if not reasons:
        reasons = _no_room(case)
    known = [r for r in dict.fromkeys(reasons) if r in FAILURES]
    if not known:
        return None
    name = "spill-failing"
    if all(FAILURES[r] == "spill-full" for r in known):
        name = "spill-full"
    spilled = ""
    if case.parts.spilled:
        spilled = f"; {format_bytes(case.parts.spilled)} had been spilled"
    text = (
        f"{format_bytes(stored)} of outputs stayed in memory, because "
        f"{join([SAID[r] for r in known])}{spilled}."
    )
    prefix = next((f.prefix for f in case.spill_failures if f.prefix), None)
    if case.kind == "spill-failed" and case.tasks:
        prefix = case.tasks[0].prefix
    more = _to_be_spilled(case, stored)
    lines = (_failure_advice(r, prefix, stored, more) for r in known)
    return Relief(name, text, tuple(line for line in lines if line))


def _no_room(case: Case) -> list[str]:
    """Return what is full, as the worker last reported, though nothing failed yet."""
    room = case.facts.spill_room
    used = case.parts.spilled_disk
    full = room.max_spill is not None and used is not None
    if full and (used or 0) + NO_ROOM >= (room.max_spill or 0):
        return ["max-spill"]
    if room.disk_free is not None and room.disk_free < NO_ROOM:
        return ["disk-full"]
    return []


@dataclass(frozen=True, slots=True)
class _More:
    """What one worker will have to spill, in bytes, and how that is known."""

    size: int
    text: str


def _to_be_spilled(case: Case, stored: int) -> _More:
    """Return what there is to be spilled, at the rate at which outputs have come."""
    now = (case.parts.spilled or 0) + stored
    order = case.facts.order
    said = f"{format_bytes(now)} of outputs were there to be spilled"
    if order is None or not 0 < order.done < order.total:
        return _More(now, f"{said}.")
    size = round(now * order.total / order.done)
    return _More(
        size,
        f"{said} after {order.done:,} of {count(order.total, 'task')}; there will be "
        f"at most about {format_bytes(size)}.",
    )


def _failure_advice(reason: str, prefix: str | None, stored: int, more: _More) -> str:
    if reason == "max-spill":
        allowed = advise.paste(1.2 * more.size)
        return (
            "Allow more on disk before the workers start: `dask.config.set("
            f'{{"distributed.worker.memory.max-spill": "{allowed}"}})'
            f"`. {more.text}"
        )
    if reason == "disk-full":
        return (
            f"Give workers a disk with {format_bytes(1.2 * more.size)} free: "
            f"`--local-directory /a/larger/disk`. {format_bytes(stored)} of outputs "
            f"could not go to this one. {more.text}"
        )
    if reason == "unpicklable" and prefix:
        return (
            f"Let {code(prefix)} return something that `pickle.dumps` takes: "
            f"{format_bytes(stored)} of outputs would go to disk then."
        )
    if reason == "disk-error":
        return (
            "Let workers spill to a directory that they can write to: "
            f"`--local-directory /a/writable/disk`. {format_bytes(stored)} of outputs "
            "would go there."
        )
    return ""


def _limit_text(case: Case) -> str:
    host = case.facts.host
    used = format_bytes(case.parts.process)
    if case.kind == "kernel-near":
        return "The kernel acts here before Dask spills, pauses or terminates."
    if host is None or host.effective is None:
        share = format_share(case.pressure)
        return (
            f"The kernel ended the worker at {used}, {share} of its limit, before Dask "
            "could act: host or container have less than the limits promise."
        )
    return (
        f"The worker's limit is {format_bytes(case.limit)}, and its {host.source} "
        f"allows {format_bytes(host.effective)}: at {used} it was ended before Dask "
        "could act."
    )


def _limit_advice(case: Case) -> tuple[str, ...]:
    host = case.facts.host
    allowed = host.effective if host is not None else None
    if case.kind == "kernel-near":
        return (
            "Find limits that fit with `dask memdash limits`, and start the workers "
            "with them.",
        )
    size = allowed or case.parts.process
    if not size:
        return ()
    below = f"{0.95 * size // 2**20:.0f}"
    return (
        f"Give workers the memory that there is: `--memory-limit {below}MiB`. The "
        f"worker got {format_bytes(size)} of its limit of {format_bytes(case.limit)}. "
        f"With {below} MiB, Dask acts before the kernel kills.",
    )


def _nothing_text(case: Case, stored: int) -> str:
    used = inputs_stored(case)
    if used >= TRIFLE * case.above:
        return (
            "Spilling cannot help: tasks were using "
            f"{format_bytes(used)} of the {format_bytes(case.parts.managed)} of "
            "outputs in memory."
        )
    if stored < TRIFLE * case.above:
        few = "hardly any" if stored > 0 else "no"
        return f"Spilling cannot help: {few} stored output was in memory."
    return (
        f"Spilling cannot help: only {format_bytes(stored)} of stored outputs were in "
        "memory."
    )


def _too_fast_text(case: Case, stored: int) -> str:
    rise = _rise(case)
    if rise is None:
        return (
            f"{format_bytes(stored)} of outputs could have been spilled, but memory "
            "rose faster than the worker spills."
        )
    size, seconds = rise
    return (
        f"{format_bytes(stored)} of outputs could have been spilled, but memory rose "
        f"too fast: by {format_bytes(size)} in {format_duration(seconds)}."
    )


def _rise(case: Case) -> tuple[int, float] | None:
    """Return by how much the process rose lately, and in how many seconds."""
    if len(case.timeline) < 2:
        return None
    end, last = case.timeline[-1]
    lately = [point for point in case.timeline[:-1] if point[0] >= end - LATELY]
    if not lately:
        return None
    begin, low = min(lately, key=lambda point: point[1])
    return (last - low, end - begin) if last > low else None
