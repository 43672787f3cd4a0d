"""A comparison written: for a terminal, as Markdown, as plain data for JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from dask_memdash.compare import sentences, verdicts
from dask_memdash.compare.comparison import Comparison
from dask_memdash.compare.facts import RunFacts
from dask_memdash.compare.verdicts import (
    BETTER,
    CANNOT_SAY,
    SAME,
    WORSE,
    Difference,
    written,
)
from dask_memdash.text import (
    count,
    format_bytes,
    format_duration,
    format_instant,
    join,
    plain,
    with_capital,
)

#: Weight below which what cannot be told is not listed: of a worker's limit.
SLIGHT = 0.02

#: Rows of a table, notes, and characters of a comment on a pull request (GitHub takes
#: 65,536).
ROWS = 40
NOTES = 10
COMMENT = 20_000

#: Sign and word of each verdict in Markdown.
SIGNS = {
    WORSE: "🔴 worse",
    BETTER: "🟢 better",
    CANNOT_SAY: "⚪ cannot say",
    SAME: "same",
}

#: What Markdown or GitHub would take for something: marks, entities, emoji, addresses.
_MARKS = re.compile(r"[\\`*_{}\[\]<>#|~&$^]|:(?=\S)|(?<=www)\.", re.IGNORECASE)


def headline(found: Comparison) -> str:
    """Say in one sentence how the second run stands to the first."""
    counts = found.counts
    parts = [
        f"{counts[v]:,} {word}"
        for v, word in ((WORSE, "worse"), (BETTER, "better"), (SAME, "the same"))
        if counts[v]
    ]
    if counts[CANNOT_SAY]:
        parts.append(f"{counts[CANNOT_SAY]:,} that cannot be told apart from noise")
    if not parts:
        return "There is nothing to compare."
    of = count(len(found.differences), "figure")
    return f"Of {of}: {join(parts)}."


def listed(found: Comparison, everything: bool = False) -> list[Difference]:
    """Return the differences that are worth a line, those that matter most first."""
    if everything:
        return list(found.differences)
    return [
        one
        for one in found.differences
        if one.verdict in (WORSE, BETTER)
        or (one.verdict == CANNOT_SAY and one.weight >= SLIGHT)
    ]


def as_text(found: Comparison, everything: bool = False, rows: int = ROWS) -> str:
    """Write a comparison for a terminal.

    Parameters
    ----------
    everything
        With what is the same, and what cannot be told and hardly matters.
    rows
        Differences listed at most.
    """
    return "\n".join(_lines(found, everything, rows))


def _lines(found: Comparison, everything: bool, rows: int) -> Iterator[str]:
    for which, run in (("First ", found.a), ("Second", found.b)):
        yield f"{which}  {_of_run(run)}"
    yield ""
    yield headline(found)
    chosen = listed(found, everything)
    area = ""
    for one in chosen[:rows]:
        if one.verdict != area:
            area = one.verdict
            yield f"\n{with_capital(area)}"
        yield f"  {one.text}"
    yield ""
    left = len(found.differences) - min(rows, len(chosen))
    if left:
        yield f"{count(left, 'more figure')} not listed (the same, or of no weight)."
    for note in found.notes[:NOTES]:
        yield f"Note: {note}"


def _of_run(run: RunFacts) -> str:
    parts = [
        plain(run.label, 100),
        format_instant(run.started),
        format_duration(run.length),
        count(run.n_workers, "worker"),
        count(run.finished, "task"),
        _most(run, "memory", "{} at most"),
        count(sum(f.deaths for f in run.failures.values()), "death"),
    ]
    return ", ".join(parts)


def _most(run: RunFacts, key: str, words: str = "{}") -> str:
    """Say how much the workers had; a run of a few seconds may not have told."""
    if not run.most["memory"]:
        return "memory not recorded"
    return words.format(format_bytes(run.most[key]))


def as_markdown(found: Comparison, rows: int = 20) -> str:
    """Write a comparison as GitHub-flavoured Markdown, fit for a comment.

    Names come from users: whatever Markdown, HTML or GitHub would take for something
    (mentions, links, issues) is escaped.  At most `COMMENT` characters.
    """
    head = [
        f"### Memory: {_escaped(found.verdict)}",
        "",
        _escaped(headline(found)),
        "",
        "| | first | second |",
        "|---|---|---|",
        *(
            f"| {what} | {_code(a, 80) if what == 'run' else a} | "
            f"{_code(b, 80) if what == 'run' else b} |"
            for what, a, b in run_rows(found)
        ),
        "",
    ]
    chosen = listed(found)
    table = []
    if chosen:
        table += ["| verdict | what | first | second | |", "|---|---|---|---|---|"]
    for one in chosen[:rows]:
        table.append(_row(one))
    left = len(found.differences) - min(rows, len(chosen))
    tail = [""]
    if left:
        more = count(left, "more figure")
        tail.append(_escaped(f"{more} not listed (the same, or of no weight)."))
    tail += [f"- {_escaped(plain(note, 400))}" for note in found.notes[:NOTES]]
    while sum(len(line) + 1 for line in (*head, *table, *tail)) > COMMENT and (
        len(table) > 2 or len(tail) > 1
    ):
        (tail if len(table) <= 2 else table).pop()
    return "\n".join((*head, *table, *tail)).rstrip() + "\n"


def run_rows(found: Comparison) -> Iterator[tuple[str, str, str]]:
    """Yield what the two runs were, by name: of the first and of the second."""
    a, b = found.a, found.b
    deaths = [sum(f.deaths for f in run.failures.values()) for run in (a, b)]
    yield "run", plain(a.label, 80), plain(b.label, 80)
    yield "began", format_instant(a.started), format_instant(b.started)
    yield "workers", f"{a.n_workers:,}", f"{b.n_workers:,}"
    yield "tasks", f"{a.finished:,}", f"{b.finished:,}"
    for what, key in (("most memory", "memory"), ("most stored", "stored")):
        yield what, _most(a, key), _most(b, key)
    yield "deaths", f"{deaths[0]:,}", f"{deaths[1]:,}"


def _row(one: Difference) -> str:
    a, b = (_cell(f, one.unit) for f in (one.a, one.b))
    why = one.reason or (sentences.how(one) if one.tests or one.unit == "count" else "")
    what = f"{one.measure} of {_code(one.subject, 60)}"
    cells = (SIGNS[one.verdict], what, *(_escaped(text) for text in (a, b, why)))
    return f"| {' | '.join(cells)} |"


def _cell(figure: verdicts.Figure | None, unit: str) -> str:
    if figure is None:
        return "–"
    usual, most = written(figure.typical, unit), written(figure.most, unit)
    if figure.at_least:
        return f"{most} or more"
    return usual if usual == most else f"{usual} to {most}"


def _escaped(text: str) -> str:
    """Return a text that Markdown and GitHub take for nothing but text."""
    return _MARKS.sub(lambda found: f"\\{found[0]}", plain(text)).replace(
        "@", "@\u2060"
    )


def _code(text: str, length: int) -> str:
    """Return a name as code, in which nothing is a mention, a link or HTML."""
    quiet = plain(text, length).replace("`", "\u02cb").replace("|", "\\|")
    return f"`{quiet or ' '}`"


def to_dict(found: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data, for JSON."""
    return {
        "a": _run(found.a),
        "b": _run(found.b),
        "verdict": found.verdict,
        "counts": found.counts,
        "notes": list(found.notes),
        "renames": [
            {"was": one.was, "now": one.now, "evidence": list(one.evidence)}
            for one in found.renames
        ],
        "differences": [verdicts.as_dict(one) for one in found.differences],
    }


def _run(run: RunFacts) -> dict[str, Any]:
    manifest = run.manifest
    return {
        "id": run.id,
        "name": manifest.name or None,
        "tags": dict(manifest.tags),
        "started": run.started,
        "seconds": run.length if math.isfinite(run.length) else None,
        "workers": run.n_workers,
        "tasks": run.finished,
        "limit": run.limit,
        "most": run.most,
    }
