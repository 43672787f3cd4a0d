"""Why outputs were held at an incident: reasons by prefix that sum to what was stored.

Each byte has one reason, the first of these that holds it: a *replica* (its worker
fetched it; where that is not known, all but 1/h of what h workers hold), *run-ahead*
(awaited, and produced earlier than the order needs it), *awaited* (tasks that are still
to run wait for it), *pinned* (a client wants it and nothing else does), *other* (none
of these, or not looked at before the incident).
"""

from __future__ import annotations

from dataclasses import dataclass

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.need import (
    inputs_stored,
    largest_task,
    too_large_alone,
)
from dask_memdash.model.breakdown import scale
from dask_memdash.model.event_parts import Held

#: Reasons for which a running task's inputs are held.
INPUTS = ("replica", "run-ahead", "awaited")

#: Waiting prefixes that are named for each stored one at most.
MAX_WAITING = 5


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some bytes of a prefix were held."""

    #: 'replica', 'run-ahead', 'awaited', 'pinned' or 'other'.
    why: str
    #: The prefix that waits for them, where one does.
    prefix: str | None
    bytes: int
    #: The client that wants most of them, where one does.
    client: str | None = None


def reasons(case: Case) -> dict[str, list[Reason]]:
    """Return why each stored prefix was held; sums are what is in RAM and spilled."""
    return {
        row.prefix: _of_prefix(case, row.prefix, row.managed + row.spilled)
        for row in case.storage
    }


def held_in_memory(case: Case, why: str) -> dict[str, int]:
    """Return by prefix what was in RAM for one reason, in bytes."""
    found = {}
    for prefix, size in case.in_memory().items():
        of_prefix = _of_prefix(case, prefix, size)
        held = sum(reason.bytes for reason in of_prefix if reason.why == why)
        if held:
            found[prefix] = held
    return found


def blamed(case: Case, why: str) -> dict[str, int]:
    """Return by prefix what was in RAM for one reason, without a large task's inputs.

    What a task that is too large for any worker has as its inputs is part of what that
    task needs.
    """
    held = held_in_memory(case, why)
    top = largest_task(case) if why in INPUTS else None
    if top is None or not held:
        return held
    everything = sum(sum(held_in_memory(case, other).values()) for other in INPUTS)
    inputs = too_large_alone(case, top) * inputs_stored(case)
    left = 1 - min(1.0, inputs / max(1, everything))
    return {p: size for p, held_ in held.items() if (size := round(left * held_))}


def waiting_for(case: Case, prefix: str) -> list[str]:
    """Name the prefixes that wait for a stored one, the one of most bytes first."""
    held = case.facts.held.get(prefix)
    if held is None:
        return []
    waiting = sorted(held.awaited_by.items(), key=lambda item: (-item[1], item[0]))
    return [name for name, _ in waiting[:MAX_WAITING]]


def wanted_by(case: Case, prefix: str) -> str | None:
    """Name the client that pins most of a prefix's outputs, None if none is known."""
    held = case.facts.held.get(prefix)
    clients = {} if held is None else held.clients
    return max(clients, key=lambda name: (clients[name], name), default=None)


def _of_prefix(case: Case, prefix: str, size: int) -> list[Reason]:
    held = case.facts.held.get(prefix)
    if held is None or not any(held.because.values()):
        return [Reason("other", None, size)] if size else []
    found = []
    for why, part in scale(held.because, size).items():
        if why == "awaited":
            found += _awaited(case, prefix, held, part)
        elif part:
            client = wanted_by(case, prefix) if why == "pinned" else None
            found.append(Reason(why, None, part, client))
    return sorted(found, key=lambda r: (-r.bytes, r.why, r.prefix or ""))


def _awaited(case: Case, prefix: str, held: Held, size: int) -> list[Reason]:
    ahead = round(size * _share_ahead(case, prefix))
    found = []
    for why, part in (("run-ahead", ahead), ("awaited", size - ahead)):
        by_waiter = scale(held.awaited_by, part) if held.awaited_by else {}
        if part and not by_waiter:
            found.append(Reason(why, None, part))
        found += [Reason(why, name, own) for name, own in by_waiter.items() if own]
    return found


def _share_ahead(case: Case, prefix: str) -> float:
    """Return share of a prefix's awaited outputs that the order needs only later."""
    order = case.facts.order
    if order is None:
        return 0.0
    ahead = order.run_ahead.get(prefix, 0)
    awaited = case.facts.awaited.get(prefix, 0)
    # One prefix may be ahead where another is behind; together they are only as far
    # ahead as more is held than the order needs.
    together = min(1.0, order.beyond / max(1, sum(order.run_ahead.values())))
    return together * min(1.0, ahead / max(ahead, awaited, 1))
