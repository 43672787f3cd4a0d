"""The line of an allocation, by real allocations counted by either tally.

Code of users is compiled here under file names of its own: the tests' own files would
do as well, but their lines move.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dask_memdash.flight import format as layout
from dask_memdash.flight.block_format import Block, read_block
from dask_memdash.measure import lines as face
from dask_memdash.measure import native_tally, tally

MiB = 2**20
BIG = 20 * MiB

LINES = face.load()
pytestmark = pytest.mark.skipif(
    LINES is None and sys.version_info >= (3, 14), reason=face.why_not()
)


def users(source: str, file: str = "/home/ada/model.py", **names: Any) -> Any:
    """Compile a user's module; return it."""
    module = types.ModuleType("users")
    vars(module).update({"np": np, **names})
    exec(compile(textwrap.dedent(source), file, "exec"), vars(module))
    return module


class Recorded:
    """A recorder's slots that a tally counts into."""

    def __init__(self, counter: tally.Tally) -> None:
        self.tally = counter
        size = layout.file_size(4)
        self.mapping, self.buffer = counter.map_slots(-1, size)

    @contextlib.contextmanager
    def task(self, index: int = 0) -> Iterator[None]:
        assert self.tally.begin(self.mapping, layout.slot_offset(index))
        try:
            yield
        finally:
            self.tally.end()

    def block(self, index: int = 0) -> Block | None:
        return read_block(self.buffer, layout.slot_offset(index))

    def where(self, index: int = 0) -> tuple[str, int | None, str, str] | None:
        block = self.block(index)
        return block and (block.file, block.line, block.function, block.called)


@pytest.fixture(params=["python", "native"])
def recorded(request: pytest.FixtureRequest) -> Iterator[Recorded]:
    counter = (tally if request.param == "python" else native_tally).load()
    if counter is None:
        pytest.skip("this tally was not built here")
    assert counter.acquire(), counter.refused
    assert counter.know_lines() == ""
    yield Recorded(counter)
    counter.release()
    assert LINES is not None
    assert LINES.watched() == 0


def here(source: str, file: str = "/home/ada/model.py") -> Any:
    """Return what `probe()` of some code gives, which calls `see()`."""
    assert LINES is not None
    # What measures coverage keeps the names of files, and cannot write half a pair.
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return users(source, file, see=LINES.here).probe()
    finally:
        sys.settrace(tracer)


# -- which line --------------------------------------------------------------------


def test_it_is_known_on_the_versions_that_it_was_written_for() -> None:
    assert LINES is not None, face.why_not()
    assert face.why_not() == ""


def test_a_block_is_known_with_file_line_function_and_what_it_called(recorded) -> None:
    model = users(
        """
        def regrid(n):
            one = np.ones(n, "u1")
            two = np.concatenate(
                [one, one, one]
            )
            return two
        """
    )
    with recorded.task():
        two = model.regrid(BIG)
        block = recorded.block()
        assert block is not None
        assert recorded.where() == ("ada/model.py", 4, "regrid", "np.concatenate")
        assert block.size == pytest.approx(3 * BIG, rel=0.01)
        del two
    assert recorded.block() is None


def test_a_library_written_in_python_is_named_with_its_public_function(
    recorded,
) -> None:
    model = users("def make(n):\n    return np.ones(n, 'u1')\n")
    with recorded.task():
        held = model.make(BIG)
        assert recorded.where() == ("ada/model.py", 2, "make", "np.ones")
        del held


