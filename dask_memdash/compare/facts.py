"""What a comparison takes from one recorded run: :func:`facts_of`.

Each figure is that of the whole run up to the store's instant, with how many values it
rests on, how far they spread and by how much each may be off.  Sizes in bytes, times in
seconds; ``None`` is not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dask_memdash.compare.noise import Sample
from dask_memdash.runs.directory import Manifest
from dask_memdash.store.recorded import RecordedStore
from dask_memdash.store.recorded_cuts import DEATHS

#: Seconds by which a record may tell too late that a graph has ended.
LATE = 1.0

#: Workers and failures that are looked at, the newest; segments back from the end in
#: which the last state of a prefix lies (each begins with a state of all).
MOST = 5_000
BACK = 2

#: By how much a limit may differ within one group of workers: 1 part in so many.
ALIKE = 50


@dataclass(slots=True)
class PrefixFacts:
    """One task prefix over a whole run."""

    name: str
    #: Tasks that finished, and in-execution peaks and outputs of some or all.
    finished: int = 0
    peaks: Sample = field(default_factory=lambda: Sample(()))
    outputs: Sample = field(default_factory=lambda: Sample(()))
    peak_max: int | None = None
    output_max: int | None = None
    #: The most that a task held when its worker died.
    at_least: int | None = None
    method: str = "none"
    #: The most that was stored at once, RAM and disk; and how often it was looked at.
    stored: int | None = None
    looks: int = 0
    #: Mean time of a task.
    duration: float | None = None
    #: Prefixes that waited for its outputs when last looked at.
    awaited_by: frozenset[str] = frozenset()


@dataclass(slots=True)
class GroupFacts:
    """Workers with the same threads and the same limit."""

    threads: int
    limit: int | None
    #: Of each worker's process: the most memory, and the most on disk.
    memory: list[int] = field(default_factory=list)
    spilled: list[int] = field(default_factory=list)
    pauses: int = 0


@dataclass(slots=True)
class FailureFacts:
    """All failures that one prefix is responsible for, or that none is known of."""

    prefix: str | None
    causes: Counter[str] = field(default_factory=Counter)
    count: int = 0
    deaths: int = 0
    given_up: int = 0
    #: Of the newest, in words.
    text: str = ""


@dataclass(slots=True)
class GraphFacts:
    """All graphs of one name."""

    name: str
    tasks: int = 0
    #: Seconds from arrival to the last task of those that ended.
    seconds: list[float] = field(default_factory=list)
    unfinished: int = 0
    #: The most that each stored at once.
    stored: list[int] = field(default_factory=list)


@dataclass(slots=True)
class RunFacts:
    """What is compared of a run."""

    id: str
    label: str
    started: float
    length: float
    manifest: Manifest
    prefixes: dict[str, PrefixFacts]
    groups: dict[tuple[int, int | None], GroupFacts]
    failures: dict[str | None, FailureFacts]
    graphs: dict[str, GraphFacts]
    #: Of the cluster at once: memory, storage in RAM, spilled, execution.
    most: dict[str, int]
    #: Sum of the workers' limits at the end.
    limit: int | None
    n_workers: int
    #: What is missing of the record, in sentences.
    missing: list[str]

    @property
    def finished(self) -> int:
        """Tasks that finished."""
        return sum(p.finished for p in self.prefixes.values())

    @property
    def one_limit(self) -> int | None:
        """The least limit of a worker; None where one has none."""
        limits = [group.limit for group in self.groups.values()]
        known = [limit for limit in limits if limit]
        return min(known) if known and len(known) == len(limits) else None


def facts_of(store: RecordedStore) -> RunFacts:
    """Read what is compared of a run, each segment once.

    Raises
    ------
    RunError
        The record holds no figures.
    """
    manifest = store.reader.manifest
    _ = store.version
    first, last = store.span()
    last = min(last, store.instant)
    cluster = store.cluster()
    name = manifest.name
    return RunFacts(
        id=manifest.id,
        label=f"{name} ({manifest.id})" if name else manifest.id,
        started=first,
        length=max(0.0, last - first),
        manifest=manifest,
        prefixes=_prefixes(store),
        groups=_groups(store),
        failures=_failures(store),
        graphs=_graphs(store),
        most=_most(store),
        limit=cluster["limit"],
        n_workers=max(
            cluster["n_workers"], int(manifest.summary.get("n_workers") or 0)
        ),
        missing=_missing(store),
    )


def _missing(store: RecordedStore) -> list[str]:
    manifest = store.reader.manifest
    found = [f"{path}: {why}" for path, why in store.reader.problems.items()]
    found += manifest.left_out
    if manifest.lost_rows:
        found.append(f"{manifest.lost_rows:,} rows could not be written.")
    return found


def _rows(store: RecordedStore, kinds: tuple[str, ...], query: str) -> Iterator[Any]:
    """Yield the rows of a question with one ``?``, the instant, from all segments."""
    for segment in store.reader.files(*kinds, until=store.instant):
        yield from store.reader.ask(segment, query, (store.instant,))


def _prefixes(store: RecordedStore) -> dict[str, PrefixFacts]:
    found: dict[str, PrefixFacts] = {}
    reader = store.reader
    for segment in reader.files("main", until=store.instant)[:BACK]:
        rows = reader.ask(
            segment,
            "SELECT prefix, finished, peak_max, peak_at_least, peak_error, method, "
            "output_max, duration, peak_bins, answer FROM prefix_states WHERE rowid IN "
            "(SELECT max(rowid) FROM prefix_states WHERE time <= ? GROUP BY prefix)",
            (store.instant,),
        )
        for (
            name,
            finished,
            largest,
            at_least,
            error,
            method,
            out,
            took,
            *packed,
        ) in rows:
            if name in found:
                continue
            bins = packed[0] and reader.answer(segment, packed[0])
            answer = packed[1] and reader.answer(segment, packed[1])
            waiting = (answer or {}).get("storage", {}).get("awaited_by", ())
            found[name] = PrefixFacts(
                name,
                finished or 0,
                Sample.of_bins(bins, error),
                Sample.of_bins(
                    (b["low"], b["high"], b["count"])
                    for b in (answer or {}).get("output_bins", ())
                ),
                largest,
                out,
                at_least,
                method or "none",
                duration=took,
                awaited_by=frozenset(w["prefix"] for w in waiting),
            )
    query = (
        "SELECT prefix, max(coalesce(managed, 0) + coalesce(spilled, 0)), count(*) "
        "FROM prefix_states WHERE time <= ? GROUP BY prefix"
    )
    for name, stored, looks in _rows(store, ("main",), query):
        prefix = found.get(name)
        if prefix is not None:
            prefix.stored = max(prefix.stored or 0, stored)
            prefix.looks += looks
    return found


def _groups(store: RecordedStore) -> dict[tuple[int, int | None], GroupFacts]:
    by_process: dict[int, list[int]] = {}
    query = (
        "SELECT process, max(process_bytes), max(spilled) FROM breakdown "
        "WHERE time <= ? AND process != 0 GROUP BY process"
    )
    for process, memory, spilled in _rows(store, (), query):
        known = by_process.setdefault(process, [0, 0])
        known[0] = max(known[0], memory or 0)
        known[1] = max(known[1], spilled or 0)
    pauses: set[tuple[int, float]] = set()
    pauses.update(
        _rows(store, ("main",), "SELECT worker, began FROM pauses WHERE began <= ?")
    )
    paused = Counter(worker for worker, _ in pauses)
    known_as: dict[str, list[Any]] = {}
    for known_worker in store.catalogue.workers.values():
        if known_worker.added <= store.instant:
            known_as.setdefault(known_worker.address, []).append(known_worker)
    found: dict[tuple[int, int | None], GroupFacts] = {}
    for worker in [*store.workers(MOST), *store.departed(MOST)]:
        threads, limit = worker["nthreads"], worker["limit"]
        if not threads:
            continue  # left before anything was recorded of it
        key = _alike(found, threads, limit)
        group = found.setdefault(key, GroupFacts(*key))
        for known_worker in known_as.pop(worker["address"], ()):
            memory, spilled = by_process.pop(known_worker.process, (0, 0))
            if memory:  # workers of one process count once
                group.memory.append(memory)
                group.spilled.append(spilled)
            group.pauses += paused[known_worker.id]
    return found


def _alike(
    groups: dict[tuple[int, int | None], GroupFacts], threads: int, limit: int | None
) -> tuple[int, int | None]:
    """Return the key of the group that a worker belongs to."""
    for key in groups:
        known = key[1]
        if key[0] == threads and (
            known == limit
            or (known and limit and abs(known - limit) <= max(known, limit) / ALIKE)
        ):
            return key
    return threads, limit


def _failures(store: RecordedStore) -> dict[str | None, FailureFacts]:
    found: dict[str | None, FailureFacts] = {}

    def of(told: Any, text: str) -> FailureFacts:
        known = found.setdefault(told["prefix"], FailureFacts(told["prefix"]))
        known.text = known.text or text
        return known

    for failure in store.failures(MOST):
        known = of(failure["responsible"], failure["text"])
        known.causes[failure["diagnosis"]["cause"]] += 1
        known.count += 1
        known.deaths += failure["deaths"]
        known.given_up += failure["tasks_given_up"] or 0
    for incident in store.incidents(MOST):
        if incident["failure"] is None and incident["kind"] in DEATHS:
            diagnosis = incident["diagnosis"]
            known = of(diagnosis["responsible"], diagnosis["text"])
            known.causes[diagnosis["cause"]] += 1
            known.deaths += 1
    return found


def _graphs(store: RecordedStore) -> dict[str, GraphFacts]:
    ended: dict[str, tuple[float, int]] = {}
    query = (
        "SELECT graph, min(time), done FROM graph_progress WHERE time <= ? "
        "GROUP BY graph, done"
    )
    for graph, time, done in _rows(store, ("main",), query):
        before = ended.get(graph)
        if before is None or (done, -time) > (before[1], -before[0]):
            ended[graph] = (time, done)
    newest: dict[str, tuple[Any, ...]] = {}
    query = (
        "SELECT id, name, tasks, actual_peak, arrived, changed FROM graphs "
        "WHERE arrived <= ?"
    )
    for row in _rows(store, ("main",), query):
        if row[0] not in newest or (row[5] or 0) > (newest[row[0]][5] or 0):
            newest[row[0]] = row
    found: dict[str, GraphFacts] = {}
    for identity, name, tasks, stored, arrived, _ in newest.values():
        graph = found.setdefault(name or "", GraphFacts(name or ""))
        graph.tasks = max(graph.tasks, tasks or 0)
        if stored is not None:
            graph.stored.append(stored)
        time, done = ended.get(identity, (0.0, 0))
        if tasks and done and done >= tasks:
            graph.seconds.append(max(0.0, time - arrived))
        else:
            graph.unfinished += 1
    return found


def _most(store: RecordedStore) -> dict[str, int]:
    query = (
        "SELECT max(process_bytes), max(managed), max(spilled), max(executing), "
        "max(managed + coalesce(spilled, 0)) "
        "FROM breakdown WHERE time <= ? AND process = 0"
    )
    names = ("memory", "managed", "spilled", "executing", "stored")
    most = dict.fromkeys(names, 0)
    for row in _rows(store, (), query):
        for name, value in zip(names, row, strict=True):
            most[name] = max(most[name], value or 0)
    return most
