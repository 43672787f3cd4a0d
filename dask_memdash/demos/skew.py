"""Partitions of very different sizes, after a filter and a repartition by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distributed import futures_of

from dask_memdash.demos.experiment import Case, Result, Session, Steps
from dask_memdash.demos.stages import Complaint, Stage
from dask_memdash.text import format_bytes

#: Files that are read, and lines of each.
FILES = 214
LINES = 4_000

#: Bytes of a line in memory: three columns of 8.
LINE = 24

#: Files in which the user is active, and the share of their lines that is theirs.
ACTIVE = {60: 0.35, 61: 0.2, 120: 0.1, 190: 0.9, 191: 0.95, 192: 0.9}

#: The user whose lines are kept.
USER = 48_964

#: Partitions that the notes ask for.
PARTITIONS = 4

#: Size of the partitions that the remedy asks for, in bytes.
EVEN = 100_000

#: Columns of 8 bytes that the next step adds.
FEATURES = 64


def read_file(number: int) -> Any:
    """Make the lines of one file."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(number)
    active = random.random(LINES) < ACTIVE.get(number, 0.0)
    return pd.DataFrame(
        {
            "user": np.where(active, USER, random.integers(0, 40_000, LINES)),
            "bytes": random.integers(0, 2**30, LINES),
            "second": np.arange(LINES) + number * LINES,
        }
    )


def add_features(lines: Any) -> Any:
    """Make each line much wider: the next step of the analysis."""
    return lines.assign(**{f"f{k}": lines["bytes"] / (k + 1) for k in range(FEATURES)})


def by_number(session: Session) -> Steps:
    """Filter, and repartition to a number of partitions."""
    yield from _next_step(session, _filtered().repartition(npartitions=PARTITIONS))


def by_size(session: Session) -> Steps:
    """Filter, hold the little that is left, and repartition it by its size."""
    kept = session.client.persist(_filtered())
    yield futures_of(kept)
    yield from _next_step(session, kept.repartition(partition_size=EVEN))


def _filtered() -> Any:
    import dask.dataframe as dd

    frame = dd.from_map(read_file, range(FILES), meta=read_file(0).iloc[:0])
    return frame[frame["user"] == USER]


def _next_step(session: Session, frame: Any) -> Steps:
    """Hold what the next step makes of the partitions, and note its sizes in bytes."""
    wide = session.client.persist(frame.map_partitions(add_features))
    yield futures_of(wide)
    row = session.api.prefix(
        add_features.__name__,
        lambda row: row["storage"]["count"] == frame.npartitions,
    )
    if row is not None:
        session.figures["partitions"] = row["storage"]["count"]
        session.figures["output_bytes"] = row["storage"]["output_bytes"]
        session.figures["peak"] = row["execution"]["peak"]


def conclude(results: Sequence[Result]) -> list[str]:
    """Say what the two stages show."""
    return [
        f"{result.case.name}: the {result.figures['partitions']} outputs of "
        f"`{add_features.__name__}` have {_sizes(result)}, a skew of "
        f"{_skew(result):.1f} (largest against median)."
        for result in results
        if result.figures
    ] + [
        "The Tasks view shows the same figures, and the distribution of the sizes. "
        "What helps: hold what the filter has left (it is small), and repartition by "
        "size (partition_size=…) rather than to a number of partitions.",
    ]


def _sizes(result: Result) -> str:
    sizes = result.figures["output_bytes"]
    names = (("min", "at least"), ("p50", "in the middle"), ("max", "at most"))
    return ", ".join(f"{format_bytes(sizes[key])} {words}" for key, words in names)


def _skew(result: Result) -> float:
    """Return how many times as large as the median the largest output is."""
    sizes = result.figures["output_bytes"]
    return float(sizes["max"] / max(1, sizes["p50"]))


def shown(results: Sequence[Result]) -> bool:
    """See whether sizes were far apart, and near each other with the remedy."""
    if any(r.outcome != "ok" or not r.figures for r in results):
        return False
    uneven, even = results
    return _skew(uneven) > 3 and _skew(even) < 2


COMPLAINT = Complaint(
    name="skew",
    complaint=(
        "“214 files were read in, a filter was applied to subselect a tiny fraction. "
        "[…] I threw in a .repartition(4) to collapse most of those empty files, but "
        "still wound up with 0 bytes, 3325928 bytes, 756776 bytes, 9195951 bytes.”"
    ),
    stages=(
        Stage(
            Case("repartition(4)", by_number, FILES * LINES * LINE, LINES * LINE),
            "Filter 214 files for one user's lines, and repartition to 4.",
        ),
        Stage(
            Case("repartition by size", by_size, FILES * LINES * LINE, LINES * LINE),
            "The same, with what the filter has left held and repartitioned by size.",
        ),
    ),
    conclude=conclude,
    shown=shown,
    needs=("dask.dataframe",),
)
