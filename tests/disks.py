"""Real disks that are full, for tests that run as root."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
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
