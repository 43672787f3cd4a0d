"""The native tally and what happens to a process: fork, libraries, other tools, death.

Each in a process of its own, as it alters the process for good.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from native_scripts import MB, run, start

from dask_memdash.flight.reader import RecorderReader
from dask_memdash.measure import native_tally as face

pytestmark = pytest.mark.skipif(face.load() is None, reason=face.why_not() or "-")

# -- in and out ----------------------------------------------------------------------


def test_it_works_without_numpy_and_does_not_import_it() -> None:
    run(
        """
        sys.modules["numpy"] = None  # an import of it fails
        assert tally.acquire(), tally.refused
        assert counts(Slots()) == 0
        assert tally.check() == []
        """
    )


def test_nothing_is_left_of_it_when_it_is_taken_out() -> None:
    run(
        """
        assert tally.state()["slots"] == 0
        libc = ctypes.CDLL(None)
        before = ctypes.cast(libc.malloc, ctypes.c_void_p).value
        assert tally.acquire(), tally.refused
        slots = Slots()
        assert counts(slots) == 0
        assert tally.state()["python"] and tally.state()["slots"] > 10
        tally.release()
        state = tally.state()
        assert not (state["python"] or state["arenas"] or state["arrow"])
        assert state["slots"] == state["blocks"] == 0
        assert not slots.begin()
        again = ctypes.cast(ctypes.CDLL(None).malloc, ctypes.c_void_p).value
        assert again == before
        """
    )


def test_protection_of_pages_is_as_it_was_before() -> None:
    run(
        """
        import numpy
        def readable():
            with open("/proc/self/maps") as maps:
                lines = [line.split() for line in maps]
            return {(l[0], l[1], l[-1]) for l in lines if ".so" in l[-1]}
        before = readable()
        assert tally.acquire(), tally.refused
        inside = readable()
        tally.release()
        assert readable() == inside == before
        """
    )


@pytest.mark.slow
def test_it_goes_in_and_out_while_threads_allocate_and_load_libraries() -> None:
    run(
        """
        import importlib
        import numpy as np
        slots, stop = Slots(), threading.Event()
        failed = []
        def work(index):
            libc = ctypes.CDLL(None)
            libc.malloc.restype = libc.realloc.restype = ctypes.c_void_p
            libc.free.argtypes = [ctypes.c_void_p]
            libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
            kept = []
            while not stop.is_set():
                begun = slots.begin(index)
                kept = [np.ones(1000), np.ones(300_000), bytes(5000), *kept[:20]]
                kept.append(bytearray(200_000))
                block = libc.realloc(libc.malloc(100_000), 3_000_000)
                ctypes.memset(block, 1, 3_000_000)
                libc.free(block)
                thread = threading.Thread(target=lambda: np.ones(200_000))
                thread.start()
                thread.join()
                if begun and tally.end() & ~2:
                    failed.append(index)
        def load():
            names = ["_lzma", "_bz2", "_sqlite3", "_decimal", "_elementtree", "audioop"]
            while not stop.is_set():
                for name in names:
                    try:
                        importlib.import_module(name)
                    except ImportError:
                        pass
                    sys.modules.pop(name, None)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        threads.append(threading.Thread(target=load))
        for thread in threads:
            thread.start()
        for _ in range(300):
            assert tally.acquire(), tally.refused
            tally.check()
            tally.release()
        stop.set()
        for thread in threads:
            thread.join()
        assert not failed
        assert tally.acquire(), tally.refused
        assert counts(slots) == 0
        assert tally.state()["blocks"] == 0
        """
    )


def test_counts_hold_while_other_threads_load_and_unload_libraries() -> None:
    run(
        """
        import importlib.util, shutil, tempfile, _ctypes
        import numpy as np
        source = importlib.util.find_spec("_bz2").origin
        if not source or not source.endswith(".so"):
            sys.exit(0)  # built into this interpreter
        stop = threading.Event()
        folder = tempfile.TemporaryDirectory()
        def load(index):
            copies = []
            for i in range(10):
                path = os.path.join(folder.name, f"{index}_{i}.so")
                shutil.copy(source, path)
                copies.append(path)
            while not stop.is_set():
                for path in copies:
                    _ctypes.dlclose(_ctypes.dlopen(path, 0))
        assert tally.acquire(), tally.refused
        slots = Slots()
        threads = [threading.Thread(target=load, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 4
        rounds = 0
        while time.monotonic() < until:
            assert counts(slots) == 0
            tally._look_from = 0.0
            tally.check()
            rounds += 1
        stop.set()
        for thread in threads:
            thread.join()
        assert rounds > 10
        """
    )


def test_library_without_anything_but_malloc_is_counted_at_once(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no compiler here")
    source = tmp_path / "grab.c"
    source.write_text(
        "#include <stdlib.h>\n#include <string.h>\n"
        "void *grab(size_t n) { return memset(malloc(n), 1, n); }\n"
        "void let_go(void *p) { free(p); }\n"
    )
    for binding in ("lazy", "now"):
        library = tmp_path / f"libgrab_{binding}.so"
        options = ["-O1", "-shared", "-fPIC", f"-Wl,-z,{binding}"]
        subprocess.run(
            [compiler, *options, "-o", str(library), str(source)], check=True
        )
        run(
            f"""
            assert tally.acquire(), tally.refused
            slots = Slots()
            assert slots.begin()
            library = ctypes.CDLL({str(library)!r})
            library.grab.restype = ctypes.c_void_p
            library.grab.argtypes = [ctypes.c_size_t]
            library.let_go.argtypes = [ctypes.c_void_p]
            block = library.grab(60 * MB)
            library.let_go(block)
            assert tally.end() == 0
            now, peak = slots.read()
            close(peak, 60 * MB, 0.02)
            assert abs(now) < 0.5 * MB
            """
        )


def test_task_that_imports_pyarrow_says_that_it_was_not_counted_in_full() -> None:
    pytest.importorskip("pyarrow")
    run(
        """
        assert tally.acquire(), tally.refused
        slots = Slots()
        assert slots.begin()
        import pyarrow
        pyarrow.concat_arrays([pyarrow.array(range(10))])
        assert tally.end() == 8
        assert slots.begin()
        kept = pyarrow.concat_arrays([pyarrow.array(range(100_000))] * 50)
        assert tally.end() == 0
        if tally.state()["arrow"]:
            close(slots.read()[0], 40 * MB, 0.05)
        """
    )


# -- other tools, other allocators -----------------------------------------------------


@pytest.mark.parametrize("how", ["malloc", "debug", "pymalloc_debug", "malloc_debug"])
def test_counts_hold_under_python_allocators_of_all_kinds(how: str) -> None:
    run(
        """
        assert tally.acquire(), tally.refused
        assert counts(Slots()) == 0
        """,
        PYTHONMALLOC=how,
    )


def test_under_malloc_small_objects_are_counted_one_by_one() -> None:
    run(
        """
        assert tally.acquire(), tally.refused
        assert tally.counts_small_objects
        slots = Slots()
        slots.begin()
        kept = [float(i) for i in range(100_000)]
        assert tally.end() == 0
        # 24 bytes each in a block of 32 less 8, and eight for its place in the list
        close(slots.read()[0], 100_000 * (24 + 8), 0.1)
        """,
        PYTHONMALLOC="malloc",
    )


def test_tracemalloc_before_and_after_takes_nothing_from_it() -> None:
    run(
        """
        import tracemalloc
        tracemalloc.start()
        assert tally.acquire(), tally.refused
        slots = Slots()
        assert slots.begin()
        tally.end()
        tracemalloc.stop()
        assert counts(slots) == 0
        tracemalloc.start()
        assert slots.begin()
        held = b"x" * (10 * MB)
        assert tally.end() == 0
        close(slots.read()[0], 10 * MB)
        tracemalloc.stop()
        tally.release()
        assert not tally.state()["python"]
        """
    )


def test_preloaded_allocator_is_counted_or_refused_with_its_reason() -> None:
    paths = [
        *Path("/usr/lib").glob("*/libjemalloc.so.2"),
        *Path("/usr/lib").glob("*/libtcmalloc_minimal.so.4"),
    ]
    if not paths:
        pytest.skip("neither jemalloc nor tcmalloc is installed")
    for path in paths:
        out = run(
            """
            if tally.acquire():
                assert counts(Slots()) == 0
                print(tally.state()["allocator"])
            else:
                print("refused:", tally.refused)
            """,
            LD_PRELOAD=str(path),
        )
        assert path.name in out or "refused:" in out


# -- fork, exit and death ------------------------------------------------------------


def test_forked_child_does_not_write_into_its_parents_recorder() -> None:
    run(
        """
        import numpy as np
        assert tally.acquire(), tally.refused
        slots = Slots()
        slots.begin()
        kept = np.ones(MB)
        time.sleep(0.05)
        held = slots.read()[0]
        pid = os.fork()
        if pid == 0:
            inherited = slots.read()
            more = [b"x" * MB for _ in range(10)] + [np.ones(MB)]
            del kept, more
            assert tally.end() == 1
            assert not slots.begin()
            assert not tally.installed
            assert slots.read() == inherited
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert abs(slots.read()[0] - held) < 10_000
        more = b"x" * MB
        assert tally.end() == 0
        close(slots.read()[0], 9 * MB)
        """
    )


def test_forked_child_may_have_a_tally_of_its_own() -> None:
    run(
        """
        assert tally.acquire(), tally.refused
        parents = Slots()
        pid = os.fork()
        if pid == 0:
            assert tally.acquire(), tally.refused
            assert not parents.begin()
            slots = Slots()
            assert counts(slots) == 0
            slots.begin()
            held = b"x" * (20 * MB)
            until = time.monotonic() + 10  # the thread that looks is there, too
            while slots.read()[0] < 20 * MB:
                assert time.monotonic() < until
                time.sleep(0.01)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert counts(parents) == 0
        """
    )


def test_forks_from_many_threads_that_allocate_do_no_harm() -> None:
    run(
        """
        import numpy as np
        assert tally.acquire(), tally.refused
        slots, stop = Slots(), threading.Event()
        def work(index):
            while not stop.is_set():
                slots.begin(index)
                np.ones(300_000), bytes(1000), bytearray(100_000)
                tally.end()
        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(60):
            pid = os.fork()
            if pid == 0:
                kept = [bytearray(100_000) for _ in range(20)]
                kept.clear()
                np.ones(300_000)
                os._exit(0)
            until = time.monotonic() + 30
            while os.waitpid(pid, os.WNOHANG)[0] == 0:
                assert time.monotonic() < until, "a child hangs"
                time.sleep(0.001)
        stop.set()
        for thread in threads:
            thread.join()
        """,
        "-W",
        "ignore",
    )


def test_child_process_started_by_a_task_is_no_harm() -> None:
    run(
        """
        import subprocess
        assert tally.acquire(), tally.refused
        slots = Slots()
        slots.begin()
        held = b"x" * MB
        subprocess.run([sys.executable, "-c", "x = bytes(10**7)"], check=True)
        subprocess.run(["true"], check=True, preexec_fn=lambda: b"x" * (10 * MB))
        assert tally.end() == 0
        close(slots.read()[0], MB, 0.3)
        """
    )


def test_interpreter_exits_in_good_order_while_tasks_run() -> None:
    """Threads go on allocating while the interpreter is taken down."""
    run(
        """
        import numpy as np
        assert tally.acquire(), tally.refused
        slots = Slots()
        running = threading.Barrier(5)
        def work(index):
            slots.begin(index)
            running.wait()
            kept = []
            while True:
                kept = [np.ones(200_000), bytes(5000), *kept[:50]]
        for index in range(4):
            threading.Thread(target=work, args=(index,), daemon=True).start()
        running.wait()
        slots.begin(7)
        """
    )


def test_counts_can_be_read_after_a_sigkill_in_mid_allocation(tmp_path: Path) -> None:
    script = f"""
        import numpy as np
        from dask_memdash.flight.writer import FlightRecorder
        assert tally.acquire(), tally.refused
        recorder = FlightRecorder(
            8, "tcp://x", {str(tmp_path)!r}, map_slots=tally.map_slots
        )
        def task(number):
            slot = recorder.begin(f"task-{{number}}", number, time.time(), 0)
            tally.begin(recorder.mapping, 4096 + 768 * slot)
            held = [np.ones(MB) for _ in range(number)]
            time.sleep(0.1)
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
        # one array may just have gone, or be half filled
        assert 8 * MB * (number - 1) <= slot.now <= 8.1 * MB * number
        assert slot.peak == pytest.approx(8 * MB * number, rel=0.01)
    reader.close()


@pytest.mark.parametrize("threads", [1, 4])
def test_block_that_is_filled_at_the_death_lies_between_what_the_recorder_says(
    tmp_path: Path, threads: int
) -> None:
    script = f"""
        import numpy as np
        from dask_memdash.flight.writer import FlightRecorder
        assert tally.acquire(), tally.refused
        recorder = FlightRecorder(
            8, "tcp://x", {str(tmp_path)!r}, map_slots=tally.map_slots
        )
        filled = threading.Barrier({threads})
        def task(number):
            slot = recorder.begin(f"task-{{number}}", number, time.time(), 0)
            offset = 4096 + 768 * slot
            tally.begin(recorder.mapping, offset)
            reserved = np.empty(50 * MB)
            left = recorder.buffer[offset + 24 : offset + 32].cast("q")
            while left[0]:
                time.sleep(0.001)
            os.write(1, b"up\\n")
            sys.stdin.readline() if number == 0 else None
            held = np.ones(5 * MB)
            filled.wait()
            os.kill(os.getpid(), 9)
        for number in range({threads}):
            threading.Thread(target=task, args=(number,), daemon=True).start()
        time.sleep(60)
        """
    with start(script) as process:
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            for _ in range(threads):
                assert process.stdout.readline() == "up\n"
            reader = RecorderReader.find(process.pid, str(tmp_path))
            assert reader is not None
            process.stdin.write("\n")
            process.stdin.close()
            process.wait(20)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    tasks = reader.tasks()
    assert len(tasks) == threads
    for slot in tasks:
        # and one huge page of what was reserved and left untouched
        assert slot.now <= 42.2 * MB
        assert 40 * MB <= slot.now + slot.filling <= 42.2 * MB
    reader.close()


def test_threads_of_arrow_count_for_the_task_where_its_pool_is_malloc() -> None:
    pytest.importorskip("pyarrow")
    run(
        """
        import numpy as np, pyarrow as pa, pyarrow.compute as pc
        assert pa.default_memory_pool().backend_name == "system"
        assert tally.acquire(), tally.refused
        assert tally.check() == [], tally.check()
        slots = Slots()
        words = pa.array([f"word number {i % 5000}" for i in range(1_000_000)])
        table = pa.table({"word": words, "value": np.arange(1_000_000)})
        pool = pa.default_memory_pool()
        def work():
            upper = table.set_column(0, "word", pc.utf8_upper(table["word"]))
            return upper, upper.group_by("word").aggregate([("value", "list")])
        at_first = pool.bytes_allocated()
        work()
        deadline = time.monotonic() + 20
        while pool.bytes_allocated() > at_first and time.monotonic() < deadline:
            time.sleep(0.01)
        before = pool.bytes_allocated()
        assert slots.begin()
        held = work()
        tally.end()
        now, peak = slots.read()
        assert now > 25 * MB
        close(now, pool.bytes_allocated() - before, 0.04)
        assert peak >= now
        """,
        ARROW_DEFAULT_MEMORY_POOL="system",
    )


# -- the trial -------------------------------------------------------------------------


def test_trial_succeeds_and_leaves_nothing_behind() -> None:
    run(
        """
        import numpy
        from dask_memdash.measure import trial
        descriptors = set(os.listdir("/proc/self/fd"))
        assert trial.try_out(tally) == ""
        assert not tally.installed
        assert tally.state()["slots"] == 0
        assert set(os.listdir("/proc/self/fd")) == descriptors
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pass
        else:
            raise AssertionError("the child was not waited for")
        """
    )


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("os.abort()", "its trial ended with signal 6"),
        ("ctypes.string_at(0)", "its trial ended with signal 11"),
        ("os._exit(0)", "its trial ended without a word"),
        ("1 / 0", "its trial failed with ZeroDivisionError: division by zero"),
        ("time.sleep(60)", "its trial took longer than 0.5 s"),
        ("sys.exit(3)", "its trial failed with SystemExit: 3"),
    ],
)
def test_whatever_happens_in_a_trial_is_an_answer_and_no_more(
    harm: str, said: str
) -> None:
    out = run(
        f"""
        from dask_memdash.measure import trial
        trial.outcome = lambda tally: {harm}
        print(trial.try_out(tally, 0.5 if "sleep" in {harm!r} else 20))
        """
    )
    assert out.strip() == said


