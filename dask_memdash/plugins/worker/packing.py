"""Packs a worker's report into one run of numbers, for its way with a heartbeat.

What the run holds is said where it is read: :mod:`dask_memdash.model.packed_report`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from dask_memdash.model.event_parts import StorageRow
from dask_memdash.model.event_readers import MAX_NAME
from dask_memdash.model.packed_report import (
    ABSENT,
    COST,
    MICRO,
    PACKED,
    READING,
    SKETCHES,
    SPILL_ROOM,
    TASK,
    THRESHOLDS,
    UNSEEN,
    WEIGHED,
)

#: What a part may lack, or have too large, so that it does not fit.
_UNFIT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def pack(report: Mapping[str, Any]) -> dict[str, Any]:
    """Pack a report of plain data; as it is where a value does not fit.

    What the scheduler refuses then says which.
    """
    try:
        packed, names = _packed(report)
    except _UNFIT:
        return dict(report)
    rest = {
        name: part
        for name, part in report.items()
        if name not in PACKED and part is not None and part != [] and part != ()
    }
    return {**rest, "names": names, "packed": packed}


def _packed(report: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    places: dict[str, int] = {}

    def place(text: str) -> int:
        if len(text) > MAX_NAME:
            raise ValueError("a text is too long")
        return places.setdefault(text, len(places))

    rows, tasks, finished = report["rows"], report["executing"], report["finished"]
    run = [-1 if rows is None else len(rows), len(tasks), len(finished)]
    run.append(place(report["method"]))
    run += _reading_numbers(report["reading"])
    run += [_or_absent(report["thresholds"].get(name)) for name in THRESHOLDS]
    run += _cost_numbers(report["cost"]) + _cost_numbers(report["nanny_cost"])
    run += [_or_absent(report["spill_room"].get(name)) for name in SPILL_ROOM]
    blocks = [task.get("block") or {} for task in tasks]
    ended = finished.values()
    run += [place(prefix) for prefix in rows or ()]
    for name in ("key", "digest", "prefix", "method"):
        run += [place(task[name]) for task in tasks]
    for name in ("file", "function", "called"):
        run += [place(block.get(name, "")) for block in blocks]
    run += [place(prefix) for prefix in finished]
    run += [place(one["method"]) for one in ended]
    run += [place(one["weighed"]["because"]) for one in ended]
    for column in range(len(StorageRow._fields)):
        run += [row[column] for row in (rows or {}).values()]
    for name in (*TASK, "filling"):
        factor = MICRO if name == "seconds" else 1
        run += [_or_absent(task.get(name), factor) for task in tasks]
    for name in ("size", "line"):
        run += [_or_absent(block.get(name)) for block in blocks]
    run += [one["count"] for one in ended]
    run += [one["weighed"][name] for name in WEIGHED for one in ended]
    run += [one["unseen"][name] for name in UNSEEN for one in ended]
    run += [_length(one[name]) for name in SKETCHES for one in ended]
    sketches = [one[name] for name in SKETCHES for one in ended]
    sketches = [sketch for sketch in sketches if _length(sketch) > 0]
    run += [sketch["min"] for sketch in sketches]
    run += [sketch["max"] for sketch in sketches]
    run += [int(bucket) for sketch in sketches for bucket in sketch["buckets"]]
    run += [n for sketch in sketches for n in sketch["buckets"].values()]
    return _to_bytes(run), list(places)


def _reading_numbers(reading: Mapping[str, Any]) -> list[int]:
    factors = {"time": MICRO}
    return [_or_absent(reading.get(n), factors.get(n, 1)) for n in READING]


def _cost_numbers(cost: Mapping[str, Any]) -> list[int]:
    cpu, size, held_back = (cost.get(name) for name in COST)
    return [_or_absent(cpu, MICRO), _or_absent(size), held_back or 0]


def _or_absent(value: float | None, factor: int = 1) -> int:
    if value is None:
        return ABSENT
    return int(value) if factor == 1 else round(value * factor)


def _length(sketch: Mapping[str, Any]) -> int:
    buckets: Mapping[str, int] = sketch["buckets"]
    if buckets and sketch["max"] == 0:
        return -sum(buckets.values())
    return len(buckets)


def _to_bytes(run: Iterable[int]) -> bytes:
    numbers = array("q", run)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