@pytest.mark.parametrize(
    ("code", "called"),
    [
        ("np.empty(n, 'u1')", "np.empty"),
        ("np.concatenate([a, b])", "np.concatenate"),
        ("np.concatenate([a, b], **{'axis': 0})", "np.concatenate"),
        ("np.concatenate(*[[a, b]], dtype='u1')", "np.concatenate"),
        ("np.random.default_rng(1).bytes(n)", "bytes"),
        ("a + b", "operator +"),
        ("a[idx]", "indexing"),
        ("a.copy()", "copy"),
        ("bytearray(n)", "bytearray"),
        ("'x'.ljust(n)", "ljust"),
        ("(a * 1).tobytes()", "tobytes"),
        ("local.empty(n, 'u1')", "local.empty"),
        ("alias(n, 'u1')", "alias"),
        ("(lambda: local.empty(n, 'u1'))()", "local.empty"),
        ("a > b", "comparison"),
    ],
)
def test_what_a_line_calls_is_named(recorded, code: str, called: str) -> None:
    model = users(
        f"""
        def work(n, a, b, idx):
            import numpy as local
            alias = np.empty
            return {code}
        """
    )
    a, b = np.ones(BIG, "u1"), np.ones(BIG, "u1")
    idx = np.ones(BIG, bool)
    for _ in range(40):  # warm: operations are replaced by special ones
        model.work(8, a[:8], b[:8], idx[:8])
    with recorded.task():
        held = model.work(BIG, a, b, idx)
        _, line, function, name = recorded.where() or (None, None, None, None)
        assert (line, name) == (5, called)
        assert function is not None
        assert function.startswith("work")
        del held


def test_the_innermost_line_of_the_users_is_named_beneath_libraries(recorded) -> None:
    model = users(
        """
        def each(row):
            return np.ones(20 * 2**20, "u1")
        def outer():
            return np.apply_along_axis(each, 0, np.zeros((1, 1)))
        """
    )
    with recorded.task():
        held = model.outer()
        block = recorded.block()
        assert block is not None
        assert (block.line, block.function) in ((3, "each"), (5, "outer"))
        del held
    assert here(
        """
        import functools
        def each(a, b):
            return see()
        def probe():
            return functools.reduce(each, [1, 2])
        """
    ) == ("ada/model.py", 4, "each", "see", 0)


@pytest.mark.parametrize(
    ("file", "seen"),
    [
        ("C:\\work\\model.py", "work\\model.py"),
        ("/tmp/ipykernel_77/3506.py", "ipykernel_77/3506.py"),
        ("model.py", "model.py"),
        ("<stdin>", "users"),  # its module, where there is no file
        ("", ""),
        ("/a/b/" + "ü" * 300, "ü" * 48),
        ("/x/" + "m" * 10_000 + ".py", "m" * 93 + ".py"),
        ("/x/evil\x1b[31m\r\n\x07\x9b.py", "x/evil?[31m????.py"),
        ("/x/half\ud800.py", "x/half?.py"),
        ("/x/\U0001f40d.py", "x/\U0001f40d.py"),
    ],
)
def test_of_a_files_name_the_end_is_told_and_nothing_that_a_terminal_obeys(
    file: str, seen: str
) -> None:
    found = here("def probe():\n    return see()\n", file)
    assert found == (seen, 2, "probe", "see", 0)


def test_a_hostile_name_of_a_function_is_cut_and_harmless() -> None:
    assert LINES is not None
    name = "x" * 5000 + "\n"
    space: dict[str, Any] = {"see": LINES.here}
    code = compile("def f():\n    return see()\n", "/x/y.py", "exec")
    (inner,) = (c for c in code.co_consts if isinstance(c, types.CodeType))
    function = types.FunctionType(
        inner.replace(co_name=name, co_qualname="\x1b" + name), space
    )
    _, line, told, called, _ = function()
    assert (line, told, called) == (2, "x" * 63 + "?", "see")


def test_code_without_positions_has_a_line_and_no_name() -> None:
    assert LINES is not None
    code = compile("def f():\n    return see()\n", "/x/y.py", "exec")
    (inner,) = (c for c in code.co_consts if isinstance(c, types.CodeType))
    for table in (b"", b"\xff", b"\xf8\x80", bytes([0x80 | 14 << 3, 255, 255])):
        function = types.FunctionType(
            inner.replace(co_linetable=table), {"see": LINES.here}
        )
        file, _, told, called, _ = function()
        assert (file, told, called) == ("x/y.py", "f", "")


def test_a_traced_line_is_known_and_at_worst_without_what_it_calls() -> None:
    seen = []

    def probe() -> None:
        assert LINES is not None
        seen.append(LINES.here())

    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        probe()
    finally:
        sys.settrace(before)
    ((file, line, function, called, flags),) = seen
    assert file == "unit/test_measure_lines.py"
    assert line == probe.__code__.co_firstlineno + 2
    assert function.endswith("probe")
    assert called in ("LINES.here", "")
    assert flags == 0


