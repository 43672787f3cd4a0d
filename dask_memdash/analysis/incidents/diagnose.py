"""From a case to a diagnosis: which rules there are, and how they are weighed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from dask_memdash.analysis.incidents.case import BARE_WORKER, Case
from dask_memdash.analysis.incidents.finding import Diagnosis, Finding
from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.analysis.incidents.need import (
    MUCH_BESIDE,
    beside,
    execution,
    gathered_in_vain,
    largest_task,
    need_is_known,
    never_fits,
)
from dask_memdash.analysis.incidents.plausible import is_refused, plausible
from dask_memdash.analysis.incidents.relief import Relief, relief_of
from dask_memdash.analysis.incidents.rules.actor_state import actor_state
from dask_memdash.analysis.incidents.rules.awaited import awaited
from dask_memdash.analysis.incidents.rules.children import children
from dask_memdash.analysis.incidents.rules.crash import crash
from dask_memdash.analysis.incidents.rules.external import external
from dask_memdash.analysis.incidents.rules.graph import graph
from dask_memdash.analysis.incidents.rules.leak import leak
from dask_memdash.analysis.incidents.rules.overcommitted import overcommitted
from dask_memdash.analysis.incidents.rules.pinned import pinned
from dask_memdash.analysis.incidents.rules.replicas import replicas
from dask_memdash.analysis.incidents.rules.retained import retained
from dask_memdash.analysis.incidents.rules.run_ahead import run_ahead
from dask_memdash.analysis.incidents.rules.scheduler_near import scheduler_near
from dask_memdash.analysis.incidents.rules.sizeof import sizeof
from dask_memdash.analysis.incidents.rules.task_too_large import task_too_large
from dask_memdash.analysis.incidents.rules.too_many_at_once import too_many_at_once
from dask_memdash.analysis.incidents.rules.transfer import transfer
from dask_memdash.analysis.incidents.rules.unaccounted import unaccounted
from dask_memdash.analysis.incidents.rules.unresponsive import unresponsive
from dask_memdash.model.incidents import DEATHS
from dask_memdash.terms import CAUSES, NOT_MEMORY, STORAGE_CAUSES
from dask_memdash.text import format_bytes

Rule = Callable[[Case], Iterator[Finding]]

#: Every rule, one for each cause; the order decides between equals.
RULES: tuple[Rule, ...] = (
    overcommitted,
    sizeof,
    task_too_large,
    too_many_at_once,
    replicas,
    run_ahead,
    pinned,
    awaited,
    transfer,
    actor_state,
    graph,
    leak,
    unaccounted,
    retained,
    unresponsive,
    crash,
    external,
)

#: Stage of an incident → the rules that alone can say why.
STAGES = {
    "refused": (task_too_large,),
    "child": (children,),
    "scheduler": (scheduler_near,),
}

#: Causes in which running tasks fill the memory.
EXECUTION_CAUSES = frozenset({"task-too-large", "too-many-at-once"})

#: How much less what filled the memory matters where the limit was above what there
#: is: had it been honest, that would have done no harm.
OVERCOMMITTED = 0.6

#: How much less what was stored matters beside a task that no empty worker holds.
NEVER_FITS = 0.5

#: The same beside a request that is larger than any empty worker.
REFUSED = 0.9

#: How much more a cause weighs that an earlier death of the same tasks has shown.
SEEN_BEFORE = 1.15

#: Findings lighter than this are not worth a word, but what nobody counted is.
LEAST_WEIGHT = 0.03

#: A cause lighter than this is not the cause of anything: it is not known.
LEAST = 0.25

#: Seconds that a worker lived from which its baseline may have grown.
LIVED = 5.0

#: How far the evidence on a death can be trusted, after where it comes from.
TRUST = {"flight-recorder": 1.0, "heartbeat": 0.75, "scheduler": 0.3}

#: Factor on the confidence of a finding that rests on thin evidence.
THIN = 0.75

#: Reliefs whose advice comes before that on what was stored.
ABOUT_SPILLING = frozenset({"spilling-off", "spill-failing", "spill-full"})

#: What is said where the cause is not known.
UNKNOWN_CAUSE = Diagnosis(
    cause="unknown",
    confidence=0.0,
    prefix=None,
    key=None,
    findings=(),
    advice=(),
    text="The cause is not known: there is not enough evidence.",
)


def diagnose(case: Case) -> Diagnosis:
    """Weigh all that the rules find."""
    # What the scheduler refuses to start fills no memory: it is the task's own need.
    rules = STAGES.get(case.stage, RULES)
    found = rank(weigh(case, [f for rule in rules for f in rule(case)]))
    if not found or found[0].weight < _least(case, found[0]):
        return not_known(found, missing(case), case.instant)
    top = found[0]
    trust = TRUST[case.evidence] if case.kind in DEATHS else 1.0
    confidence = trust * certainty([f.weight for f in found])
    if top.thin:
        confidence *= THIN
    relief = relief_of(case, top.cause)
    return Diagnosis(
        cause=top.cause,
        confidence=round(confidence, 2),
        prefix=top.prefix,
        key=top.key,
        findings=found,
        advice=advice_of(found, relief),
        text=in_words(top, confidence, relief),
        relief=None if relief is None else relief.name,
        instant=case.instant,
    )


def weigh(case: Case, found: Sequence[Finding]) -> list[Finding]:
    """Take from each finding what is not about memory, or is explained by another."""
    possible = plausible(case)
    promised = sum(f.weight for f in found if f.cause == "overcommitted")
    more, nobodys = _left_no_room(case, found)
    top = largest_task(case)
    fits_nowhere = top is not None and never_fits(case, top)
    fits_nowhere = fits_nowhere or gathered_in_vain(case) is not None
    hopeless = REFUSED if is_refused(case) else NEVER_FITS * fits_nowhere
    weighed = []
    for finding in found:
        weight = min(1.0, finding.weight)
        if finding.cause == "unaccounted":
            weight += nobodys
        if finding.cause not in NOT_MEMORY:
            weight *= possible
            if finding.cause != "overcommitted":
                weight *= 1 - OVERCOMMITTED * min(1.0, promised)
                if finding.cause not in EXECUTION_CAUSES:
                    weight *= more
                    weight *= 1 - hopeless
        if any((e.cause, e.prefix) == _name(finding) for e in case.earlier):
            weight *= SEEN_BEFORE
        weighed.append(replace(finding, weight=round(min(1.0, weight), 3)))
    return weighed


def rank(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Put findings in order of weight, without the trifles."""
    worth = [finding for finding in found if finding.weight >= LEAST_WEIGHT]
    return tuple(sorted(worth, key=lambda finding: -finding.weight))


