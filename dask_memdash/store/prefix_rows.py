"""Task prefixes in the shapes of the store."""

from __future__ import annotations

from dataclasses import asdict
from typing import cast

from dask_memdash.analysis.leaks import Audit
from dask_memdash.model.prefixes import PrefixState
from dask_memdash.model.quantiles import QuantileSketch
from dask_memdash.store.beside_tasks import graph_advice
from dask_memdash.store.prefix_shapes import (
    Peaks,
    Prefix,
    SizeofAudit,
    Unseen,
)


def _sizeof(audited: Audit) -> SizeofAudit:
    return {
        "count": audited.count,
        "believed": audited.believed,
        "measured": audited.measured,
        "ratio": audited.ratio,
        "flag": audited.flag,
        "because": audited.because,
    }


def prefix_row(
    name: str, state: PrefixState, audited: Audit | None, *, spills: bool
) -> Prefix:
    """Return a prefix.

    Parameters
    ----------
    audited
        What was found out of its leaks and of the sizes of its outputs; None before
        enough is known.
    spills
        Whether any worker tells what it has spilled.
    """
    unmeasured = state.running > 0 and state.measured == 0
    error = state.errors.quantile(0.9)
    return {
        "prefix": name,
        "kind": "task",
        "bytes": state.managed + (0 if unmeasured else state.executing),
        "part": None,
        "method": state.method_shown,
        "storage": {
            "managed": state.managed,
            "managed_claimed": state.claimed,
            "replicas": state.replicas,
            "spilled": state.spilled if spills else None,
            "spilled_disk": state.spilled_disk if spills else None,
            "pinned": state.pinned,
            "awaited": state.awaited,
            "stored": state.stored,
            "stored_pending": state.stored_pending,
            "count": max(0, state.count - state.n_replicas),
            "output_bytes": {"min": state.outputs.min, **_quantiles(state.outputs)},
            "awaited_by": [
                {"prefix": waiter, "bytes": size}
                for waiter, size in sorted(
                    state.awaited_by.items(), key=lambda item: (-item[1], item[0])
                )
            ],
            "sizeof": None if audited is None else _sizeof(audited),
        },
        "execution": {
            "executing": None if unmeasured else state.executing,
            "running": state.running,
            "finished": state.finished,
            "peak": {**_quantiles(state.peaks), "at_least": state.at_least},
            "method": state.method_shown,
            "error": error,
            "unseen": cast(Unseen, asdict(state.unseen)),
            "leak": None
            if audited is None
            else {"bytes": audited.leaked_total, "per_task": audited.leaked},
        },
        "children": {
            "processes": state.children,
            "rss": state.children_rss,
            "peak": state.children_peak or None,
        },
        "graph_bytes": state.graph.size,
        "advice": graph_advice(name, state.graph),
    }


def _quantiles(sketch: QuantileSketch) -> Peaks:
    return {
        "p50": sketch.quantile(0.5),
        "p95": sketch.quantile(0.95),
        "max": sketch.max,
    }
