"""What failed allocations ask for, in everybody's words; and what they mean."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_memdash.analysis.incidents.request_judgement import judge, likely
from dask_memdash.analysis.incidents.requests import Request, itemsize, parse
from dask_memdash.guard.too_large import sentence, sentence_of_stopped
from dask_memdash.model.event_parts import Braked, Executing

KIB, MIB, GIB, TIB, PIB = (2**n for n in (10, 20, 30, 40, 50))

#: Text → (bytes, shape, dtype, source).
WORDINGS = {
    # NumPy
    "Unable to allocate 256. TiB for an array with shape (35184372088832,) and data "
    "type float64": (256 * TIB, (35184372088832,), "float64", "numpy"),
    "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 56.0 PiB for an "
    "array with shape (2147483648, 1048576) and data type <U7": (
        *(63_050_394_783_186_944, (2147483648, 1048576), "<U7", "numpy"),
    ),
    "MemoryError: Unable to allocate 12.0 PiB for an array with shape "
    "(1125899906842624,) and data type [('a', '<i4'), ('b', '<f8')]": (
        *(12 * PIB, (1125899906842624,), "[('a', '<i4'), ('b', '<f8')]", "numpy"),
    ),
    "Unable to allocate 1.00 PiB for an array with shape (140737488355328,) and data "
    "type datetime64[ns]": (PIB, (140737488355328,), "datetime64[ns]", "numpy"),
    "Unable to allocate 512. MiB for an array with shape (8192, 8192) and data type "
    "float64": (512 * MIB, (8192, 8192), "float64", "numpy"),
    "Unable to allocate 8 bytes for an array with shape () and data type float64": (
        *(8, (), "float64", "numpy"),
    ),
    "Unable to allocate array with shape (20000, 30000) and data type float32": (
        *(2_400_000_000, (20000, 30000), "float32", "numpy"),
    ),
    "_ArrayMemoryError((35184372088832,), dtype('float64'))": (
        *(256 * TIB, (35184372088832,), "float64", "numpy"),
    ),
    "unable to allocate array data.": (None, None, None, "numpy"),
    "cannot allocate memory for array": (None, None, None, "numpy"),
    "Unable to allocate 4.00 GiB for an array with shape (536870912,) and data type "
    "object": (4 * GIB, (536870912,), "object", "numpy"),  # pandas
    "Unable to allocate 1.34 GiB for an array with shape (3, 5) and data type void": (
        *(1_438_814_044, (3, 5), "void", "numpy"),
    ),
    "Unable to allocate 2.0 GiB": (2 * GIB, None, None, "python"),
    # Arrow
    "malloc of size 1073741824 failed": (GIB, None, None, "arrow"),
    "pyarrow.lib.ArrowMemoryError: realloc of size 2172846080 failed": (
        *(2172846080, None, None, "arrow"),
    ),
    # Python, the C++ library, the system
    "MemoryError": (None, None, None, "python"),
    "MemoryError()": (None, None, None, "python"),
    "[Errno 12] Cannot allocate memory": (None, None, None, "system"),
    "OSError: [Errno 12] Cannot allocate memory: '/dev/shm/x'": (
        *(None, None, None, "system"),
    ),
    "std::bad_alloc": (None, None, None, "c++"),
    # pandas' reader
    "Error tokenizing data. C error: out of memory": (None, None, None, "python"),
    # others
    "CPLMalloc(): Out of memory allocating 1073741824 bytes.": (
        *(GIB, None, None, "gdal"),
    ),
    "ERROR 2: overview.cpp, 4145: cannot allocate 29949646468 bytes": (
        *(29949646468, None, None, "gdal"),
    ),
    "memdataset.cpp, 1541: cannot allocate 2x2119895040 bytes": (
        *(4239790080, None, None, "gdal"),
    ),
    "Can't synchronously read data (memory allocation failed for raw data chunk)": (
        *(None, None, None, "hdf5"),
    ),
    "NetCDF: Memory allocation (malloc) failure": (None, None, None, "netcdf"),
    "Allocation failed (probably too large).": (None, None, None, "python"),  # Numba
    "[enforce fail at alloc_cpu.cpp:114] err == 0. DefaultCPUAllocator: can't allocate "
    "memory: you tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate "
    "memory)": (8 * GIB, None, None, "torch"),
    "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 7.79 GiB total capacity; "
    "5.21 GiB already allocated)": (2 * GIB, None, None, "torch"),
    "OOM when allocating tensor with shape[1024,1024,512] and type float on "
    "/job:localhost/replica:0/task:0/device:CPU:0 by allocator cpu": (
        *(2 * GIB, (1024, 1024, 512), "float", "tensorflow"),
    ),
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.": (
        *(16 * GIB, None, None, "python"),
    ),
    "Out of memory allocating 8,589,934,592 bytes (allocated so far: 0 bytes).": (
        *(8 * GIB, None, None, "python"),
    ),
    "memory allocation of 68719476736 bytes failed": (64 * GIB, None, None, "rust"),
    "OpenCV(4.8.0) (-4:Insufficient memory) Failed to allocate 8294400000 bytes in "
    "function 'OutOfMemoryError'": (8294400000, None, None, "python"),
    "Out of Memory Error: failed to allocate data of size 16.0 MiB (3.7 GiB/3.7 GiB "
    "used)": (16 * MIB, None, None, "python"),
    "CImg<double>::CImg(): Failed to allocate memory (1.5 Gio) for image": (
        *(1_610_612_736, None, None, "python"),
    ),
    # Dask's scheduler
    "Task 'gather_all-1' has 500.00 MiB worth of input dependencies, but worker "
    "tcp://127.0.0.1:40001 has memory_limit set to 381.47 MiB. It seems like you "
    "called client.compute() on a huge collection.": (
        *(500 * MIB, None, None, "scheduler"),
    ),
}


@pytest.mark.parametrize("text", WORDINGS, ids=lambda text: text[:40])
def test_every_wording_is_read(text):
    request = parse(text)
    found = (request.bytes, request.shape, request.dtype, request.source)
    assert found == WORDINGS[text]


@pytest.mark.parametrize("text", WORDINGS, ids=lambda text: text[:40])
def test_a_traceback_before_it_changes_nothing(text):
    before = "Traceback (most recent call last):\n" + '  File "x.py", line 9\n' * 5_000
    assert parse(f"{before}{text}") == parse(text)


def test_what_numpy_says_today_is_read():
    with pytest.raises(MemoryError) as raised:
        np.empty((2**30, 2**20), "complex64")
    request = parse(str(raised.value))
    assert request.bytes == 2**53
    assert (request.shape, request.dtype) == ((2**30, 2**20), "complex64")


def test_what_numpy_refuses_outright_is_impossible():
    for ask in (lambda: np.empty(2**62), lambda: np.empty(2**70)):
        with pytest.raises(ValueError, match=r"too big|exceeded") as raised:
            ask()
        request = parse(str(raised.value))
        assert (request.impossible, request.bytes) == (True, None)


def test_what_arrow_says_today_is_read():
    pa = pytest.importorskip("pyarrow")
    with pytest.raises(MemoryError) as raised:
        pa.allocate_buffer(2**62)
    assert parse(str(raised.value)).bytes == 2**62


@pytest.mark.parametrize(
    "text",
    [
        "gdalrasterize.cpp, 957: cannot allocate 18446744072761901056 bytes",
        "malloc of size -8 failed",
        "std::bad_array_new_length",
    ],
)
def test_a_negative_or_overflown_size_is_impossible(text):
    request = parse(text)
    assert (request.impossible, request.bytes) == (True, None)
    assert judge(request, GIB).verdict == "mistake"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "KeyError: 'x'",
        "ValueError: cannot reshape array of size 12 into shape (5,)",
        "No such file or directory: 'memory.csv'",
        "[Errno 28] No space left on device",
        "operands could not be broadcast together with shapes (3,) (4,)",
        "OSError: reserve 5 bytes for the header",
    ],
)
def test_a_text_that_is_not_about_memory_asks_for_nothing(text):
    assert parse(text) is None


def test_what_is_no_text_asks_for_nothing():
    for value in (None, 5, b"MemoryError", ["MemoryError"]):
        assert parse(value) is None


def test_a_graphics_card_is_another_memory():
    request = parse("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert request.device == "gpu"
    assert judge(request, GIB).verdict == "gpu"


def test_a_size_that_shape_and_dtype_contradict_is_left_as_said():
    text = (
        "Unable to allocate 5.00 GiB for an array with shape (10,) and data type int8"
    )
    assert parse(text).bytes == 5 * GIB


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("float64", 8),
        ("uint8", 1),
        ("complex128", 16),
        ("bool", 1),
        ("<U10", 40),
        ("|S5", 5),
        ("S12", 12),
        (">f4", 4),
        ("datetime64[us]", 8),
        ("<M8[ns]", 8),
        ("object", 8),
        ("dtype", None),
        ("[('a', '<i4')]", None),
        ("", None),
        (None, None),
    ],
)
def test_bytes_of_an_element(dtype, size):
    assert itemsize(dtype) == size


def test_the_request_in_words():
    text = next(iter(WORDINGS))
    assert str(parse(text)) == (
        "256 TiB for an array of shape (35184372088832,) and dtype float64"
    )
    assert str(parse("malloc of size 1073741824 failed")) == "1 GiB"
    assert str(parse("MemoryError")) == "an unknown amount"
    assert str(parse("Maximum allowed dimension exceeded")) == (
        "more than a process can address"
    )


def test_more_than_the_machine_is_a_mistake():
    judgement = judge(Request(10 * GIB), limit=GIB, machine=8 * GIB)
    assert judgement.verdict == "mistake"
    assert judgement.text == "It asked for 10 GiB: more than its machine has (8 GiB)."


def test_fifty_times_the_limit_is_a_mistake_where_the_machine_is_not_known():
    assert judge(Request(51 * GIB), limit=GIB).verdict == "mistake"
    assert judge(Request(49 * GIB), limit=GIB).verdict == "too-large"


def test_less_than_the_limit_is_a_shortage():
    judgement = judge(Request(GIB // 2), limit=GIB, machine=8 * GIB)
    assert (judgement.verdict, judgement.times) == ("shortage", 0.5)
    assert judgement.likely == ""


def test_without_figures_nothing_is_judged():
    assert judge(Request()).verdict == "unknown"
    assert judge(Request(), GIB, 8 * GIB).verdict == "unknown"
    assert judge(Request(5 * GIB)).verdict == "unknown"


def test_inputs_beyond_the_limit_are_too_large_and_never_a_mistake():
    text = (
        "Task 'f' has 97.66 GiB worth of input dependencies, but worker tcp://a:1 has "
        "memory_limit set to 1.00 GiB."
    )
    judgement = judge(parse(text))
    assert judgement.verdict == "too-large"
    assert judgement.text == (
        "Its inputs take 97.7 GiB at once, more than the worker's limit of 1 GiB."
    )


#: As `guard.too_large` says them: of a task that has ended workers, and of one that was
#: stopped before it could.
ENDED = (
    "task 'load-1' of 'load' needs at least 1.4 GiB at app/model.py:9 in np.ones. No "
    "worker has more than 572 MiB, and it has ended a worker while it ran alone there, "
    "so it is not run again. Make its chunks smaller, or give workers a larger "
    "memory_limit"
)
STOPPED = (
    "TaskTooLarge: task 'needs at least 9 B-1' of 'load' needs at least 320 MiB at "
    "app/model.py:9 in np.ones, beside 90 MiB of inputs. An empty worker has 80 MiB in "
    "use already, of 381 MiB at most. It was stopped 3 times before it could end a "
    "worker, and is not run again. Make its chunks smaller, or give workers a larger "
    "memory_limit"
)


@pytest.mark.parametrize(
    ("text", "needs", "limit", "of"),
    [
        (ENDED, 1_503_238_554, 572 * MIB, ", more than the 572 MiB that the largest"),
        (STOPPED, 320 * MIB, 381 * MIB, " of the 381 MiB that the largest"),
    ],
)
def test_what_the_guard_does_not_run_any_more_is_too_large(text, needs, limit, of):
    request = parse(text)
    assert (request.source, request.limit) == ("guard", limit)
    assert request.bytes == needs
    judgement = judge(request, limit=9 * GIB, machine=8 * GIB)
    assert (judgement.verdict, judgement.times) == ("too-large", needs / limit)
    assert judgement.text == (
        f"The guard does not run it any more: it needs at least {request}{of} worker "
        "has, as was seen when it ran."
    )


def test_the_guards_own_words_are_read():
    by_line = {"where": "app/model.py:9 in np.ones", "idle": 90 * MIB}
    for key in ("load-1", "('load', 1, 2)", 'it\'s "odd"'):
        task = Braked(key, "load", needs=300 * MIB, inputs=MIB, **by_line)
        assert parse(sentence_of_stopped(task, 400 * MIB, 1)).bytes == 300 * MIB
        dead = Executing(key, "", "load", 1, 0.5, MIB, MIB, 0, "exact")
        request = parse(sentence(dead, 500 * MIB, 400 * MIB, 2))
        assert (request.bytes, request.limit) == (500 * MIB, 400 * MIB)


def test_how_a_mistake_came_about():
    square = likely(Request(shape=(10**6, 10**6), dtype="float64"))
    assert "every one of 1,000,000 elements against every other" in square
    crossed = likely(Request(shape=(10**6, 20_000), dtype="float64"))
    assert "lengths 1,000,000 and 20,000" in crossed
    product = likely(Request(shape=(10**12,), dtype="int64"))
    assert "1,000,000,000,000 elements (1,000,000 × 1,000,000)" in product
    assert "a merge whose keys repeat on both sides" in product
    wide = likely(Request(shape=(10**6,), dtype="<U100000"))
    assert "Each element takes 391 kiB" in wide
    assert likely(Request()) == ""
    assert likely(Request(shape=(3, 4), dtype="float64")) == ""


PIECES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from([*WORDINGS, "shape (", "data type [(", "allocate ", "1e999"]),
        st.from_regex(r"(allocate|size|shape \() ?-?\d{1,60}[.,eE]?\d{0,60} ?[A-Za-z]"),
    ),
    max_size=12,
).map("".join)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(PIECES, st.none() | st.integers(), st.none() | st.integers())
def test_no_text_makes_it_raise(text, limit, machine):
    request = parse(text)
    if request is not None:
        assert request.bytes is None or 0 <= request.bytes < 2**63
        assert len(str(request)) < 300
        judgement = judge(request, limit, machine)
        assert len(judgement.text) < 400
        assert len(judgement.likely) < 400


@pytest.mark.parametrize(
    "piece",
    [
        "allocate ",
        "cannot allocate ",
        "9",
        "9,",
        "shape (9, ",
        "data type [(",
        "out of memory ",
        "has 5 MiB worth of input dependencies, but worker ",
        "malloc of size ",
        "\n",
        " ",
        "\x00\u0661",
        "memory allocation of 9",
    ],
)
def test_a_megabyte_of_text_takes_a_moment(piece):
    text = piece * (10**6 // len(piece))
    began = time.thread_time()
    parse(text)
    assert time.thread_time() - began < 2