def test_tally_that_miscounts_fails_its_trial() -> None:
    out = run(
        """
        from dask_memdash.measure import trial
        count = type(tally).count
        def miscount(self, allocate):
            most, left = count(self, allocate)
            return most * 9 // 10, left
        trial.NativeTally.count = miscount
        trial.NativeTally.self_test = lambda self: ""
        print(trial.try_out(tally, 20))
        """
    )
    assert "it counted" in out


# -- the module ------------------------------------------------------------------------


def test_missing_extension_is_explained_and_not_an_error() -> None:
    out = run(
        """
        sys.modules["dask_memdash.measure._native"] = None
        face._load.cache_clear()
        assert face.load() is None
        print(face.why_not())
        """
    )
    assert "was not built" in out
    assert "C compiler" in out


def test_second_interpreter_is_told_no() -> None:
    out = run(
        """
        try:
            import _interpreters
        except ImportError:
            import _xxsubinterpreters as _interpreters
        import textwrap
        code = '''
        try:
            from dask_memdash.measure import _native
        except ImportError as error:
            print("no:", error, flush=True)
        '''
        other = _interpreters.create()
        _interpreters.run_string(other, textwrap.dedent(code))
        """
    )
    assert out.startswith("no:")


# -- allocators of their own -----------------------------------------------------------


