"""The tally and what happens to a process: fork, tracemalloc, debug hooks, SIGKILL.

Each in a process of its own, as it alters allocators for good.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dask_memdash.flight.reader import RecorderReader
from dask_memdash.measure import tally as face

MB = 1_000_000

pytestmark = pytest.mark.skipif(face.load() is None, reason=face.why_not() or "-")

#: What every script begins with.
PRELUDE = """
import os, sys, threading
from dask_memdash.measure import tally as face
from dask_memdash.measure.tally import MISSED_NUMPY, MISSED_PYTHON
from tally_slots import Slots
MB = 1_000_000
tally = face.load()

def close(seen, size, error=0.01):
    assert abs(seen - size) <= error * size, (seen, size)

def counts(slots, size=10 * MB):
    with slots.task():
        held = bytes(size)
        close(slots.now(), size)
        del held
        assert abs(slots.now()) < 0.01 * size, slots.now()
    return slots.missed
"""


def start(script: str, *options: str, **environment: str) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    paths = [str(here), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONMALLOC"}
    return subprocess.Popen(
        [sys.executable, *options, "-c", PRELUDE + textwrap.dedent(script)],
        env=inherited | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
        cwd=here,  # not the checkout: what is installed is what is tested
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: str, *options: str, **environment: str) -> str:
    with start(script, *options, **environment) as process:
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, f"{process.returncode}\n{out}\n{err}"
    return out


# -- with and without NumPy ----------------------------------------------------------


def test_it_works_without_numpy_and_does_not_import_it() -> None:
    run(
        """
        sys.modules["numpy"] = None  # an import of it fails
        assert tally.acquire(), tally.refused
        assert counts(Slots(tally)) == 0
        assert tally.hooks()["numpy"] == "not loaded"
        tally.release()
        """
    )


def test_numpy_is_found_when_it_comes_between_two_tasks() -> None:
    run(
        """
        assert tally.acquire(), tally.refused
        slots = Slots(tally)
        assert counts(slots) == 0
        assert "numpy" not in sys.modules
        import numpy as np
        with slots.task():
            array = np.ones(MB)
            close(slots.now(), 8 * MB)
        assert slots.missed == 0
        """
    )


def test_task_that_imports_numpy_itself_owns_up_to_it() -> None:
    run(
        """
        assert tally.acquire(), tally.refused
        slots = Slots(tally)
        with slots.task():
            import numpy as np
            array = np.ones(10 * MB)
            seen = slots.now() > 80 * MB  # since NumPy 2.5, by the raw domain
            assert seen == (tally.hooks()["numpy"] == "raw")
        assert slots.missed == (0 if seen else MISSED_NUMPY)
        with slots.task():
            np.ones(MB)
        assert slots.missed == 0
        """
    )


def test_numpy_that_another_thread_is_importing_is_left_alone() -> None:
    run(
        """
        assert tally.acquire(), tally.refused
        slots = Slots(tally)
        done = threading.Event()
        def load():
            import numpy
            done.set()
        thread = threading.Thread(target=load)
        thread.start()
        rounds = 0
        while not done.is_set():
            assert tally.begin(slots.mapping, 0)
            tally.end()
            rounds += 1
        thread.join()
        assert rounds > 0
        import numpy as np
        with slots.task():
            np.ones(MB)
        close(slots.peak(), 8 * MB)
        """
    )


# -- other allocators ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ((), {"PYTHONMALLOC": "debug"}),
        ((), {"PYTHONMALLOC": "malloc_debug"}),
        (("-X", "dev"), {}),
    ],
    ids=["debug", "malloc_debug", "dev"],
)
def test_under_debug_hooks_it_is_refused(
    options: tuple[str, ...], environment: dict[str, str]
) -> None:
    out = run(
        """
        assert not tally.acquire()
        print(tally.refused)
        slots = Slots(tally)
        assert not tally.begin(slots.mapping, 0)
        assert tally.hooks()["raw"] == "none"
        assert tally.check() == [tally.refused]
        """,
        *options,
        **environment,
    )
    assert "debug hooks are on" in out


def test_where_every_object_is_allocated_by_itself_small_ones_are_exact() -> None:
    run(
        """
        assert tally.acquire(), tally.refused
        assert tally.counts_small_objects
        assert tally.hooks()["objects"] == "ours"
        slots = Slots(tally)
        assert counts(slots) == 0
        with slots.task():
            many = [float(i) for i in range(100_000)]
            # malloc gives a block of 24 bytes exactly as many to use
            close(slots.now(), 24 * 100_000 + sys.getsizeof(many))
            del many
            assert abs(slots.now()) < 10_000  # Python keeps some floats for later
        tally.release()
        assert tally.hooks()["objects"] == "none"
        """,
        PYTHONMALLOC="malloc",
    )


@pytest.mark.skipif(sys.version_info < (3, 13), reason="from Python 3.13 on")
def test_where_objects_are_allocated_elsewhere_it_says_so() -> None:
    out = run(
        """
        assert tally.acquire(), tally.refused
        print(*tally.check())
        import numpy as np
        slots = Slots(tally)
        with slots.task():
            np.ones(MB)
        close(slots.peak(), 8 * MB)
        """,
        PYTHONMALLOC="mimalloc",
    )
    assert "sees NumPy arrays only" in out


def test_tracemalloc_started_after_it_changes_nothing() -> None:
    run(
        """
        import tracemalloc
        assert tally.acquire(), tally.refused
        slots = Slots(tally)
        tracemalloc.start()
        assert tally.hooks()["raw"] == "wrapped"
        assert counts(slots) == 0
        assert tally.check() == []  # and hooks nothing twice
        assert counts(slots) == 0
        tracemalloc.stop()
        assert tally.hooks()["raw"] == "ours"
        assert counts(slots) == 0
        assert tally.check() == []
        """
    )


def test_tracemalloc_started_before_it_drops_the_hooks_and_they_come_back() -> None:
    out = run(
        """
        import tracemalloc
        tracemalloc.start()
        assert tally.acquire(), tally.refused
        slots = Slots(tally)
        assert counts(slots) == 0
        tally.begin(slots.mapping, 512)
        tracemalloc.stop()
        assert tally.hooks()["raw"] == "lost"
        assert tally.end() == MISSED_PYTHON  # dropped while the task ran
        tally.begin(slots.mapping, 512)
        print(*tally.check())
        assert tally.end() == MISSED_PYTHON  # set again while the task ran
        assert tally.hooks()["raw"] == "ours"
        assert counts(slots) == 0
        print(*tally.check())
        tally.release()
        assert tally.hooks()["raw"] == "none"
        """
    )
    assert out.count("hooks were dropped once") == 2


def test_hooks_that_somebody_has_wrapped_stay_and_count_nothing() -> None:
    run(
        """
        import tracemalloc
        assert tally.acquire(), tally.refused
        slots = Slots(tally)
        tracemalloc.start()
        tally.release()
        assert tally.hooks()["raw"] == "wrapped"
        assert not tally.begin(slots.mapping, 0)
        kept = [bytes(MB) for _ in range(10)]
        assert slots.now() == 0
        tracemalloc.stop()  # puts our hook back, and it passes on
        assert tally.hooks()["raw"] == "ours"
        kept = [bytes(MB) for _ in range(10)]
        assert slots.now() == 0
        # the next worker finds it where it was, and hooks nothing twice
        assert tally.acquire(), tally.refused
        assert counts(slots) == 0
        tally.release()
        assert tally.hooks()["raw"] == "none"
        """
    )


def test_hooks_go_and_come_with_workers_and_tracemalloc_in_any_order() -> None:
    run(
        """
        import random, tracemalloc
        rng = random.Random(11)
        slots = Slots(tally)
        users = 0
        for _ in range(300):
            step = rng.randrange(4)
            if step == 0:
                assert tally.acquire(), tally.refused
                users += 1
            elif step == 1 and users:
                tally.release()
                users -= 1
            elif step == 2:
                tracemalloc.start()
            else:
                tracemalloc.stop()
            if users:
                tally.check()
                assert counts(slots) == 0
            else:
                assert not tally.begin(slots.mapping, 0)
        """
    )


@pytest.mark.parametrize("first", ["tally", "memray"])
@pytest.mark.parametrize("last", ["tally", "memray"])
def test_memray_before_and_after(first: str, last: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("memray") is None:
        pytest.skip("memray is not installed")
    run(
        f"""
        import memray
        import numpy as np
        tracker = memray.Tracker({str(tmp_path / "out.bin")!r},
                                 trace_python_allocators=True)
        if {first!r} == "memray":
            tracker.__enter__()
        assert tally.acquire(), tally.refused
        slots = Slots(tally)
        if {first!r} == "tally":
            tracker.__enter__()
        for _ in range(3):
            assert counts(slots) == 0
            with slots.task():
                np.ones(MB)
            close(slots.peak(), 8 * MB)
            assert tally.check() == []
        if {last!r} == "tally":
            tally.release()
        tracker.__exit__(None, None, None)
        if {last!r} == "memray":
            tally.check()
            assert counts(slots) == 0
            tally.release()
        kept = [bytes(MB) for _ in range(10)]
        """
    )
    records = (
        "import memray; r = memray.FileReader({!r});print(r.metadata.total_allocations)"
    ).format(str(tmp_path / "out.bin"))
    assert int(subprocess.check_output([sys.executable, "-c", records])) > 0


# -- fork, exit and death ------------------------------------------------------------


def test_forked_child_does_not_write_into_its_parents_recorder() -> None:
    run(
        """
        import numpy as np
        assert tally.acquire(), tally.refused
        slots = Slots(tally)
        with slots.task():
            kept = np.ones(MB)
            held = slots.now()
            pid = os.fork()
            if pid == 0:
                inherited = slots.now()
                more = [bytes(MB) for _ in range(10)] + [np.ones(MB)]
                # freed through the handler that it was made through
                del kept, more
                assert tally.end() == face.MISSED_TASK
                assert not tally.begin(slots.mapping, 0)
                assert not tally.installed
                assert slots.now() == inherited, slots.now() - inherited
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            assert abs(slots.now() - held) < 10_000
            more = bytes(MB)
            close(slots.now(), held + MB)
        assert slots.missed == 0
        """
    )


def test_forked_child_may_have_a_tally_of_its_own() -> None:
    run(
        """
        assert tally.acquire(), tally.refused
        parents = Slots(tally)
        pid = os.fork()
        if pid == 0:
            assert tally.acquire(), tally.refused
            assert not tally.begin(parents.mapping, 0)
            assert counts(Slots(tally)) == 0
            assert parents.now() == 0
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert counts(parents) == 0
        """
    )


def test_child_process_started_by_a_task_is_no_harm() -> None:
    run(
        """
        import subprocess
        assert tally.acquire(), tally.refused
        slots = Slots(tally)
        with slots.task():
            held = bytes(MB)
            subprocess.run([sys.executable, "-c", "x = bytes(10**7)"], check=True)
            subprocess.run(["true"], check=True, preexec_fn=lambda: bytes(10 * MB))
            close(slots.now(), MB, 0.3)
        """
    )


def test_interpreter_exits_in_good_order_while_tasks_run() -> None:
    """Threads go on allocating while the interpreter is taken down."""
    run(
        """
        import numpy as np
        assert tally.acquire(), tally.refused
        slots = Slots(tally)
        running = threading.Barrier(5)
        def work(index):
            tally.begin(slots.mapping, index * 512)
            running.wait()
            kept = []
            while True:
                kept = [np.ones(1000), bytes(5000), *kept[:50]]
        for index in range(4):
            threading.Thread(target=work, args=(index,), daemon=True).start()
        running.wait()
        tally.begin(slots.mapping, 7 * 512)
        """
    )


def test_counts_can_be_read_after_a_sigkill_in_mid_allocation(tmp_path: Path) -> None:
    script = f"""
        import time
        import numpy as np
        from dask_memdash.flight.writer import FlightRecorder
        assert tally.acquire(), tally.refused
        recorder = FlightRecorder(8, "tcp://x", {str(tmp_path)!r})
        mapping, _ = tally.map_slots(recorder._fd, len(recorder.buffer))
        def task(number):
            slot = recorder.begin(f"task-{{number}}", number, time.time(), 0)
            tally.begin(mapping, 4096 + 768 * slot)
            held = [np.ones(MB) for _ in range(number)]
            os.write(1, b"up\\n")
            while True:
                held[0] = None
                held[0] = np.ones(MB)
        for number in (1, 2, 5):
            threading.Thread(target=task, args=(number,), daemon=True).start()
        time.sleep(60)
        """
    with start(script) as process:
        try:
            assert process.stdout is not None
            for _ in range(3):
                assert process.stdout.readline() == "up\n"
            reader = RecorderReader.find(process.pid, str(tmp_path))
            assert reader is not None
        finally:
            process.send_signal(signal.SIGKILL)
        process.wait(20)
    tasks = {slot.key: slot for slot in reader.tasks()}
    assert len(tasks) == 3
    for number in (1, 2, 5):
        slot = tasks[f"task-{number}"]
        # one array may just have gone
        assert 8 * MB * (number - 1) <= slot.now <= 8.1 * MB * number
        assert slot.peak == pytest.approx(8 * MB * number, rel=0.01)
    reader.close()


# -- the module ------------------------------------------------------------------------


def test_second_interpreter_is_told_no() -> None:
    run(
        """
        try:
            import _interpreters
        except ImportError:
            import _xxsubinterpreters as _interpreters
        code = '''
        try:
            from dask_memdash.measure import _tally
        except ImportError as error:
            print("no:", error)
        '''
        import textwrap
        other = _interpreters.create()
        _interpreters.run_string(other, textwrap.dedent(code))
        """
    )


def test_missing_extension_is_explained_and_not_an_error() -> None:
    out = run(
        """
        sys.modules["dask_memdash.measure._tally"] = None
        face._load.cache_clear()
        assert face.load() is None
        print(face.why_not())
        """
    )
    assert "was not built" in out
    assert "C compiler" in out


def test_broken_extension_is_explained_and_not_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "_tally.py"
    broken.write_text("raise ImportError('undefined symbol: nonsense')")
    out = run(
        f"""
        import dask_memdash.measure as package
        del sys.modules["dask_memdash.measure._tally"], package._tally
        package.__path__.insert(0, {str(tmp_path)!r})
        face._load.cache_clear()
        assert face.load() is None
        print(face.why_not())
        """
    )
    assert "cannot be loaded: undefined symbol: nonsense" in out
