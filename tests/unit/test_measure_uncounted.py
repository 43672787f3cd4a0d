"""What tasks that run together have beside what is counted of them."""

from __future__ import annotations

from typing import Any

import pytest

from dask_memdash.measure import uncounted as module
from dask_memdash.measure.regression import PrefixRegression
from dask_memdash.measure.running_task import RunningTask
from dask_memdash.measure.uncounted import Uncounted

MB = 1_000_000


class Process:
    """A process of which every figure is what the test says, in bytes."""

    def __init__(self) -> None:
        self.held = self.left = self.kept = self.arrow = 0
        self.idle: int | None = 100 * MB

    def in_execution(self, rss: int) -> int | None:
        return None if self.idle is None else rss - self.idle

    def held_by_tasks(self) -> int:
        return self.held

    def left_since_idle(self) -> int:
        return self.left

    def kept_unseen(self) -> int:
        return self.kept

    def arrow_growth(self) -> int:
        return self.arrow


class Shares(PrefixRegression):
    """Notes what is observed, in MB."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[float] = []

    def observe(self, total: float, running: Any) -> None:
        self.heard.append(total / MB)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [10.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


RUNNING = [RunningTask(n, "t", "t", n, 0.0, 100 * MB, n, "exact") for n in range(2)]


@pytest.mark.parametrize(
    ("rss", "kept", "arrow", "seen"),
    [
        (180, 0, 0, 0),  # what is counted
        (230, 0, 0, 50),
        (230, 30, 0, 20),  # allocators keep as much of what was freed
        (230, 70, 0, 0),
        (230, 70, 40, 40),  # unless Arrow says that it is in use
        (150, 0, 0, 0),  # pages that are about to be touched
    ],
)
def test_what_is_beyond_the_counts_and_not_kept_is_shared_out(
    clock: list[float], rss: int, kept: int, arrow: int, seen: int
) -> None:
    process, shares = Process(), Shares()
    process.held, process.kept, process.arrow = 80 * MB, kept * MB, arrow * MB
    uncounted = Uncounted(process, shares, counted=True)  # type: ignore[arg-type]
    uncounted.observe(rss * MB, RUNNING)
    assert shares.heard == [seen]


@pytest.mark.parametrize(("kept", "error"), [(0, 50), (30, 20), (70, 0)])
def test_what_allocators_keep_is_no_error_of_tasks_that_run(
    clock: list[float], kept: int, error: int
) -> None:
    process = Process()
    process.held, process.kept = 80 * MB, kept * MB
    uncounted = Uncounted(process, Shares(), counted=True)  # type: ignore[arg-type]
    assert uncounted.unexplained(230 * MB, RUNNING) == error * MB


def test_solving_takes_at_most_its_share_of_the_time(clock: list[float]) -> None:
    solved: list[float] = []

    class Slow(Shares):
        def solve(self) -> None:
            solved.append(clock[0])
            clock[0] += 0.01

    uncounted = Uncounted(Process(), Slow(), counted=True)  # type: ignore[arg-type]
    for _ in range(500):
        uncounted.solve()
        clock[0] += 0.01
    assert [round(at, 2) for at in solved] == [10.0, 12.0, 14.0]
