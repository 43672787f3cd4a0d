"""The screen of ``dask memdash top``, as lines: what is written where.

Pure: a snapshot, what the reader of the screen chose and its size make exactly as many
lines as it has.  What the lines look like in colour is :mod:`dask_memdash.cli.top`'s.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dask_memdash.cli.table_text import (
    MARKS,
    Column,
    Line,
    Piece,
    bar,
    cut,
    length,
    padded,
    table,
)
from dask_memdash.cli.top_choice import (
    ALL,
    HELP,
    ONLY_FAILURES,
    ONLY_PREFIXES,
    ONLY_WORKERS,
    ORDERS,
    VIEWS,
    Chosen,
    foot,
)
from dask_memdash.cli.top_columns import (
    PREFIXES,
    WORKERS,
    failure_columns,
    families,
)
from dask_memdash.cli.top_details import PROSE, details, told_first, wrapped
from dask_memdash.cli.top_reading import Snapshot
from dask_memdash.text import (
    count,
    format_bytes,
    format_clock,
    format_duration,
    format_parts,
    format_share,
    plain,
)

#: Lines of a screen, and cells of one, below which it says that it is too small.
LEAST_LINES, LEAST_CELLS = 10, 40

#: Lines that the head has for the guard.
GUARD_LINES = 2

#: Smallest share of the lines beneath the head that details have.
DETAILS = 0.4

Row = Mapping[str, Any]


def bounded(chosen: Chosen, snapshot: Snapshot | None) -> Chosen:
    """Return what is chosen with a row that there is."""
    most = len(_rows(snapshot, chosen.view)) if snapshot else 0
    return replace(chosen, row=min(chosen.row, max(0, most - 1)))


def screen(
    snapshot: Snapshot | None,
    chosen: Chosen,
    size: tuple[int, int],
    now: float,
    trouble: str = "",
) -> list[Line]:
    """Write the screen.

    Parameters
    ----------
    snapshot
        None before the first one has come.
    size
        Cells of a line, and lines.
    now
        Unix time.
    trouble
        What keeps newer figures from coming, empty where they come.
    """
    width, height = size
    if width < LEAST_CELLS or height < LEAST_LINES:
        say = f"Make the window larger: {LEAST_CELLS} × {LEAST_LINES} at least."
        lines = [((text, ""),) for text in textwrap.wrap(say, max(1, width))]
        return _filled(lines, width, height)
    keys = foot(chosen, width)
    if chosen.help:
        return [*_filled(HELP, width, height - 1), keys]
    if snapshot is None:
        say = trouble or "Asking the scheduler …"
        return [*_filled(_prose(say, width), width, height - 1), keys]
    top = [*_head(snapshot, chosen, width, now, trouble), ()]
    room = height - len(top) - 1
    body = (
        _all(snapshot, width, room)
        if chosen.view == ALL
        else _one(snapshot, chosen, width, room)
    )
    return [*_filled([*top, *body], width, height - 1), keys]


def everything(snapshot: Snapshot, width: int | None) -> list[Line]:
    """Write all there is, for a pipe or a look without a screen."""
    marks = width is not None
    lines = [*_title(snapshot), *_memory_lines(snapshot, width, marks=marks)]
    lines += _guard_lines(snapshot, width)
    for view, columns in _lists(snapshot):
        rows = _rows(snapshot, view)
        columns = [column for column in columns if marks or column.head]
        lines += [(), *(table(columns, rows, width) if rows else [_nothing(view)])]
        if view == ONLY_FAILURES:
            lines += [
                ((part, ""),)
                for text in told_first(rows)
                for part in textwrap.wrap(text, width or PROSE)
            ]
    return lines


# -- the head ------------------------------------------------------------------


def _title(snapshot: Snapshot) -> list[Line]:
    return [
        (
            ("MemDash", "strong"),
            (f" of {plain(snapshot.address)} at {format_clock(snapshot.time)}: ", ""),
            (_counts(snapshot), ""),
        )
    ]


def _counts(snapshot: Snapshot) -> str:
    running = sum(len(w["executing_tasks"]) for w in snapshot.workers)
    workers = count(snapshot.cluster["n_workers"], "worker")
    return f"{workers}, {count(running, 'task')} running"


def _head(
    snapshot: Snapshot, chosen: Chosen, width: int, now: float, trouble: str
) -> list[Line]:
    clock = format_clock(snapshot.time)
    right = f"paused at {clock}" if chosen.paused else clock
    left: Line = (
        ("MemDash ", "strong"),
        (f"{plain(snapshot.address)}  ", "dim"),
        (_counts(snapshot), ""),
    )
    room = width - len(right) - 1
    tone = "caution" if chosen.paused or trouble else "dim"
    lines: list[Line] = [(*padded(left, room), (" ", ""), (right, tone))]
    memory = _memory_lines(snapshot, width)
    lines.append(memory[0])
    parts = list(families(snapshot.cluster["breakdown"]).items())
    lines.append(bar(parts, snapshot.cluster["limit"], width))
    lines += memory[1:]
    lines += _guard_lines(snapshot, width)
    if trouble:
        ago = format_duration(max(0.0, now - snapshot.time))
        text = f"Figures are {ago} old: {trouble}"
        lines += [((t, "caution"),) for t in textwrap.wrap(text, width)[:2]]
    elif snapshot.cluster["degraded"]:
        first = snapshot.cluster["degraded"][0]
        more = len(snapshot.cluster["degraded"]) - 1
        text = f"{plain(first['where'])}: {plain(first['text'])}"
        if more:
            text = f"({more} more like this on the page) {text}"
        lines.append(((text, "caution"),))
    return lines


def _guard_lines(snapshot: Snapshot, width: int | None) -> list[Line]:
    """Say what the guard holds; nothing where none is on."""
    guard = snapshot.cluster.get("guard")
    if guard is None:
        return []
    text = f"Guard ({guard['mode']}): {plain(guard['text'])}"
    tone = "caution" if guard["waiting"] and guard["mode"] == "on" else "dim"
    if width is None:
        return [((text, tone),)]
    return [((part, tone),) for part in textwrap.wrap(text, width)[:GUARD_LINES]]


def _memory_lines(
    snapshot: Snapshot, width: int | None = None, *, marks: bool = True
) -> list[Line]:
    """Say what the memory is made of: all of it in a line, then its parts."""
    cluster = snapshot.cluster
    breakdown, limit = cluster["breakdown"], cluster["limit"]
    process = breakdown["process"]
    if process is None:
        return [(("No memory is measured yet.", "dim"),)]
    of = f" of {format_bytes(limit)}, {format_share(process, limit)}" if limit else ""
    first: list[Piece] = [(f"{format_bytes(process)}{of}", "strong")]
    soonest = _soonest(snapshot)
    if soonest:
        first += [("   ", ""), (soonest, "alarm")]
    items: list[Line] = []
    for name, size in format_parts({**families(breakdown)}, process).items():
        mark: Line = ((MARKS[name], name), (" ", "")) if marks else ()
        items.append((*mark, (f"{name} {size}", "")))
    if breakdown["spilled"]:
        items.append(((f"spilled {format_bytes(breakdown['spilled'])}", ""),))
    return [tuple(first), *_flowing(items, width)]


def _flowing(items: Sequence[Line], width: int | None) -> list[Line]:
    """Put items side by side, in as many lines as they take."""
    lines: list[Line] = []
    for item in items:
        line: Line = (*lines[-1], ("   ", ""), *item) if lines else ()
        if line and (width is None or length(line) <= width):
            lines[-1] = line
        else:
            lines.append(item)
    return lines


def _soonest(snapshot: Snapshot) -> str:
    """Say which worker comes to its limit first; empty if none is known to."""
    known = [w for w in snapshot.workers if w["time_to_limit"] is not None]
    if not known:
        return ""
    worker = min(known, key=lambda w: w["time_to_limit"]["seconds"])
    told = worker["time_to_limit"]
    what = {"pause": "pauses", "terminate": "is terminated"}.get(
        told["line"], "is at its limit"
    )
    return f"{plain(str(worker['name']))} {what} in {format_duration(told['seconds'])}"


# -- the lists -----------------------------------------------------------------


def _rows(snapshot: Snapshot, view: str, order: int = 0) -> list[Row]:
    rows = {
        ONLY_WORKERS: snapshot.workers,
        ONLY_PREFIXES: snapshot.prefixes,
        ONLY_FAILURES: snapshot.failures,
    }.get(view, [])
    orders = list(ORDERS.get(view, {}).values())
    return sorted(rows, key=orders[order % len(orders)]) if orders else []


def _lists(snapshot: Snapshot) -> list[tuple[str, Sequence[Column]]]:
    return [
        (ONLY_FAILURES, failure_columns(snapshot.failures)),
        (ONLY_WORKERS, WORKERS),
        (ONLY_PREFIXES, PREFIXES),
    ]


def _nothing(view: str) -> Line:
    say = {
        ONLY_WORKERS: "No worker is connected.",
        ONLY_PREFIXES: "No task has run yet.",
        ONLY_FAILURES: "No failures.",
    }[view]
    return ((say, "good" if view == ONLY_FAILURES else "dim"),)


def _all(snapshot: Snapshot, width: int, room: int) -> list[Line]:
    """Write all three lists, as much of each as there is room for."""
    failures = _rows(snapshot, ONLY_FAILURES)
    each = 1 if room < 30 else 2
    told: list[Line] = [
        ((line, ""),)
        for text in told_first(failures)[:3]
        for line in wrapped([text], width, each)
    ]
    kept = max(1, min(len(failures), 3 if room < 30 else 8))
    lines: list[Line] = []
    if failures:
        lines += _some(ONLY_FAILURES, failures, snapshot, width, kept + 1)
        lines += told
    else:
        lines.append(_nothing(ONLY_FAILURES))
    left = room - len(lines) - 2
    workers = _rows(snapshot, ONLY_WORKERS)
    prefixes = _rows(snapshot, ONLY_PREFIXES)
    want = (len(workers) + 1, len(prefixes) + 1)
    half = left // 2
    first = min(want[0], max(half, left - want[1]))
    for view, rows, lot in (
        (ONLY_WORKERS, workers, first),
        (ONLY_PREFIXES, prefixes, left - first),
    ):
        lines.append(())
        lines += _some(view, rows, snapshot, width, lot)
    return lines


def _some(
    view: str, rows: list[Row], snapshot: Snapshot, width: int, room: int
) -> list[Line]:
    """Write the first rows of a list in so many lines, and how many there are more."""
    if room < 2 or not rows:
        return [_nothing(view)] if not rows and room > 0 else []
    columns = dict(_lists(snapshot))[view]
    if len(rows) <= room - 1:
        return table(columns, rows, width)
    shown = max(1, room - 2)
    key = next(key for key, name in VIEWS.items() if name == view)
    more = f"… and {len(rows) - shown:,} more: press {key}"
    lines = table(columns, rows[:shown], width)
    return [*lines, ((more, "dim"),)][:room]


def _one(snapshot: Snapshot, chosen: Chosen, width: int, room: int) -> list[Line]:
    """Write one list with a row chosen, and its details beneath."""
    rows = _rows(snapshot, chosen.view, chosen.order)
    if not rows:
        return [_nothing(chosen.view)]
    columns = dict(_lists(snapshot))[chosen.view]
    row = min(chosen.row, len(rows) - 1)
    told = wrapped(details(chosen.view, rows[row]), width, room)
    beneath = min(len(told), max(int(room * DETAILS), room - len(rows) - 4))
    window = max(1, room - beneath - 3)
    start = max(0, min(row - window // 2, len(rows) - window))
    lines = table(columns, rows[start : start + window], width)
    picked = row - start + 1
    lines[picked] = tuple((text, "chosen") for text, _ in padded(lines[picked], width))
    orders = list(ORDERS[chosen.view])
    where = f"{row + 1:,} of {len(rows):,}, {orders[chosen.order % len(orders)]}"
    if chosen.view == ONLY_WORKERS and snapshot.time - snapshot.workers_time > 1:
        ago = format_duration(snapshot.time - snapshot.workers_time)
        where += f"; asked {ago} ago, more rarely as there are many"
    lines += [((where, "dim"),), ()]
    return [*lines, *(((text, ""),) for text in told[:beneath])]


# -- lines ---------------------------------------------------------------------


def _prose(text: str, width: int) -> list[Line]:
    return [((line, ""),) for line in textwrap.wrap(text, width)]


def _filled(lines: Sequence[Line], width: int, height: int) -> list[Line]:
    """Cut or fill lines to so many of so many cells."""
    cutted = [cut(line, width) for line in lines[:height]]
    return [*cutted, *[()] * (height - len(cutted))]
