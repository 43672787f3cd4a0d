"""What is said of a difference, in one plain sentence each."""

from __future__ import annotations

from collections.abc import Iterable

from dask_memdash.compare.facts import ALIKE, FailureFacts, GroupFacts
from dask_memdash.compare.verdicts import (
    BETTER,
    CANNOT_SAY,
    SAME,
    WORSE,
    Difference,
    Figure,
    Test,
    written,
)
from dask_memdash.text import count, format_bytes, format_factor, join, plain

#: Characters of a name in a sentence.
NAME = 60

#: Measure → what it is of, before the verb.
ABOUT = {
    ("prefix", "peak"): "A task of {subject} takes",
    ("prefix", "output"): "An output of {subject} has",
    ("prefix", "stored"): "Stored of {subject} at once:",
    ("prefix", "duration"): "A task of {subject} lasts",
    ("workers", "memory"): "A worker ({subject}) has at its fullest",
    ("workers", "spilled"): "The workers ({subject}) spilled at most",
    ("workers", "pauses"): "Pauses of the workers ({subject}):",
    ("storage", "memory"): "The workers together had at most",
    ("storage", "stored"): "Stored at once, in memory and on disk:",
    ("storage", "spilled"): "On disk at once:",
    ("duration", "duration"): "{subject} lasts",
}

#: What the values are of that a figure rests on.
NOUNS = {
    ("prefix", "peak"): "tasks",
    ("prefix", "output"): "outputs",
    ("workers", "memory"): "workers",
    ("duration", "duration"): "graphs",
}


def name(text: str | None) -> str:
    """Write a name that a user gave, harmless and short."""
    return f"'{plain(text or '', NAME)}'" if text else "nothing known"


def group(workers: GroupFacts) -> str:
    """Write what a group of workers has in common."""
    limit = "no limit" if workers.limit is None else format_bytes(workers.limit)
    return f"{count(workers.threads, 'thread')}, {limit}"


def alike(key: tuple[int, int | None], workers: GroupFacts) -> bool:
    """Whether a group's threads and limit are those of another run's group."""
    threads, limit = key
    if threads != workers.threads:
        return False
    if limit is None or workers.limit is None:
        return limit is workers.limit
    return abs(limit - workers.limit) <= max(limit, workers.limit) / ALIKE


def figures(one: Difference) -> str:
    """Write the figures of both runs, and how many tasks they are of."""
    if one.a is None or one.b is None:
        return ""
    a, b = (_figure(f, one.unit) for f in (one.a, one.b))
    of = ""
    if max(one.a.count, one.b.count) > 1:
        of = f" ({one.a.count:,} and {one.b.count:,} {NOUNS[one.area, one.measure]})"
    return f"{a}, now {b}{of}"


def _figure(figure: Figure, unit: str) -> str:
    usual, most = written(figure.typical, unit), written(figure.most, unit)
    if figure.at_least:
        return f"at least {most}" if figure.count == 1 else f"{usual} to {most} or more"
    return usual if usual == most else f"{usual} to {most}"


def of(one: Difference) -> str:
    """Write the sentence of a difference of two figures, or of what one run has."""
    subject = one.subject if one.area in ("workers", "storage") else name(one.subject)
    if one.a is None or one.b is None:
        figure = one.a or one.b
        which = "second" if one.a is None else "first"
        is_new = "is new" if one.a is None else "is gone"
        had = "" if figure is None else f" (a task took {_figure(figure, one.unit)})"
        if one.measure != "peak":
            had = ""
        return f"{subject} {is_new}: the {which} run alone has it{had}."
    begin = ABOUT[one.area, one.measure].format(subject=subject)
    if one.verdict == CANNOT_SAY:
        return f"{begin} {figures(one)}. No verdict: {one.reason}."
    if begin.endswith(":"):
        return f"{begin} {figures(one)}, {how(one)}."
    return f"{begin} {how(one)}: {figures(one)}."


def how(one: Difference) -> str:
    """Write how the second figure stands to the first: "2.0 × as much"."""
    if one.verdict == SAME:
        return "the same"
    test = _largest(one)
    if test is not None and test.a > 0 and one.unit != "count":
        word = "as long" if one.unit == "seconds" else "as much"
        return f"{format_factor(test.b / test.a)} {word}"
    return "more" if one.verdict == WORSE else "less"


def _largest(one: Difference) -> Test | None:
    """Return the test that the verdict rests on."""
    found = [t for t in one.tests if t.a > 0]
    return max(found, key=lambda t: abs(t.b / t.a - 1), default=None)


def of_rename(one: Difference, evidence: Iterable[str]) -> str:
    """Write the sentence of a difference that holds if two names are one prefix."""
    because = join(list(evidence))
    same = f"If {name(one.was)} is called {name(one.subject)} now ({because}): "
    if_so = {
        WORSE: "worse, ",
        BETTER: "better, ",
        SAME: "the same, ",
        CANNOT_SAY: "it cannot be told, ",
    }[one.verdict]
    measure = {"stored": "stored at once", "duration": "time"}.get(
        one.measure, one.measure
    )
    return f"{same}{measure} {if_so}{figures(one)}."


def of_failures(
    one: Difference, a: FailureFacts, b: FailureFacts, grown: Difference | None
) -> str:
    """Write the sentence of what failed in both runs."""
    who = f" of {name(b.prefix)}" if b.prefix else ""
    first, second = _failed(a), _failed(b)
    said = f"Failures{who}: {first}, now {second}"
    causes = join([plain(c) for c, _ in b.causes.most_common(3)])
    if causes:
        said += f" (cause: {causes})"
    if one.verdict == WORSE and grown is not None:
        said += "; its tasks take more memory"
    if one.reason:
        said += f"; {one.reason}"
    return f"{said}."


def _failed(facts: FailureFacts) -> str:
    parts = []
    if facts.deaths:
        parts.append(f"{count(facts.deaths, 'worker')} died")
    if facts.given_up:
        parts.append(f"{count(facts.given_up, 'task')} given up")
    if not parts and facts.count:
        parts.append(count(facts.count, "failure"))
    return join(parts) if parts else "none"
