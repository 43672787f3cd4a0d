"""Two recorded runs compared: :func:`compare` gives a :class:`Comparison`.

What is said of each figure stands in :mod:`dask_memdash.compare.verdicts`, how it is
written in :mod:`dask_memdash.compare.written`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from dask_memdash.compare import sentences
from dask_memdash.compare.facts import (
    LATE,
    FailureFacts,
    GroupFacts,
    PrefixFacts,
    RunFacts,
    facts_of,
)
from dask_memdash.compare.noise import FEWEST, Sample
from dask_memdash.compare.renames import Rename, renames
from dask_memdash.compare.setup import WORK, setup_notes
from dask_memdash.compare.verdicts import (
    BETTER,
    CANNOT_SAY,
    FLOOR,
    VERDICTS,
    WORSE,
    Difference,
    Figure,
    figure_of,
    of_counts,
    of_samples,
    of_values,
)
from dask_memdash.store.recorded import RecordedStore
from dask_memdash.text import count

#: Looks at a prefix from which on the most that was stored is taken for it.
LOOKS = 3

#: Weight of a failure, above any difference of sizes.
FAILED = 100.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, and all differences of their figures, those that matter most first."""

    a: RunFacts
    b: RunFacts
    differences: tuple[Difference, ...]
    #: Prefixes that may be the same under another name.
    renames: tuple[Rename, ...]
    #: What was otherwise about the runs themselves, and what is missing of a record.
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many differences have each verdict."""
        found = Counter(one.verdict for one in self.differences)
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def verdict(self) -> str:
        """Of the whole: worse if anything is."""
        return next((v for v in VERDICTS if self.counts[v]), CANNOT_SAY)

    def of(self, *names: str) -> list[Difference]:
        """Return the differences with some verdicts."""
        return [one for one in self.differences if one.verdict in names]


def compare(first: RecordedStore, second: RecordedStore) -> Comparison:
    """Compare two recorded runs.

    Parameters
    ----------
    first, second
        The run that is the measure, and the one that is held against it; each up to
        its store's instant.

    Returns
    -------
    Comparison
        Per task prefix (peak, output, most stored, time of a task), per group of
        workers (most memory, spilled, pauses), of storage, failures and graphs: the
        figures of both runs, their difference, a verdict and a sentence.

    Raises
    ------
    RunError
        A record holds no figures.

    Notes
    -----
    Whatever speaks for a difference must be larger than three kinds of noise together:
    chance among tasks (bounds of quantiles by order statistics, Hahn and Meeker 1991;
    of their difference by MOVER, Zou and Donner 2008; at 99 %), the measure's own
    error in both runs, and what repeats of one job differ by (measured by
    ``benchmarks/diff.py``); and what is left larger than a margin of 10 % of the first
    run's figure and 2 MiB or 1 s.  Deaths and pauses are compared as counts
    (Przyborowski and Wilenski 1940, at 5 %).
    """
    return compare_facts(facts_of(first), facts_of(second))


def compare_facts(a: RunFacts, b: RunFacts) -> Comparison:
    """Compare what was taken from two runs; see :func:`compare`."""
    gone = [p for name, p in a.prefixes.items() if name not in b.prefixes]
    new = [p for name, p in b.prefixes.items() if name not in a.prefixes]
    suggested = renames(gone, new)
    found = [
        *_prefixes(a, b, suggested),
        *_groups(a, b),
        *_storage(a, b),
        *_graphs(a, b),
    ]
    found = [_of_less_work(a, b, one) for one in found]
    found += _failures(a, b, found)
    told = (replace(one, text=one.text or sentences.of(one)) for one in found)
    ordered = sorted(
        told,
        key=lambda d: (VERDICTS.index(d.verdict), -d.weight, d.subject, d.measure),
    )
    return Comparison(a, b, tuple(ordered), tuple(suggested), tuple(setup_notes(a, b)))


def _of_less_work(a: RunFacts, b: RunFacts, one: Difference) -> Difference:
    """Do not praise a run for memory and time of work that it gave up."""
    if one.area == "prefix" and one.measure != "stored":
        return one  # of one task
    for which, run, other, praised in (
        ("first", a, b, WORSE),
        ("second", b, a, BETTER),
    ):
        gave_up = any(failure.given_up for failure in run.failures.values())
        less = run.finished < (1 - WORK) * other.finished
        if gave_up and less and one.verdict == praised:
            reason = (
                f"the {which} run gave up: it finished {run.finished:,} of "
                f"{count(other.finished, 'task')}"
            )
            return replace(one, verdict=CANNOT_SAY, reason=reason)
    return one


# -- prefixes ------------------------------------------------------------------


def _prefixes(
    a: RunFacts, b: RunFacts, suggested: list[Rename]
) -> Iterator[Difference]:
    for name, first in a.prefixes.items():
        second = b.prefixes.get(name)
        if second is not None:
            yield from _prefix(a, b, first, second)
    renamed = {one.was: one for one in suggested}
    for one in suggested:
        for each in _prefix(a, b, a.prefixes[one.was], b.prefixes[one.now]):
            if_so = replace(each, was=one.was)
            if_so = replace(if_so, text=sentences.of_rename(if_so, one.evidence))
            reason = f"it may be {sentences.name(one.was)} under another name"
            yield replace(if_so, verdict=CANNOT_SAY, reason=reason)
    now = {one.now for one in suggested}
    for name, gone in a.prefixes.items():
        if name not in b.prefixes and name not in renamed:
            yield from _alone(a, b, gone, new=False)
    for name, new in b.prefixes.items():
        if name not in a.prefixes and name not in now:
            yield from _alone(a, b, new, new=True)


def _prefix(
    a: RunFacts, b: RunFacts, first: PrefixFacts, second: PrefixFacts
) -> Iterator[Difference]:
    limit, room = _limit(a, b), _room(a, b)
    figures = [_peak(first), _peak(second)]
    if figures[0] is not None and figures[1] is not None:
        base = _base("prefix", second.name, "peak", figures)
        yield _weighed(of_samples(base, _with_cut(first), _with_cut(second)), limit)
    sizes = [_output(first), _output(second)]
    if sizes[0] is not None and sizes[1] is not None:
        base = _base("prefix", second.name, "output", sizes)
        yield _weighed(of_samples(base, first.outputs, second.outputs), 2 * limit)
    if first.stored is not None and second.stored is not None:
        base = _base(
            "prefix", second.name, "stored", _ones(first.stored, second.stored)
        )
        looks = min(first.looks, second.looks)
        seen = looks >= LOOKS or not max(first.stored, second.stored)
        error = 0.0 if seen else math.inf
        judged = of_values(base, first.stored, second.stored, error)
        if not seen:
            reason = f"one of the runs was looked at {looks} times only"
            judged = replace(judged, reason=reason)
        yield _weighed(judged, room)
    if first.duration is not None and second.duration is not None:
        yield _duration(first, second, first.duration, second.duration)


def _duration(
    first: PrefixFacts, second: PrefixFacts, before: float, after: float
) -> Difference:
    """Compare the mean times of two runs' tasks: what all of them lose must matter."""
    base = _base("prefix", second.name, "duration", _ones(before, after))
    tasks = min(first.finished, second.finished)
    base = replace(base, least=FLOOR["seconds"] / max(1, tasks))
    judged = of_values(base, before, after)
    if tasks < FEWEST and judged.verdict in (WORSE, BETTER):
        reason = f"{count(tasks, 'task')} in one run: too few to say"
        judged = replace(judged, verdict=CANNOT_SAY, reason=reason)
    return _weighed(judged, 4 * max(before, after) or 1.0)


