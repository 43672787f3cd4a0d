"""What the guards of a cluster do, in a few sentences, for page and terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dask_memdash.text import code, count, format_bytes, format_duration, join

#: Incidents that are named.
NAMED = 3


def said(guard: Mapping[str, Any]) -> str:
    """Say what waits, and what was done so far; in a dry run, what would have been."""
    if guard["mode"] == "off":
        return "It can do nothing on these workers: what is missing is said above."
    if guard["mode"] == "dry-run":
        return " ".join((*_dry(guard), *_missed(guard["would_have_helped"])))
    return " ".join((_waiting(guard["waiting"]), *_so_far(guard)))


def _waiting(waiting: Sequence[Mapping[str, Any]]) -> str:
    if not waiting:
        return "Nothing waits for memory now."
    first = waiting[0]
    tasks = sum(held["tasks"] for held in waiting)
    verb = "waits" if tasks == 1 else "wait"
    needs = ""
    if first["need"]:
        needs = f", which needs {format_bytes(first['need'])}"
    return (
        f"{count(tasks, 'task')} {verb} for memory, the longest "
        f"{format_duration(first['seconds'])}: {code(first['prefix'])}{needs}."
    )


def _so_far(guard: Mapping[str, Any]) -> list[str]:
    told = []
    if guard["held"]:
        told.append(
            f"{count(guard['held'], 'task')} waited, "
            f"{format_duration(guard['seconds'])} together"
        )
    for name, words in (
        ("drained", "ran on while the worker was paused"),
        ("opened", "started since nothing moved"),
        ("passed", "went before one that waits"),
    ):
        if guard[name]:
            told.append(f"{guard[name]:,} {words}")
    if guard["braked"]:
        one = guard["braked"] == 1
        told.append(
            f"{guard['braked']:,} {'was' if one else 'were'} stopped before "
            f"{'it' if one else 'they'} ended a worker, to run again"
        )
    if guard["refused"]:
        were = "was" if guard["refused"] == 1 else "were"
        told.append(f"{guard['refused']:,} {were} refused as too large")
    found = [f"So far {join(told)}."] if told else []
    if guard["fetch_limited"]:
        workers = count(guard["fetch_limited"], "worker")
        verb = "fetches" if guard["fetch_limited"] == 1 else "fetch"
        found.append(f"{workers} {verb} fewer inputs at a time now.")
    return found


def _dry(guard: Mapping[str, Any]) -> list[str]:
    held = guard["held"]
    if not held:
        return ["No task would have waited so far."]
    return [f"{count(held, 'task')} would have waited so far, and none did."]


def _missed(incidents: Sequence[str]) -> list[str]:
    if not incidents:
        return []
    named = join(list(incidents[:NAMED]))
    more = len(incidents) - NAMED
    named += f" and {more:,} more" if more > 0 else ""
    one = len(incidents) == 1
    return [
        f"Incident{'' if one else 's'} {named}: tasks that fit one by one ended "
        f"{'a worker' if one else 'workers'} together. `MemDash(guard=True)` starts "
        "them one after another."
    ]
