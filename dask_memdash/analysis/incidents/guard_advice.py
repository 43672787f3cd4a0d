"""Where the guard would have helped: one line that turns it on.

Only where tasks that run together do not fit and each of them does: then it starts them
one after another.  It does not help with one task that is too large, with what is left
behind, nor with what P2P shuffles keep, and is not named where nothing bounds it (no
limit, no pause threshold).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dask_memdash.analysis.incidents.advice import HEADROOM, has_been_seen
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.growth_attribution import hands_over
from dask_memdash.analysis.incidents.need import need_of
from dask_memdash.model.incidents import Suspect
from dask_memdash.text import code, format_bytes

#: Share of a worker's room that one task may need at most for the guard to help.
FITS_ALONE = 0.9

#: Turns the guard on.
TURN_ON = "`client.register_plugin(dask_memdash.MemDash(guard=True))`"


def on_guard(case: Case, running: Sequence[Suspect]) -> Iterator[str]:
    """Yield the line that turns the guard on, where it would have helped."""
    facts, room = case.facts, case.usable
    if facts.guard == "on" or room is None or facts.thresholds.pause is None:
        return
    if case.limit is None or len(running) < 2:
        return
    if any(hands_over(task.prefix) or "p2p" in task.prefix for task in running):
        return
    top = max(running, key=lambda task: need_of(case, task))
    need = need_of(case, top)
    seen = has_been_seen(case, top.prefix, need)
    if not need or (need if seen else HEADROOM * need) > FITS_ALONE * room:
        return
    at_least = "" if seen else "at least "
    yield (
        f"Or let MemDash start tasks only when they fit: {TURN_ON}. The largest, "
        f"{code(top.prefix)}, needs {at_least}{format_bytes(need)} of the "
        f"{format_bytes(room)} that an empty worker has room for: it starts, and the "
        "next waits until there is room."
    )
