"""What an incident says in words.

Pure functions from an incident to sentences.  Says what was seen and how sure that
is; causes and advice are the business of the diagnosis rules, which are not here.
"""

from __future__ import annotations

import signal as signals

from dask_memdash.model.incidents import Incident, Suspect

#: Suspects and tasks named in one sentence.
NAMED = 3


def describe(incident: Incident) -> str:
    """Say in a few sentences what happened, to whom, and what was running."""
    sentences = [_HEADLINES[incident.kind](incident)]
    if incident.kind == "killed-worker":
        return " ".join([*sentences, _attempts(incident)])
    if incident.kind != "paused":
        sentences.append(_running(incident))
        if incident.n_innocent:
            sentences.append(
                f"{_count(incident.n_innocent, 'other task')} had been assigned to it "
                "and had not started."
            )
    return " ".join(sentences)


def format_bytes(size: float) -> str:
    """Format a size for reading, in binary units."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("kiB", 2**10)):
        if abs(size) >= factor * 0.9:
            return (
                f"{size / factor:.2f} {unit}"
                if unit == "GiB"
                else (f"{size / factor:.0f} {unit}")
            )
    return f"{size:.0f} B"


def _terminated(incident: Incident) -> str:
    return (
        f"The nanny terminated worker {incident.worker.name}, which was above its "
        f"terminate threshold: it used {_usage(incident)}."
    )


def _oom_killed(incident: Incident) -> str:
    return (
        f"The kernel killed worker {incident.worker.name} because the host or its "
        f"container ran out of memory: it used {_usage(incident)}."
    )


def _killed(incident: Incident) -> str:
    return (
        f"Worker {incident.worker.name} was killed by {_signal(incident)} from "
        f"outside, not by its nanny; it used {_usage(incident)}."
    )


def _crashed(incident: Incident) -> str:
    return (
        f"Worker {incident.worker.name} crashed with {_signal(incident)}; it used "
        f"{_usage(incident)}."
    )


def _exited(incident: Incident) -> str:
    if incident.exit is not None and incident.exit.code is not None:
        how = f"with status {incident.exit.code}"
    else:
        how = f"({incident.closing or 'for a reason that is not known'})"
    return (
        f"Worker {incident.worker.name} ended by itself {how}, though nobody had "
        f"asked it to; it used {_usage(incident)}."
    )


def _lost(incident: Incident) -> str:
    return (
        f"Worker {incident.worker.name} was lost, and how it ended is not known; "
        f"when last heard of it used {_usage(incident)}."
    )


def _paused(incident: Incident) -> str:
    if incident.until is None:
        until = "It is still paused."
    else:
        how = "It died" if incident.ended_by_death else "It went on"
        until = f"{how} after {incident.until - incident.time:.1f} s."
    times = "" if incident.n_pauses == 1 else f" {incident.n_pauses} times"
    return (
        f"Worker {incident.worker.name} was paused{times}, above its pause threshold: "
        f"it used up to {_usage(incident)}. {until}"
    )


def _killed_worker(incident: Incident) -> str:
    first = incident.tasks[0].key if incident.tasks else "a task"
    more = incident.n_tasks - 1
    others = f" and {_count(more, 'other task')}" if more else ""
    deaths = len(incident.attempts)
    if not deaths:
        return f"Dask gave up on {first}{others} (KilledWorker)."
    return (
        f"Dask gave up on {first}{others} (KilledWorker), because "
        f"{_count(deaths, 'worker')} died while it was assigned to "
        f"{'it' if deaths == 1 else 'them'}."
    )


def _attempts(incident: Incident) -> str:
    if not incident.attempts:
        return "The deaths behind it are not known any more."
    listed = ", ".join(f"#{i}" for i in incident.attempts)
    word = "incident" if len(incident.attempts) == 1 else "incidents"
    return f"What was really running there stands in {word} {listed}."


def _usage(incident: Incident) -> str:
    if incident.breakdown is None:
        return "an unknown amount of memory"
    process = incident.breakdown.process
    if not incident.limit:
        return f"{format_bytes(process)}, without a limit"
    percent = 100 * process / incident.limit
    return (
        f"{format_bytes(process)} of {format_bytes(incident.limit)} ({percent:.0f} %)"
    )


def _running(incident: Incident) -> str:
    when = {
        "flight-recorder": "At its death",
        "heartbeat": "When it was last heard of",
        "scheduler": "As far as the scheduler knows",
    }[incident.evidence]
    if incident.evidence == "scheduler":
        return f"{when}, nothing says which tasks were running."
    if not incident.suspects:
        return f"{when}, no task was running."
    named = "; ".join(_suspect(s) for s in incident.suspects[:NAMED])
    more = len(incident.suspects) - NAMED
    others = f"; and {more} more" if more > 0 else ""
    tasks = _count(len(incident.suspects), "task")
    verb = "was" if len(incident.suspects) == 1 else "were"
    return f"{when}, {tasks} {verb} running: {named}{others}."


def _suspect(suspect: Suspect) -> str:
    if suspect.bytes is None:
        held = "not measured"
    else:
        held = f"{format_bytes(suspect.bytes)} ({suspect.method})"
        if suspect.share is not None:
            held += f", {100 * suspect.share:.0f} % of the limit"
    place = ""
    if suspect.order_position is not None:
        place = f", task {suspect.order_position:,} of {suspect.order_total:,} in order"
    return f"{_short(suspect.key)} with {held}, for {suspect.seconds:.1f} s{place}"


def _signal(incident: Incident) -> str:
    number = incident.exit.signal if incident.exit else None
    if number is None:
        return "a signal"
    try:
        return f"signal {number} ({signals.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _short(key: str, length: int = 70) -> str:
    return key if len(key) <= length else f"{key[: length - 1]}…"


#: Kind → its headline.
_HEADLINES = {
    "terminated": _terminated,
    "oom-killed": _oom_killed,
    "killed": _killed,
    "crashed": _crashed,
    "exited": _exited,
    "lost": _lost,
    "paused": _paused,
    "killed-worker": _killed_worker,
}
