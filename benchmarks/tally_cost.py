"""What the tally costs the code that it counts, as ratios of medians of one run.

Each workload runs bare (no hooks), with the hooks in but no task begun, and inside a
task, in an order that moves on from round to round; bare runs twice, which shows
what the noise alone does (A/A).  A ratio is bare time through time with the tally:
0.95 is five per cent slower.  Times are the processor's, so that others on the
machine count less.
"""

from __future__ import annotations

import ctypes
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import common
import numpy as np

from dask_memdash.measure import native_tally
from dask_memdash.measure import tally as face
from dask_memdash.measure.tally import Tally

BARE, AGAIN, IDLE, TASK = "bare", "bare, again", "installed", "in a task"

Work = Callable[[], object]


def small_objects() -> None:
    """Make and drop small objects, which come from arenas."""
    for i in range(30_000):
        [float(i)]


def kept_objects() -> None:
    """Make many small objects and keep them: new arenas."""
    [[i] for i in range(60_000)]


def large_objects() -> None:
    """Allocate 1 kB through the raw domain, and nothing else."""
    for _ in range(60_000):
        bytes(1000)


def growing_list() -> None:
    """Let a list grow, which reallocates it again and again."""
    for _ in range(100):
        grown = []
        for i in range(500):
            grown.append(i)  # noqa: PERF402


def small_arrays() -> None:
    """Make arrays of 80 bytes, and nothing else."""
    for _ in range(50_000):
        np.empty(10)


def hundred_numbers() -> None:
    """Make arrays of 800 bytes, and nothing else."""
    for _ in range(50_000):
        np.empty(100)


def medium_arrays() -> None:
    """Make arrays of 80 kB and fill them."""
    for _ in range(2_000):
        np.ones(10_000)


def large_arrays() -> None:
    """Make arrays of 64 MB and fill them."""
    for _ in range(3):
        np.ones(8_000_000)


WORKLOADS: list[Work] = [
    small_objects,
    kept_objects,
    large_objects,
    growing_list,
    small_arrays,
    hundred_numbers,
    medium_arrays,
    large_arrays,
]


#: What a library of C does that allocates and frees, and nothing else.
PAIRS = """
#include <stdlib.h>
void pairs(size_t n, size_t size) {
    while (n--) {
        char *volatile block = malloc(size);
        *block = 1;
        free(block);
    }
}
"""


def pairs_of_c() -> list[Work]:
    """Return loops of malloc and free in C; none without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder, "pairs.c"), Path(folder, "libpairs.so")
        source.write_text(PAIRS, encoding="utf-8")
        subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", path, source], check=True
        )
        library = ctypes.CDLL(str(path))
    library.pairs.argtypes = [ctypes.c_size_t, ctypes.c_size_t]

    def malloc_free_100_bytes() -> None:
        library.pairs(3_000_000, 100)

    def malloc_free_100_kb() -> None:
        library.pairs(300_000, 100_000)

    return [malloc_free_100_bytes, malloc_free_100_kb]


def seconds(work: Work) -> float:
    """Return the processor time of a function, once."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(tally: Tally, mapping: object, work: Work, variant: str) -> float:
    """Time a workload in one of the variants."""
    if variant in (BARE, AGAIN):
        return seconds(work)
    if not tally.acquire():
        raise SystemExit(tally.refused)
    try:
        if variant == TASK and not tally.begin(mapping, 0):  # type: ignore[arg-type]
            raise SystemExit("the tally does not begin")
        taken = seconds(work)
        if variant == TASK:
            tally.end()
    finally:
        tally.release()
    return taken


def per_call(tally: Tally, mapping: object) -> float:
    """Return the time of a begin and its end, in nanoseconds."""
    begin, end = tally.begin, tally.end
    rounds = 20_000

    def calls() -> None:
        for _ in range(rounds):
            begin(mapping, 0)  # type: ignore[arg-type]
            end()

    def empty() -> None:
        for _ in range(rounds):
            pass

    if not tally.acquire():
        raise SystemExit(tally.refused)
    try:
        both = [(seconds(calls), seconds(empty)) for _ in range(15)]
    finally:
        tally.release()
    return statistics.median(a - b for a, b in both) / rounds * 1e9


def main() -> None:
    """Measure, and print a table."""
    parser = common.parser(__doc__)
    parser.add_argument("--rounds", type=int, help="(default 21)")
    parser.add_argument(
        "--tally", choices=("native", "python"), default="native", help="which one"
    )
    options = parser.parse_args()
    rounds = options.rounds or common.sized(options, 21, 7, 1)
    module = native_tally if options.tally == "native" else face
    tally: Tally | None = module.load()
    if tally is None:
        raise SystemExit(module.why_not())
    mapping, _ = tally.map_slots(-1, 4096)
    print(
        f"The {options.tally} tally, NumPy {np.__version__}; "
        f"begin and end: {per_call(tally, mapping):,.0f} ns\n"
    )
    variants = [BARE, IDLE, TASK, AGAIN]
    common.header("workload", "bare, ms", *(f"bare / {v}" for v in variants[1:]))
    for work in [*pairs_of_c(), *WORKLOADS]:
        times: dict[str, list[float]] = {variant: [] for variant in variants}
        work()
        for number in range(rounds):
            shift = number % len(variants)
            for variant in variants[shift:] + variants[:shift]:
                times[variant].append(measure(tally, mapping, work, variant))
        median = {v: statistics.median(t) for v, t in times.items()}
        common.row(
            work.__name__,
            f"{median[BARE] * 1000:.1f}",
            *(f"{median[BARE] / median[v]:.3f}" for v in variants[1:]),
        )


if __name__ == "__main__":
    main()
