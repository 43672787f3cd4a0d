"""Slots of one's own to count into, for the tally's tests; no test by itself."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import struct
import sys
from collections.abc import Iterator
from typing import ClassVar

from dask_memdash.measure.tally import Tally

COUNTERS = struct.Struct("<qq")
SLOT = 512


class Slots:
    """Eight slots in anonymous memory, of which tests take one per task."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.mapping, self.buffer = tally.map_slots(-1, 8 * SLOT)
        #: What the last `end` gave.
        self.missed: int | None = None

    @contextlib.contextmanager
    def task(self, index: int = 0) -> Iterator[None]:
        """Count this thread; garbage of others is not collected in it meanwhile."""
        collects = gc.isenabled()
        gc.disable()
        assert self.tally.begin(self.mapping, index * SLOT)
        try:
            yield
        finally:
            self.missed = self.tally.end()
            if collects:
                gc.enable()

    def now(self, index: int = 0) -> int:
        return COUNTERS.unpack_from(self.buffer, index * SLOT)[0]

    def peak(self, index: int = 0) -> int:
        return COUNTERS.unpack_from(self.buffer, index * SLOT)[1]


# -- NumPy's handlers, by way of ctypes ----------------------------------------------

_MALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_CALLOC = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t
)
_REALLOC = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
)
_FREE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _Handler(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("ctx", ctypes.c_void_p),
        ("malloc", _MALLOC),
        ("calloc", _CALLOC),
        ("realloc", _REALLOC),
        ("free", _FREE),
    )


class UserHandler:
    """A handler of a user's own, which puts 64 bytes before every block.

    So `malloc_usable_size` of its blocks is nonsense, and whoever frees one in
    another way than through it corrupts the heap.
    """

    AHEAD = 64
    IMMORTAL: ClassVar[list[UserHandler]] = []

    def __init__(self) -> None:
        UserHandler.IMMORTAL.append(self)  # an array may outlive any test
        self.made = 0
        self.freed = 0
        self._libc = libc = ctypes.CDLL(None)
        libc.malloc.restype = libc.realloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = [ctypes.c_size_t]
        libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]
        libc.free.restype = None
        self._struct = _Handler(
            b"users",
            1,
            None,
            _MALLOC(lambda _, size: self._malloc(size)),
            _CALLOC(lambda _, count, size: self._calloc(count * size)),
            _REALLOC(lambda _, block, size: self._realloc(block, size)),
            _FREE(lambda _, block, size: self._free(block)),
        )
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        self.capsule = new(ctypes.addressof(self._struct), b"mem_handler", None)

    def _malloc(self, size: int) -> int:
        self.made += 1
        return self._libc.malloc(size + self.AHEAD) + self.AHEAD

    def _calloc(self, size: int) -> int:
        block = self._malloc(size)
        ctypes.memset(block, 0, size)
        return block

    def _realloc(self, block: int, size: int) -> int:
        old = block - self.AHEAD
        return self._libc.realloc(old, size + self.AHEAD) + self.AHEAD

    def _free(self, block: int) -> None:
        self.freed += 1
        self._libc.free(block - self.AHEAD)


def _api(index: int, *arguments: type) -> ctypes._FuncPointer:
    numpy = sys.modules["numpy"]
    core = getattr(numpy, "_core", None) or numpy.core
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    table = pointer(core._multiarray_umath._ARRAY_API, None)
    address = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[index]
    return ctypes.PYFUNCTYPE(ctypes.py_object, *arguments)(address)


def set_handler(capsule: object) -> object:
    """PyDataMem_SetHandler: give the handler before."""
    return _api(304, ctypes.py_object)(capsule)


def get_handler() -> object:
    """PyDataMem_GetHandler: the handler of the current context."""
    return _api(305)()