def test_library_that_maps_memory_again_and_again_has_an_allocator_of_its_own() -> None:
    run(
        """
        import mmap
        libc = ctypes.CDLL(None)
        assert tally.acquire(), tally.refused
        places = [libc.mmap, ctypes.CDLL(None).mmap64]
        for place in places:
            place.restype = ctypes.c_void_p
            place.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
                              ctypes.c_int, ctypes.c_int, ctypes.c_long]
        assert tally.mapped_by_allocators() == 0
        kept = [[i] for i in range(500_000)]  # Python's own arenas are none
        assert tally.mapped_by_allocators() == 0
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        for n in range(9):
            assert libc.mmap(None, 2**22, 3, flags, -1, 0)
            assert (tally.mapped_by_allocators() > 0) == (n >= 7), n
        assert tally.mapped_by_allocators() == 9 * 2**22
        """
    )


def test_one_buffer_and_mapped_files_are_no_allocator() -> None:
    run(
        """
        import mmap
        libc = ctypes.CDLL(None)
        assert tally.acquire(), tally.refused
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
                              ctypes.c_int, ctypes.c_int, ctypes.c_long]
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        libc.mmap(None, 2**26, 3, flags, -1, 0)
        kept = [mmap.mmap(-1, 2**22) for _ in range(20)]  # shared
        with open(sys.executable, "rb") as file:
            maps = [mmap.mmap(file.fileno(), 0, prot=1) for _ in range(20)]
        assert tally.mapped_by_allocators() == 0
        """
    )


