"""The note on a ``KilledWorker``: what can be said when Dask gives a task up.

The note is made some milliseconds before the last worker's report arrives, so it
says where the whole story will stand, and what the earlier deaths have shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dask_memdash.analysis.incidents.blocks import in_one_block
from dask_memdash.analysis.incidents.case import most_held
from dask_memdash.analysis.incidents.together import between
from dask_memdash.model.incidents import Incident, Suspect
from dask_memdash.text import code, format_bytes, short

#: Deaths and suspects that a note names at most, and characters of a key.
MAX_DEATHS = 6
MAX_SUSPECTS = 2
MAX_KEY = 120


def note(
    killed: Incident,
    deaths: Sequence[Incident],
    page: str | None,
    causes: Mapping[str, str] | None = None,
) -> str:
    """Write the note for the exception.

    Parameters
    ----------
    killed
        The incident of kind 'killed-worker'.
    deaths
        Those behind it that are still known, oldest first.
    page
        Address of the incident's page, None without one.
    causes
        Death → its cause, as far as that is known.
    """
    causes = causes or {}
    where = f": {page}" if page else ""
    lines = [f"MemDash incident {killed.id}{where}"]
    common = in_common(deaths)
    if common:
        lines.append(f"  {common}")
    for death in deaths[-MAX_DEATHS:]:
        cause = causes.get(death.id)
        because = f"; cause: {cause}" if cause else ""
        lines.append(f"  death {death.id}: {_death(death)}{because}")
    lines.append("  dask_memdash.explain(error) tells the whole story.")
    return "\n".join(lines)


def in_common(deaths: Sequence[Incident]) -> str:
    """Say what the deaths that are reported by now have in common; empty if nothing.

    That is the prefix that ran at each of them, and what its largest task held.
    """
    known = [d for d in deaths if d.suspects and d.settled(d.time)]
    if len(known) < 2:
        return ""
    shared = set.intersection(*({s.prefix for s in d.suspects} for d in known))
    held = {
        prefix: [
            max(most_held(s) or 0 for s in death.suspects if s.prefix == prefix)
            for death in known
        ]
        for prefix in shared
    }
    if not held:
        return ""
    prefix = max(held, key=lambda name: (sum(held[name]), name))
    limits = {death.limit for death in known}
    had = between(held[prefix], limits.pop() if len(limits) == 1 else None)
    name = code(" ".join(prefix.split()))
    return f"{len(known)} deaths, each while {name} had {had}." if had else ""


def _death(death: Incident) -> str:
    if not death.settled(death.time):
        return f"worker {death.worker.name}; how it ended is not reported yet"
    text = f"worker {death.worker.name} {death.kind}"
    if death.breakdown is not None:
        text += f" with {format_bytes(death.breakdown.process)}"
        if death.limit:
            text += f" of {format_bytes(death.limit)}"
    if death.evidence == "scheduler":
        return f"{text}; what was running is not known"
    if not death.suspects:
        return f"{text}; no task was running"
    named = ", ".join(_suspect(s, death.limit) for s in death.suspects[:MAX_SUSPECTS])
    more = len(death.suspects) - MAX_SUSPECTS
    others = f" and {more} more" if more > 0 else ""
    return f"{text}; running: {named}{others}"


def _suspect(suspect: Suspect, limit: int | None) -> str:
    key = " ".join(short(suspect.key, MAX_KEY).split())
    held = "not measured" if suspect.bytes is None else format_bytes(suspect.bytes)
    block = in_one_block(suspect, limit)
    return f"{key} ({held}, {block})" if block else f"{key} ({held})"
