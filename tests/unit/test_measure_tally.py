"""The tally's counts: how exact, whose, and that they do not drift."""

from __future__ import annotations

import contextvars
import random
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tally_slots import SLOT, Slots

from dask_memdash.measure import tally as face
from dask_memdash.measure.tally import MISSED_TASK, Tally

MB = 1_000_000


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


def test_it_is_built_where_it_can_be() -> None:
    if sys.platform == "win32" or shutil.which("cc") is None:
        pytest.skip("no compiler here")
    assert face.load() is not None, face.why_not()
    assert face.why_not() == ""


# -- how exact ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [8 * MB, 64 * MB, 160 * MB])
@pytest.mark.parametrize("make", [np.empty, np.zeros])
def test_numpy_arrays_are_exact_to_a_thousandth(
    slots: Slots, make: Callable[..., np.ndarray], size: int
) -> None:
    with slots.task():
        array = make(size // 8)
        assert slots.now() == pytest.approx(size, rel=1e-3)
        del array
        assert abs(slots.now()) < 0.001 * size
    assert slots.peak() == pytest.approx(size, rel=1e-3)
    assert slots.missed == 0


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: bytes(10 * MB), 10 * MB),
        (lambda: bytearray(10 * MB), 10 * MB),
        (lambda: "x" * (10 * MB), 10 * MB),
        (lambda: [None] * MB, 8 * MB),
    ],
    ids=["bytes", "bytearray", "str", "list"],
)
def test_large_python_objects_are_exact(
    slots: Slots, make: Callable[[], object], size: int
) -> None:
    with slots.task():
        made = make()
        assert slots.now() == pytest.approx(size, rel=1e-3)
        del made
        assert abs(slots.now()) < 0.001 * size


def test_list_that_grows_is_followed_through_every_reallocation(slots: Slots) -> None:
    with slots.task():
        grown: list[None] = []
        for _ in range(2 * MB):
            grown.append(None)  # noqa: PERF401
        # a list holds room for an eighth more than its items, at most
        assert 16 * MB <= slots.now() <= 18.2 * MB
        grown.clear()
        assert abs(slots.now()) < 0.1 * MB


def test_small_objects_are_seen_as_arenas(slots: Slots) -> None:
    if slots.tally.counts_small_objects:
        pytest.skip("they are counted one by one here")
    with slots.task():
        # 32 bytes each, and eight for its place in the list (and an eighth); enough
        # of them to need new arenas, whatever the process has left over
        many = [float(i) for i in range(2 * MB)]
        assert 70 * MB < slots.now() < 84 * MB
        del many


def test_pandas_frame_of_numbers_is_exact(slots: Slots) -> None:
    pd = pytest.importorskip("pandas")
    pd.DataFrame({"a": np.ones(1)}).copy()  # what the first one imports stays
    with slots.task():
        frame = pd.DataFrame({name: np.ones(MB) for name in "abcdef"})
        assert slots.now() == pytest.approx(48 * MB, rel=0.01)
        copy = frame.copy()
        assert slots.now() == pytest.approx(96 * MB, rel=0.01)
        del frame, copy
        assert abs(slots.now()) < MB
    assert slots.peak() == pytest.approx(96 * MB, rel=0.01)


def test_array_that_is_resized_is_followed(slots: Slots) -> None:
    with slots.task():
        array = np.zeros(MB, "u1")
        array.resize(10 * MB, refcheck=False)
        assert slots.now() == pytest.approx(10 * MB, rel=1e-3)
        array.resize(4 * MB, refcheck=False)
        assert slots.now() == pytest.approx(4 * MB, rel=2e-3)
        del array
        assert abs(slots.now()) < 5_000
    assert slots.missed == 0


