"""What would release a cluster in which nothing moves, and why spilling does not.

Sizes in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.advice import paste
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.model.evidence import OrderFacts
from dask_memdash.model.stall import Stall
from dask_memdash.terms import STORAGE_CAUSES
from dask_memdash.text import code, count, format_bytes

MiB = 2**20

#: Share of a limit at which workers pause, where they do not say.
USUAL_PAUSE = 0.8

#: Causes that more workers or a higher limit only put off: the rest of the tasks would
#: fill them too.
PUT_OFF = frozenset({"leak", "unaccounted", "actor-state"})

#: Room on disk that is advised, as times of what is known to be spilled.
EXTRA = 1.2

#: Why an output could not be spilled → relief, sentence, advice.
SPILL_TROUBLE = {
    "max-spill": (
        "spill-full",
        "As much is spilled as `distributed.worker.memory.max-spill` allows.",
        "Allow more on disk before the workers start: "
        '`dask.config.set({{"distributed.worker.memory.max-spill": "{enough}"}})`. '
        "{short} more have to be stored.",
    ),
    "disk-full": (
        "spill-full",
        "The disk that they spill to is full.",
        "Give workers a disk with {short} more free: `--local-directory "
        "/a/larger/disk`.",
    ),
    "disk-error": (
        "spill-failing",
        "The disk that they spill to cannot be written to.",
        "See to the disk that the workers spill to (`--local-directory`).",
    ),
    "unpicklable": (
        "spill-failing",
        "Outputs cannot be pickled, so that they cannot be spilled.",
        "Return something from {prefix} that can be pickled.",
    ),
}


def shortfall(stall: Stall, order: OrderFacts | None) -> int | None:
    """Return what is missing for all that waits to be stored; None where not known."""
    if order is not None and order.capacity and order.minimum > order.capacity:
        return order.minimum - order.capacity
    if stall.parts is None or stall.pause is None:
        return None
    sizes = stall.outputs
    expected = sum(sizes.get(t.prefix, 0) * t.count for t in stall.waiting)
    excess = max(0, stall.parts.process - stall.pause)
    awaited = any(holding.because.get("awaited") for holding in stall.holding)
    # What waits for stored outputs has to gather its inputs on one worker.
    gathered = order.need if order is not None and awaited else 0
    return excess + expected + gathered or None


# -- what fills the workers -----------------------------------------------------


def relief_of_stall(stall: Stall, cause: str) -> tuple[str | None, str]:
    """Say why spilling does not help: one of `terms.RELIEFS`, and a sentence."""
    if cause not in STORAGE_CAUSES:
        return "nothing-to-spill", "That is no stored output, so nothing is spilled."
    if stall.spills is None:
        return None, ""
    if not stall.spills:
        return "spilling-off", "Spilling is off."
    if stall.spill_trouble in SPILL_TROUBLE:
        relief, sentence, _ = SPILL_TROUBLE[stall.spill_trouble]
        return relief, sentence
    return "nothing-to-spill", "They are in use, so that spilling does not free them."


def release(
    stall: Stall, order: OrderFacts | None, top: Finding, relief: str | None
) -> Iterator[str]:
    """Yield what to do, what helps most first.

    Parameters
    ----------
    top
        What fills the workers.
    relief
        Why spilling does not help; None where that is not known.
    """
    missing = shortfall(stall, order)
    prefix = code(top.prefix or "the task")
    what = f" of {format_bytes(missing)}" if missing else ""
    if top.cause == "pinned":
        yield (
            f"Release futures of {prefix} that you no longer need (`del futures`){what}"
            ": the rest can then run."
        )
    if relief == "spilling-off":
        stored = sum(holding.bytes for holding in stall.holding)
        yield (
            f"Turn spilling on before the workers start: {advise.SPILL_ON}. Up to "
            f"{format_bytes(stored)} can then go to disk."
        )
    elif relief in ("spill-full", "spill-failing"):
        _, _, advice = SPILL_TROUBLE[stall.spill_trouble]
        size = format_bytes(missing) if missing else "what is missing"
        yield advice.format(short=size, prefix=prefix, enough=_enough(stall, missing))
    yield from top.advice
    if top.cause == "graph":
        return  # how much more the waiting tasks will bring is not known
    if top.cause in PUT_OFF:
        grown = stall.parts.baseline - (stall.idle or 0) if stall.parts else 0
        yield (
            "To go on now, restart the paused workers: "
            "`client.restart_workers([...])` with their addresses. About "
            f"{format_bytes(max(0, grown))} would be free, and what they hold is "
            "computed again."
        )
        return
    if top.cause == "retained":
        yield (
            "Give freed memory back: "
            '`client.run(lambda: __import__("ctypes").CDLL(None).malloc_trim(0))`, and '
            "if tasks use Arrow `client.run(lambda: "
            '__import__("pyarrow").default_memory_pool().release_unused())`.'
        )
    no_holding_back = {} if order is None else order.saturation
    if top.cause == "run-ahead" and no_holding_back.get(top.prefix or "", 1) is None:
        yield (
            f"Let {prefix} wait for what consumes it, before the scheduler starts: "
            f"{advise.HOLD_BACK}."
        )
    yield from more_room(stall, order)


def _enough(stall: Stall, missing: int | None) -> str:
    """Write what each worker may have to spill: what is stored, and what is missing."""
    spilled = 0 if stall.parts is None else stall.parts.spilled or 0
    stored = spilled + sum(holding.bytes for holding in stall.holding)
    each = (stored + (missing or 0)) / max(1, stall.n_paused)
    return paste(EXTRA * each)


def more_room(stall: Stall, order: OrderFacts | None) -> Iterator[str]:
    """Yield how many workers, or how much larger ones, it takes."""
    missing, room = shortfall(stall, order), stall.room
    if not missing or not room.storage or not room.processes:
        return
    each = room.storage // room.processes
    if each > 0:
        more = math.ceil(missing / each)
        yield (
            f"Add {count(more, 'worker')}: `cluster.scale({stall.n_workers + more})`. "
            f"Each has room for {format_bytes(each)}, and {format_bytes(missing)} are "
            "missing."
        )
    if stall.limit and stall.n_paused:
        usable = (stall.pause or USUAL_PAUSE * stall.limit) / stall.limit
        higher = stall.limit / stall.n_paused + missing / stall.n_workers / usable
        yield (
            "Or raise the limit of each worker: "
            f'`memory_limit="{math.ceil(higher / MiB)}MiB"`.'
        )
