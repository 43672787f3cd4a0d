"""Advice as lines to paste, each with the figure it follows from and the one to expect.

Where nothing is known that helps, there is no advice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.growth_attribution import hands_over
from dask_memdash.analysis.incidents.need import (
    FITS,
    JOINS,
    inputs_of,
    need_of,
    uncounted_of,
)
from dask_memdash.model.event_parts import TaskInfo, TaskInputs
from dask_memdash.model.incidents import Suspect
from dask_memdash.text import code, count, format_bytes

MiB = 2**20

#: Smallest chunk that is worth a task, in bytes.
LEAST_CHUNK = MiB

#: A task that was cut short is given room for so many times what it held.
HEADROOM = 2.0

#: A task of more inputs than this gathers: smaller chunks may only be more of them.
MANY_INPUTS = 4

#: Sizes that differ by less than this share are about the same.
ABOUT = 0.8

#: Share of a worker's room that tasks and outputs are planned to fill.
FILLED = 0.9

#: Tasks that need at most this share of what a heavy one does are light beside it.
LIGHT = 0.25

#: Types of outputs whose chunks and partitions can be made smaller.
ARRAYS = frozenset({"numpy.ndarray"})
FRAMES = frozenset({"pandas.core.frame.DataFrame", "pandas.DataFrame"})

#: Turns spilling on, as Dask does by default.
SPILL_ON = (
    '`dask.config.set({"distributed.worker.memory.target": 0.6, '
    '"distributed.worker.memory.spill": 0.7})`'
)

#: Lets the scheduler send a worker no more tasks than it has threads.
HOLD_BACK = '`dask.config.set({"distributed.scheduler.worker-saturation": 1.0})`'


def paste(size: float) -> str:
    """Write a size as Dask's options take it, rounded up: "1.8GiB"."""
    for unit, factor in (("GiB", 2**30), ("MiB", MiB)):
        if size >= factor:
            value = size / factor
            places = 0 if value >= 100 else 1
            return f"{math.ceil(value * 10**places) / 10**places:g}{unit}"
    return f"{max(1, math.ceil(size / 1024))}kiB"


def chunk_below(size: float) -> int:
    """Return the largest power of two, of 1 MiB at least, that is at most `size`."""
    return int(2 ** math.floor(math.log2(max(LEAST_CHUNK, size))))


def on_one_task(case: Case, task: Suspect) -> Iterator[str]:
    """Yield what makes one task fit into a worker that it is too large for."""
    need, room = need_of(case, task), case.room
    if room is None or not need:
        return
    if uncounted_of(case, task) > (task.bytes or 0):
        return  # its need is a guess
    wanted = HEADROOM * need
    one = _Piece(task.prefix, task.inputs, need)
    # What a client holds stays in memory beside the smaller pieces of it.
    held = _held_inputs(case, task)
    if held:
        yield from _smaller_source(case, one, wanted)
    yield from _smaller_chunks(case, one, max(0, room - held) / wanted)
    yield from more_memory(case, task.prefix, need, wanted)


def _smaller_source(case: Case, task: _Piece, wanted: float) -> Iterator[str]:
    """Yield how to make chunks smaller that a client holds, where they are made.

    Chunks that are cut later do not help while the client holds the large one.  Small
    ones can be spilled one by one, but fill the worker up to its target.
    """
    made = [name for name, held in case.facts.held.items() if held.pinned]
    chunk, ceiling = _chunk_of(case, task), case.ceiling
    arrays = any(types_of(case, name) & ARRAYS for name in made)
    if not arrays or chunk is None or ceiling is None or "rechunk" in task.prefix:
        return
    left = max(0, ceiling - max(case.target or 0, ceiling - (case.room or 0)))
    smaller = chunk_below(chunk * min(0.5, left / wanted))
    yield (
        f'Make chunks smaller where they are made: give `chunks="{paste(smaller)}"` to '
        f"what makes {code(made[0])}. A client holds {format_bytes(_held(case))} of it "
        f"in memory. {code(task.prefix)} works on {format_bytes(chunk)} at a time and "
        f"needs at least {format_bytes(task.need)}; with {format_bytes(smaller)} it "
        f"will need about {format_bytes(task.need * smaller / chunk)}, and the rest "
        "can be spilled."
    )


def _held(case: Case) -> int:
    """Return what clients hold of what is stored, in bytes."""
    return sum(held.pinned for held in case.facts.held.values())


def _held_inputs(case: Case, task: Suspect) -> int:
    """Return how much of a task's inputs a client holds, in bytes."""
    return min(inputs_of(task), _held(case))


def on_pieces(case: Case, task: Suspect) -> Iterator[str]:
    """Yield what makes pieces smaller of which a worker holds hardly one at a time.

    They are those that a task hands over to a P2P shuffle.
    """
    need, room = need_of(case, task), case.usable
    if room is None or need < FITS * room or not hands_over(task.prefix):
        return
    one = _Piece(task.prefix, task.inputs, need)
    yield from _smaller_chunks(case, one, (case.room or room) / (HEADROOM * need))