def test_peak_is_the_most_at_one_time_and_not_the_sum(slots: Slots) -> None:
    with slots.task():
        for _ in range(5):
            np.ones(MB)
        kept = np.ones(MB // 2)
    assert slots.peak() == pytest.approx(8 * MB, rel=0.01)
    assert slots.now() == pytest.approx(4 * MB, rel=0.01)
    del kept


def test_counts_start_at_nothing_with_every_task(slots: Slots) -> None:
    with slots.task():
        kept = bytes(MB)
    with slots.task():
        assert slots.now() < 10_000
        assert slots.peak() < 10_000
    del kept


@pytest.mark.parametrize("arrays", [False, True])
def test_random_churn_ends_where_it_began(slots: Slots, arrays: bool) -> None:
    """The same function weighs a block when it comes and when it goes."""
    rng = random.Random(3)
    places = [[None] for _ in range(200)]  # no item is a new object
    with slots.task():
        churn(rng, places, 1_000, arrays)
        clear(places)
        before = slots.now()
        churn(rng, places, 100_000, arrays)
        assert slots.now() > before
        clear(places)
        # Not a byte, unless an arena of small objects came or went, or the few
        # blocks for dimensions that NumPy keeps are not of quite the same sizes.
        drift = slots.now() - before
        assert min(abs(drift + arena) for arena in (-(2**20), 0, 2**20)) <= 512 * arrays


def churn(rng: random.Random, places: list[list], rounds: int, arrays: bool) -> None:
    for _ in range(rounds):
        place = places[rng.randrange(len(places))]
        size = int(10 ** rng.uniform(3.1, 5))  # NumPy keeps some of less than 1 KiB
        kind = rng.randrange(4)
        if kind == 0:
            place[0] = bytes(size)
        elif kind == 1 and arrays:
            place[0] = np.empty(size, "u1")
        elif isinstance(place[0], bytearray):
            place[0].extend(b"." * (size % 5_000))
        else:
            place[0] = bytearray(size) if kind == 2 else None


def clear(places: list[list]) -> None:
    for place in places:
        place[0] = None


def test_arrays_churn_without_any_drift(slots: Slots) -> None:
    def churn() -> None:
        for i in range(50_000):
            np.empty(1 + i * 7 % 40_000, "u1")

    with slots.task():
        churn()  # NumPy keeps blocks of less than 1 KiB
        before = slots.now()
        churn()
        churn()
        assert slots.now() == before


# -- whose -------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_are_counted_apart(slots: Slots, threads: int) -> None:
    barrier = threading.Barrier(threads, timeout=20)

    def run(index: int) -> int:
        barrier.wait()
        with slots.task(index):
            held = []
            for _ in range(10 * (index + 1)):
                held.append(np.ones(MB // 8))
                held.append(bytes(MB))
            barrier.wait()  # all hold at once
            now = slots.now(index)
        barrier.wait()
        return now

    with ThreadPoolExecutor(threads) as pool:
        held = list(pool.map(run, range(threads)))
    assert held == [
        pytest.approx(20 * MB * (index + 1), rel=0.01) for index in range(threads)
    ]


def test_thread_without_a_task_is_not_counted(slots: Slots) -> None:
    with slots.task():
        before = slots.now()
        with ThreadPoolExecutor(1) as pool:
            kept = pool.submit(bytes, 10 * MB).result()
        assert abs(slots.now() - before) < 0.5 * MB
        del kept  # freed by the task: off its count
        assert slots.now() == pytest.approx(before - 10 * MB, abs=0.5 * MB)


def test_task_that_ends_leaves_its_counts_to_be_read(slots: Slots) -> None:
    with slots.task():
        kept = np.ones(MB)
    more = np.ones(MB)
    assert slots.now() == pytest.approx(8 * MB, rel=0.01)
    del kept, more
    assert slots.now() == pytest.approx(8 * MB, rel=0.01)


def test_array_freed_after_its_task_in_another_thread_is_freed_rightly(
    slots: Slots,
) -> None:
    made = []

    def make() -> None:
        with slots.task(1):
            made.extend(np.full(MB // 8, float(i)) for i in range(20))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(make,))
    thread.start()
    thread.join(10)
    assert [array[-1] for array in made] == list(range(20))
    with slots.task(2):
        made.clear()
    assert slots.now(1) == pytest.approx(20 * MB, rel=0.01)
    assert slots.now(2) == pytest.approx(-20 * MB, rel=0.01)
    assert slots.peak(2) < 0.1 * MB


def test_task_inside_a_task_is_counted_apart(slots: Slots) -> None:
    with slots.task(0):
        outer = bytes(MB)
        with slots.task(1):
            inner = np.ones(MB)
        assert slots.missed == 0
        after = bytes(2 * MB)
        array = np.ones(MB)
    assert slots.missed == 0
    assert slots.now(0) == pytest.approx(11 * MB, rel=0.01)
    assert slots.now(1) == pytest.approx(8 * MB, rel=0.01)
    del outer, inner, after, array


def test_task_that_leaves_its_pool_is_counted_until_it_ends(slots: Slots) -> None:
    """As with `secede`: its thread goes on, and another takes its place."""
    seceded, go_on = threading.Event(), threading.Event()

    def long() -> None:
        with slots.task(0):
            first = np.ones(MB)
            seceded.set()
            assert go_on.wait(10)
            second = np.ones(MB)
            del first, second

    def other() -> None:
        with slots.task(1):
            np.ones(2 * MB)

    thread = threading.Thread(target=long)
    thread.start()
    assert seceded.wait(10)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(other).result(10)
    go_on.set()
    thread.join(10)
    assert slots.peak(0) == pytest.approx(16 * MB, rel=0.01)
    assert slots.peak(1) == pytest.approx(16 * MB, rel=0.01)


def test_thread_that_ends_inside_a_task_leaves_nothing_behind(slots: Slots) -> None:
    for _ in range(50):
        thread = threading.Thread(target=slots.tally.begin, args=(slots.mapping, 0))
        thread.start()
        thread.join(10)
    held = slots.now()
    kept = [np.ones(1000) for _ in range(100)]
    assert slots.now() == held
    with slots.task():
        assert slots.now() < 10_000
    del kept


# -- begin and end -----------------------------------------------------------------


def test_end_without_begin_says_so(slots: Slots) -> None:
    assert slots.tally.end() == MISSED_TASK


@pytest.mark.parametrize("offset", [-8, -1, 1, 7, 8 * SLOT - 8, 8 * SLOT, 2**62])
def test_slot_outside_of_the_mapping_or_unaligned_is_refused(
    slots: Slots, offset: int
) -> None:
    with pytest.raises(ValueError, match="there is no slot at"):
        slots.tally.begin(slots.mapping, offset)
    assert slots.tally.end() == MISSED_TASK


@pytest.mark.parametrize("mapping", [None, 0, b"", object(), np.zeros(3)])
def test_what_is_no_mapping_is_refused(slots: Slots, mapping: object) -> None:
    with pytest.raises(ValueError, match="PyCapsule"):
        slots.tally.begin(mapping, 0)  # type: ignore[arg-type]


def test_file_shorter_than_the_mapping_is_refused(tally: Tally, tmp_path: Path) -> None:
    """Touching a page behind the end of a file is a SIGBUS."""
    path = tmp_path / "short"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as file:
        with pytest.raises(ValueError, match="the file has 4096 bytes, not 8192"):
            tally.map_slots(file.fileno(), 8192)
        _, buffer = tally.map_slots(file.fileno(), 4096)
    buffer[8:10] = b"ok"
    assert path.read_bytes()[8:10] == b"ok"


def test_descriptor_that_is_closed_is_an_os_error(tally: Tally) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        tally.map_slots(999_999, 4096)
    with pytest.raises(ValueError, match="holds no slot"):
        tally.map_slots(-1, 8)


def test_mapping_stays_when_nobody_refers_to_it_any_more(tally: Tally) -> None:
    buffer = Slots(tally).buffer
    with Slots(tally).task():
        kept = bytes(MB)
    buffer[:4] = b"fine"
    assert bytes(buffer[:4]) == b"fine"
    del kept


# -- the Python face ---------------------------------------------------------------


def test_hooks_stay_until_the_last_worker_has_gone(tally: Tally) -> None:
    assert tally.acquire()
    tally.release()
    assert tally.installed
    assert tally.hooks()["raw"] == "ours"


def test_check_says_nothing_while_all_is_well(tally: Tally) -> None:
    assert tally.check() == []
    hooks = tally.hooks()
    # NumPy's own handler uses the raw domain since 2.5
    old = tuple(int(n) for n in np.__version__.split(".")[:2]) < (2, 5)
    assert hooks.pop("numpy") == ("chained" if old else "raw")
    assert hooks == {"raw": "ours", "arenas": "ours", "objects": "none"}


def test_self_test_compares_counts_with_known_sizes(
    tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tally.self_test() == ""
    monkeypatch.setattr(face, "TEST_TOLERANCE", 0.0)
    assert "allocated by Python it counted" in tally.self_test()


def test_tally_that_fails_its_self_test_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    native = pytest.importorskip("dask_memdash.measure._tally")
    second = Tally(native)
    monkeypatch.setattr(second, "self_test", lambda: "it counts too much")
    monkeypatch.setattr(native, "uninstall", lambda: True)
    assert not second.acquire()
    assert second.refused == "the tally cannot be used: it counts too much"
    assert second.check() == [second.refused]
    second.release()
    assert not second.installed