def test_without_a_line_of_the_users_it_is_the_outermost_of_a_library() -> None:
    packages = "/v/lib/python3.11/site-packages"
    inner = users("def lay(see):\n    return see()\n", f"{packages}/geo/inner.py")
    outer = users(
        "def grid(see):\n    return inner.lay(see)\n",
        f"{packages}/geo/grid.py",
        inner=inner,
    )
    assert LINES is not None
    seen: list[Any] = []

    def run() -> None:  # in a thread, so that no line of these tests is on the stack
        host = users(
            "def call(see, seen):\n    seen.append(outer.grid(see))\n",
            f"{packages}/dask/core.py",
            outer=outer,
        )
        thread = threading.Thread(target=host.call, args=(LINES.here, seen))
        thread.start()
        thread.join()

    run()
    assert seen == [("geo/grid.py", 2, "grid", "geo.grid", 0)]


def test_code_that_was_sent_by_value_is_known_by_its_module() -> None:
    assert LINES is not None
    dynamic = "<dynamic-code>"  # what cloudpickle makes of a file's name
    theirs = users("def probe():\n    return see()\n", dynamic, see=LINES.here)
    theirs.probe.__module__ = "__main__"
    assert theirs.probe() == ("__main__", 2, "probe", "see", 0)
    for odd in (None, 5, ""):
        theirs.probe.__module__ = odd
        assert theirs.probe() == (dynamic, 2, "probe", "see", 0)
    dasks = users("def split():\n    return see()\n", dynamic, see=LINES.here)
    dasks.split.__module__ = "dask.dataframe._merge"
    ours = users("def work():\n    return split()\n", split=dasks.split)
    assert ours.work() == ("ada/model.py", 2, "work", "split", 0)


def test_a_line_of_dask_alone_is_named_by_its_function() -> None:
    assert LINES is not None
    seen: list[Any] = []
    host = users(
        "def pick(see, seen):\n    seen.append(see())\n",
        "/v/lib/python3.11/site-packages/dask/array/chunk.py",
    )
    thread = threading.Thread(target=host.pick, args=(LINES.here, seen))
    thread.start()
    thread.join()
    assert seen == [("array/chunk.py", 2, "pick", "", 0)]


def test_a_deep_recursion_is_walked_to_its_innermost_line() -> None:
    source = """
    def probe(n=800):
        return see() if n == 0 else probe(n - 1)
    """
    assert here(source)[:3] == ("ada/model.py", 3, "probe")


def test_generators_and_comprehensions_are_lines_like_others() -> None:
    assert here("def probe():\n    return [see() for _ in [1]][0]\n")[1] == 2
    assert here("def probe():\n    return next(see() for _ in [1])\n")[:2] == (
        "ada/model.py",
        2,
    )


# -- which block -------------------------------------------------------------------


def test_small_blocks_are_not_known(recorded) -> None:
    with recorded.task():
        held = np.ones(15 * MiB, "u1")
        assert recorded.block() is None
        del held


def test_the_largest_block_that_is_there_is_told(recorded) -> None:
    with recorded.task():
        held = [np.ones(size * MiB, "u1") for size in (20, 60, 40)]
        assert recorded.block().size == pytest.approx(60 * MiB, rel=0.01)
        held[1] = None
        assert recorded.block().size == pytest.approx(40 * MiB, rel=0.01)
        held[2] = None
        assert recorded.block().size == pytest.approx(20 * MiB, rel=0.01)
        held.clear()
        assert recorded.block() is None


def test_once_the_eight_largest_have_gone_nothing_is_said(recorded) -> None:
    with recorded.task():
        held = [np.empty((17 + size) * MiB, "u1") for size in range(12)]
        for _ in range(8):
            assert recorded.block().size == pytest.approx(held[-1].nbytes, rel=0.01)
            held.pop()
        assert recorded.block() is None
        held.clear()


