"""How right the peaks of running tasks are: figures against known truth.

Tasks that hold known bytes for a known time, or do what people do with libraries, run
on one worker with 1, 2 and 4 threads, measured by either tally and without one; tasks
of several sizes run beside each other.  What each kind of memory is, and how its truth
is known, is in ``kinds.py`` and ``library_kinds.py``.

Where dask-memusage is installed it watches the same tasks on the worker with one
thread, the only kind of worker that it can tell anything of.

Figures are shares of the truth, so they do not depend on how fast the machine is.
"""

from __future__ import annotations

import contextlib
import csv
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import common
import kinds
import peers
import psutil
from common import MB, progress
from distributed import Client, LocalCluster
from kinds import Kind, Truth

from dask_memdash import MemDash
from dask_memdash.demos.api import Api
from dask_memdash.measure.tally_choice import AUTO, MODES, OFF
from dask_memdash.model.event_parts import Finished
from dask_memdash.model.exactness import method_shown
from dask_memdash.model.packed_report import unpack
from dask_memdash.model.quantiles import ACCURACY

#: Where the truth is less than this share of what was asked for, errors are shares of
#: what was asked for.
NOTHING = 0.05

#: Tasks of each size at most of the kinds whose tasks get a fresh worker.
FRESH = 4

#: (kind, size) → what it holds in truth.
Truths = dict[tuple[str, int], Truth]

#: By how much a figure of a few bytes may be off: the kernel hands out huge pages.
TRIFLE = 2**21


@dataclass
class Case:
    """Tasks of one kind and size on one worker."""

    kind: Kind
    size: int
    truth: int
    #: By how much that may be off.
    spread: int
    #: What MemDash says of each task: peak and error in bytes.
    told: list[tuple[int, int]] = field(default_factory=list)
    methods: set[str] = field(default_factory=set)
    #: What it shows of the prefix, median and error in bytes: once for each worker.
    shown: list[tuple[int, int]] = field(default_factory=list)
    #: dask-memusage's least and most RSS during each task, in bytes.
    seen: list[tuple[float, float]] = field(default_factory=list)
    #: RSS of the idle worker before, in bytes.
    idle: int = 0

    @property
    def prefix(self) -> str:
        """The prefix of its tasks."""
        return f"{self.kind.name}_{self.size // MB}mb"

    @property
    def whole(self) -> int:
        """What errors are shares of, in bytes."""
        return self.truth if self.truth > NOTHING * self.size else self.size

    def off(self, peak: float) -> float:
        """Return the error of a peak as a share of the truth."""
        return abs(peak - self.truth) / self.whole

    def covers(self, peak: int, error: int) -> bool:
        """Whether the error beside a peak, and 1 % for the sketch, covers the truth."""
        off = abs(peak - self.truth) - self.spread
        return off <= max(error + ACCURACY * max(peak, self.whole), TRIFLE)


