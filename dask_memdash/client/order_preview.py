"""What a collection's order will need, before anything runs: :func:`order`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
from dask.utils import key_split, parse_bytes

from dask_memdash import terms
from dask_memdash.analysis.order.comparison import Judgement, Snapshot, judge
from dask_memdash.analysis.order.preflight import Planned, Preflight, preflight
from dask_memdash.analysis.order.preflight_words import in_words
from dask_memdash.analysis.order.simulate import Shape
from dask_memdash.analysis.order.taken import Sizes
from dask_memdash.client import size_estimates
from dask_memdash.client.notebook import page_piece
from dask_memdash.client.planned_graph import (
    PreviewError,
    known_sizes,
    materialise,
)
from dask_memdash.client.preflight import Known, cluster_of, known_of
from dask_memdash.client.svg_chart import LIMIT, Chart, Level, Series, geometry
from dask_memdash.model.graph_columns import MAX_PREFIXES, PINNED
from dask_memdash.text import code, count, format_bytes


@dataclass(frozen=True, slots=True)
class PrefixSizes:
    """What the outputs of one prefix were taken to be; sizes in bytes."""

    prefix: str
    tasks: int
    #: All together; None where nothing is known of any.
    bytes: int | None
    #: 'given' by the caller, 'array', 'sampled', 'measured', 'shared out' or 'unknown'.
    source: str


@dataclass(frozen=True)
class OrderPreview:
    """What a graph needs by its own order; prints as text, draws in a notebook."""

    tasks: int
    #: Peak of the storage, one task at a time, and where it is.
    minimum: int
    minimum_position: int
    #: The same, `threads` tasks at a time.
    threads: int
    minimum_threads: int
    #: How much of `minimum` is no more than a guess.
    uncertainty: int
    #: What the workers can store, None where not known.
    capacity: int | None
    #: What is held at the peak, one task at a time, by prefix, largest first.
    held: dict[str, int]
    sizes: list[PrefixSizes]
    #: Change → the minimum with it.
    what_if: dict[str, int]
    #: Columns 'position', 'ideal' and 'ideal_threads'.
    curve: dict[str, list[int]]
    #: What the task needs at once that needs most, inputs and output, and its prefix.
    need: int = 0
    need_prefix: str = ""
    #: What the largest worker has for one task, None where not known.
    task_capacity: int | None = None
    #: Whether it fits with what tasks take while they run; None where no cluster and no
    #: recorded run tells that.
    preflight: Preflight | None = None

    @property
    def verdict(self) -> str:
        """Whether it fits, in a sentence or a few."""
        if self.preflight is not None:
            return in_words(self.preflight)
        need = (
            f"{format_bytes(self.minimum)} at task {self.minimum_position:,} of "
            f"{self.tasks:,} one task at a time"
        )
        if self.threads > 1:
            need += (
                f", {format_bytes(self.minimum_threads)} with "
                f"{count(self.threads, 'task')} at a time"
            )
        if self.capacity is None:
            return f"This order needs {need}."
        if self.task_capacity is not None and self.need > self.task_capacity:
            return (
                f"Cannot fit: one task of {code(self.need_prefix)} needs "
                f"{format_bytes(self.need)} at once, its inputs among it; the largest "
                f"worker has {format_bytes(self.task_capacity)} for it."
            )
        have = f"the workers have {format_bytes(self.capacity)}"
        if self.minimum > self.capacity:
            return f"Cannot fit: this order needs {need}; {have}."
        if self.minimum + self.uncertainty > self.capacity:
            return f"Not known: this order needs {need}, partly guessed; {have}."
        if self.minimum_threads > self.capacity:
            return f"Fits only with fewer tasks at a time: it needs {need}; {have}."
        return (
            f"Storage fits: this order needs {need}; {have}. What tasks use while they "
            "run is not known before they have run."
        )

    def __str__(self) -> str:
        guessed = [s for s in self.sizes if s.source in ("shared out", "unknown")]
        lines = [self.verdict]
        if guessed:
            lines.append(
                f"Sizes of {count(len(guessed), 'prefix')}".replace("xs", "xes")
                + f" are guesses ({format_bytes(self.uncertainty)} of the minimum)."
            )
        for heading, columns, rows in self._tables():
            lines += ["", heading]
            table = [columns, *rows]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            lines += [
                "  "
                + "  ".join(
                    cell.ljust(width) for cell, width in zip(row, widths, strict=True)
                ).rstrip()
                for row in table
            ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return str(
            page_piece("order.html").render(
                verdict=self.verdict,
                chart=geometry(self._chart()),
                tables=self._tables(),
            )
        )

    def _chart(self) -> Chart:
        """Return what the order needs over the run, against what the workers have."""
        places = self.curve["position"]
        lines = [("ideal", "one task at a time", terms.PARTS["managed"].colour, "")]
        if self.threads > 1:
            several = f"{count(self.threads, 'task')} at a time"
            colour = terms.PARTS["executing"].colour
            lines.insert(0, ("ideal_threads", several, colour, "7 3"))
        room = Level("the workers have", self.capacity or 0, LIMIT)
        return Chart(
            title="Storage that this order needs",
            across="finished tasks",
            series=[
                Series(name, colour, places, self.curve[curve], dashes)
                for curve, name, colour, dashes in lines
            ],
            levels=[room] if self.capacity else [],
            span=(0, max(1, self.tasks)),
        )

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        sizes = [
            [
                known.prefix[:60],
                f"{known.tasks:,}",
                "not known" if known.bytes is None else format_bytes(known.bytes),
                known.source,
                format_bytes(self.held.get(known.prefix, 0)),
            ]
            for known in self.sizes
        ]
        changes = [
            [change, format_bytes(size)] for change, size in self.what_if.items()
        ]
        return [
            ("Outputs", ["prefix", "tasks", "in all", "from", "at the peak"], sizes),
            ("What if", ["change", "minimum"], changes),
        ]


def order(
    *collections: Any,
    sizes: size_estimates.Sizes | None = None,
    sample: bool = False,
    client: Any = None,
    run: Any = None,
    threads: int | None = None,
    capacity: int | str | None = None,
) -> OrderPreview:
    """Work out what collections need by their own order, without running.

    That is their storage; and, where a cluster or a recorded run tells what tasks of
    the same prefixes took, what they take while they run (*preflight*).

    Parameters
    ----------
    *collections
        Dask collections, taken as ``persist`` would take them: their outputs stay.
    sizes
        Size of an output by prefix (``{"random_sample": "100 MB"}``), or a function
        that gives the size in bytes of a key's output, or None.
    sample
        Compute one task of each prefix of unknown size here, where that takes few.
    client
        A client: its cluster's threads and limits are used, and if MemDash runs
        there, the sizes and peaks it measured for prefixes of the same name.
    run
        A recorded run, or its directory or URL: peaks and sizes are taken from there,
        and threads and limits where there is no client.
    threads
        Tasks at a time; by default the client's cluster's threads, else this
        machine's processors.
    capacity
        What the workers have together; by default what the client's have.

    Raises
    ------
    PreviewError
        There is nothing to run, or it has more prefixes than are told apart.
    ValueError
        A size that cannot be read.
    """
    graph, wanted = materialise(collections)
    ranks = dask.order.order(graph)
    keys = sorted(graph, key=ranks.__getitem__)
    number = {key: rank for rank, key in enumerate(keys)}
    dependencies = [
        [number[need] for need in graph[key].dependencies if need in number]
        for key in keys
    ]
    names = list(dict.fromkeys(key_split(key) for key in keys))
    if not keys or len(names) > MAX_PREFIXES:
        raise PreviewError(f"this makes {len(keys):,} tasks of {len(names):,} prefixes")
    told = known_of(client, run)
    measured = {} if told is None else told.outputs
    known, sources = known_sizes(graph, number, collections, sizes, sample, measured)
    offsets = np.cumsum([0, *map(len, dependencies)])
    flat = np.array([need for needs in dependencies for need in needs], np.int64)
    flags = bytes(PINNED if key in wanted else 0 for key in keys)
    shape = Shape(offsets, flat, flags)
    running = np.argsort(shape.finish(1), kind="stable").tolist()
    filled = size_estimates.shared_out(
        running, dependencies, np.diff(shape.dependent_offsets).tolist(), known
    )
    guessed = np.array([size is None for size in known])
    numbers = {name: index for index, name in enumerate(names)}
    prefix = np.array([numbers[key_split(key)] for key in keys], np.uint16)
    weights = np.array([size or 0 for size in filled], np.float32)
    cluster_threads, room = cluster_of(client)
    if told is not None and client is None:
        cluster_threads = told.space.total_threads if told.space.workers else None
    snapshot = Snapshot(
        id="preview",
        total=len(keys),
        done=0,
        finished=False,
        threads=threads or cluster_threads or os.cpu_count() or 1,
        capacity=room.storage if capacity is None else int(parse_bytes(capacity)),
        room=room,
        prefixes=tuple(names),
        prefix=prefix,
        offsets=offsets,
        dependencies=flat,
        flags=flags,
        sizes=weights,
        stored_at=np.zeros(len(keys), np.uint32),
        left_at=np.zeros(len(keys), np.uint32),
        doubt=np.where(guessed, weights, 0).astype(np.float32),
    )
    rows = _sizes(names, prefix, filled, guessed, sources)
    preview = _preview(judge(snapshot), rows)
    if told is None:
        return preview
    told_by = [sources.get(name, "") for name in names]
    certain = np.array([source not in ("", "measured") for source in told_by])
    outputs = Sizes(
        weights.astype(np.float64),
        _doubts(snapshot, told),
        certain[prefix] & ~guessed,
    )
    planned = Planned(
        shape,
        names,
        prefix.astype(np.intp),
        outputs,
        size_estimates.largest_blocks(collections, names),
    )
    space = told.space
    if threads is not None and space.workers:
        each = -(-threads // space.workers)
        space = replace(space, threads=each, total_threads=threads)
    return replace(preview, preflight=preflight(planned, told.taken, space))


def _doubts(snapshot: Snapshot, told: Known) -> npt.NDArray[np.float64]:
    """Return by how much each size is off; measured ones by what others had more."""
    doubt = np.zeros(len(snapshot.sizes))
    if snapshot.doubt is not None:
        doubt += snapshot.doubt
    for index, name in enumerate(snapshot.prefixes):
        known, usual = told.taken.get(name), told.outputs.get(name)
        if known is not None and known.output and usual is not None:
            own = (snapshot.prefix == index) & (snapshot.sizes == np.float32(usual))
            doubt[own] = np.maximum(doubt[own], known.output - usual)
    return doubt


def _sizes(
    names: list[str],
    prefix: Any,
    filled: list[int | None],
    guessed: Any,
    sources: dict[str, str],
) -> list[PrefixSizes]:
    rows = []
    for index, name in enumerate(names):
        own = np.flatnonzero(prefix == index).tolist()
        known = [size for rank in own if (size := filled[rank]) is not None]
        other = "shared out" if known else "unknown"
        source = sources.get(name, other)
        if name in sources and guessed[own].any():
            source += f", {other}"
        rows.append(PrefixSizes(name, len(own), sum(known) if known else None, source))
    return sorted(rows, key=lambda row: -(row.bytes or 0))


def _preview(judgement: Judgement, rows: list[PrefixSizes]) -> OrderPreview:
    snapshot, need = judgement.snapshot, judgement.need
    return OrderPreview(
        tasks=snapshot.total,
        minimum=judgement.minimum,
        minimum_position=judgement.minimum_position,
        threads=snapshot.threads,
        minimum_threads=judgement.minimum_threads,
        uncertainty=judgement.uncertainty,
        capacity=snapshot.capacity,
        need=0 if need is None else need.bytes - need.doubt,
        need_prefix="" if need is None else need.prefix,
        task_capacity=snapshot.room.task,
        held=dict(judgement.minimum_by),
        sizes=rows,
        what_if={change.change: change.minimum for change in judgement.what_if},
        curve={
            "position": judgement.position.tolist(),
            "ideal": judgement.ideal.tolist(),
            "ideal_threads": judgement.ideal_threads.tolist(),
        },
    )