def test_a_block_that_another_thread_frees_is_not_told_any_more(recorded) -> None:
    held = []
    with recorded.task():
        held.append(np.ones(BIG, "u1"))
        assert recorded.block() is not None
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        assert recorded.block() is None


def test_an_output_is_known_on_until_its_slot_is_anothers(recorded) -> None:
    with recorded.task():
        output = np.ones(BIG, "u1")
    assert recorded.block() is not None
    with recorded.task():
        assert recorded.block() is None
    del output
    with recorded.task(1):
        output = np.ones(BIG, "u1")
    del output
    assert recorded.block(1) is None


def test_a_block_that_is_resized_is_known_by_its_last_size(recorded) -> None:
    with recorded.task():
        held = bytearray(BIG)
        held.extend(bytes(1))
        assert recorded.block().size >= BIG
        held *= 3
        assert recorded.block().size == pytest.approx(3 * BIG, rel=0.2)
        held.clear()
        assert recorded.block() is None


def test_each_task_has_the_lines_of_its_own_thread(recorded) -> None:
    model = users(
        """
        def first(n):
            return np.full(n, 1, "u1")
        def second(n):
            return np.repeat(np.zeros(1, "u1"), n)
        """
    )
    both = threading.Barrier(2)
    seen: dict[int, Any] = {}

    def work(index: int, function: Any) -> None:
        for _ in range(20):
            with recorded.task(index):
                held = function(BIG)
                both.wait(timeout=60)
                seen[index] = recorded.where(index)
                both.wait(timeout=60)
                del held

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(work, 0, model.first), pool.submit(work, 1, model.second)]
        for job in jobs:
            job.result(timeout=120)
    assert seen[0] == ("ada/model.py", 3, "first", "np.full")
    assert seen[1] == ("ada/model.py", 5, "second", "np.repeat")


def test_many_threads_leave_nothing_behind(recorded) -> None:
    def work(index: int) -> None:
        for _ in range(60):
            with recorded.task(index):
                held = [np.empty(17 * MiB, "u1") for _ in range(3)]
                assert recorded.block(index) is not None
                held.clear()
                assert recorded.block(index) is None

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(work, index) for index in range(4)]:
            job.result(timeout=120)
    assert LINES is not None
    assert LINES.watched() == 0


def test_nothing_is_known_where_lines_are_off() -> None:
    counter = tally.load()
    assert counter is not None
    assert counter.acquire()
    recorded = Recorded(counter)
    with recorded.task():
        held = np.ones(BIG, "u1")
        assert recorded.block() is None
        del held
    counter.release()


# -- without the GIL, and without Python ---------------------------------------------


def native() -> Recorded:
    counter = native_tally.load()
    if counter is None:
        pytest.skip(native_tally.why_not())
    assert counter.acquire(), counter.refused
    assert counter.know_lines() == ""
    return Recorded(counter)


def test_a_thread_that_has_let_the_gil_go_is_at_the_line_that_it_called_from() -> None:
    recorded = native()
    libc = ctypes.CDLL(None)  # lets the GIL go
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    model = users(
        "def work(n):\n    return libc.malloc(n)\n", "/home/ada/raw.py", libc=libc
    )
    try:
        with recorded.task():
            block = model.work(BIG)
            assert recorded.where() == ("ada/raw.py", 2, "work", "libc.malloc")
            libc.free(block)
            assert recorded.block() is None
    finally:
        recorded.tally.release()


SOURCE = """
#include <pthread.h>
#include <stdlib.h>
static void *run(void *size) { return calloc(1, (size_t)size); }
void *in_a_thread(size_t size) {
    pthread_t thread;
    void *block = NULL;
    pthread_create(&thread, NULL, run, (void *)size);
    pthread_join(thread, &block);
    return block;
}
"""


def test_a_thread_that_is_not_pythons_has_no_line(tmp_path) -> None:
    recorded = native()
    (tmp_path / "it.c").write_text(SOURCE)
    library = tmp_path / "it.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, tmp_path / "it.c", "-lpthread"],
        check=True,
    )
    foreign = ctypes.CDLL(str(library))
    foreign.in_a_thread.restype = ctypes.c_void_p
    foreign.in_a_thread.argtypes = [ctypes.c_size_t]
    try:
        recorded.tally.check()  # look at the library
        with recorded.task():
            assert foreign.in_a_thread(BIG)
            assert recorded.where() == ("", None, "", "")
            assert recorded.block().size >= BIG
    finally:
        recorded.tally.release()


