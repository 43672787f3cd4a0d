"""Which error of a chain says that memory ran out."""

import errno

import pytest

from dask_memdash.plugins.error_chain import chain, is_of_gpu, memory_error_in


class ArrowMemoryError(Exception):
    """As a library has it whose classes are not known here."""


class UnprintableError(Exception):
    def __str__(self):
        raise ValueError("not today")


def caused(outer, inner):
    outer.__cause__ = inner
    return outer


def during(outer, inner):
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    "inner",
    [
        MemoryError(),
        ArrowMemoryError("realloc of size 8 failed"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
        ValueError("array is too big; `arr.size * arr.dtype.itemsize` is larger"),
    ],
    ids=repr,
)
def test_it_is_found_wherever_it_stands(inner):
    assert memory_error_in(inner) is inner
    assert memory_error_in(caused(ValueError("x"), inner)) is inner
    assert memory_error_in(during(ValueError("x"), inner)) is inner
    group = ExceptionGroup("two", [KeyError(1), caused(TypeError(), inner)])
    assert memory_error_in(during(RuntimeError("outer"), group)) is inner


def test_a_class_that_says_so_goes_before_words_that_do():
    inner = MemoryError("malloc of size 8 failed")
    outer = caused(RuntimeError("out of memory while loading"), inner)
    assert memory_error_in(outer) is inner


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        UnprintableError(),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError("std::bad_alloc: out_of_memory: CUDA error at: x.hpp"),
    ],
    ids=type,
)
def test_other_errors_are_none(error):
    assert memory_error_in(error) is None


def test_a_graphics_card_is_told_apart_by_words_and_by_library():
    cupys = type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})
    assert is_of_gpu(cupys("Out of memory allocating 8 bytes"))
    assert memory_error_in(cupys("Out of memory allocating 8 bytes")) is None


def test_a_circle_and_a_long_chain_come_to_an_end():
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    assert list(chain(first)) == [first, second]
    long = MemoryError()
    for n in range(500):
        long = caused(ValueError(n), long)
    assert len(list(chain(long))) == 100
    assert memory_error_in(long) is None
