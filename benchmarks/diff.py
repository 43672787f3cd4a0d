"""How often a comparison of two recorded runs is wrong, and what it costs.

One job is recorded several times: between any two of its runs nothing is worse or
better, so that each such verdict is a false one.  The same job with chunks twice as
large must be worse.  And a simulated day of 1,000 workers is compared with another.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import common
import dask
import dask.array as da
import numpy as np
from common import progress

import dask_memdash
from dask_memdash import MemDash
from dask_memdash.compare.verdicts import BETTER, CANNOT_SAY, SAME, WORSE
from dask_memdash.model.quantiles import QuantileSketch
from dask_memdash.runs import directory, packing, schema
from dask_memdash.runs.segment import LiveSegment

#: Verdicts that are false between repeats.
FALSE = (WORSE, BETTER)


def load(number: int, size: int) -> Any:
    """Make a block of a size that depends on its number, as real blocks do."""
    time.sleep(0.01)
    return np.ones(int(size * (1 + 0.2 * (number % 7) / 7)) // 8)


def work(block: Any) -> float:
    """Take twice a block for a while."""
    doubled = block * 2.0
    time.sleep(0.02)
    return float(doubled.sum())


def job(size: int, total: int) -> None:
    """Compute from `total` bytes in blocks of `size`, and an array beside it."""
    delayed, working = dask.delayed(load), dask.delayed(work)
    parts = [working(delayed(i, size)) for i in range(total // size)]
    dask.delayed(sum)(parts).compute()
    side = int((size / 8) ** 0.5)
    whole = int((total / 16) ** 0.5)
    x = da.random.random((whole, whole), chunks=(side, side))
    (x + x.T).mean(axis=0).sum().compute()


def record(where: Path, name: str, size: int, total: int) -> None:
    """Record one run of the job."""
    with common.cluster(2, 2, "600MB") as (_, client):
        client.register_plugin(MemDash(record=str(where), run=name))
        job(size, total)
        time.sleep(2.5)  # a look at the end


def repeats(options: argparse.Namespace) -> None:
    """Record repeats, compare all pairs, and print the share of false verdicts."""
    number = options.repeats or common.sized(options, 6, 4, 2)
    size, total = common.sized(
        options, (16_000_000, 1_600_000_000), (16_000_000, 800_000_000), (10**6, 10**7)
    )
    with tempfile.TemporaryDirectory() as folder:
        where = Path(options.keep or folder)
        for i in range(number):
            progress(f"repeat {i + 1} of {number}")
            record(where, f"repeat-{i}", size, total)
        progress("chunks twice as large")
        record(where, "doubled", 2 * size, total)
        runs = [dask_memdash.open_run(where, f"repeat-{i}") for i in range(number)]
        doubled = dask_memdash.open_run(where, "doubled")
        report([(a.diff(b), f"{a.name} {b.name}") for a, b in permutations(runs, 2)])
        found_doubled([run.diff(doubled) for run in runs])


def report(pairs: list[tuple[Any, str]]) -> None:
    """Print verdicts by figure, and by how much repeats differed."""
    print(f"\n**{len(pairs)} ordered pairs of repeats**\n")
    common.header(
        *("figure", "compared", "same", "cannot say", "worse or better"),
        "differed by at most",
    )
    rows: dict[str, list[Any]] = {}
    for found, pair in pairs:
        for one in found.to_dict()["differences"]:
            name = f"{one['area']}: {one['measure']}"
            rows.setdefault(name, []).append(one)
            if one["verdict"] in FALSE:
                progress(f"false: {pair}: {one['verdict']}: {one['text']}")
    for name, every in sorted(rows.items()):
        verdicts = [one["verdict"] for one in every]
        false = sum(v in FALSE for v in verdicts)
        apart = [
            abs(one["change"]) / max(one["compared_a"], one["compared_b"])
            for one in every
            if one["change"] and one["weight"] > 0.005
        ]
        common.row(
            *(name, f"{len(every):,}", f"{verdicts.count(SAME):,}"),
            f"{verdicts.count(CANNOT_SAY):,}",
            f"{false:,} ({false / len(every):.1%})",
            f"{max(apart, default=0.0):.0%}",
        )
    every = [one for found in rows.values() for one in found]
    worse = sum(one["verdict"] == WORSE for one in every)
    print(f"\nworse: {worse} of {len(every)} ({worse / max(1, len(every)):.2%})")


def found_doubled(found: list[Any]) -> None:
    """Print what was said of chunks twice as large."""
    print(f"\n**Chunks twice as large, against each of {len(found)} repeats**\n")
    common.header("figure", "worse", "cannot say", "same", "better")
    rows: dict[str, list[str]] = {}
    for one in found:
        for row in one.to_dict()["differences"]:
            if row["a"] and row["b"] and row["area"] == "prefix":
                name = f"{row['measure']} of {row['subject']}"
                rows.setdefault(name, []).append(row["verdict"])
    for name, verdicts in sorted(rows.items()):
        kinds = (WORSE, CANNOT_SAY, SAME, BETTER)
        common.row(name, *(str(verdicts.count(kind)) for kind in kinds))


# -- a day -----------------------------------------------------------------------------


def day(options: argparse.Namespace) -> None:
    """Write two simulated days, and print what a comparison of them takes."""
    workers = common.sized(options, 1000, 1000, 5)
    minutes = common.sized(options, 1440, 1440, 20)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i in (1, 2):
            progress(f"day {i} of 2")
            paths.append(simulate(Path(folder), i, workers, minutes))
        size = sum(f.stat().st_size for p in paths for f in p.iterdir())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.perf_counter()
        found = dask_memdash.diff(*paths)
        taken = time.perf_counter() - begun
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"\n**Two days of {workers:,} workers** ({size / 1e9:.2f} GB)\n")
        common.header("what", "found")
        common.row("time of a diff", f"{taken:.1f} s")
        common.row("memory it adds", f"{max(0, after - before) / 1024:.0f} MiB")
        common.row("figures compared", f"{len(found.table()):,}")
        common.row("said", found.headline)


def simulate(folder: Path, seed: int, workers: int, minutes: int) -> Path:
    """Write a day: 60 s rows of all workers, 40 prefixes, 1,000 failures."""
    chance = random.Random(seed)
    path = folder / directory.new_run_id(1.79e9 + seed)
    path.mkdir()
    start, segments, number = 1.79e9, [], 0
    each, failures = 10, 0
    for first in range(0, minutes, each):
        began, ended = start + 60 * first, start + 60 * (first + each)
        rows: dict[str, list[tuple[str, tuple[Any, ...]]]] = {"main": [], "s60": []}
        for minute in range(first, first + each):
            for process in range(workers + 1):
                size = int(chance.gauss(5e8, 1e8)) * (workers if not process else 1)
                values = (size, size // 2, 0, 0, size // 4, 0, 0, size // 4, 0)
                time_ = start + 60 * minute
                rows["s60"].append(("breakdown", (time_, process, *values)))
        main = rows["main"]
        main += _states(chance, began, workers)
        for look in range(0, each * 60, 5):
            for prefix in chance.sample(range(40), 20):
                main.append(_prefix(chance, began + look, f"prefix-{prefix}"))
        while failures < 1000 * (first + each) / minutes:
            failures += 1
            main.append(_failure(str(failures), began, f"prefix-{failures % 40}"))
        for kind in ("main", "s60"):
            number += 1
            file = path / directory.closed_name(number, kind)
            live = path / directory.live_name(kind)
            segment = LiveSegment(live, kind, path.name, began)
            by_table: dict[str, list[Any]] = {}
            for table, values in rows[kind]:
                by_table.setdefault(table, []).append(values)
            segment.write(by_table)
            segment.close(file, ended)
            segments.append(
                directory.Segment(file.name, kind, began, ended, file.stat().st_size)
            )
    manifest = directory.Manifest(path.name, start, ended=start + 60 * minutes)
    manifest.segments = segments
    directory.write_manifest(path, manifest)
    return path


def _put(table: str, **values: Any) -> tuple[str, tuple[Any, ...]]:
    columns = schema.BY_NAME[table].columns
    return table, tuple(values.get(column.name) for column in columns)


def _states(chance: random.Random, now: float, workers: int) -> list[Any]:
    answer: Any = {"limit": workers * 10**9, "n_workers": workers, "degraded": []}
    rows = [_put("cluster_states", time=now, answer=packing.pack(answer))]
    rows.append(_put("cluster_states", time=now + 599, answer=packing.pack(answer)))
    for i in range(1, workers + 1):
        address = f"tcp://10.0.{i // 250}.{i % 250}:9000"
        rows.append(("processes", (i, "host", i)))
        rows.append(("workers", (i, address, str(i), i, now, None)))
        state = {"address": address, "name": str(i), "nthreads": 4, "limit": 10**9}
        state["more"] = "x" * 300  # as long as a real one is once compressed
        rows.append(
            _put("worker_states", time=now, worker=i, answer=packing.pack(state))
        )
    return rows


@cache
def _peaks(number: int) -> tuple[QuantileSketch, bytes, bytes]:
    """Make one of some distributions of peaks, and what is recorded of it."""
    chance = random.Random(number)
    sketch = QuantileSketch.of(int(chance.lognormvariate(18, 0.3)) for _ in range(200))
    bins = [list(one) for one in sketch.bins(48)]
    answer = {
        "storage": {"awaited_by": []},
        "output_bins": [{"low": a, "high": b, "count": n} for a, b, n in bins],
    }
    return sketch, packing.pack(bins), packing.pack(answer)


def _prefix(chance: random.Random, now: float, name: str) -> Any:
    sketch, bins, answer = _peaks(chance.randrange(100))
    return _put(
        "prefix_states",
        time=now,
        prefix=name,
        managed=int(chance.gauss(1e9, 1e8)),
        finished=200,
        peak_max=sketch.max,
        peak_error=10**6,
        method="exact",
        output_max=sketch.max,
        peak_bins=bins,
        answer=answer,
    )


def _failure(number: str, now: float, prefix: str) -> Any:
    answer = {
        "id": number,
        "closed": now,
        "deaths": 1,
        "tasks_given_up": 0,
        "text": "it failed",
        "responsible": {"prefix": prefix, "key": None},
        "diagnosis": {"cause": "task-too-large"},
        "incidents": [],
    }
    return _put(
        "failures",
        id=number,
        opened=now,
        closed=now,
        changed=now,
        answer=packing.to_json(answer),
    )


def main() -> None:
    """Run the benchmark."""
    parser = common.parser(__doc__)
    parser.add_argument("--repeats", type=int, help="runs of one job")
    parser.add_argument("--keep", help="directory that the runs are kept in")
    parser.add_argument("--only", choices=("repeats", "day"), help="one part alone")
    options = parser.parse_args()
    if options.only != "day":
        repeats(options)
    if options.only != "repeats":
        day(options)


if __name__ == "__main__":
    main()