def certainty(weights: Sequence[float]) -> float:
    """Say how sure the heaviest of several findings is the right one.

    It competes with the second, and with what none of them explains.
    """
    first, *others = weights
    unexplained = max(0.0, 1.0 - sum(weights))
    rival = max([*others, unexplained])
    return min(0.98, 0.5 + 0.5 * max(0.0, first - rival) / first)


def in_words(
    finding: Finding, confidence: float, relief: Relief | None = None, what: str = ""
) -> str:
    """Say what a finding means, how sure that is, and what it rests on."""
    sure = "Cause" if confidence >= 0.8 else "Likely cause"
    sure = sure if confidence >= 0.5 else "Possible cause"
    why = "" if relief is None else f" {relief.text}"
    thin = f" The evidence is thin: {finding.thin}." if finding.thin else ""
    label = CAUSES[finding.cause].label
    return f"{sure}: {label}. {what or finding.text}{why}{thin}"


def advice_of(found: Sequence[Finding], relief: Relief | None) -> tuple[str, ...]:
    """Return the advice of the findings that count, what helps most first."""
    first = found[0].weight if found else 0.0
    texts = [text for f in found if f.weight >= 0.5 * first for text in f.advice]
    if relief is not None:
        if found[0].cause in STORAGE_CAUSES and relief.name in ABOUT_SPILLING:
            texts = [*relief.advice, *texts]
        else:
            own = len(found[0].advice)
            texts = [*texts[:own], *relief.advice, *texts[own:]]
    return tuple(dict.fromkeys(texts))


