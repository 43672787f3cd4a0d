"""The diagnosis of a ``KilledWorker``: all its deaths together.

What one death showed of a task counts for the others too, so that each is looked at
again with the most that the task held at any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dask_memdash.analysis.incidents.case import Case, most_held
from dask_memdash.analysis.incidents.diagnose import (
    LEAST,
    advice_of,
    diagnose,
    in_words,
    not_known,
    rank,
)
from dask_memdash.analysis.incidents.finding import Diagnosis, Finding
from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.analysis.incidents.need import held_by, mostly_uncounted
from dask_memdash.analysis.incidents.relief import relief_of
from dask_memdash.model.event_parts import Weighed
from dask_memdash.model.evidence import Evidence, Expected
from dask_memdash.model.incidents import DEATHS
from dask_memdash.terms import NOT_MEMORY, STORAGE_CAUSES
from dask_memdash.text import code, count, format_bytes

#: Causes that fill a process beside outputs and running tasks, as far as counted.
COUNTED_BESIDE = frozenset({"actor-state", "graph", "leak", "sizeof"})


def diagnose_together(cases: Sequence[Case]) -> Diagnosis:
    """Join what the deaths behind a ``KilledWorker`` say, oldest first."""
    held = [_held_at(case) for case in cases]
    usual = _usual(cases)
    cases = [
        replace(
            case,
            at_least=_most([case.at_least, *held[:n], *held[n + 1 :]]),
            facts=_with_usual(case, usual),
        )
        for n, case in enumerate(cases)
    ]
    return join_deaths([(case, diagnose(case)) for case in cases])


def _usual(cases: Sequence[Case]) -> dict[str, Expected]:
    """Return by prefix what its tasks usually need, as was known last."""
    found: dict[str, Expected] = {}
    for case in cases:
        for prefix, expected in case.facts.expected.items():
            if prefix not in found or expected.finished >= found[prefix].finished:
                found[prefix] = expected
    return found


def _with_usual(case: Case, usual: Mapping[str, Expected]) -> Evidence:
    """Let what the running tasks usually need be known already at this death.

    What their like had left behind by then stays as it was.
    """
    known = dict(case.facts.expected)
    for prefix in {suspect.prefix for suspect in case.suspects} & usual.keys():
        before = known.get(prefix)
        weighed = Weighed() if before is None else before.weighed
        known[prefix] = replace(usual[prefix], weighed=weighed)
    return replace(case.facts, expected=known)


def _held_at(case: Case) -> dict[str, int]:
    """Return by prefix the most that one of its tasks held at a death."""
    return _most([{s.prefix: most_held(s) or 0} for s in case.suspects])


def _most(sizes: Sequence[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for size in sizes:
        for prefix, held in size.items():
            found[prefix] = max(held, found.get(prefix, 0))
    return found


def join_deaths(deaths: Sequence[tuple[Case, Diagnosis]]) -> Diagnosis:
    """Weigh the findings of several deaths against each other."""
    weights: dict[tuple[str, str | None], float] = {}
    best: dict[tuple[str, str | None], Finding] = {}
    best_at: dict[tuple[str, str | None], Case] = {}
    advised: dict[tuple[str, str | None], Finding] = {}
    for case, death in deaths:
        for finding in death.findings:
            name = (finding.cause, finding.prefix)
            weights[name] = weights.get(name, 0.0) + finding.weight / len(deaths)
            if name not in best or finding.weight > best[name].weight:
                best[name], best_at[name] = finding, case
            if finding.advice and finding.weight > _weight(advised.get(name)):
                advised[name] = finding
    _name_what_nobody_counted(deaths, weights)
    # What helps may show at one death and not at the heaviest: there, others were gone.
    lines = {name: f.advice or _advice(advised.get(name)) for name, f in best.items()}
    joined = rank(
        [
            replace(f, weight=weights[name], advice=lines[name])
            for name, f in best.items()
        ]
    )
    instant = max((c.instant for c, _ in deaths if c.instant is not None), default=None)
    if not joined or joined[0].weight < LEAST:
        if len({death.text for _, death in deaths}) == 1:
            return replace(deaths[0][1], instant=instant)
        why = "the deaths behind it have not been explained" if deaths else ""
        return not_known(joined, why, instant)
    top = joined[0]
    agree = [
        (c, d) for c, d in deaths if (d.cause, d.prefix) == (top.cause, top.prefix)
    ]
    confidence = sum(d.confidence for _, d in agree) / len(deaths)
    keys = {d.key for _, d in agree}
    reliefs = Counter(d.relief for _, d in agree if d.relief is not None)
    usual = reliefs.most_common(1)[0][0] if reliefs else None
    shown = best_at[(top.cause, top.prefix)]
    same = [c for c, d in agree if d.relief == usual]
    # The figures of cause and relief are of one instant, where that can be.
    case = shown if shown in same or not same else same[-1]
    relief = relief_of(case, top.cause)
    what = top.text
    if len(deaths) > 1:
        what_it_was = "death" if shown.kind in DEATHS else "incident"
        where = f"At {what_it_was} #{shown.id}: " if shown.id else ""
        what = f"{in_all(deaths, agree, top)} {where}{what}".strip()
    return Diagnosis(
        cause=top.cause,
        confidence=round(confidence, 2),
        prefix=top.prefix,
        key=keys.pop() if len(keys) == 1 else None,
        findings=joined,
        advice=advice_of(joined, relief),
        text=in_words(top, confidence, relief, what),
        relief=None if relief is None else relief.name,
        instant=instant,
    )


def _weight(finding: Finding | None) -> float:
    return 0.0 if finding is None else finding.weight


def _advice(finding: Finding | None) -> tuple[str, ...]:
    return () if finding is None else finding.advice


def _name_what_nobody_counted(
    deaths: Sequence[tuple[Case, Diagnosis]],
    weights: dict[tuple[str, str | None], float],
) -> None:
    """Let what one death could not count be what filled another of the same tasks.

    What an actor keeps, say, is nobody's where the heartbeats that tell of it are lost.
    """
    named = {(d.cause, d.prefix) for _, d in deaths if d.cause in COUNTED_BESIDE}
    if len(named) != 1:
        return
    (name,) = named
    for _, death in deaths:
        if death.cause != "unaccounted" or _has(death, name):
            continue
        moved = death.findings[0].weight / len(deaths)
        weights[name] += moved
        weights[("unaccounted", None)] -= moved


def _has(death: Diagnosis, name: tuple[str, str | None]) -> bool:
    return any((f.cause, f.prefix) == name for f in death.findings)


def in_all(
    deaths: Sequence[tuple[Case, Diagnosis]],
    agree: Sequence[tuple[Case, Diagnosis]],
    top: Finding,
) -> str:
    """Say what the deaths have in common, in one sentence; empty for a single one."""
    if len(deaths) < 2 or top.prefix is None or not agree:
        return ""
    held = [0 if top.cause in NOT_MEMORY else _had(case, top) for case, _ in agree]
    limits = {case.limit for case, _ in agree}
    of = limits.pop() if len(limits) == 1 else None
    word = "death" if all(c.kind in DEATHS for c, _ in deaths) else "incident"
    which = count(len(deaths), word)
    if len(agree) < len(deaths):
        which = f"{len(agree)} of {which}"
    if top.cause in NOT_MEMORY:
        return f"{which}, each while {code(top.prefix)} was running."
    if top.cause == "leak":
        left = between(held, of)
        if not left:
            return ""
        return f"{which}, each after {code(top.prefix)} had left {left} behind."
    had = between(held, of)
    return f"{which}, each while {code(top.prefix)} had {had}." if had else ""


def between(sizes: Sequence[int], limit: int | None) -> str:
    """Write the range of several sizes, and what they are of; empty without any."""
    known = sorted(size for size in sizes if size)
    if not known:
        return ""
    low, high = format_bytes(known[0]), format_bytes(known[-1])
    of = f" of {format_bytes(limit)}" if limit else ""
    return f"{high}{of}" if low == high else f"between {low} and {high}{of}"


def _had(case: Case, top: Finding) -> int:
    """Return what a prefix had at a death: stored, or in execution."""
    growth = give_out(case)
    beside = {
        "leak": growth.leaked,
        "sizeof": growth.hidden,
        "graph": growth.graph,
        "actor-state": growth.actors,
    }
    if top.cause in beside:
        return beside[top.cause].get(top.prefix or "", 0)
    if top.cause in STORAGE_CAUSES:
        return case.in_memory().get(top.prefix or "", 0)
    if mostly_uncounted(case):
        return 0  # how much of it was whose is a guess
    running = [held_by(case, s) for s in case.running if s.prefix == top.prefix]
    if top.cause == "task-too-large":
        return max(running, default=0)
    return sum(running)
