"""From a case to a diagnosis: which rules there are, and how they are weighed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import CAUSES, MEMORY, Diagnosis, Finding
from dask_memdash.analysis.incidents.rules.execution import (
    task_too_large,
    too_many_at_once,
)
from dask_memdash.analysis.incidents.rules.host_limits import limit_too_high
from dask_memdash.analysis.incidents.rules.outside import crash, external, plausible
from dask_memdash.analysis.incidents.rules.process import leak, retained, transfer
from dask_memdash.analysis.incidents.rules.storage import (
    awaited,
    pinned,
    run_ahead,
    sizeof,
    spill_blocked,
)
from dask_memdash.model.incidents import DEATHS

Rule = Callable[[Case], Iterator[Finding]]

#: Every rule, one for each cause; the order decides between equals.
RULES: tuple[Rule, ...] = (
    limit_too_high,
    spill_blocked,
    sizeof,
    task_too_large,
    too_many_at_once,
    run_ahead,
    pinned,
    awaited,
    transfer,
    leak,
    retained,
    crash,
    external,
)

#: Cause → the causes that matter less where it holds, and by how much at most: had the
#: limit been honest, or the outputs been spilled, the others would have done no harm.
EXPLAINS_AWAY = {
    "limit-too-high": (MEMORY - {"limit-too-high"}, 0.6),
    "spill-blocked": (frozenset({"awaited", "pinned", "run-ahead"}), 0.5),
}

#: Findings lighter than this are not worth a word.
LEAST_WEIGHT = 0.03

#: A cause lighter than this is not the cause of anything: it is not known.
LEAST = 0.25

#: How far the evidence on a death can be trusted, after where it comes from.
TRUST = {"flight-recorder": 1.0, "heartbeat": 0.75, "scheduler": 0.3}

#: Factor on the confidence of a finding that rests on thin evidence.
THIN = 0.75

#: What is said where the cause is not known.
UNKNOWN_CAUSE = Diagnosis(
    cause="unknown",
    confidence=0.0,
    prefix=None,
    key=None,
    findings=(),
    advice=(),
    text=f"The cause is not known: {CAUSES['unknown']}.",
)


def diagnose(case: Case) -> Diagnosis:
    """Weigh all that the rules find."""
    found = rank(weigh(case, [f for rule in RULES for f in rule(case)]))
    if not found or found[0].weight < LEAST:
        return _unknown(found)
    top = found[0]
    trust = TRUST[case.evidence] if case.kind in DEATHS else 1.0
    confidence = trust * certainty([f.weight for f in found])
    if top.thin:
        confidence *= THIN
    return Diagnosis(
        cause=top.cause,
        confidence=round(confidence, 2),
        prefix=top.prefix,
        key=top.key,
        findings=found,
        advice=_advice(found),
        text=in_words(top, confidence),
    )


def diagnose_together(deaths: Sequence[Diagnosis]) -> Diagnosis:
    """Join the diagnoses of the deaths behind a ``KilledWorker``."""
    if not deaths:
        return _unknown(())
    weights: dict[tuple[str, str | None], float] = {}
    for death in deaths:
        for finding in death.findings or (_no_finding(death),):
            name = (finding.cause, finding.prefix)
            weights[name] = weights.get(name, 0.0) + finding.weight / len(deaths)
    known = {(f.cause, f.prefix): f for d in deaths for f in d.findings}
    joined = rank([replace(f, weight=weights[name]) for name, f in known.items()])
    if not joined or joined[0].weight < LEAST:
        return _unknown(joined)
    top = joined[0]
    agree = [d for d in deaths if (d.cause, d.prefix) == (top.cause, top.prefix)]
    confidence = sum(d.confidence for d in agree) / len(deaths)
    keys = {d.key for d in agree}
    return Diagnosis(
        cause=top.cause,
        confidence=round(confidence, 2),
        prefix=top.prefix,
        key=keys.pop() if len(keys) == 1 else None,
        findings=joined,
        advice=_advice(joined),
        text=in_words(top, confidence),
    )


def weigh(case: Case, found: Sequence[Finding]) -> list[Finding]:
    """Take from each finding what is not about memory, or explained by another."""
    possible = plausible(case)
    weights = {f.cause: min(1.0, f.weight) for f in found}
    weighed = []
    for finding in found:
        weight = min(1.0, finding.weight)
        if finding.cause in MEMORY:
            weight *= possible
        for cause, (others, most) in EXPLAINS_AWAY.items():
            if finding.cause in others:
                weight *= 1 - most * weights.get(cause, 0.0)
        weighed.append(replace(finding, weight=round(weight, 3)))
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


def in_words(finding: Finding, confidence: float) -> str:
    """Say what a finding means, how sure that is, and what it rests on."""
    sure = "Cause" if confidence >= 0.8 else "Likely cause"
    sure = sure if confidence >= 0.5 else "Possible cause"
    thin = f" The evidence is thin: {finding.thin}." if finding.thin else ""
    return f"{sure}: {CAUSES[finding.cause]}. {finding.text}{thin}"


def _unknown(found: tuple[Finding, ...]) -> Diagnosis:
    return replace(UNKNOWN_CAUSE, findings=found)


def _no_finding(death: Diagnosis) -> Finding:
    return Finding(death.cause, 0.0, death.text)


def _advice(found: Sequence[Finding]) -> tuple[str, ...]:
    """Return the advice of the findings that count, heaviest first, each once."""
    first = found[0].weight if found else 0.0
    texts = [text for f in found if f.weight >= 0.5 * first for text in f.advice]
    return tuple(dict.fromkeys(texts))