def _alone(
    a: RunFacts, b: RunFacts, prefix: PrefixFacts, *, new: bool
) -> Iterator[Difference]:
    """Tell of a prefix that one run alone has."""
    peak = _peak(prefix)
    figure = peak or _ones(prefix.stored or 0, 0)[0]
    one = Difference(
        "prefix",
        prefix.name,
        "peak" if peak is not None else "stored",
        "bytes",
        None if new else figure,
        figure if new else None,
        CANNOT_SAY,
        "the first run does not have it" if new else "the second run does not have it",
    )
    yield replace(one, weight=figure.most / (_limit(a, b) or 1.0))


def _with_cut(prefix: PrefixFacts) -> Sample:
    """Return the peaks, with what a task held that was cut short."""
    cut = prefix.at_least
    if cut is None or cut <= (prefix.peak_max or 0):
        return prefix.peaks
    bins = (*prefix.peaks.bins, (float(cut), float(cut), 1))
    return Sample(tuple(sorted(bins)), prefix.peaks.error)


def _peak(prefix: PrefixFacts) -> Figure | None:
    sample = _with_cut(prefix)
    if not sample.bins:
        return None
    largest = prefix.peak_max if prefix.peaks.bins else 0
    return figure_of(sample, largest, prefix.at_least)


def _output(prefix: PrefixFacts) -> Figure | None:
    if not prefix.outputs.bins:
        return None
    return figure_of(prefix.outputs, prefix.output_max, None)


# -- workers, storage, graphs --------------------------------------------------