def not_known(
    found: tuple[Finding, ...] = (), why: str = "", instant: float | None = None
) -> Diagnosis:
    """Return that the cause is not known, and what is missing."""
    text = f"The cause is not known: {why}." if why else UNKNOWN_CAUSE.text
    return replace(UNKNOWN_CAUSE, findings=found, text=text, instant=instant)


def missing(case: Case) -> str:
    """Say what evidence is missing; empty where nothing is."""
    lacks = []
    if case.stage == "child":
        return "nobody saw how much memory the process had that was killed"
    if case.kind == "memory-error":
        return "the error does not say how much was asked for"
    if case.breakdown is None:
        lacks.append("no figure of the worker's memory has arrived")
    if case.evidence == "scheduler":
        lacks.append("neither flight recorder nor heartbeat says what was running")
    if lacks:
        return ", and ".join(lacks)
    if case.kind in ("lost", "killed", "exited", "crashed"):
        return (
            f"it used {format_bytes(case.parts.process)} of "
            f"{format_bytes(case.limit)}, which does not explain its end"
        )
    if case.unseen >= LEAST * case.above:
        return (
            f"it grew by {format_bytes(case.unseen)} after its last heartbeat, and no "
            "flight recorder says what ran then"
        )
    untold = give_out(case).untold
    if untold >= LEAST * case.above:
        return (
            f"it grew by {format_bytes(untold)} after its last report, while tasks ran "
            "and ended, and it died before it could tell what they left"
        )
    unseen = _unseen_idle(case)
    if unseen >= LEAST * case.above:
        return (
            "no heartbeat came, and nothing says how much of "
            f"{format_bytes(case.idle)} the process needed when it was idle"
        )
    unlooked = _unlooked(case)
    if unlooked >= LEAST * case.above:
        return (
            f"{format_bytes(unlooked)} of outputs were in memory, and who needed them "
            "is not known"
        )
    return (
        f"no count explains most of the {format_bytes(case.above)} beyond an idle "
        "worker"
    )


def _least(case: Case, top: Finding) -> float:
    """Return how heavy a finding must be to be the cause.

    Heavier than outputs in memory of which nobody knows who needed them, and than what
    may have grown unseen.
    """
    if top.cause in NOT_MEMORY or case.kind not in DEATHS:
        return LEAST
    unseen = max(_unlooked(case), _unseen_idle(case), give_out(case).untold)
    return max(LEAST, unseen / case.above)


def _unseen_idle(case: Case) -> int:
    """Return what may have grown in a process that nobody has seen idle, in bytes.

    Of a worker that lived for a while and whose heartbeats all got lost, only its
    recorder says what its baseline was, and only as it was last.
    """
    times = [time for time, _ in case.timeline]
    if case.facts.baseline or not times or times[-1] - times[0] < LIVED:
        return 0
    return max(0, case.idle - BARE_WORKER)


def _unlooked(case: Case) -> int:
    """Return the outputs in memory of which nobody knows who needed them, in bytes.

    Spilled ones that are in use are among them.
    """
    hidden = give_out(case).hidden
    known = {*case.facts.held, *hidden}
    looked_at = sum(size for name, size in case.in_memory().items() if name in known)
    return case.parts.managed + case.in_use - case.inputs_in_use - looked_at


def _left_no_room(case: Case, found: Sequence[Finding]) -> tuple[float, float]:
    """Return how much heavier what is beside the running tasks weighs, and nobody's.

    Tasks that an empty worker would have held are not to blame: what left them no room
    takes their share.  What was not counted and only came while they ran may be
    somebody else's all the same: it adds to the weight of what nobody counted, before
    that is made heavier with the rest.
    """
    own, top = beside(case), largest_task(case)
    known = top is not None and need_is_known(case, top)
    if not own or (own < MUCH_BESIDE * case.above and not known):
        return 1.0, 0.0
    held = execution(case)
    blamed = sum(f.weight for f in found if f.cause in EXECUTION_CAUSES)
    left = max(0.0, held / case.above - blamed)
    sure = min(1.0, (case.counted + case.inputs_in_use) / max(1, held))
    more = 1 + sure * left * case.above / own
    return more, (1 - sure) * left / more


def _name(finding: Finding) -> tuple[str, str | None]:
    return finding.cause, finding.prefix
