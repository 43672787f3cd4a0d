"""What libraries do with memory: kinds of tasks whose truth a fresh process tells.

Each prepares its inputs once in a process, outside the task that is measured, and then
does one thing that people do with the library: a join, a sort, a file that is read.  As
in ``kinds.py``, every function takes a size (about what it needs at its peak, in bytes)
and seconds, which these do not wait.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import lzma
import mmap
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from kinds import Kind

#: (name, size) → what was prepared, in this process.
_MADE: dict[tuple[str, int], Any] = {}


def made(name: str, size: int, make: Callable[[], Any]) -> Any:
    """Return what a kind needs, made at the first call."""
    if (name, size) not in _MADE:
        _MADE[name, size] = make()
    return _MADE[name, size]


def _folder() -> Path:
    path = Path(tempfile.gettempdir(), f"memdash-kinds-{os.getuid()}")
    path.mkdir(exist_ok=True)
    return path


def _file(name: str, size: int, write: Callable[[Path], object]) -> Path:
    """Return a file that is made once, for all processes."""
    path = _folder() / f"{name}-{size}"
    if not path.exists():
        draft = _folder() / f"{name}-{size}-{os.getpid()}-{threading.get_ident()}"
        write(draft)
        draft.replace(path)
    return path


# -- pandas with Arrow strings, and files --------------------------------------------


def _frame(size: int) -> Any:
    import pandas as pd

    n = max(size // 100, 1000)
    chance = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "key": pd.Series([f"key {i:06d}" for i in chance.integers(0, n // 10, n)]),
            "text": pd.Series([f"text number {i:012d}" for i in chance.permutation(n)]),
            "value": chance.random(n),
        }
    )


def _strings(size: int) -> Any:
    return made("frame", size, lambda: _frame(size))


def arrow_groupby(size: int, seconds: float) -> None:
    """Group by a column of strings."""
    _strings(size).groupby("key").agg({"value": "sum", "text": "max"})


def arrow_merge(size: int, seconds: float) -> None:
    """Join two frames by a column of strings."""
    frame = _strings(size)
    keys = made("keys", size, lambda: frame[["key", "value"]].drop_duplicates("key"))
    frame.merge(keys, on="key")


def arrow_sort(size: int, seconds: float) -> None:
    """Sort by a column of strings."""
    _strings(size).sort_values("text")


def write_parquet(size: int, seconds: float) -> None:
    """Write a frame to a Parquet file."""
    path = _folder() / f"out-{os.getpid()}-{threading.get_ident()}.parquet"
    _strings(size).to_parquet(path)
    path.unlink()


def read_parquet(size: int, seconds: float) -> None:
    """Read a Parquet file, in one thread for the same reason."""
    import pandas as pd

    path = made(
        "parquet", size, lambda: _file("parquet", size, _frame(size).to_parquet)
    )
    pd.read_parquet(path, use_threads=False)


def _csv(size: int) -> Path:
    def write(path: Path) -> None:
        _frame(size).to_csv(path, index=False)

    return made("csv", size, lambda: _file("csv", size, write))


def read_csv_c(size: int, seconds: float) -> None:
    """Read a CSV file by pandas' own engine, in one thread.

    In several, as pandas 3.1 does, it takes 43 to 57 MB, as the threads are scheduled:
    there is no truth to compare with.
    """
    import pandas as pd

    with contextlib.suppress(KeyError, AttributeError):  # before 3.1
        pd.set_option("mode.max_threads", 1)
    pd.read_csv(_csv(size))


def read_csv_pyarrow(size: int, seconds: float) -> None:
    """Read a CSV file by Arrow's engine."""
    import pandas as pd

    pd.read_csv(_csv(size), engine="pyarrow")


# -- other libraries -----------------------------------------------------------------


