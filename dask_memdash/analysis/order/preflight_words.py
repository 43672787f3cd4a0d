"""What a :class:`~dask_memdash.analysis.order.preflight.Preflight` says, in words.

All sizes in bytes.
"""

from __future__ import annotations

from dask_memdash.analysis.order.preflight import (
    FITS,
    NOT,
    Load,
    Preflight,
)
from dask_memdash.analysis.order.taken import CUT_SHORT, NEVER_RAN, OTHER_SIZES
from dask_memdash.text import code, count, format_bytes, join

#: Prefixes that a sentence names at most.
NAMED = 3

#: Why nothing bounds what tasks take → what is said of them, and what to do.
WHY = {
    NEVER_RAN: (
        "no task of {} has been measured yet",
        "Run some of them first",
    ),
    OTHER_SIZES: (
        "tasks of {} ran with much larger or smaller chunks than these",
        "Run some with these chunks first",
    ),
    CUT_SHORT: (
        "a task of {} was cut short by its worker's death, so that it is not known "
        "what it needs",
        "Run one on a larger worker first",
    ),
}


def in_words(found: Preflight) -> str:
    """Say whether a graph fits, in a few sentences: verdict, figures, what to do."""
    told = (_verdict(found), *_why(found), *_threads(found))
    return " ".join(told)


def _verdict(found: Preflight) -> str:
    needs = _needs(found)
    if found.kind == FITS:
        return f"Fits{_if(found)}: {needs}. {_worker(found.load, found)}"
    if found.kind == NOT and found.reason == "storage":
        return (
            f"Does not fit{_if(found)}: {needs}. Its outputs alone need "
            f"{format_bytes(found.minimum)} at once, one task at a time, and workers "
            f"that cannot spill can store {format_bytes(found.capacity)}."
        )
    if found.kind == NOT:
        return f"Does not fit{_if(found)}: {needs}. {_worker(found.load, found)}"
    return f"Not known whether it fits: {needs}{_if(found)}."


def _needs(found: Preflight) -> str:
    at_least = "" if found.high is not None else "at least "
    size = found.usual if found.high is not None else max(found.low, found.usual)
    text = f"this order needs {at_least}{format_bytes(size)}"
    if found.high is not None:
        text += f" ({format_bytes(found.low)} to {format_bytes(found.high)})"
    text += (
        f" at its worst point, after {found.position:,} of {found.tasks:,} tasks, of "
        f"which {format_bytes(found.execution)} execution"
    )
    room = found.space.room
    if room is not None:
        text += f"; this cluster has {format_bytes(room * found.space.workers)}"
    return text


def _worker(load: Load, found: Preflight) -> str:
    """Say what the fullest worker has, of what."""
    room = found.space.room or 0
    who = "the worker" if found.space.workers == 1 else "the fullest worker"
    size = f"up to {format_bytes(load.high)}"
    if load.kind == NOT:
        size = f"at least {format_bytes(load.low)}"
    text = (
        f"With {count(load.threads, 'thread')} {who} will have {size}, and has room "
        f"for {format_bytes(room)}"
    )
    if load.kind == NOT and found.largest_need > room:
        text += (
            f"; one task of {code(found.largest)} takes "
            f"{format_bytes(found.largest_need)}, its inputs among it"
        )
    return f"{text}."


def _why(found: Preflight) -> list[str]:
    """Say why it is not known, and what would tell."""
    if found.kind in (FITS, NOT):
        return []
    if found.reason == "no-limit":
        return ["Not every worker has a memory limit to compare with."]
    if found.reason == "young":
        return ["What an idle worker takes has not been measured yet."]
    if found.reason == "close":
        return [_close(found)]
    told = []
    for why, (because, do) in WHY.items():
        names = [name for name, one in found.why.items() if one == why]
        if names:
            told.append(f"It is not, because {because.format(_named(names))}. {do}.")
    return told or [_close(found)]


def _close(found: Preflight) -> str:
    load, room = found.load, found.space.room or 0
    high = "" if load.high is None else f" and up to {format_bytes(load.high)}"
    text = (
        f"With {count(load.threads, 'thread')} the fullest worker will have at least "
        f"{format_bytes(load.low)}{high}, and has room for {format_bytes(room)}."
    )
    if found.space.target is None and found.space.pause is not None:
        text += " It cannot spill, so that it starts nothing above its pause threshold."
    return text


def _threads(found: Preflight) -> list[str]:
    """Say with how many threads it fits."""
    if found.kind == FITS or not found.fewer or found.space.room is None:
        return []
    fitting = found.fitting
    if fitting is not None and fitting < found.load.threads:
        return [f"With {count(fitting, 'thread')} a worker it fits."]
    if found.fewer[-1].kind == NOT:
        return ["It does not with 1 thread a worker either."]
    if found.kind == NOT and found.reason != "storage":
        return ["Whether it would with fewer threads is not known."]
    return []


def _if(found: Preflight) -> str:
    """Say on what it rests where sizes do not tell."""
    if not found.assumed:
        return ""
    return (
        f", if chunks of {_named(list(found.assumed))} are as large as those that ran"
    )


def _named(names: list[str]) -> str:
    shown = join([code(name) for name in names[:NAMED]])
    more = len(names) - NAMED
    return f"{shown} and {more} more" if more > 0 else shown
