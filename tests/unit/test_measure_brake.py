"""The brake: what would end a process fails instead, in the task that asks for it."""

from __future__ import annotations

import pytest
from native_scripts import run

from dask_memdash.measure import native_tally as face

pytestmark = pytest.mark.skipif(face.load() is None, reason=face.why_not() or "-")

#: A process that may have 100 MB more than it has now; refused is what asks for more.
BEFORE = """
import numpy as np
assert tally.acquire(), tally.refused
from dask_memdash.measure.brake import brake
slots, stop = Slots(), brake()

def rss():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

def task(function, may=True, index=0):
    "Run a function as a task; give its result, the error it raised, what was refused."
    slots.begin(index)
    stop.begin(may=may)
    result = error = None
    try:
        result = function()
    except MemoryError as caught:
        error = caught
    refused = stop.end()
    tally.end()
    return result, error, refused

most = rss() + 100 * MB
assert stop.set(most)
"""


def test_numpy_raises_where_the_process_would_pass_the_line() -> None:
    run(
        BEFORE
        + """
for allocate in (np.ones, np.empty, np.zeros):
    result, error, refused = task(lambda: allocate(300 * MB // 8))
    assert isinstance(error, MemoryError) and "Unable to allocate" in str(error)
    assert refused.times == 1 and refused.asked == 300 * MB, refused
    close(refused.rss, rss(), 0.1)
def holds():
    kept = np.ones(40 * MB // 8)
    return kept, np.ones(80 * MB // 8)
_, error, refused = task(holds)
assert refused.times == 1 and refused.asked == 80 * MB, refused
close(refused.held, 40 * MB)
stop.set(rss() + 100 * MB)
kept, error, refused = task(lambda: np.ones(50 * MB // 8))
assert kept[-1] == 1 and error is None and refused is None
# what there is counts
_, error, refused = task(lambda: np.ones(70 * MB // 8))
assert error is not None and refused.asked == 70 * MB
stop.set(rss() + 100 * MB)
assert task(lambda: np.ones(70 * MB // 8).sum())[0] == 70 * MB // 8
"""
    )


def test_what_is_small_passes_however_little_is_left() -> None:
    run(
        BEFORE
        + """
stop.set(1)
result, error, refused = task(lambda: [np.ones(100_000) for _ in range(10)])
assert len(result) == 10 and error is None and refused is None
_, error, refused = task(lambda: np.ones(2**17))  # a MiB
assert error is not None and refused.times == 1
"""
    )


def test_task_that_swallows_the_error_is_found_out_and_not_refused_for_ever() -> None:
    run(
        BEFORE
        + """
def swallows():
    try:
        np.ones(300 * MB // 8)
    except MemoryError:
        return "an answer"

result, error, refused = task(swallows)
assert (result, error, refused.times) == ("an answer", None, 1)

def insists():
    for tries in range(1000):
        try:
            return tries, np.empty(300 * MB // 8)
        except MemoryError:
            pass

(tries, array), error, refused = task(insists)
assert (tries, refused.times) == (100, 100)
"""
    )


def test_only_a_tasks_own_thread_is_refused_anything_and_only_while_it_may_be() -> None:
    run(
        BEFORE
        + """
def large():
    return len(np.empty(300 * MB // 8))

wanted = 300 * MB // 8
assert large() == wanted  # no task's
assert task(large, may=False)[0] == wanted

def in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(large()))
    thread.start()
    thread.join()
    return found[0]

result, error, refused = task(in_a_thread)
assert (result, error, refused) == (wanted, None, None)
stop.begin(may=True)  # of nothing that is counted
assert large() == wanted and stop.end() is None
# taken away while a task runs
def meanwhile():
    stop.set(0)
    return large()
assert task(meanwhile)[0] == wanted
stop.set(most)
assert task(large)[2].times == 1
"""
    )


def test_arrays_outlive_it_and_numpy_has_its_own_handler_back() -> None:
    run(
        BEFORE
        + """
from numpy._core.multiarray import get_handler_name
own = get_handler_name()
def inside():
    return get_handler_name(), np.arange(1_000_000.0)
(name, array), _, _ = task(inside)
assert name == "memdash_brake" and get_handler_name(array) == name
assert get_handler_name() == own
stop.set(0)
tally.release()
array.resize(2_000_000, refcheck=False)
assert array[999_999] == 999_999
del array, inside
"""
    )


def test_child_of_a_fork_is_refused_nothing() -> None:
    run(
        BEFORE
        + """
def forks():
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if len(np.empty(300 * MB // 8)) else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

assert task(forks)[0] == 0
assert task(lambda: np.empty(300 * MB // 8))[2].times == 1
"""
    )


def test_tasks_in_many_threads_are_told_apart() -> None:
    run(
        BEFORE
        + """
stop.set(rss() + 800 * MB)
found = {}
def worker(index):
    for _ in range(50):
        small, error, refused = task(lambda: np.empty(2 * MB), index=index)
        assert error is None and refused is None
        _, error, refused = task(lambda: np.empty(2000 * MB), index=index)
        assert error is not None and refused.times == 1
    found[index] = True

threads = [threading.Thread(target=worker, args=(i,)) for i in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 6
"""
    )


def test_arrow_says_that_it_is_out_of_memory() -> None:
    pytest.importorskip("pyarrow")
    run(
        """
import pyarrow as pa
pa.default_memory_pool()
"""
        + BEFORE
        + """
if not tally.state()["arrow"] or pa.default_memory_pool().backend_name == "system":
    sys.exit(0)  # it is malloc, or of a version that is left alone
before = pa.total_allocated_bytes()
_, error, refused = task(lambda: pa.allocate_buffer(300 * MB))
assert isinstance(error, pa.ArrowMemoryError), error
assert refused[:2] == (1, 300 * MB)

def grows():
    buffer = pa.allocate_buffer(10 * MB, resizable=True)
    memoryview(buffer).cast("B")[0] = 7
    try:
        buffer.resize(300 * MB)
    except pa.ArrowMemoryError:
        return buffer.size, bytes(buffer[:1])

result, error, refused = task(grows)
assert result == (10 * MB, bytes([7])), result
assert refused.times == 1 and abs(refused.asked - 290 * MB) < 1000
assert pa.total_allocated_bytes() == before
assert task(lambda: pa.allocate_buffer(20 * MB).size)[0] == 20 * MB
"""
    )
