"""What a process had at most while tasks ran together, and no peak explains."""

from __future__ import annotations

from typing import Any

import pytest

from dask_memdash.measure.high_marks import HighMarks
from dask_memdash.measure.isolated import Traffic
from dask_memdash.measure.running_task import RunningTask

MB = 1_000_000


class Process:
    """A process of which every figure is what the test says, in bytes."""

    def __init__(self) -> None:
        self.high: int | None = 0
        self.idle: int | None = 100 * MB
        self.held = self.left = self.kept = self.files = self.storage = 0
        self.moved = Traffic()
        self.resets = 0

    def high_mark(self) -> int | None:
        self.resets += 1
        return self.high

    def in_execution(self, rss: int) -> int | None:
        return None if self.idle is None else rss - self.idle - self.storage

    def held_by_tasks(self) -> int:
        return self.held

    def left_since_idle(self) -> int:
        return self.left

    def kept_unseen(self) -> int:
        return self.kept

    def files_mapped(self) -> int:
        return self.files

    def stored(self) -> int:
        return self.storage

    def traffic(self) -> Traffic:
        return self.moved


def task(slot: int | None, *, alone: bool = False) -> RunningTask:
    return RunningTask(
        slot, "t", "t", slot, 0.0, 100 * MB, slot or 0, "exact", alone=alone
    )


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def counters() -> dict[int, tuple[int, int, int]]:
    return {0: (0, 10 * MB, 0), 1: (20 * MB, 20 * MB, 0)}


@pytest.fixture
def marks(process: Process, counters: Any) -> HighMarks:
    return HighMarks(process, counters.__getitem__)


def look(marks: HighMarks, process: Process, high: int | None) -> tuple[int, int]:
    """Run two tasks together; give what each may have had beside its count, in MB."""
    first, second = task(0), task(1)
    marks.begin(first)
    marks.begin(second)
    process.high = high
    process.held = 20 * MB
    marks.end(first, [first, second], brief=False)
    return first.beyond // MB, second.beyond // MB


def test_what_peaks_explain_is_nobodys_error(marks, process):
    assert look(marks, process, 130 * MB) == (0, 0)


def test_what_no_peak_explains_may_be_anybodys(marks, process):
    assert look(marks, process, 190 * MB) == (60, 60)


def test_a_trifle_says_nothing(marks, process):
    assert look(marks, process, 132 * MB) == (0, 0)


def test_what_tasks_left_behind_explains(marks, process):
    process.left = 25 * MB
    assert look(marks, process, 190 * MB) == (35, 35)


def test_what_allocators_keep_may_explain_all_and_else_is_in_doubt_in_part(
    marks, process
):
    process.kept = 59 * MB
    assert look(marks, process, 190 * MB) == (0, 0)
    process.kept = 20 * MB  # and 40 that nothing explains
    assert look(marks, process, 190 * MB) == (50, 50)
    process.kept = 4 * MB
    assert look(marks, process, 190 * MB) == (60, 60)


@pytest.mark.parametrize(("high", "beyond"), [(143, 0), (192, 60)])
def test_what_moved_or_was_mapped_or_stored_meanwhile_may_explain_all(
    marks, process, high, beyond
):
    first = task(0)
    process.storage = 7 * MB
    marks.begin(first)
    process.high = high * MB
    process.moved, process.files, process.storage = Traffic(10 * MB, 1 * MB), 5 * MB, 0
    marks.end(first, [first], brief=False)  # 22 moved, 5 mapped and 7 stored
    assert first.beyond == beyond * MB  # 92, 10 of them its own: 48 and a quarter


def test_without_a_baseline_or_a_mark_nothing_is_said(marks, process):
    process.idle = None
    assert look(marks, process, 190 * MB) == (0, 0)
    process.idle = 100 * MB
    assert look(marks, process, None) == (0, 0)


def test_a_mark_from_before_the_tasks_is_set_back_and_not_heard(marks, process):
    process.high = 900 * MB  # a spike while nothing that is measured ran
    first, second = task(0, alone=True), task(1)
    marks.begin(first)  # too brief to be looked at
    first.alone = False
    marks.begin(second)
    assert process.resets == 1
    process.high, process.held = 130 * MB, 20 * MB
    marks.end(second, [first, second], brief=False)
    assert (first.beyond, second.beyond) == (0, 0)


def test_brief_tasks_are_not_looked_at_but_what_they_had_explains(
    marks, process, counters
):
    first, brief = task(0), task(1)
    marks.begin(first)
    marks.begin(brief)
    resets = process.resets
    counters[1] = (0, 50 * MB, 0)
    marks.end(brief, [first, brief], brief=True)
    assert process.resets == resets
    process.high = 190 * MB
    marks.end(first, [first], brief=False)
    assert first.beyond == 30 * MB
    assert task(None).beyond == brief.beyond == 0


def test_what_was_found_stays_with_those_that_ran(marks, process):
    first, second, third = task(0), task(1), task(0)
    marks.begin(first)
    marks.begin(second)
    process.high, process.held = 190 * MB, 20 * MB
    marks.end(first, [first, second], brief=False)
    marks.begin(third)
    process.high = 130 * MB
    marks.end(second, [second, third], brief=False)
    assert (second.beyond, third.beyond) == (60 * MB, 0)
