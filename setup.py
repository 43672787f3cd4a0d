"""What pyproject.toml cannot say: which packages there are, and how the tally is built.

Without a compiler, NumPy's headers or a fitting platform the package is installed
without it, and says at run time what that costs (``measure/tally.py``).
"""

import sys

from setuptools import Extension, find_packages, setup


def extensions() -> list[Extension]:
    """Return the tally's extension, or nothing where it could not work anyway."""
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


setup(
    packages=[*find_packages(include=["dask_memdash*"]), "dask_memdash.static"],
    ext_modules=extensions(),
)
