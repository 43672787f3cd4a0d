"""Jobs that tasks give to pools of threads, with the native tally in a real process."""

from __future__ import annotations

import pytest
from native_scripts import run

from dask_memdash.measure import native_tally as face

pytestmark = pytest.mark.skipif(face.load() is None, reason=face.why_not() or "-")

#: A pool, and whatever else allocates, is there before the first task.
BEFORE = """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(2)
both = threading.Barrier(2)
list(pool.map(lambda _: both.wait(20), range(2)))
original = ThreadPoolExecutor.submit
assert tally.acquire(), tally.refused
slots = Slots()

def fill(size=10 * MB):
    held = b"x" * size
    return len(held)
"""


def test_job_counts_for_the_task_that_submitted_it_to_a_pool_of_before() -> None:
    run(
        BEFORE
        + """
slots.begin()
assert pool.submit(fill).result() == 10 * MB
kept = pool.submit(lambda: b"x" * int(3e6)).result()
tally.end()
now, peak = slots.read()
close(peak, 10 * MB)
close(now, 3 * MB, 0.02)
pool.submit(fill).result()  # nobody's
assert slots.read() == (now, peak)
"""
    )


def test_jobs_of_tasks_that_share_a_pool_are_told_apart() -> None:
    run(
        BEFORE
        + """
def task(index, size):
    slots.begin(index)
    for _ in range(20):
        assert pool.submit(fill, size).result() == size
    tally.end()

threads = [threading.Thread(target=task, args=(i, (i + 1) * MB)) for i in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
for i in range(4):
    now, peak = slots.read(i)
    close(peak, (i + 1) * MB, 0.05)
    assert abs(now) < 0.05 * MB, now
"""
    )


def test_job_that_outlives_its_task_leaves_its_slot_to_the_next() -> None:
    run(
        BEFORE
        + """
go = threading.Event()
def late():
    go.wait(20)
    return fill()
slots.begin()
job = pool.submit(late)
tally.end()
slots.begin()  # the same slot, another task
go.set()
assert job.result() == 10 * MB
tally.end()
assert slots.read()[1] < MB, slots.read()
"""
    )


def test_coroutine_on_a_loop_of_another_thread_takes_the_task_along() -> None:
    run(
        BEFORE
        + """
import asyncio
loop = asyncio.new_event_loop()
thread = threading.Thread(target=loop.run_forever, daemon=True)
thread.start()

async def work():
    six = loop.run_in_executor(None, lambda: b"x" * int(6e6))
    one, two = await asyncio.gather(asyncio.to_thread(fill, 4 * MB), six)
    return one + len(two)

def run_on_loop(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

run_on_loop(work())  # its pool has its threads
slots.begin()
assert run_on_loop(work()) == 10 * MB
tally.end()
assert 5.9 * MB < slots.read()[1] < 10.2 * MB, slots.read()
before = slots.read()
run_on_loop(work())
assert slots.read() == before
loop.call_soon_threadsafe(loop.stop)
thread.join()
"""
    )


def test_pools_of_dask_are_left_alone_and_their_threads_are_nobodys() -> None:
    run(
        BEFORE
        + """
class Pool(ThreadPoolExecutor):
    pass
Pool.__module__ = "distributed.threadpoolexecutor"
for own in (Pool(1), ThreadPoolExecutor(1, "Dask-Offload")):
    slots.begin()
    assert own.submit(fill).result() == 10 * MB
    assert own.submit(fill).result() == 10 * MB
    tally.end()
    assert slots.read()[1] < MB, slots.read()
    own.shutdown()
"""
    )


def test_a_pool_that_cannot_be_told_apart_works_as_without_us() -> None:
    run(
        BEFORE
        + """
class Odd(ThreadPoolExecutor):
    @property
    def _thread_name_prefix(self):
        raise RuntimeError("not for you")

    @_thread_name_prefix.setter
    def _thread_name_prefix(self, value):
        pass

    def _adjust_thread_count(self):  # needs the name: its threads are there already
        pass

odd = Odd(1)
slots.begin()
waiting = odd.submit(fill)
tally.end()
assert odd._work_queue.get_nowait().fn() == 10 * MB
"""
    )


def test_function_keeps_its_result_error_and_attributes() -> None:
    run(
        BEFORE
        + """
import functools
slots.begin()
job = tally._native.carry(functools.partial(int, base=16))
assert job is not int and job("ff") == 255 and job.keywords == {"base": 16}
assert repr(job).startswith("functools.partial")
failed = pool.submit(int, "x").exception()
assert isinstance(failed, ValueError)
tally.end()
assert tally._native.carry(int) is int
import gc, weakref
class Call:
    def __call__(self): return 1
call = Call()
slots.begin()
call.job = tally._native.carry(call)  # a cycle
tally.end()
gone = weakref.ref(call)
assert call.job() == 1
del call
gc.collect()
assert gone() is None
"""
    )