def on_request(case: Case, task: TaskInfo, size: int) -> Iterator[str]:
    """Yield what makes a single request of a task small enough, `size` in bytes."""
    if case.room is not None:
        wanted = HEADROOM * size
        one = _Piece(task.prefix, task.inputs, size)
        yield from _smaller_chunks(case, one, case.room / wanted)
        yield from more_memory(case, task.prefix, size, wanted)


def more_memory(case: Case, prefix: str, need: float, wanted: float) -> Iterator[str]:
    """Yield a limit under which a worker has room for what is wanted."""
    room, limit, more = case.usable, case.limit, limit_for(case, wanted)
    if room is None or more is None:
        return
    yield (
        f"Give each worker more memory: `--memory-limit {paste(more)}`. "
        f"{code(prefix)} needs at least {format_bytes(need)}, and an empty worker of "
        f"{format_bytes(limit)} has room for {format_bytes(room)}; it will have room "
        f"for {format_bytes(wanted)}."
    )


def on_joining(case: Case, waiting: list[str]) -> Iterator[str]:
    """Yield what lets tasks that join chunks wait for less at a time.

    Each waits until all of its inputs are there, and copies them into one.
    """
    name = next((name for name in waiting if JOINS in name), None)
    if name is None or case.room is None:
        return
    chunk = chunk_below(case.room / (HEADROOM * 2))
    yield (
        "Let Dask join chunks into smaller ones, before the graph is built: "
        f'`dask.config.set({{"array.chunk-size": "{paste(chunk)}"}})`. Each '
        f"{code(name)} needs all that it joins in memory at once, and the same again "
        f"for its output; with {format_bytes(chunk)} it will need about "
        f"{format_bytes(2 * chunk)} of the {format_bytes(case.room)} that a worker has "
        "room for once it has run some tasks."
    )


def on_large_chunks(case: Case, prefix: str) -> Iterator[str]:
    """Yield how to make stored chunks smaller of which a worker holds hardly one.

    A task that takes one and makes as much again needs twice its size.
    """
    usual, room = case.expected(prefix), case.room
    chunk = 0 if usual is None else usual.output_p95 or 0
    arrays = types_of(case, prefix) & ARRAYS
    if room is None or 2 * chunk < room or not arrays or "rechunk" in prefix:
        return
    smaller = chunk_below(room / (HEADROOM * 2))
    yield (
        f'Make chunks smaller where they are made: give `chunks="{paste(smaller)}"` to '
        f"what makes {code(prefix)}. Each is {format_bytes(chunk)}, and a worker has "
        f"room for {format_bytes(room)} once it has run some tasks: a task that takes "
        f"one and makes as much of it needs {format_bytes(2 * chunk)}. With "
        f"{format_bytes(smaller)} it will need about {format_bytes(2 * smaller)}."
    )


def ask_again(case: Case, prefix: str) -> Iterator[str]:
    """Yield what makes Dask ask again for an input that could not be received."""
    if case.address:
        yield (
            "To go on now, restart the worker: "
            f'`client.restart_workers(["{case.address}"])`. Dask does not ask for the '
            f"input again, and {code(prefix)} waits for ever; an empty worker asks for "
            "it anew."
        )


def limit_for(case: Case, wanted: float) -> float | None:
    """Return a limit under which an empty worker has so much room, in bytes.

    None where the machine has not that much: a higher limit would only move the end
    from the nanny to the kernel.
    """
    limit, ceiling, host = case.limit, case.ceiling, case.facts.host
    if not limit or not ceiling:
        return None
    more = (ceiling - (case.room or 0) + wanted) * limit / ceiling
    if host is not None and host.effective and more > max(limit, host.effective):
        return None
    return more


