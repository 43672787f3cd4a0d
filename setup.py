"""The one thing that pyproject.toml cannot say: the tally is built where it can be.

Without a compiler, NumPy's headers or a fitting platform the package is installed
without it, and says at run time what that costs (``measure/tally.py``).
"""

import sys

from setuptools import Extension, setup


def extensions() -> list[Extension]:
    """Give the tally's extension, or nothing where it could not work anyway."""
    if sys.platform == "win32" or sys.implementation.name != "cpython":
        return []
    try:
        import numpy
    except ImportError:
        return []
    return [
        Extension(
            "dask_memdash.measure._tally",
            ["dask_memdash/measure/_tally.c"],
            include_dirs=[numpy.get_include()],
            extra_compile_args=["-O2", "-Wall", "-Wextra", "-fvisibility=hidden"],
            # a failed build is a warning, not the end of the installation
            optional=True,
        )
    ]


setup(ext_modules=extensions())
