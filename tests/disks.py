"""Real disks that are full, for tests that run as root."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


class Disk:
    """A small file system of its own, full or not.

    Parameters
    ----------
    folder
        Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Take all the room that is left."""
        with self._ballast.open("ab", buffering=0) as file:
            size = 2**16
            while size:
                try:
                    file.write(b"x" * size)
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017
                    size //= 2

    def free(self) -> None:
        """Give back the room that was taken."""
        self._ballast.unlink()


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Disk]:
    """Mount a file system of a size such as "4m"; skip where that is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield Disk(folder)
    finally:
        # Lazily: a thread that is ending may still have a file open.
        subprocess.run(["umount", "-l", str(folder)], check=True)


class SlowDisk:
    """A directory whose disk is slow, or hangs, for processes with `environment`.

    Parameters
    ----------
    folder
        Where what makes it slow is built; the directory itself is `folder/record`.
    """

    def __init__(self, folder: Path) -> None:
        self.below = folder / "record"
        self._control = folder / "pause"
        library = folder / "slow_disk.so"
        source = Path(__file__).with_name("slow_disk.c")
        compiler = shutil.which("cc") or pytest.skip("there is no C compiler here")
        build = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
        subprocess.run([*build, "-ldl"], check=True)
        self.environment = {
            "LD_PRELOAD": str(library),
            "SLOW_DISK_CONTROL": str(self._control),
            "SLOW_DISK_BELOW": str(self.below),
        }
        self.pause(0.0)

    def pause(self, seconds: float) -> None:
        """Let each call wait for some seconds from now on."""
        self._put(int(seconds * 1000))

    def hang(self) -> None:
        """Let each call wait until there is another pause."""
        self._put(-1)

    def _put(self, number: int) -> None:
        # In one write to the same file: processes have it mapped.
        with self._control.open("r+b" if self._control.exists() else "wb") as file:
            file.write(number.to_bytes(4, sys.byteorder, signed=True))