# -- deaths and children --------------------------------------------------------------


@pytest.mark.parametrize("which", ["tally", "native_tally"])
def test_the_line_is_there_after_a_sigkill(which: str, tmp_path) -> None:
    if (tally if which == "tally" else native_tally).load() is None:
        pytest.skip("this tally was not built here")
    file = tmp_path / "a.flight"
    script = tmp_path / "model.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, signal, sys
            import numpy as np
            from dask_memdash.flight import format as layout
            from dask_memdash.measure import {which} as face
            counter = face.load()
            assert counter.acquire() and counter.know_lines() == ""
            size = layout.file_size(2)
            fd = os.open({str(file)!r}, os.O_RDWR | os.O_CREAT)
            os.posix_fallocate(fd, 0, size)
            mapping, buffer = counter.map_slots(fd, size)
            def regrid():
                parts = [np.zeros(10 * 2**20, "u1")]
                while True:
                    parts = [np.concatenate(parts * 2)]
                    if parts[0].nbytes > 70 * 2**20:
                        os.kill(os.getpid(), signal.SIGKILL)
            counter.begin(mapping, layout.slot_offset(1))
            regrid()
            """
        )
    )
    done = subprocess.run([sys.executable, script], check=False, timeout=120)
    if (
        done.returncode != -9
        and (tally if which == "tally" else native_tally).load() is None
    ):
        pytest.skip("this tally was not built here")
    assert done.returncode == -9
    block = read_block(memoryview(file.read_bytes()), layout.slot_offset(1))
    assert block is not None
    assert (block.line, block.function) == (15, "regrid")
    assert block.called == "np.concatenate"
    assert block.file.endswith("/model.py")
    assert block.size == pytest.approx(80 * MiB, rel=0.01)


def test_a_forked_child_writes_nothing_into_its_parents_recorder(recorded) -> None:
    with recorded.task():
        held = np.ones(BIG, "u1")
        before = recorded.block()
        child = os.fork()
        if child == 0:
            more = np.ones(2 * BIG, "u1")
            del more, held
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status == 0
        assert recorded.block() == before
        assert before is not None
        del held


# -- what has to be known of a version -------------------------------------------------


def test_every_operation_that_is_listed_has_a_kind() -> None:
    import opcode

    kinds, follow = face.operations()
    assert len(kinds) == len(follow) == 256
    for name, code in opcode.opmap.items():
        if code < 256 and not name.startswith("INSTRUMENTED"):
            assert kinds[code] != 0, name
    assert kinds[opcode.opmap["LOAD_GLOBAL"]] == face.KINDS.index("global")
    assert follow[opcode.opmap["LOAD_GLOBAL"]] >= 4


def test_a_version_that_is_not_known_is_refused_in_words(monkeypatch) -> None:
    real = face.import_module("dask_memdash.measure._lines")
    other = types.SimpleNamespace(version=0x030F, lines=real.lines, here=real.here)
    monkeypatch.setattr(face, "import_module", lambda _: other)
    face._load.cache_clear()
    try:
        assert face.load() is None
        assert face.why_not() == (
            "the lines of allocations are not known: it was built for another version "
            "of Python"
        )
    finally:
        face._load.cache_clear()


def test_a_layout_that_is_not_as_expected_is_found_out_by_the_test(monkeypatch) -> None:
    real = face.import_module("dask_memdash.measure._lines")
    wrong = types.SimpleNamespace(
        version=real.version,
        lines=real.lines,
        configure=lambda *_: None,
        here=lambda: ("memdash/self_test.py", 7, "probe", "it.here", 0),
    )
    monkeypatch.setattr(face, "import_module", lambda _: wrong)
    face._load.cache_clear()
    try:
        assert face.load() is None
        assert "a known line was taken for" in face.why_not()
    finally:
        face._load.cache_clear()
