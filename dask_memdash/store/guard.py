"""What the guards of a cluster did, in the shape of the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dask_memdash.analysis.guard_words import said
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.guard_log import GuardDone
from dask_memdash.store.guard_shapes import ClusterGuard, GuardAct, GuardHolds

#: Actions that are told, and deaths that are looked at.
ACTIONS = 30
DEATHS = 20

#: What advice has in it that names the guard.
NAMED = "MemDash(guard=True)"


def cluster_guard(
    model: ClusterModel, incidents: Iterable[Mapping[str, Any]]
) -> ClusterGuard | None:
    """Return what all guards do; None where no worker has, or had, one.

    Parameters
    ----------
    incidents
        The newest ones, newest first, as the store tells them.
    """
    log = model.guard_log
    total = log.total
    if total is None:
        return None
    guards = [w.guard for w in model.processes.workers.values() if w.guard is not None]
    told: ClusterGuard = {
        "mode": total.mode,
        "text": "",
        "workers": sum(guard.mode != "off" for guard in guards),
        "off": sum(guard.mode == "off" for guard in guards),
        "waiting": waiting_of(model),
        "held": total.held,
        "seconds": total.seconds,
        "opened": total.opened,
        "drained": total.drained,
        "passed": total.passed,
        "refused": log.kinds["refused"],
        "braked": log.kinds["braked"],
        "failed": total.failed,
        "fetch_limited": sum(guard.fetch_limited for guard in guards),
        "would_have_helped": [
            incident["id"] for incident in incidents if _would_have_helped(incident)
        ],
        "actions": sorted(
            map(act, log.newest(ACTIONS)), key=lambda done: -done["time"]
        ),
    }
    told["text"] = said(told)
    return told


def waiting_of(model: ClusterModel) -> list[GuardHolds]:
    """Return what waits now on all workers, by prefix, longest first."""
    found: dict[str, GuardHolds] = {}
    for worker in model.processes.workers.values():
        waiting = {} if worker.guard is None else worker.guard.waiting
        for prefix, held in waiting.items():
            row = found.setdefault(
                prefix,
                {"prefix": prefix, "tasks": 0, "workers": 0, "seconds": 0.0, "need": 0},
            )
            row["tasks"] += held.tasks
            row["workers"] += 1
            row["seconds"] = max(row["seconds"], held.seconds)
            row["need"] = max(row["need"], held.need)
    return sorted(found.values(), key=lambda row: (-row["seconds"], row["prefix"]))


def act(done: GuardDone) -> GuardAct:
    """Return one action."""
    action = done.action
    return {
        "time": action.time,
        "kind": action.kind,
        "worker": done.name,
        "address": done.address,
        "key": action.key,
        "prefix": action.prefix,
        "need": action.need,
        "room": action.room,
        "seconds": action.seconds,
    }


def _would_have_helped(incident: Mapping[str, Any]) -> bool:
    advice = (incident.get("diagnosis") or {}).get("advice") or ()
    return any(NAMED in text for text in advice)