class Listener:
    """Hears what workers say of finished tasks, on its way to the model."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.told: dict[str, list[Finished]] = {}
        extension = cluster.scheduler.extensions["memdash"]
        pass_on = extension.heartbeat

        def heartbeat(worker: Any, data: Any) -> None:
            if "packed" in data:
                report = unpack(data, 0.0, worker.address, 0)
                for prefix, finished in report.finished.items():
                    self.told.setdefault(prefix, []).append(finished)
            pass_on(worker, data)

        extension.heartbeat = heartbeat

    def count(self, prefix: str) -> int:
        """Count the finished tasks of a prefix."""
        return sum(finished.count for finished in self.told.get(prefix, ()))

    def wait_for(self, cases: list[Case], tasks: int) -> None:
        """Wait until workers have told of so many finished tasks of some cases."""
        common.until(
            lambda: sum(self.count(case.prefix) for case in cases) == tasks,
            "the worker to tell what has finished",
        )

    def tasks(self, case: Case) -> list[tuple[int, int]]:
        """Return peak and error of each task.

        Workers ship sketches.  Most heartbeats bring one task of a prefix, whose peak
        and error are then known as they are; of several, the worst peak is taken to
        have the least error.
        """
        found = []
        for finished in self.told.get(case.prefix, ()):
            n = finished.peaks.count
            ranks = [k / max(1, n - 1) for k in range(n)]
            peaks = [finished.peaks.quantile(q) or 0 for q in ranks]
            errors = [finished.errors.quantile(q) or 0 for q in ranks]
            found += zip(
                sorted(peaks, key=case.off, reverse=True), sorted(errors), strict=True
            )
        return found


def truths(sizes: list[int], chosen: list[Kind], kept: Path | None) -> Truths:
    """Find out how much each kind holds in truth, or read it from a file."""
    found = {}
    told = json.loads(kept.read_text()) if kept is not None and kept.exists() else {}
    for kind in chosen:
        for size in sizes:
            before = told.get(f"{kind.name} {size}")
            if kind.resident is None and before is None:
                progress(f"asking fresh processes what {kind.name} takes")
            known = Truth(*before) if before else kinds.truth(kind, size)
            if known is not None and kept is not None:
                told[f"{kind.name} {size}"] = known
                kept.write_text(json.dumps(told))
            if known is None:
                progress(f"{kind.name}: nobody can tell its truth here; it is left out")
            else:
                found[kind.name, size] = known
    return found


class Bench(NamedTuple):
    """A worker that is watched."""

    cluster: LocalCluster
    client: Client
    api: Api
    listener: Listener


@contextlib.contextmanager
def bench(threads: int, tally: str, options: Any) -> Iterator[Bench]:
    """Run a worker with MemDash on it."""
    with common.cluster(1, threads, options.memory_limit) as (cluster, client):
        client.register_plugin(MemDash(tally=tally))
        port = cluster.scheduler.http_server.port
        api = Api(f"http://127.0.0.1:{port}/memdash/api")
        common.until(
            lambda: all(w["breakdown"]["process"] for w in api.get("workers")),
            "MemDash to read the worker",
        )
        yield Bench(cluster, client, api, Listener(cluster))


def run(
    on: Bench, cases: list[Case], todo: list[tuple[Case, int]], hold: float
) -> None:
    """Run tasks of one kind (case and number of each) and note what is said of them."""
    kind = cases[0].kind
    # Once small, so that nothing is imported in a task that is looked at.  What a
    # library's pool sets aside at its first large block is in no array as made: in its
    # first task of 20 MB of Arrow's strings a process grows by 22.5 MB, then by 20.
    sizes = sorted({case.size for case, _ in todo})
    as_made = bool(kind.needs) and kind.resident is not None
    first = sizes if kind.inputs else [100_000, *(sizes[:1] if as_made else ())]
    for size in first:
        on.client.submit(
            kind.hold, size, 0.0, key=f"warmup-{kind.name}-{size}"
        ).result()
    idle = next(iter(on.client.run(resident).values()))
    keys = [f"{case.prefix}-{i:04d}" for case, i in todo]
    sizes = [case.size for case, _ in todo]
    on.client.gather(on.client.map(kind.hold, sizes, [hold] * len(todo), key=keys))
    on.listener.wait_for(cases, len(todo))
    shown = {p["prefix"]: p["execution"] for p in on.api.get("prefixes?limit=10000")}
    for case in {id(case): case for case, _ in todo}.values():
        case.idle = idle
        case.told += on.listener.tasks(case)
        case.methods |= {f.method for f in on.listener.told[case.prefix]}
        execution = shown[case.prefix]
        case.shown.append((execution["peak"]["p50"] or 0, execution["error"] or 0))


def resident() -> int:
    """Return the RSS of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)


def measure(threads: int, tally: str, known: Truths, options: Any) -> list[list[Case]]:
    """Run all kinds, one after the other, on a worker of their own."""
    groups = [
        [Case(k, size, *known[k.name, size]) for size in options.sizes]
        for k in kinds.every()
        if all((k.name, size) in known for size in options.sizes)
    ]
    say = f"{threads} threads, tally {tally}"
    for cases in groups:
        if cases[0].kind.fresh:
            progress(f"{say}: {cases[0].kind.name}")
            tasks = max(min(options.tasks, FRESH), threads)
            todo = [(case, i) for i in range(tasks) for case in cases]
            while todo:
                with bench(threads, tally, options) as on:
                    run(on, cases, todo[:threads], options.hold)
                del todo[:threads]
    with (
        tempfile.TemporaryDirectory() as scratch,
        bench(threads, tally, options) as on,
        contextlib.ExitStack() as stack,
    ):
        path = Path(scratch) / "memusage.csv"
        if threads == 1 and tally != "off" and peers.has_memusage():
            stack.enter_context(peers.memusage(on.cluster, path))
        for cases in groups:
            kind = cases[0].kind
            if kind.fresh:
                continue
            progress(f"{say}: {kind.name}")
            pinned = on.client.submit(
                kinds.pin_arenas,
                max(options.sizes) * threads * kind.warm,
                key=f"pinned-{kind.name}",
            )
            pinned.exception()
            tasks = max(options.tasks, threads)  # each thread has one at least
            todo = [(case, i) for i in range(tasks) for case in cases]
            run(on, cases, todo, options.hold)
        if path.exists():
            take_in(path, [case for cases in groups for case in cases])
    return groups


