"""A failure or an incident as plain text, to be pasted into a report of an issue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dask_memdash
from dask_memdash import terms
from dask_memdash.text import (
    KEY_KEPT,
    count,
    format_bytes,
    format_duration,
    format_instant,
    format_share,
    plain,
)

#: Incidents, tasks and prefixes that are told at most.
MOST = 10


def failure_text(
    failure: Mapping[str, Any], incidents: Sequence[Mapping[str, Any]]
) -> str:
    """Write a failure with its incidents.

    Parameters
    ----------
    failure
        As the store gives it.
    incidents
        Its incidents in full, as far as they are to be told.
    """
    kind = terms.label(terms.KINDS, str(failure["kind"]))
    lines = [
        f"Failure {failure['id']}: {kind} (MemDash {dask_memdash.__version__})",
        f"From {format_instant(failure['opened'])} to {_until(failure['closed'])}",
        failure["text"],
        *_diagnosis(failure["diagnosis"], failure.get("responsible") or {}),
    ]
    if failure.get("graph"):
        lines.append(f"Graph: {failure['graph']}")
    for incident in incidents[-MOST:]:
        lines += ["", *_incident(incident)]
    if failure["count"] > len(incidents[-MOST:]):
        left = failure["count"] - len(incidents[-MOST:])
        lines += ["", f"and {count(left, 'earlier incident')}"]
    return _written(lines)


def incident_text(incident: Mapping[str, Any]) -> str:
    """Write an incident, with all that explains it."""
    diagnosis = incident["diagnosis"]
    head, *rest = _incident(incident)
    lines = [
        f"{head} (MemDash {dask_memdash.__version__})",
        *_diagnosis(diagnosis, diagnosis.get("responsible") or {}),
        *rest,
    ]
    return _written(lines)


def _until(closed: float | None) -> str:
    return "now" if closed is None else format_instant(closed)


def _diagnosis(
    diagnosis: Mapping[str, Any], responsible: Mapping[str, Any]
) -> list[str]:
    confidence = format_share(diagnosis["confidence"])
    lines = [diagnosis["text"]]
    if diagnosis["cause"] != "unknown":
        cause = terms.label(terms.CAUSES, diagnosis["cause"])
        lines.append(f"Cause: {cause} ({confidence} confidence)")
    if diagnosis.get("relief"):
        lines.append(f"Relief: {terms.label(terms.RELIEFS, diagnosis['relief'])}")
    if responsible.get("prefix"):
        key = responsible.get("key")
        named = f"{responsible['prefix']}, task {key}" if key else responsible["prefix"]
        lines.append(f"Responsible: {named}")
    return lines + [f"To change: {advice}" for advice in diagnosis["advice"]]


def _incident(incident: Mapping[str, Any]) -> list[str]:
    worker = incident.get("worker") or {}
    kind = terms.label(terms.KINDS, str(incident["kind"]))
    lines = [f"Incident {incident['id']}: {kind}, {format_instant(incident['time'])}"]
    if worker:
        lines.append(
            f"  Worker: {worker.get('name')} at {worker.get('address')}, process "
            f"{worker.get('pid')} on {worker.get('host')}"
        )
    breakdown = incident.get("breakdown") or {}
    if breakdown.get("process") is not None:
        parts = ", ".join(
            f"{part.label} {format_bytes(breakdown[name])}"
            for name, part in terms.PARTS.items()
            if breakdown[name]
        )
        limit = incident["limit"]
        of = f" of {format_bytes(limit)}" if limit else ""
        lines.append(f"  Memory: {format_bytes(breakdown['process'])}{of} ({parts})")
    suspects = incident.get("suspects") or []
    lines += [f"  Running: {_suspect(suspect)}" for suspect in suspects[:MOST]]
    if len(suspects) > MOST:
        lines.append(f"  and {count(len(suspects) - MOST, 'more task')}")
    for stored in (incident.get("storage") or [])[:MOST]:
        spilled = f", spilled {format_bytes(stored['spilled'])}"
        lines.append(
            f"  Stored: {stored['prefix']}, {format_bytes(stored['managed'])}"
            f"{spilled if stored['spilled'] else ''}"
        )
    known = terms.label(terms.EVIDENCE, str(incident["evidence"]))
    return [*lines, f"  Known from: {known}"]


def _suspect(suspect: Mapping[str, Any]) -> str:
    said = [
        str(suspect["key"]),
        f"{format_bytes(suspect['bytes'])} "
        f"({terms.label(terms.METHODS, suspect.get('method') or 'unmeasured')})",
        f"for {format_duration(suspect['seconds'])}",
    ]
    block = suspect.get("largest_block")
    if block:
        said.append(f"largest block {format_bytes(block['bytes'])} at {block['text']}")
    return ", ".join(said)


def _written(lines: Iterable[str]) -> str:
    """Return lines that hold nothing but text: each is one line, whatever is named."""
    return "\n".join(
        " " * (len(line) - len(line.lstrip(" "))) + plain(line.strip(" "), 4 * KEY_KEPT)
        for line in lines
    )