def scipy_sparse(size: int, seconds: float) -> None:
    """Multiply two sparse matrices."""
    from scipy import sparse

    def make() -> Any:
        n = max(size // 1200, 100)
        return sparse.random(n, n, 10 / n, "csr", random_state=np.random.default_rng(1))

    matrix = made("sparse", size, make)
    matrix @ matrix


def zlib_compress(size: int, seconds: float) -> None:
    """Compress what cannot be."""
    zlib.compress(made("noise", size, lambda: random.Random(1).randbytes(size)), 1)


def lzma_compress(size: int, seconds: float) -> None:
    """Compress a little with a large dictionary."""
    text = made("text", size, lambda: b"memory " * (size // 200))
    settings = {"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": max(size // 8, 4096)}
    lzma.compress(text, filters=[settings])


def sqlite_memory(size: int, seconds: float) -> None:
    """Fill a database in memory."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute("create table t (n integer, text text)")
        rows = ((i, "x" * 90) for i in range(size // 105))
        database.executemany("insert into t values (?, ?)", rows)


def xarray_rolling(size: int, seconds: float) -> None:
    """Take a moving mean."""
    import xarray

    grid = made(
        "grid",
        size,
        lambda: xarray.DataArray(np.ones((size // 24_000, 1000)), dims=("x", "y")),
    )
    (grid.rolling(x=3).mean() + grid).mean("x")


def polars_groupby(size: int, seconds: float) -> None:
    """Group by a column, in a library with an allocator of its own."""
    import polars

    n = max(size // 16, 1000)
    frame = made(
        "polars",
        size,
        lambda: polars.DataFrame({"key": np.arange(n) % 997, "value": np.ones(n)}),
    )
    frame.sort("key").group_by("key").agg(polars.col("value").sum())


def pillow_resize(size: int, seconds: float) -> None:
    """Decode a picture and make it twice as large."""
    from PIL import Image

    side = int((size // 15) ** 0.5)

    def make() -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (side, side), "red").save(file, "png")
        return file.getvalue()

    picture = Image.open(io.BytesIO(made("png", size, make)))
    picture.resize((2 * side, 2 * side))


def sklearn_pca(size: int, seconds: float) -> None:
    """Fit and transform by principal components."""
    from sklearn.decomposition import PCA

    chance = np.random.default_rng(1)
    data = made("pca", size, lambda: chance.random((size // 800, 50)))
    PCA(10, svd_solver="full").fit_transform(data)


def h5py_memory(size: int, seconds: float) -> None:
    """Write compressed chunks into a file in memory."""
    import h5py

    data = made("h5", size, lambda: np.random.default_rng(1).random(size // 8))
    name = f"{os.getpid()}-{threading.get_ident()}.h5"
    with h5py.File(name, "w", driver="core", backing_store=False) as file:
        file.create_dataset("x", data=data, chunks=(2**17,), compression=1)


def zarr_memory(size: int, seconds: float) -> None:
    """Write compressed chunks into a store in memory."""
    import zarr

    data = made("zarr", size, lambda: np.random.default_rng(1).random(size // 8))
    store = zarr.storage.MemoryStore()
    zarr.create_array(store, data=data, chunks=(2**17,))


# -- known from how they are made ----------------------------------------------------


def thread_fills(size: int, seconds: float) -> None:
    """Let a thread of its own fill an array."""
    thread = threading.Thread(target=lambda: np.ones(size // 8).sum())
    thread.start()
    thread.join()


def child_fills(size: int, seconds: float) -> None:
    """Let a child process fill memory: nothing of it is the worker's own."""
    code = f"x = b'x' * {size}; import time; time.sleep({seconds})"
    subprocess.run([sys.executable, "-c", code], check=True)


def realloc_grows(size: int, seconds: float) -> None:
    """Let a block grow from page to page, and fill it."""
    libc = ctypes.CDLL(None)
    libc.realloc.restype = ctypes.c_void_p
    libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    block = None
    for part in range(1, 101):
        block = libc.realloc(block, part * size // 100)
        ctypes.memset(block, 1, part * size // 100)
    libc.free(block)


def mapped_file(size: int, seconds: float) -> None:
    """Read a mapped file through: its pages are the kernel's to take back."""
    path = _file("map", size, lambda path: path.write_bytes(bytes(size)))
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as map_,
    ):
        sum(map_[i] for i in range(0, len(map_), mmap.PAGESIZE))


LIBRARY_KINDS = (
    *(
        Kind(work, None, "pyarrow", inputs=True)
        for work in (
            arrow_groupby,
            arrow_merge,
            arrow_sort,
            write_parquet,
            read_parquet,
            read_csv_c,
            read_csv_pyarrow,
        )
    ),
    Kind(scipy_sparse, None, "scipy", inputs=True),
    Kind(zlib_compress, None, inputs=True),
    Kind(lzma_compress, None, inputs=True),
    Kind(sqlite_memory, None, inputs=True),
    Kind(xarray_rolling, None, "xarray", inputs=True),
    Kind(polars_groupby, None, "polars", inputs=True, fresh=True),
    Kind(pillow_resize, None, "PIL", inputs=True),
    Kind(sklearn_pca, None, "sklearn", inputs=True),
    Kind(h5py_memory, None, "h5py", inputs=True),
    Kind(zarr_memory, None, "zarr", inputs=True),
    Kind(thread_fills, 1.0),
    Kind(child_fills, 0.0),
    Kind(realloc_grows, 1.0),
    Kind(mapped_file, 0.0),
)