def test_submit_is_as_it_was_once_the_tally_is_out() -> None:
    run(
        BEFORE
        + """
import inspect
assert ThreadPoolExecutor.submit is not original
assert inspect.signature(ThreadPoolExecutor.submit) == inspect.signature(original)
tally.release()
assert ThreadPoolExecutor.submit is original

assert tally.acquire()
ours = ThreadPoolExecutor.submit
def foreign(self, fn, /, *args, **kwargs):
    return ours(self, fn, *args, **kwargs)
ThreadPoolExecutor.submit = foreign
tally.release()
assert ThreadPoolExecutor.submit is foreign and pool.submit(fill).result()
assert tally.acquire()
assert ThreadPoolExecutor.submit is foreign
slots.begin()
pool.submit(fill).result()
tally.end()
close(slots.read()[1], 10 * MB)
ThreadPoolExecutor.submit = ours
tally.release()
assert ThreadPoolExecutor.submit is original
"""
    )


def test_forked_child_does_not_count_for_its_parents_task() -> None:
    run(
        BEFORE
        + """
slots.begin()
job = tally._native.carry(fill)
child = os.fork()
if child == 0:
    with ThreadPoolExecutor(1) as own:
        own.submit(fill).result()
    job()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert slots.read()[1] < MB, slots.read()

def fork_and_fill():
    child = os.fork()
    if child == 0:
        return fill()
    os.waitpid(child, 0)
    return 0

parent = os.getpid()
tally._native.carry(fork_and_fill)()
if os.getpid() != parent:
    fill()
    os._exit(0)
assert slots.read()[1] < MB, slots.read()
tally.end()
"""
    )


def test_hooks_come_and_go_while_threads_submit() -> None:
    run(
        BEFORE
        + """
stop = False
done = [0, 0]
def submit(n):
    while not stop:
        began = slots.begin(n)
        assert pool.submit(fill, 100_000).result() == 100_000
        if began:
            tally.end()
        done[n] += 1
threads = [threading.Thread(target=submit, args=(n,)) for n in range(2)]
for thread in threads: thread.start()
for _ in range(100):
    tally.release()
    assert tally.acquire(), tally.refused
stop = True
for thread in threads: thread.join()
assert min(done) > 0
tally.release()
assert ThreadPoolExecutor.submit is original
"""
    )


#: As BEFORE, with the other kind of pool.
THREAD_POOL = (
    BEFORE
    + """
from multiprocessing.pool import ThreadPool
other = ThreadPool(2)
other.map(lambda _: both.wait(20), range(2), chunksize=1)
"""
)


@pytest.mark.parametrize(
    "way",
    [
        "other.apply(fill)",
        "other.apply_async(fill).get(20)",
        "other.apply_async(func=fill).get(20)",
        "other.map(fill, [10 * MB])",
        "other.starmap(fill, [(10 * MB,)])",
        "list(other.imap(fill, [10 * MB]))",
        "list(other.imap(fill, [10 * MB] * 2, chunksize=2))",
        "list(other.imap_unordered(fill, [10 * MB]))",
    ],
)
def test_job_counts_for_the_task_whichever_way_a_thread_pool_takes_it(way: str) -> None:
    run(
        THREAD_POOL
        + f"""
slots.begin()
{way}
tally.end()
now, peak = slots.read()
close(peak, 10 * MB, 0.02)
assert abs(now) < 0.1 * MB
{way}  # nobody's
assert slots.read() == (now, peak)
other.terminate()
"""
    )


def test_thread_pools_are_as_they_were_once_the_tally_is_out() -> None:
    run(
        THREAD_POOL
        + """
from multiprocessing.pool import Pool
names = ("apply_async", "_map_async", "imap", "imap_unordered")
assert all(name in vars(ThreadPool) for name in names)
assert not any(getattr(Pool, name) is getattr(ThreadPool, name) for name in names)
tally.release()
assert all(getattr(Pool, name) is getattr(ThreadPool, name) for name in names)
assert other.apply(fill) == 10 * MB
assert tally.acquire()
slots.begin()
other.apply(fill)
tally.end()
close(slots.read()[1], 10 * MB, 0.02)
try:
    other.apply_async()
except TypeError:
    pass
else:
    raise AssertionError("it takes a function")
other.terminate()
"""
    )
