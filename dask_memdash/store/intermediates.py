"""The cluster's memory of intermediates, as views see it."""

from __future__ import annotations

import heapq

from dask_memdash.analysis.storing import judge
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.event_parts import Storing as StoringPart
from dask_memdash.store.intermediate_shapes import (
    Figures,
    Intermediates,
    StoredPrefix,
    Storing,
    Words,
)

#: Prefixes that are listed.
MAX_PREFIXES = 50


def storing(part: StoringPart | None) -> Storing | None:
    """Return one worker's figures."""
    return None if part is None else _together([part])


def intermediates(model: ClusterModel) -> Intermediates | None:
    """Return the memory of a cluster; None where it has none."""
    told = model.intermediates
    if told is None:
        return None
    workers = model.processes.workers.values()
    prefixes = _prefixes(model)
    largest = heapq.nsmallest(
        MAX_PREFIXES, prefixes, key=lambda p: (-p["stored"] - p["pending"], p["prefix"])
    )
    figures: Figures = {
        "address": told.address,
        "objects": told.objects,
        "stored": told.stored,
        "pending": told.pending,
        "failed": told.failed,
        "never": told.never,
        "stand_ins": told.stand_ins,
        "resumed": told.resumed,
        "recomputed": told.recomputed,
        "names": [
            {"name": name, "stored": stored, "total": total}
            for name, (stored, total) in sorted(told.names.items())
        ],
        "refused": list(told.refused),
        "prefixes": largest,
        "n_prefixes": len(prefixes),
        "workers": _together([w.storing for w in workers if w.storing is not None]),
        "error": told.error,
        "unreachable": told.unreachable,
    }
    verdict = judge(figures)
    words: Words = {
        "state": verdict.state,
        "text": verdict.text,
        "advice": list(verdict.advice),
    }
    return {**figures, **words}


def _prefixes(model: ClusterModel) -> list[StoredPrefix]:
    """Return all prefixes that have any output in the memory, or are to."""
    return [
        {"prefix": name, "stored": one.stored, "pending": one.stored_pending}
        for name, one in model.prefixes.by_name.items()
        if one.stored or one.stored_pending
    ]


def _together(parts: list[StoringPart]) -> Storing:
    """Return the sums over workers; the error is the first one's that has any."""
    shares = [part.ram for part in parts if part.ram is not None]
    return {
        "stored": sum(part.stored for part in parts),
        "stored_bytes": sum(part.stored_bytes for part in parts),
        "seconds": sum(part.seconds for part in parts),
        "pending": sum(part.pending for part in parts),
        "pending_bytes": sum(part.pending_bytes for part in parts),
        "failed": sum(part.failed for part in parts),
        "cancelled": sum(part.cancelled for part in parts),
        "read_back": sum(part.read_back for part in parts),
        "read_back_bytes": sum(part.read_back_bytes for part in parts),
        "read_back_seconds": sum(part.read_back_seconds for part in parts),
        "read_back_failed": sum(part.read_back_failed for part in parts),
        "dropped": sum(part.dropped for part in parts),
        "dropped_bytes": sum(part.dropped_bytes for part in parts),
        "ram": sum(shares) if shares else None,
        "error": next((part.error for part in parts if part.error), None),
    }