def on_many_tasks(case: Case, prefix: str, running: list[Suspect]) -> Iterator[str]:
    """Yield how many tasks of a prefix a worker holds at a time."""
    need = max(planned(case, task) for task in running)
    if case.room is None or case.limit is None or not need:
        return
    seen = has_been_seen(case, prefix, need)
    at_least = "" if seen else "at least "
    more = "" if seen else ", and may take more: none of that size has finished"
    room, ran = case.room, len(running)
    # As many as ran did not fit.  Of those that held less than they need, fewer do.
    wanted = need * HEADROOM if at_least else need
    fit = max(1, min(int(room // wanted), ran - 1))
    if fit * need <= room:
        yield (
            f"Run {count(fit, 'task')} at a time on each worker: `--nthreads {fit}`. "
            f"One {code(prefix)} needs {at_least}{format_bytes(need)}, so {ran} need "
            f"{at_least}{format_bytes(ran * need)} and a worker has room for "
            f"{format_bytes(room)} once it has run some tasks; {fit} will take "
            f"{at_least}{format_bytes(fit * need)}{more}."
        )
    yield from _fewer_of_these(case, prefix, need, fit)
    share = FILLED * room / max(2, ran) / need
    first = running[0]
    one = _Piece(prefix, first.inputs, need_of(case, first))
    yield from _smaller_chunks(case, one, share)


def _fewer_of_these(case: Case, prefix: str, need: float, fit: int) -> Iterator[str]:
    """Yield how to let fewer tasks of a heavy prefix run at once, and others go on.

    Only where there are others, that are light beside it.
    """
    peaks = [
        usual.p95
        for name, usual in case.facts.expected.items()
        if name != prefix and usual.p95 is not None
    ]
    if not peaks or max(peaks) > LIGHT * need or fit >= case.facts.nthreads:
        return
    if fit * need > (case.room or 0):
        return
    name = f"{prefix[:20]}".strip("-_ ") or "heavy"
    name = name if name.isidentifier() else "heavy"
    yield (
        f"Or keep the threads, and let only {count(fit, 'task')} of {code(prefix)} run "
        f'at once on each worker: start workers with `--resources "{name}={fit}"`, and '
        f'make these tasks under `with dask.annotate(resources={{"{name}": 1}}):`. '
        f"The others need at most {format_bytes(max(peaks))} each. Where Dask fuses "
        "them with others, compute with `optimize_graph=False`."
    )


def planned(case: Case, task: Suspect) -> int:
    """Return what to plan for one task, in bytes: its need, or what any of it has had.

    For a plan the largest that has ever finished counts, be it the only one.
    """
    usual = case.expected(task.prefix)
    most = 0 if usual is None else max(usual.max or 0, usual.output_max or 0)
    return max(need_of(case, task), inputs_of(task) + most)


def has_been_seen(case: Case, prefix: str, need: int) -> bool:
    """Say whether a task of a prefix has finished that needed about as much."""
    usual = case.expected(prefix)
    return usual is not None and (usual.max or 0) >= ABOUT * need


def spill(size: float, stays: float) -> str:
    """Advise to turn spilling on."""
    return (
        f"Turn spilling on before the workers start: {SPILL_ON}. "
        f"{format_bytes(size)} of outputs would go to disk, and about "
        f"{format_bytes(stays)} would stay in memory."
    )


def types_of(case: Case, prefix: str) -> frozenset[str]:
    """Return the types of a prefix's outputs, as far as they are known."""
    held = case.facts.held.get(prefix)
    return frozenset() if held is None else frozenset(held.types)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a task works on: prefix, inputs as far as known, and its need in bytes."""

    prefix: str
    inputs: TaskInputs | None
    need: int


def _smaller_chunks(case: Case, task: _Piece, share: float) -> Iterator[str]:
    """Yield how to cut what a task works on to a share of its size."""
    name, need = task.prefix, task.need
    chunk = _chunk_of(case, task)
    if chunk is None or share >= 1:
        return
    smaller = chunk_below(chunk * min(share, 0.5))
    expect = need * smaller / chunk
    if case.room is not None and expect > case.room:
        return  # no chunk that is worth a task is small enough
    figures = (
        f"{code(name)} works on {format_bytes(chunk)} at a time and needs at least "
        f"{format_bytes(need)}; with {format_bytes(smaller)} it will need about "
        f"{format_bytes(expect)}."
    )
    if "rechunk" in name:
        yield (
            "Let Dask join chunks into smaller ones, before the graph is built: "
            f'`dask.config.set({{"array.chunk-size": "{paste(smaller)}"}})`. {figures}'
        )
        return
    types = types_of(case, name) | frozenset().union(
        *(types_of(case, prefix) for prefix in case.facts.held)
    )
    if types & FRAMES:
        yield (
            "Make partitions smaller: "
            f'`df = df.repartition(partition_size="{paste(smaller)}")`. {figures}'
        )
    elif types & ARRAYS:
        yield f'Make chunks smaller: `x = x.rechunk("{paste(smaller)}")`. {figures}'


def _chunk_of(case: Case, task: _Piece) -> int | None:
    """Return the size of a chunk that a task works on; None where that is not known.

    Dask makes what a rechunk joins, all of its inputs together.  Other tasks work on
    their output or on one of their inputs, unless they gather many.
    """
    usual = case.expected(task.prefix)
    output = 0 if usual is None else usual.output_p95 or 0
    n_inputs, inputs = 0, 0
    if task.inputs is not None:
        n_inputs, inputs = task.inputs.count, task.inputs.size
    if "rechunk" in task.prefix:
        chunk = max(output, inputs)
    elif n_inputs > MANY_INPUTS:
        return None
    else:
        chunk = max(output, inputs // max(1, n_inputs))
    return chunk if chunk >= LEAST_CHUNK and task.need else None
