"""What a failed allocation means for the worker that it was made on.

A request that no worker could have had is a mistake in the computation; one that this
worker does not have is a task too large for it; one that fits into an empty worker is
a shortage at that moment.  The request itself is read by
:mod:`dask_memdash.analysis.incidents.requests`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dask_memdash.analysis.incidents.requests import GPU, GUARD, Request, itemsize
from dask_memdash.text import count, format_bytes

#: A request of so many times the limit is no shortage but a mistake.
ABSURD = 50

#: Length from which an axis is long enough for a product of two to be suspicious.
LONG_AXIS = 5_000

#: Bytes of an element from which it is the element that makes an array large.
WIDE_ELEMENT = 256


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a request means for the worker that it was made on."""

    #: 'mistake' (no worker could have it), 'too-large' (more than this worker has),
    #: 'shortage' (it fits into an empty one), 'gpu' (another memory), or 'unknown'.
    verdict: str
    #: One sentence that says so, with its figures.
    text: str
    #: The request as a multiple of the limit; None where either is not known.
    times: float | None = None
    #: For a mistake: how it probably came about, in one sentence; empty if not known.
    likely: str = ""


def judge(
    request: Request, limit: int | None = None, machine: int | None = None
) -> Judgement:
    """Set a request against the worker that it was made on.

    Parameters
    ----------
    limit
        The worker's memory limit in bytes, None without one.
    machine
        Memory of its machine in bytes, None where it is not known.
    """
    limit = limit or request.limit or None
    size = request.bytes
    times = None if size is None or limit is None else size / limit
    if request.device == GPU:
        text = f"It asked for {request} of a graphics card, not of the worker."
        return Judgement("gpu", text)
    if request.impossible:
        return _mistake(request, "", times)
    if size is None:
        return Judgement("unknown", "The error does not say how much it asked for.")
    if request.source == "scheduler":
        return Judgement(*_inputs(size, limit), times)
    if request.source == GUARD:
        return _by_guard(size, request.limit or limit)
    if machine is not None and size > machine:
        than = f"more than its machine has ({format_bytes(machine)})"
        return _mistake(request, f": {than}", times)
    if times is None or limit is None:
        return Judgement("unknown", f"It asked for {request}; no limit is known.")
    if times > ABSURD:
        than = f"{times:,.0f} times the worker's limit of {format_bytes(limit)}"
        return _mistake(request, f": {than}", times)
    if size > limit:
        than = f"more than the worker's limit of {format_bytes(limit)}"
        return Judgement("too-large", f"It asked for {request}: {than}.", times)
    rest = f"in addition to what a worker of {format_bytes(limit)} already held"
    return Judgement("shortage", f"It asked for {request} {rest}.", times)


def likely(request: Request) -> str:
    """Say in one sentence how a mistaken request comes about; empty if not known.

    Takes the shape and the dtype, where the text names them.  What it says is a guess
    and worded as one.
    """
    shape = request.shape or ()
    long = [length for length in shape if length >= LONG_AXIS]
    width = itemsize(request.dtype)
    if request.impossible:
        return "Probably a length was negative, or a product of lengths overflowed."
    text = (request.dtype or "").lstrip("<>=|")[:1] in ("U", "S")
    if text and width is not None and width >= WIDE_ELEMENT:
        return (
            f"Each element takes {format_bytes(width)}: NumPy makes every text of an "
            "array as wide as the longest. Use strings of dtype object or of Arrow."
        )
    if len(long) >= 2 and len(set(long)) == 1 and len(long) == len(shape):
        return (
            f"Probably every one of {long[0]:,} elements against every other: an "
            "outer product, pairwise distances, a broadcast of x[:, None] with x, or "
            "a sparse matrix that was made dense."
        )
    if len(long) >= 2:
        return (
            f"Probably a broadcast: arrays of lengths {_words(long)} that were meant "
            "to line up were combined along different axes, or a sparse matrix was "
            "made dense."
        )
    if len(shape) == 1 and long:
        side = _side(shape[0])
        product = f" ({side:,} × {side:,})" if side else ""
        return (
            f"Probably {shape[0]:,} elements{product} are a product of two lengths: "
            "a merge whose keys repeat on both sides, a cross join, or an index that "
            "was multiplied out."
        )
    return ""


def _mistake(request: Request, than: str, times: float | None) -> Judgement:
    text = f"It asked for {request}{than}."
    return Judgement("mistake", text, times, likely(request))


def _by_guard(size: int, largest: int | None) -> Judgement:
    """Say why the guard does not run a task any more.

    It has seen the task stopped, or end workers that it had to itself: what such a task
    needs may be less than the limit, and no empty worker has the room all the same.
    """
    if largest is None:
        of, times = "", None
    else:
        has, times = format_bytes(largest), size / largest
        of = f", more than the {has}" if size > largest else f" of the {has}"
        of += " that the largest worker has"
    text = (
        "The guard does not run it any more: it needs at least "
        f"{format_bytes(size)}{of}, as was seen when it ran."
    )
    return Judgement("too-large", text, times)


def _inputs(size: int, limit: int | None) -> tuple[str, str]:
    inputs = f"Its inputs take {format_bytes(size)}"
    if limit is None:
        return "unknown", f"{inputs}; the worker's limit is not known."
    of = f"the worker's limit of {format_bytes(limit)}"
    if size > limit:
        return "too-large", f"{inputs} at once, more than {of}."
    return "shortage", f"{inputs} at once, of {of}."


def _side(length: int) -> int | None:
    """Return n where a length is n × n and n is long; None otherwise."""
    side = math.isqrt(length)
    return side if side * side == length and side >= LONG_AXIS else None


def _words(lengths: list[int]) -> str:
    shown = [f"{length:,}" for length in lengths[:4]]
    more = len(lengths) - len(shown)
    return " and ".join([*shown, count(more, "other")] if more else shown)