@pytest.mark.skipif(not find_spec("pyarrow"), reason="pyarrow is not installed")
def test_arrows_pool_is_no_allocator_of_its_own_where_it_is_counted() -> None:
    run(
        """
        import pyarrow as pa
        assert tally.acquire(), tally.refused
        tally.check()
        kept = [pa.allocate_buffer(2**22) for _ in range(40)]
        if tally.counts_arrow:
            assert tally.mapped_by_allocators() == 0
        """
    )


def test_smaller_blocks_that_nobody_touched_are_in_doubt() -> None:
    run(
        """
        assert tally.acquire(), tally.refused
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
        slots = Slots()
        for touch, doubt in ((0, 20 * MB), (400_000, 0)):
            assert slots.begin()
            blocks = [libc.malloc(400_000) for _ in range(50)]
            for block in blocks:
                ctypes.memset(block, 1, touch)
            for block in blocks:
                libc.free(block)
            tally.end()
            close(slots.read()[1], 20 * MB, 0.02)
            assert abs(tally.doubt() - doubt) < MB, tally.doubt()
        """,
        MALLOC_MMAP_THRESHOLD_="131072",
    )


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs pyarrow")
@pytest.mark.parametrize("which", ["GetCpuThreadPoolEv", "2io8internal15GetIO"])
def test_where_arrow_can_be_seen_in_part_only_it_is_not_counted_and_that_is_said(
    which: str,
) -> None:
    run(
        f"""
        which = {which!r}
        import pyarrow as pa
        library = ctypes.CDLL(face._path_of("libarrow.so"))
        name = ("_ZN5arrow8internal16GetCpuThreadPoolEv" if "Cpu" in which else
                "_ZN5arrow2io8internal15GetIOThreadPoolEv")
        getter = getattr(library, name)
        getter.restype = ctypes.c_void_p
        pool = ctypes.cast(getter(), ctypes.POINTER(ctypes.c_void_p))
        # another one's table of functions, as if somebody else had changed it
        before = pool[0]
        copy = (ctypes.c_void_p * 40).from_buffer_copy(
            ctypes.string_at(before - 16, 40 * 8))
        pool[0] = ctypes.addressof(copy) + 16
        assert tally.acquire(), tally.refused
        assert not tally.state()["arrow"]
        assert not tally.counts_arrow
        said = [text for text in tally.check() if "memory of pyarrow" in text]
        assert len(said) == 1 and "pools of threads" in said[0], said
        slots = Slots()
        assert slots.begin()
        held = pa.allocate_buffer(20 * MB)
        ctypes.memset(held.address, 1, 20 * MB)
        del held
        tally.end()
        assert slots.read()[1] < MB, slots.read()
        assert counts(slots) == 0
        pool[0] = before
        assert [t for t in tally.check() if "pyarrow" in t] == []
        assert tally.state()["arrow"] and tally.counts_arrow
        assert slots.begin()
        held = pa.allocate_buffer(20 * MB)
        ctypes.memset(held.address, 1, 20 * MB)
        del held
        tally.end()
        close(slots.read()[1], 20 * MB)
        tally.release()
        assert pool[0] == before
        """
    )
