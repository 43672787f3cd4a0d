"""What is stored on workers of which nothing moves: by cause, and in words.

Sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

from dask_memdash.model.breakdown import scale
from dask_memdash.model.evidence import OrderFacts, largest
from dask_memdash.model.stall import Holding, Stall
from dask_memdash.text import code, format_bytes, join, short

#: Prefixes that a sentence names.
NAMED = 2

#: Reason for which outputs are held → the cause that it is.
REASONS = {"pinned": "pinned", "awaited": "awaited", "replica": "replicas"}


def stored_by_cause(
    stall: Stall, order: OrderFacts | None
) -> dict[str, dict[str, int]]:
    """Return by cause, and by prefix, what is stored; 'unknown' was not looked at.

    Never more than is managed: who holds what is looked up a little later.
    """
    found: dict[str, dict[str, int]] = {}
    managed = 0 if stall.parts is None else stall.parts.managed
    whole = sum(holding.bytes for holding in stall.holding)
    sizes = scale({h.prefix: h.bytes for h in stall.holding}, min(managed, whole))
    for holding in stall.holding:
        held = sizes[holding.prefix]
        if not any(holding.because.values()):
            _add(found, "unknown", holding.prefix, held)
            continue
        for why, size in scale(dict(holding.because), held).items():
            cause = REASONS.get(why, "unknown")
            ahead = 0
            if cause == "awaited":
                ahead = round(size * _share_ahead(holding, order))
                _add(found, "run-ahead", holding.prefix, ahead)
            _add(found, cause, holding.prefix, size - ahead)
    return found


def _share_ahead(holding: Holding, order: OrderFacts | None) -> float:
    """Return the share of a prefix's awaited outputs that the order needs later."""
    if order is None:
        return 0.0
    ahead = order.run_ahead.get(holding.prefix, 0)
    together = min(1.0, order.beyond / max(1, sum(order.run_ahead.values())))
    return together * min(1.0, ahead / max(1, holding.because.get("awaited", 0)))


def _add(found: dict[str, dict[str, int]], cause: str, prefix: str, size: int) -> None:
    if size > 0:
        held = found.setdefault(cause, {})
        held[prefix] = held.get(prefix, 0) + size


def _by_prefix(held: Mapping[str, int]) -> str:
    named = largest(held, NAMED)
    texts = [f"{format_bytes(held[name])} of {code(name)}" for name in named]
    more = sum(held.values()) - sum(held[name] for name in named)
    return join([*texts, f"{format_bytes(more)} of others"] if more > 0 else texts)


def _pinned(stall: Stall, held: Mapping[str, int]) -> str:
    client = _most(stall, held, "clients")
    who = f"client {short(client, 24)}" if client else "a client"
    return f"{_by_prefix(held)} fill the workers; {who} holds their futures."


def _awaited(stall: Stall, held: Mapping[str, int]) -> str:
    waiter = _most(stall, held, "awaited_by")
    who = code(waiter) if waiter else "other tasks"
    return f"{_by_prefix(held)} fill the workers until {who} can run."


def _run_ahead(stall: Stall, held: Mapping[str, int]) -> str:
    waiter = _most(stall, held, "awaited_by")
    who = code(waiter) if waiter else "other tasks"
    return (
        f"{_by_prefix(held)} were produced earlier than the order needs, and fill the "
        f"workers until {who} can run."
    )


def _replicas(stall: Stall, held: Mapping[str, int]) -> str:
    return f"{_by_prefix(held)} are copies of what other workers hold too."


def _not_looked_at(stall: Stall, held: Mapping[str, int]) -> str:
    return f"Why {_by_prefix(held)} are held has not been looked at yet."


#: Cause → what is said of the outputs that it is about.
TEXTS = {
    "pinned": _pinned,
    "awaited": _awaited,
    "run-ahead": _run_ahead,
    "replicas": _replicas,
    "unknown": _not_looked_at,
}


def _most(stall: Stall, held: Mapping[str, int], what: str) -> str | None:
    """Name the client, or the prefix, that wants most of the largest prefix."""
    prefix = largest(held)[0]
    sums: Mapping[str, int] = next(
        (getattr(h, what) for h in stall.holding if h.prefix == prefix), {}
    )
    return max(sums, key=lambda name: (sums[name], name), default=None)
