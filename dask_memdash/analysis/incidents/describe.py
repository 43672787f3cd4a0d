"""What an incident says in words.

Pure functions from an incident to sentences: what was seen, and the cause as the
diagnosis (:mod:`dask_memdash.analysis.incidents.diagnose`) has put it into words.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Sequence

from dask_memdash.analysis.incidents import memory_errors
from dask_memdash.analysis.incidents.blocks import in_one_block
from dask_memdash.analysis.incidents.failure_words import stored_in_words
from dask_memdash.analysis.incidents.finding import Diagnosis
from dask_memdash.analysis.incidents.rules.stuck import headline
from dask_memdash.model.incidents import DEATHS, Incident, Suspect
from dask_memdash.text import count, format_bytes, short

__all__ = ["describe", "format_bytes"]

#: Suspects and tasks named in one sentence.
NAMED = 3

#: Share of the limit from which it is told what share that is.
LEAST_SHARE = 0.01


def describe(
    incident: Incident,
    diagnosis: Diagnosis | None = None,
    running: Sequence[Suspect] | None = None,
) -> str:
    """Say in a few sentences what happened, to whom, what was running, and why.

    Parameters
    ----------
    running
        Its suspects with what they held at the instant of its breakdown; as they were
        counted where that is None.
    """
    suspects = incident.suspects if running is None else running
    sentences = [_HEADLINES[incident.kind](incident), *_what_ran(incident, suspects)]
    if diagnosis is not None:
        sentences.append(diagnosis.text)
    if incident.kind in DEATHS:
        sentences.append(_stored(incident))
    return " ".join(filter(None, sentences))


def _stored(incident: Incident) -> str:
    return stored_in_words(
        {
            "keys_lost": incident.keys_lost,
            "bytes_lost": incident.bytes_lost,
            "keys_stored": incident.keys_stored,
            "bytes_stored": incident.bytes_stored,
            "seconds_recomputed": incident.seconds_lost,
        }
    )


def _what_ran(incident: Incident, suspects: Sequence[Suspect]) -> list[str]:
    sentences = []
    if incident.kind == "killed-worker":
        sentences.append(_attempts(incident))
    if incident.kind in DEATHS:
        sentences.append(_running(incident, suspects))
        if incident.n_innocent:
            sentences.append(
                f"{count(incident.n_innocent, 'other task')} had been assigned to it "
                "and had not started."
            )
    return sentences


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


def _given_up(incident: Incident) -> str:
    return (
        f"The scheduler gave worker {incident.worker.name} up, because it did not "
        f"answer; it used {_usage(incident)}."
    )


def _exited(incident: Incident) -> str:
    if incident.unresponsive is not None:
        return _given_up(incident)
    if incident.exit is not None and incident.exit.code is not None:
        how = f"with status {incident.exit.code}"
    else:
        how = f"({incident.closing or 'for a reason that is not known'})"
    return (
        f"Worker {incident.worker.name} ended by itself {how}, though nobody had "
        f"asked it to; it used {_usage(incident)}."
    )


def _lost(incident: Incident) -> str:
    if incident.unresponsive is not None:
        return _given_up(incident)
    return (
        f"Worker {incident.worker.name} was lost, and how it ended is not known; "
        f"when last heard of it used {_usage(incident)}."
    )


def _killed_worker(incident: Incident) -> str:
    first = incident.tasks[0].key if incident.tasks else "a task"
    more = incident.n_tasks - 1
    others = f" and {count(more, 'other task')}" if more else ""
    deaths = len(incident.attempts)
    if not deaths:
        return f"Dask gave up on {first}{others} (KilledWorker)."
    return (
        f"Dask gave up on {first}{others} (KilledWorker), because "
        f"{count(deaths, 'worker')} died while it was assigned to "
        f"{'it' if deaths == 1 else 'them'}."
    )


def _kernel_near(incident: Incident) -> str:
    if incident.stage == "scheduler":
        return (
            f"The scheduler is about to run out of memory: {incident.detail}, and the "
            f"scheduler itself {_usage(incident)}. If the kernel kills it, or an "
            "allocation fails, the whole computation is lost."
        )
    return (
        f"The kernel was about to kill worker {incident.worker.name}: "
        f"{incident.detail}, and the worker itself {_usage(incident)}, too little for "
        "Dask to spill, pause or terminate it."
    )


def _stuck(incident: Incident) -> str:
    if incident.stall is None:
        return "Nothing moves, and who waits for what is not known."
    until = incident.time if incident.until is None else incident.until
    said = headline(incident.stall, until)
    return said if incident.until is None else f"{said} Then it went on."


def _spill_failed(incident: Incident) -> str:
    first = short(incident.tasks[0].key) if incident.tasks else "an output"
    reason, _, said = incident.detail.partition(": ")
    because = {
        "max-spill": "as much is spilled as distributed.worker.memory.max-spill allows",
        "disk-full": "the disk is full",
        "disk-error": "the disk cannot be written to",
        "unpicklable": "it cannot be pickled",
    }.get(reason, reason)
    said = f" ({short(said, 200)})" if said else ""
    times = "" if incident.n_tasks == 1 else f" It failed {incident.n_tasks:,} times."
    return (
        f"Worker {incident.worker.name} could not spill {first}, because "
        f"{because}{said}; it stays in memory. The worker used {_usage(incident)}."
        f"{times}"
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


def _running(incident: Incident, suspects: Sequence[Suspect]) -> str:
    when = {
        "flight-recorder": "At its death",
        "heartbeat": "When it was last heard of",
        "scheduler": "As far as the scheduler knows",
    }[incident.evidence]
    if incident.evidence == "scheduler":
        return f"{when}, nothing says which tasks were running."
    if not suspects:
        return f"{when}, no task was running."
    uncounted = _mostly_uncounted(incident, suspects)
    named = "; ".join(_suspect(s, incident.limit, uncounted) for s in suspects[:NAMED])
    more = len(suspects) - NAMED
    others = f"; and {more} more" if more > 0 else ""
    tasks = count(len(suspects), "task")
    verb = "was" if len(suspects) == 1 else "were"
    return f"{when}, {tasks} {verb} running: {named}{others}."


def _mostly_uncounted(incident: Incident, suspects: Sequence[Suspect]) -> bool:
    """Say whether more was in execution than twice what was counted."""
    counted = sum(suspect.bytes or 0 for suspect in suspects)
    parts = incident.breakdown
    return parts is not None and parts.executing - (parts.inputs or 0) > 2 * counted


def _suspect(suspect: Suspect, limit: int | None, uncounted: bool) -> str:
    if suspect.gathering:
        held = "about to begin while its inputs were read back from disk"
    elif suspect.bytes is None:
        held = "not measured"
    elif uncounted:
        held = f"{format_bytes(suspect.bytes)} counted"
        if not suspect.bytes:
            held = "nothing counted"
    else:
        held = f"{format_bytes(suspect.bytes)} ({suspect.method})"
        if suspect.share is not None and suspect.share >= LEAST_SHARE:
            held += f", {100 * suspect.share:.0f} % of the limit"
    block = in_one_block(suspect, limit)
    held += f", {block}" if block else ""
    place = ""
    if suspect.order_position is not None:
        place = f", task {suspect.order_position:,} of {suspect.order_total:,} in order"
    if suspect.gathering:
        return f"{short(suspect.key)}, {held}{place}"
    return f"{short(suspect.key)} with {held}, for {suspect.seconds:.1f} s{place}"


def _signal(incident: Incident) -> str:
    number = incident.exit.signal if incident.exit else None
    if number is None:
        return "a signal"
    try:
        return f"signal {number} ({signals.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


#: Kind → its headline.
_HEADLINES = {
    "terminated": _terminated,
    "oom-killed": _oom_killed,
    "killed": _killed,
    "crashed": _crashed,
    "exited": _exited,
    "lost": _lost,
    "killed-worker": _killed_worker,
    "memory-error": memory_errors.headline,
    "spill-failed": _spill_failed,
    "kernel-near": _kernel_near,
    "stuck": _stuck,
}
