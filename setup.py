"""What pyproject.toml cannot say: which packages there are, and how the tally is built.

Without a compiler, NumPy's headers or a fitting platform the package is installed
without it, and says at run time what that costs (``measure/tally.py``).
"""

import platform
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup

FLAGS = ["-O2", "-Wall", "-Wextra", "-fvisibility=hidden"]

#: The second generation's files, in ``measure/native``.
PARTS = (
    "arrow",
    "arrow_jobs",
    "brake",
    "counters",
    "family",
    "got",
    "module",
    "pool_jobs",
    "residency",
    "reused",
    "sample",
    "slots",
    "small_objects",
    "threads",
)


#: The files of what finds the line of an allocation, in ``measure/frames``.
LINES_PARTS = ("blocks", "callee", "frames", "module", "whose")

#: What both tallies call for large blocks.
LINES_HEADER = "dask_memdash/measure/frames/lines.h"


def extensions() -> list[Extension]:
    """Return the tally's extension, or nothing where it could not work anyway."""
    if sys.platform == "win32" or sys.implementation.name != "cpython":
        return []
    return [*first_generation(), *second_generation(), *lines_of_allocations()]


def first_generation() -> list[Extension]:
    """Return ``_tally``, which takes NumPy's headers: empty without them."""
    try:
        import numpy
    except ImportError:
        return []
    return [
        Extension(
            "dask_memdash.measure._tally",
            ["dask_memdash/measure/_tally.c"],
            depends=[LINES_HEADER],
            include_dirs=[numpy.get_include()],
            extra_compile_args=FLAGS,
            # a failed build is a warning, not the end of the installation
            optional=True,
        )
    ]


def second_generation() -> list[Extension]:
    """Return ``_native``, which takes Linux on a processor that it was written for."""
    known = platform.machine() in ("x86_64", "aarch64") and sys.maxsize > 2**32
    if sys.platform != "linux" or not known:
        return []
    folder = "dask_memdash/measure/native"
    return [
        Extension(
            "dask_memdash.measure._native",
            [f"{folder}/{name}.c" for name in PARTS],
            depends=[*map(str, Path(folder).glob("*.h")), LINES_HEADER],
            extra_compile_args=[*FLAGS, "-std=gnu11", "-pthread"],
            extra_link_args=["-pthread", "-ldl"],
            optional=True,
        )
    ]


def lines_of_allocations() -> list[Extension]:
    """Return ``_lines``, which says why where it does not know a version of Python."""
    folder = "dask_memdash/measure/frames"
    return [
        Extension(
            "dask_memdash.measure._lines",
            [f"{folder}/{name}.c" for name in LINES_PARTS],
            depends=[f"{folder}/lines.h", f"{folder}/inside.h"],
            extra_compile_args=[*FLAGS, "-std=gnu11"],
            optional=True,
        )
    ]


setup(
    packages=[*find_packages(include=["dask_memdash*"]), "dask_memdash.static"],
    ext_modules=extensions(),
)
