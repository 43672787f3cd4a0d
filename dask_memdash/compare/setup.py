"""What was otherwise about two runs: versions, workers, limits, work, the record."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.compare.facts import RunFacts
from dask_memdash.text import count, format_bytes, format_share, join, plain

#: Share of the tasks by which two runs may differ and still be called the same work.
WORK = 0.02

#: Sentences on what is missing of a record, each.
MISSING = 5


def setup_notes(a: RunFacts, b: RunFacts) -> Iterator[str]:
    """Yield sentences on what makes the two runs less alike than their names say."""
    if a.id == b.id:
        yield "Both are the same run."
    changed = [
        f"{plain(name, 40)} {plain(str(old), 40)}, now {plain(str(new), 40)}"
        for name in sorted({*a.manifest.versions, *b.manifest.versions})
        if (old := a.manifest.versions.get(name, "none"))
        != (new := b.manifest.versions.get(name, "none"))
    ]
    if changed:
        yield f"Other versions: {join(changed)}."
    if a.n_workers != b.n_workers:
        yield f"{count(a.n_workers, 'worker')} at most, now {b.n_workers:,}."
    if a.one_limit != b.one_limit:
        before, now = (_limit(run) for run in (a, b))
        yield f"A worker's memory limit was {before}, now {now}."
    threads = [sorted({t for t, _ in run.groups}) for run in (a, b)]
    if threads[0] != threads[1] and all(threads):
        before, now = (join([str(t) for t in found]) for found in threads)
        yield f"Threads of a worker: {before}, now {now}."
    more = max(a.finished, b.finished)
    if more and abs(a.finished - b.finished) > WORK * more:
        yield (
            f"Not the same work: {count(a.finished, 'task')}, now {b.finished:,} "
            f"({format_share(b.finished, a.finished)}). Figures of one task can be "
            "compared, sums and times only with that in mind."
        )
    methods = [
        name
        for name, first in a.prefixes.items()
        if (second := b.prefixes.get(name)) is not None
        and first.method != second.method
        and "none" not in (first.method, second.method)
    ]
    if methods:
        some = join([f"'{plain(name, 40)}'" for name in methods[:3]])
        yield (
            f"Peaks of {count(len(methods), 'prefix', 'prefixes')} were measured in "
            f"another way, such as {some}."
        )
    for which, run in (("first", a), ("second", b)):
        if run.manifest.ended is None:
            yield (
                f"The {which} run was not ended in order (it is still recorded, or its "
                "scheduler was killed): its last seconds may be missing."
            )
        for text in run.missing[:MISSING]:
            yield f"Missing of the {which} run: {plain(text, 300)}"


def _limit(run: RunFacts) -> str:
    return "none" if run.one_limit is None else format_bytes(run.one_limit)
