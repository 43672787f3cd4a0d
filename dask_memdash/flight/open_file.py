"""An open file of another process: copied out of, and written into, at any instant.

The GIL is kept meanwhile: a copy out of the page cache takes a few microseconds, while
a thread that gives the GIL up waits milliseconds to get it back where others are busy,
and a nanny's sampler would do so several times for each worker.
"""

from __future__ import annotations

import ctypes
import os


def _from_libc(name: str) -> ctypes._NamedFuncPointer | None:
    """Return a function of the C library that is called with the GIL held."""
    try:
        function = getattr(ctypes.PyDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
    function.restype = ctypes.c_ssize_t
    return function  # type: ignore[no-any-return]


# `off_t` has 64 bits wherever a pointer has.
_wide = ctypes.sizeof(ctypes.c_void_p) == 8
_pread = _from_libc("pread") if _wide else None
_pwrite = _from_libc("pwrite") if _wide else None


def keeping_pread() -> ctypes._NamedFuncPointer | None:
    """Return ``pread(fd, room, size, offset)`` that keeps the GIL; None without one."""
    return _pread


class OpenFile:
    """A file that can be copied and, as a buffer, be written by slices.

    Nothing here raises: what cannot be read is empty, what cannot be written is left.
    Not thread-safe.

    Parameters
    ----------
    fd
        File descriptor, which is closed with this.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        #: Size in bytes when it was opened.
        self.size = os.fstat(fd).st_size

    def __setitem__(self, place: slice, data: bytes) -> None:
        if self._fd < 0:
            return
        if _pwrite is not None:
            _pwrite(self._fd, bytes(data), len(data), place.start)
            return
        try:
            os.pwrite(self._fd, data, place.start)
        except OSError:
            return

    def copy(self, size: int) -> memoryview:
        """Return so many of the first bytes as they are now; fewer if it was cut."""
        if self._fd < 0:
            return memoryview(b"")
        if _pread is None:
            try:
                return memoryview(os.pread(self._fd, size, 0))
            except OSError:
                return memoryview(b"")
        room = bytearray(size)
        place = (ctypes.c_char * size).from_buffer(room)
        done = _pread(self._fd, place, size, 0)
        return memoryview(room)[: max(0, done)]

    def close(self) -> None:
        """Close the file; again changes nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
