"""Why nothing moves (incidents of kind 'stuck'), and what would release it.

Unlike a death this is about the cluster: the accounts are sums over the paused workers,
and what counts is not what grew last but who would have to let go.  All sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Diagnosis, Finding
from dask_memdash.analysis.incidents.rules.actor_state import actor_state
from dask_memdash.analysis.incidents.rules.graph import graph
from dask_memdash.analysis.incidents.rules.leak import leak
from dask_memdash.analysis.incidents.rules.sizeof import sizeof
from dask_memdash.analysis.incidents.rules.transfer import transfer
from dask_memdash.analysis.incidents.rules.unaccounted import unaccounted
from dask_memdash.analysis.incidents.stuck_release import (
    more_room,
    release,
    relief_of_stall,
)
from dask_memdash.analysis.incidents.stuck_storage import TEXTS, stored_by_cause
from dask_memdash.model.evidence import OrderFacts, largest
from dask_memdash.model.stall import Stall
from dask_memdash.terms import CAUSES
from dask_memdash.text import code, count, format_bytes, join

#: A share of what fills the workers below this is not the cause of anything.
LEAST = 0.25

#: Findings lighter than this are not worth a word.
LEAST_WEIGHT = 0.03

#: Waiting prefixes and holders that a sentence names.
NAMED = 2

#: What may have made the baseline grow, and is told apart as at a death.
GROWTH = (sizeof, actor_state, graph, leak, unaccounted)


def headline(stall: Stall, now: float) -> str:
    """Say who waits, and why nobody serves them.

    Parameters
    ----------
    now
        Unix time until which nothing moved.
    """
    still = f"Nothing has moved for {max(0.0, now - stall.since):.0f} s"
    by = [f"{tasks.count:,} of {code(tasks.prefix)}" for tasks in stall.waiting[:NAMED]]
    more = stall.n_waiting - sum(tasks.count for tasks in stall.waiting[:NAMED])
    by += [f"{more:,} more"] if more > 0 else []
    tasks, verb = (
        count(stall.n_waiting, "task"),
        "is" if stall.n_waiting == 1 else "are",
    )
    if len(by) == 1:
        ready = f"{tasks} of {code(stall.waiting[0].prefix)} {verb} ready"
    else:
        ready = f"{tasks} {verb} ready ({join(by)})"
    if stall.unreceived:
        tasks = count(stall.unreceived, "task")
        verb = "waits" if stall.unreceived == 1 else "wait"
        return (
            f"{still}: {tasks} {verb} for an input that did not fit into memory when "
            "it came, and Dask does not ask for it again."
        )
    if not stall.n_workers:
        return f"{still}: {ready}, and no worker is left."
    if stall.n_paused == stall.n_workers:
        which = "the only worker is" if stall.n_workers == 1 else "all workers are"
    else:
        which = f"{stall.n_paused} of {stall.n_workers} workers are"
    return f"{still}: {ready}, and {which} paused, above the pause threshold."


def diagnose_stuck(
    stall: Stall,
    order: OrderFacts | None = None,
    deaths: Sequence[Diagnosis] = (),
    fullest: Case | None = None,
) -> Diagnosis:
    """Say who would have to let go.

    Parameters
    ----------
    order
        Storage against the order of the graph that runs; None where not known.
    deaths
        Diagnoses of the incidents that it comes of, oldest first: deaths after which no
        worker is left, inputs that could not be received.
    fullest
        The evidence on the fullest of the paused workers; None where there is none.
    """
    if stall.unreceived:
        return _not_received(stall, deaths)
    if stall.parts is None:
        return _none_left(stall, deaths)
    found = sorted(
        _findings(stall, order, fullest), key=lambda finding: -finding.weight
    )
    found = [finding for finding in found if finding.weight >= LEAST_WEIGHT]
    if not found or found[0].weight < LEAST or found[0].cause == "unknown":
        text = found[0].text if found and found[0].cause == "unknown" else ""
        return Diagnosis(
            cause="unknown",
            confidence=0.0,
            prefix=None,
            key=None,
            findings=tuple(f for f in found if f.cause != "unknown"),
            advice=tuple(more_room(stall, order)),
            text=f"What fills the workers is not known yet. {text}".strip(),
        )
    top = found[0]
    rival = found[1].weight if len(found) > 1 else 0.0
    confidence = min(0.95, 0.5 + 0.5 * (top.weight - rival) / top.weight)
    relief, sentence = relief_of_stall(stall, top.cause)
    cause = CAUSES[top.cause].label
    advice = tuple(dict.fromkeys(release(stall, order, top, relief)))
    return Diagnosis(
        cause=top.cause,
        confidence=round(confidence, 2),
        prefix=top.prefix,
        key=None,
        findings=tuple(f for f in found if f.cause != "unknown"),
        advice=advice,
        text=" ".join(filter(None, (f"Cause: {cause}.", top.text, sentence))),
        relief=relief,
    )


def _findings(
    stall: Stall, order: OrderFacts | None, fullest: Case | None
) -> Iterator[Finding]:
    parts = stall.parts
    if parts is None:
        return
    idle = min(parts.baseline, parts.baseline if stall.idle is None else stall.idle)
    above = max(1, parts.process - idle)
    for cause, held in stored_by_cause(stall, order).items():
        text = TEXTS[cause](stall, held)
        prefix = None if cause == "unknown" else largest(held)[0]
        yield Finding(cause, sum(held.values()) / above, text, prefix)
    for cause, size, text in (
        ("transfer", parts.transfer, "of shuffle and network buffers fill the workers"),
        ("actor-state", parts.actors, "are kept by actors; Dask cannot spill that"),
        (
            "graph",
            parts.graph,
            "came with the tasks, as their arguments, closures and records",
        ),
        ("retained", parts.retained, "were freed, and the allocator keeps them"),
        (
            "too-many-at-once",
            parts.executing,
            f"belong to {count(stall.running, 'task')} that run and use no processor",
        ),
    ):
        if size:
            named = _named(cause, fullest)
            yield Finding(
                cause,
                size / above,
                f"{format_bytes(size)} {text}.",
                None if named is None else named.prefix,
                advice=() if named is None else named.advice,
            )
    if parts.baseline > idle:
        yield from _grown(stall, parts.baseline - idle, above, fullest)


def _named(cause: str, fullest: Case | None) -> Finding | None:
    """Return what a rule finds of a part of the breakdown on the fullest worker."""
    rules = {"graph": graph, "actor-state": actor_state, "transfer": transfer}
    if fullest is None or cause not in rules:
        return None
    return next(rules[cause](fullest), None)


def _grown(
    stall: Stall, size: int, above: int, fullest: Case | None
) -> Iterator[Finding]:
    """Yield what made the baseline grow, as the fullest worker's counts tell it apart.

    Parameters
    ----------
    size
        By how much the paused workers' baselines grew, in bytes.
    above
        What they used beyond idle ones.
    """
    told = [f for rule in GROWTH for f in rule(fullest)] if fullest is not None else []
    whole = sum(finding.weight for finding in told)
    if whole <= 0:
        yield Finding(
            "unaccounted",
            size / above,
            f"{format_bytes(size)} came to the workers since they were idle, and no "
            "task counted them.",
        )
        return
    where = "" if stall.n_paused < 2 else "On the fullest worker: "
    for finding in told:
        weight = finding.weight / whole * size / above
        yield replace(finding, weight=weight, text=f"{where}{finding.text}")


def _not_received(stall: Stall, errors: Sequence[Diagnosis]) -> Diagnosis:
    """Say what the errors say with which inputs could not be received."""
    known = [error for error in errors if error.cause != "unknown"]
    which = join([f"#{number}" for number in stall.deaths])
    before = f"The input could not be received in incident {which}. " if which else ""
    if known:
        return replace(known[-1], text=f"{before}{known[-1].text}")
    return Diagnosis(
        cause="unknown",
        confidence=0.0,
        prefix=None,
        key=None,
        findings=(),
        advice=(
            "To go on now, restart the workers that hold the waiting tasks: "
            "`client.restart_workers([...])` with their addresses.",
        ),
        text=f"{before}What filled the worker is not known.",
    )


def _none_left(stall: Stall, deaths: Sequence[Diagnosis]) -> Diagnosis:
    """Say what the deaths say after which no worker is left."""
    known = [death for death in deaths if death.cause != "unknown"]
    restart = "Start workers: `cluster.scale(n)`, or new `dask worker` processes."
    which = ", ".join(f"#{number}" for number in stall.deaths)
    word = "incident" if len(stall.deaths) == 1 else "incidents"
    before = f" It died in {word} {which}." if which else ""
    if not known:
        return Diagnosis(
            cause="unknown",
            confidence=0.0,
            prefix=None,
            key=None,
            findings=(),
            advice=(restart,),
            text=f"Nothing starts the last worker again.{before}",
        )
    last = known[-1]
    return Diagnosis(
        cause=last.cause,
        confidence=last.confidence,
        prefix=last.prefix,
        key=last.key,
        findings=last.findings,
        advice=(*last.advice, restart),
        text=f"Nothing starts the last worker again.{before} {last.text}",
        relief=last.relief,
    )
