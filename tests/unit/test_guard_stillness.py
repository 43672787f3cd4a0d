"""Whether what runs gets on: by the processor, by memory, by what ends."""

import os
import threading
import time

from dask_memdash.guard.stillness import LEAST_BYTES, Doing, Stillness, thread_cpu

WAITS = {"a": Doing(0, 100, 100)}


class Cpu:
    """Processor time of threads, as a test says."""

    used = 0.0

    def __call__(self, threads):
        return {1: self.used}


def looked(cpu, *looks):
    stillness = Stillness(cpu)
    for now, ended, running in looks:
        stillness.look(now, ended, running)
    return stillness


def test_nothing_is_still_before_it_was_looked_at():
    assert Stillness(Cpu()).lasts(5.0) == 0.0


def test_it_lasts_since_the_first_look_that_nothing_has_moved_from():
    still = looked(Cpu(), (1.0, 0, WAITS), (2.0, 0, WAITS), (4.0, 0, WAITS))
    assert still.lasts(4.5) == 3.5


def test_an_end_a_begin_and_memory_are_getting_on():
    more = {"a": Doing(0, 100 + LEAST_BYTES + 1, 100)}
    peak = {"a": Doing(0, 100, 100 + LEAST_BYTES + 1)}
    for ended, running in ((1, WAITS), (0, {}), (0, more), (0, peak)):
        still = looked(Cpu(), (1.0, 0, WAITS), (3.0, ended, running))
        assert still.lasts(4.0) == 1.0
    trifle = {"a": Doing(0, 101, 101)}
    assert looked(Cpu(), (1.0, 0, WAITS), (3.0, 0, trifle)).lasts(4.0) == 3.0


def test_the_processor_is_getting_on_and_a_trifle_of_it_is_not():
    cpu = Cpu()
    still = looked(cpu, (1.0, 0, WAITS))
    cpu.used = 0.01
    still.look(2.0, 0, WAITS)
    assert still.lasts(2.0) == 1.0
    cpu.used = 0.05
    still.look(3.0, 0, WAITS)
    assert still.lasts(3.0) == 0.0


def test_it_can_be_counted_anew():
    still = looked(Cpu(), (1.0, 0, WAITS))
    still.begin_anew(6.0)
    assert still.lasts(7.0) == 1.0


def test_the_kernel_says_what_a_thread_used_and_leaves_out_those_that_are_gone():
    done = threading.Thread(target=int)
    done.start()
    done.join()
    mine = threading.get_native_id()
    begin = time.thread_time()
    while time.thread_time() - begin < 0.05:
        sum(range(1000))
    found = thread_cpu([mine, done.native_id])
    assert list(found) == [mine]
    assert found[mine] >= 0.03
    assert thread_cpu([os.getpid()]).keys() == {os.getpid()}