def take_in(path: Path, cases: list[Case]) -> None:
    """Read what dask-memusage has written down, in MiB, of each task."""
    by_prefix = {case.prefix: case for case in cases}
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            case = by_prefix.get(line["task_key"].rpartition("-")[0])
            if case is not None:
                least, most = line["min_memory_mb"], line["max_memory_mb"]
                case.seen.append((float(least) * 2**20, float(most) * 2**20))


def print_own(threads: int, tally: str, groups: list[list[Case]]) -> None:
    """Print what MemDash made of one worker's tasks."""
    for cases in groups:
        told = [(case, *pair) for case in cases for pair in case.told]
        shown = [(case, *pair) for case in cases for pair in case.shown]
        covered = [case.covers(median, error) for case, median, error in shown]
        largest = cases[-1]
        said = statistics.median(peak for peak, _ in largest.told)
        error = statistics.median(error for _, error in largest.told)
        ways = {
            method_shown(way, p, e)
            for case in cases
            for way in case.methods
            for p, e in case.told
        }
        common.row(
            cases[0].kind.name,
            threads,
            tally,
            ", ".join(sorted(ways)),
            len(told),
            *(f"{n / MB:.1f}" for n in (largest.truth, said, error)),
            _percent(statistics.mean(case.off(peak) for case, peak, _ in told)),
            _percent(statistics.mean(case.off(median) for case, median, _ in shown)),
            sum(not case.covers(p, e) for case, p, e in told),
            f"{sum(covered)} of {len(covered)}",
        )


def print_peer(groups: list[list[Case]]) -> None:
    """Print what dask-memusage made of the same tasks, beside MemDash."""
    print("\nThe same tasks, 1 thread: mean error of peaks\n")
    common.header(
        "memory", "MemDash", "dask-memusage, most - least", "most - idle worker"
    )
    for cases in groups:
        seen = [(case, *pair) for case in cases for pair in case.seen]
        if seen:
            common.row(
                cases[0].kind.name,
                _percent(statistics.mean(c.off(p) for c in cases for p, _ in c.told)),
                _percent(statistics.mean(c.off(most - low) for c, low, most in seen)),
                _percent(statistics.mean(c.off(most - c.idle) for c, _, most in seen)),
            )


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def main() -> None:
    """Measure, and print the tables."""
    parser = common.parser(__doc__)
    parser.add_argument("--tasks", type=int, help="tasks of each kind and size")
    parser.add_argument("--hold", type=float, default=0.25, help="seconds each holds")
    parser.add_argument("--sizes", type=int, nargs="+", help="in MB")
    parser.add_argument("--threads", type=int, nargs="+", help="(default 1 2 4)")
    parser.add_argument("--kinds", nargs="+", choices=[k.name for k in kinds.every()])
    parser.add_argument("--tally", nargs="+", choices=MODES, help="(default auto off)")
    parser.add_argument("--truths", type=Path, help="file to keep truths in")
    parser.add_argument("--memory-limit", default="2 GB", help="of the worker")
    options = parser.parse_args()
    options.tasks = options.tasks or common.sized(options, 12, 4, 2)
    sizes = options.sizes or common.sized(options, [20, 40, 80], [20, 60], [10])
    options.sizes = [size * MB for size in sizes]
    options.threads = options.threads or common.sized(options, [1, 2, 4], [1, 4], [1])
    tiny = ["numpy_array", "small_objects"] if options.tiny else None
    names = options.kinds or tiny
    chosen = [k for k in kinds.every() if not names or k.name in names]
    for kind in [kind for kind in chosen if kind.missing]:
        print(f"{kind.name} is left out: {kind.needs} is not installed.\n")
        chosen.remove(kind)
    known = truths(options.sizes, chosen, options.truths)
    common.header(
        "memory", "threads", "tally", "method", "tasks",
        "truth, MB", "said, MB", "its error, MB",
        "mean error of peaks", "of medians", "outside their error", "medians covered",
    )  # fmt: skip
    watched = None
    for threads in options.threads:
        for tally in options.tally or (AUTO, OFF):
            groups = measure(threads, tally, known, options)
            print_own(threads, tally, groups)
            if any(case.seen for cases in groups for case in cases):
                watched = groups
    if watched:
        print_peer(watched)
    elif 1 in options.threads and not peers.has_memusage():
        print("\ndask-memusage is left out: it is not installed.")


if __name__ == "__main__":
    main()
