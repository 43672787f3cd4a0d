"""The tally and NumPy's handlers: chained, and every context left as it was."""

from __future__ import annotations

import contextvars
import gc
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tally_slots import Slots, UserHandler, get_handler, set_handler

from dask_memdash.measure import tally as face
from dask_memdash.measure.tally import MISSED_NUMPY, Tally

MB = 1_000_000
core = np._core if hasattr(np, "_core") else np.core
get_handler_name = core.multiarray.get_handler_name


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    tally = face.load()
    if tally is None:
        pytest.skip(face.why_not())
    assert tally.acquire(), tally.refused
    yield tally
    tally.release()


@pytest.fixture
def slots(tally: Tally) -> Slots:
    return Slots(tally)


@pytest.fixture
def missed(tally: Tally) -> int:
    """What a task misses that has another handler at its end than at its begin.

    Since NumPy 2.5 its own handler uses the raw domain, and needs no hook.
    """
    return MISSED_NUMPY if tally.hooks()["numpy"] == "chained" else 0


@pytest.fixture(scope="module")
def user() -> UserHandler:
    # lives as long as the module: arrays made through it must be freed through it
    return UserHandler()


def in_own_context(function: Callable[[], None]) -> contextvars.Context:
    """Run as Dask runs a task, and give the context as it was left."""
    context = contextvars.copy_context()
    context.run(function)
    return context


def test_context_is_left_with_the_handler_it_had(slots: Slots) -> None:
    default = get_handler()
    chained = slots.tally.hooks()["numpy"] == "chained"

    def task() -> None:
        with slots.task():
            assert (get_handler() is not default) == chained
            assert (get_handler_name(np.ones(3)) == "memdash") == chained

    context = in_own_context(task)
    assert context.run(get_handler) is default
    assert get_handler() is default
    assert get_handler_name(np.ones(3)) == "default_allocator"
    assert slots.missed == 0


def test_users_handler_is_chained_and_put_back(slots: Slots, user: UserHandler) -> None:
    made, freed = user.made, user.freed
    kept = []

    def task() -> None:
        set_handler(user.capsule)
        with slots.task():
            assert get_handler() is not user.capsule
            kept.append(np.empty(MB))
            assert slots.now() == pytest.approx(8 * MB, rel=1e-3)
            np.zeros(MB)
            assert slots.now() == pytest.approx(8 * MB, rel=1e-3)
            assert user.made == made + 2
            assert user.freed == freed + 1
        assert get_handler() is user.capsule

    context = in_own_context(task)
    assert context.run(get_handler) is user.capsule
    assert slots.missed == 0
    assert slots.peak() == pytest.approx(16 * MB, rel=1e-3)
    kept.clear()  # in another context, after its task: through the right handler
    assert user.freed == freed + 2


def test_what_a_users_handler_takes_from_python_counts_once(
    slots: Slots, user: UserHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    extravagant = user._malloc
    kept = []

    def malloc(size: int) -> int:
        kept.append(bytes(5 * MB))
        return extravagant(size)

    monkeypatch.setattr(user, "_malloc", malloc)

    def task() -> None:
        set_handler(user.capsule)
        with slots.task():
            np.empty(MB)

    in_own_context(task)
    assert slots.peak() == pytest.approx(8 * MB, rel=1e-3)


def test_blocks_that_a_users_handler_resizes_are_owned_up_to(
    slots: Slots, user: UserHandler
) -> None:
    """NumPy does not say how large a block was that it resizes."""

    def task() -> None:
        set_handler(user.capsule)
        with slots.task():
            array = np.ones(MB)
            array.resize(2 * MB, refcheck=False)
            assert array[MB - 1] == 1.0

    in_own_context(task)
    assert slots.missed == MISSED_NUMPY


def test_handler_that_the_task_sets_stays(slots: Slots, user: UserHandler) -> None:
    kept = []

    def task() -> None:
        with slots.task():
            kept.append(np.empty(MB))
            set_handler(user.capsule)
            kept.append(np.empty(MB))  # not seen

    context = in_own_context(task)
    assert context.run(get_handler) is user.capsule
    assert slots.missed == MISSED_NUMPY
    assert slots.now() == pytest.approx(8 * MB, rel=1e-2)
    kept.clear()
    assert user.freed == user.made


def test_handler_that_the_task_sets_and_puts_back_is_no_harm(
    slots: Slots, user: UserHandler
) -> None:
    default = get_handler()

    def task() -> None:
        with slots.task():
            before = set_handler(user.capsule)
            np.ones(MB)
            set_handler(before)

    context = in_own_context(task)
    assert context.run(get_handler) is default
    assert slots.missed == 0


def test_users_handler_lives_as_long_as_the_arrays_made_through_it(
    slots: Slots,
) -> None:
    user = UserHandler()
    kept = []

    def task() -> None:
        set_handler(user.capsule)
        with slots.task():
            kept.append(np.empty(MB))

    before = sys.getrefcount(user.capsule)
    in_own_context(task)
    gc.collect()
    # the array holds our capsule, which holds the user's
    held = sys.getrefcount(user.capsule)
    assert held == before + 1
    kept[0][-1] = 1.0
    kept.clear()
    assert user.freed == user.made == 1
    held = sys.getrefcount(user.capsule)
    assert held == before


def test_task_inside_a_task_uses_the_same_handler(slots: Slots) -> None:
    default = get_handler()

    def task() -> None:
        with slots.task(0):
            ours = get_handler()
            with slots.task(1):
                assert get_handler() is ours
            assert get_handler() is ours

    context = in_own_context(task)
    assert context.run(get_handler) is default


def test_context_copied_inside_a_task_outlives_it(slots: Slots) -> None:
    """A library that keeps a task's context must find it in working order."""
    contexts = []

    def task() -> None:
        with slots.task(0):
            contexts.append(contextvars.copy_context())

    in_own_context(task)
    held = slots.now(0)
    array = contexts[0].run(np.ones, MB)
    assert array[-1] == 1.0
    assert slots.now(0) == held

    def later() -> None:
        with slots.task(1):
            np.ones(MB)
            assert slots.now(1) < 0.1 * MB

    contexts[0].run(later)
    assert slots.peak(1) == pytest.approx(8 * MB, rel=1e-2)
    assert slots.missed == 0


def test_end_in_another_context_than_begin_spoils_neither(
    slots: Slots, missed: int
) -> None:
    """An actor that raises ends its mark in the next task's context."""
    default = get_handler()
    context = contextvars.copy_context()
    assert context.run(slots.tally.begin, slots.mapping, 0)
    assert slots.tally.end() == missed
    assert get_handler() is default
    assert context.run(np.ones, 10).sum() == 10


def test_handlers_of_many_tasks_leave_nothing_behind(
    slots: Slots, user: UserHandler
) -> None:
    def task() -> None:
        set_handler(user.capsule)
        for _ in range(1_000):
            with slots.task():
                np.ones(10)

    before = sys.getrefcount(user.capsule)
    in_own_context(task)
    gc.collect()
    held = sys.getrefcount(user.capsule)
    assert held == before


def test_many_threads_with_arrays_that_change_hands(slots: Slots) -> None:
    shared: list[np.ndarray] = []

    def run(index: int) -> None:
        for i in range(300):
            with slots.task(index):
                shared.append(np.full(100 + 50 * i, index, "i4"))
                taken = shared.pop(0)
                assert (taken == taken[0]).all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8), timeout=30))
