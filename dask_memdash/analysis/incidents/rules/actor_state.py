"""What actors keep."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import UNNAMED, give_out
from dask_memdash.model.evidence import largest
from dask_memdash.text import code, count, format_bytes

UNSEEN = "Dask can neither measure nor spill what an actor keeps."


def actor_state(case: Case) -> Iterator[Finding]:
    """Yield the state of actors, which Dask can neither see nor spill."""
    kept = give_out(case).actors
    if not kept:
        return
    prefix = largest(kept)[0]
    weight = sum(kept.values()) / case.above
    if prefix == UNNAMED:
        text = f"Actors kept {format_bytes(kept[prefix])}. {UNSEEN}"
        yield Finding(cause="actor-state", weight=weight, text=text)
        return
    row = case.facts.actors[prefix]
    grown = min(row.grown, kept[prefix])
    since = f", {format_bytes(grown)} of it since first seen" if grown else ""
    yield Finding(
        cause="actor-state",
        weight=weight,
        text=f"{count(row.actors, 'actor')} of {code(prefix)} kept "
        f"{format_bytes(kept[prefix])}{since}. {UNSEEN}",
        prefix=prefix,
        advice=(
            "Hand over large data as futures: `x = client.scatter(x)` before a method "
            f"of {code(prefix)} is called with `x`, or with `get_client()` in the "
            f"method. {code(prefix)} then keeps futures. Dask can spill what they "
            f"stand for: {format_bytes(kept[prefix])} of this worker's "
            f"{format_bytes(case.parts.process)}.",
            f"Or let {code(prefix)} drop what it no longer needs.",
        ),
    )
