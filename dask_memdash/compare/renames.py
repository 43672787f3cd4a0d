"""Which new prefix may be one that is gone, under another name: suggestions only.

A pair is suggested if two facts that have nothing to do with each other speak for it
and for no other pair with either of them as much.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher

from dask_memdash.compare.facts import PrefixFacts
from dask_memdash.text import count, format_bytes

#: Prefixes of either run that are looked at: those with most to compare.
MOST = 100

#: Least number of tasks whose equal number is no accident, how alike outputs are, and
#: how alike names.
TASKS = 4
ALIKE = 0.05
NAMES = 0.6

#: Size from which outputs of one size are no accident, in bytes.
TOLD = 4096

#: Facts that speak for a suggestion at least.
ENOUGH = 2


@dataclass(frozen=True, slots=True)
class Rename:
    """A suggestion."""

    was: str
    now: str
    #: What speaks for it, in words.
    evidence: tuple[str, ...]


def renames(gone: Iterable[PrefixFacts], new: Iterable[PrefixFacts]) -> list[Rename]:
    """Suggest which of the new prefixes may be one of those that are gone."""
    old, young = _largest(gone), _largest(new)
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for a in old:
        for b in young:
            evidence = tuple(_evidence(a, b))
            if len(evidence) >= ENOUGH:
                found[a.name, b.name] = evidence
    made = []
    for (was, now), evidence in found.items():
        rivals = [
            other
            for pair, other in found.items()
            if pair != (was, now) and (pair[0] == was or pair[1] == now)
        ]
        if all(len(other) < len(evidence) for other in rivals):
            made.append(Rename(was, now, evidence))
    return made


def _largest(prefixes: Iterable[PrefixFacts]) -> list[PrefixFacts]:
    ranked = sorted(prefixes, key=lambda p: (-p.finished, p.name))
    return ranked[:MOST]


def _evidence(a: PrefixFacts, b: PrefixFacts) -> Iterable[str]:
    if a.finished == b.finished >= TASKS:
        yield f"as many tasks ({a.finished:,})"
    size_a, size_b = a.outputs.quantile(0.5), b.outputs.quantile(0.5)
    enough = min(a.outputs.count, b.outputs.count) >= TASKS
    large = max(size_a or 0.0, size_b or 0.0)
    told = size_a and size_b and enough and large >= TOLD
    if told and abs((size_a or 0.0) - (size_b or 0.0)) <= ALIKE * large:
        yield f"outputs of {format_bytes(large)} in both"
    if a.awaited_by and a.awaited_by == b.awaited_by:
        yield f"awaited by the same {count(len(a.awaited_by), 'prefix', 'prefixes')}"
    if SequenceMatcher(None, a.name[:200], b.name[:200]).ratio() >= NAMES:
        yield "names alike"