def _groups(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    limit = _limit(a, b)
    for subject, first, second in _pairs(a, b):
        if not first.memory or not second.memory:
            continue
        samples = Sample.of(first.memory), Sample.of(second.memory)
        figures = [figure_of(s, None, None) for s in samples]
        base = _base("workers", subject, "memory", figures)
        enough = min(len(first.memory), len(second.memory)) >= FEWEST
        most = max(first.memory), max(second.memory)
        judged = of_samples(base, *samples) if enough else of_values(base, *most)
        yield _weighed(judged, limit)
        spilled = sum(first.spilled), sum(second.spilled)
        if any(spilled):
            base = _base("workers", subject, "spilled", _ones(*spilled))
            yield _weighed(of_values(base, *spilled), _room(a, b))
        if first.pauses or second.pauses:
            base = _base(
                "workers", subject, "pauses", _ones(first.pauses, second.pauses)
            )
            share = len(second.memory) / (len(first.memory) + len(second.memory))
            judged = of_counts(base, first.pauses, second.pauses, share)
            yield replace(judged, weight=min(1.0, judged.weight + 0.5))


def _pairs(a: RunFacts, b: RunFacts) -> Iterator[tuple[str, GroupFacts, GroupFacts]]:
    """Pair the groups of both runs: by threads and limit, then the only one left."""
    left = dict(a.groups)
    unpaired = []
    for second in b.groups.values():
        key = next((k for k in left if sentences.alike(k, second)), None)
        if key is None:
            unpaired.append(second)
        else:
            yield sentences.group(second), left.pop(key), second
    if len(left) == len(unpaired) == 1:
        first = next(iter(left.values()))
        yield sentences.group(unpaired[0]), first, unpaired[0]


def _storage(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    if not (a.most["memory"] and b.most["memory"]):
        return  # one ended before it had recorded any figure of its workers
    for measure in ("memory", "stored", "spilled"):
        first, second = a.most[measure], b.most[measure]
        if first or second:
            base = _base("storage", "the cluster", measure, _ones(first, second))
            yield _weighed(of_values(base, first, second), _room(a, b))


def _graphs(a: RunFacts, b: RunFacts) -> Iterator[Difference]:
    for name, second in b.graphs.items():
        first = a.graphs.get(name)
        if first is None or not first.seconds or not second.seconds:
            continue
        samples = [Sample.of(g.seconds, LATE) for g in (first, second)]
        figures = [figure_of(s, None, None) for s in samples]
        base = _base("duration", name, "duration", figures)
        if min(len(first.seconds), len(second.seconds)) >= FEWEST:
            judged = of_samples(base, *samples)
        else:
            before, now = (s.quantile(0.5) or 0.0 for s in samples)
            judged = of_values(base, before, now, math.sqrt(2) * LATE)
        longest = max(figures[0].most, figures[1].most, 1.0)
        yield _weighed(judged, 2 * longest)


# -- failures ------------------------------------------------------------------


def _failures(
    a: RunFacts, b: RunFacts, found: Iterable[Difference]
) -> list[Difference]:
    grown = {
        one.subject: one
        for one in found
        if one.area == "prefix" and one.measure == "peak" and one.verdict == WORSE
    }
    # What was tried in either run: tasks that finished, and those that did not.
    tried = [
        run.finished + sum(f.deaths + f.given_up for f in run.failures.values()) + 1
        for run in (a, b)
    ]
    share = tried[1] / (tried[0] + tried[1])
    rows = []
    for prefix in dict.fromkeys([*b.failures, *a.failures]):
        none = FailureFacts(prefix)
        first, second = a.failures.get(prefix, none), b.failures.get(prefix, none)
        subject = prefix or "no prefix that is known"
        base = _base(
            "failures", subject, "failures", _ones(first.deaths, second.deaths)
        )
        judged = of_counts(base, first.deaths, second.deaths, share)
        if second.given_up and not first.given_up:
            judged = replace(judged, verdict=WORSE, reason="")
        elif first.given_up and not second.given_up:
            judged = replace(judged, verdict=BETTER, reason="")
        elif second.deaths > first.deaths and prefix in grown:
            judged = replace(judged, verdict=WORSE, reason="")
        text = sentences.of_failures(judged, first, second, grown.get(subject))
        weight = FAILED + abs(second.deaths - first.deaths) + second.given_up
        rows.append(replace(judged, text=text, weight=weight))
    return rows


# -- small things --------------------------------------------------------------


def _base(
    area: str, subject: str, measure: str, figures: Sequence[Figure | None]
) -> Difference:
    units = {"duration": "seconds", "pauses": "count", "failures": "count"}
    unit = units.get(measure, "bytes")
    return Difference(area, subject, measure, unit, figures[0], figures[1], CANNOT_SAY)


def _ones(*values: float) -> list[Figure]:
    return [Figure(v, v, v, 1) for v in values]


def _weighed(one: Difference, whole: float) -> Difference:
    change = max((abs(t.b - t.a) for t in one.tests), default=0.0)
    return replace(one, weight=change / whole if whole else 0.0)


def _limit(a: RunFacts, b: RunFacts) -> float:
    """Return what a worker has, or the most that the cluster took where none is set."""
    limits = [run.one_limit for run in (a, b) if run.one_limit]
    return float(min(limits)) if limits else _room(a, b)


def _room(a: RunFacts, b: RunFacts) -> float:
    """Return what the cluster has, or the most that it took where no limit is set."""
    limits = [run.limit for run in (a, b) if run.limit]
    return float(min(limits) if limits else max(a.most["memory"], b.most["memory"], 1))
