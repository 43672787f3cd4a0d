"""All-to-all computations on arrays, dataframes and bags, in growing sizes.

They are those of https://github.com/jdanbrown/dask-oom of 2017, which goes with
https://github.com/dask/dask/issues/2456, with the sizes and the outcomes that stand
there.  Every output needs a piece of every input.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dask_memdash.demos import DemoError
from dask_memdash.demos.experiment import Case, Session, Steps

#: Random integers are below this.
MAX_INT = 2**20

#: Rows of a partition of the dataframe, and its columns of 8 bytes.
ROWS = 157_500
COLUMNS = 10

#: Integers in a partition of the bag; each takes 40 bytes, with its place in the list.
NUMBERS = 12 * 2**20 // 40
NUMBER_BYTES = 40

#: √n → runtime and outcome in 2017.
ARRAY_2017 = {
    64: ("00:01", "success"),
    96: ("00:03", "success"),
    112: ("00:05", "success"),
    120: ("~00:15", "usually OOM, rare success"),
    128: ("~00:10", "OOM"),
}

#: Partitions → runtime and outcome in 2017.
DATAFRAME_2017 = {
    64: ("00:08", "success"),
    128: ("~00:20", "usually OOM, sometimes success"),
    256: ("~00:20", "OOM"),
    512: ("~00:30", "OOM"),
}

#: Partitions → runtime and outcome in 2017.
BAG_2017 = {
    2: ("00:00:08", "success"),
    4: ("00:00:14", "success"),
    8: ("00:00:24", "success"),
    32: ("00:01:53", "success"),
    64: ("00:07:46", "success"),
    128: ("00:17:40", "success"),
    256: ("00:37:09", "success"),
    512: ("01:16:30", "OOM"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the three experiments."""

    name: str
    #: Of Dask, that it computes with.
    module: str
    #: Size, scale and method → what is computed.
    case: Callable[..., Case]


def array(root: int, scale: float, method: str, limit: int | None = None) -> Case:
    """Rechunk an (n, n) array from tall chunks (n, √n) to wide ones (√n, n).

    Parameters
    ----------
    limit
        Largest chunk that Dask may make on the way, in bytes; None leaves it to Dask's
        ``array.chunk-size``, which is 128 MiB unless configured otherwise.
    """
    side = max(2, round(root * scale**0.25))

    def submit(session: Session) -> Steps:
        import dask.array as da

        n = side**2
        tall, wide = (n, side), (side, n)
        numbers = da.random.random((n, n), chunks=tall)
        total = numbers.rechunk(wide, block_size_limit=limit, method=method).sum()
        yield [session.client.compute(total)]

    return Case(
        name=f"sqrt_n={side}",
        work=submit,
        data_bytes=side**4 * 8,
        partition_bytes=side**3 * 8,
        parameters={
            "sqrt_n": side,
            "nparts": side,
            "method": method,
            "block_size_limit": limit,
        },
        seed=_seed(ARRAY_2017, root, scale),
    )


def dataframe(nparts: int, scale: float, method: str) -> Case:
    """Set a column of random integers as the index of a dataframe."""
    partitions = max(2, round(nparts * scale))

    def submit(session: Session) -> Steps:
        import dask.dataframe as dd

        frame = dd.from_map(_random_frame, range(partitions), meta=_random_frame(0, 1))
        divisions = [MAX_INT * k // partitions for k in range(partitions + 1)]
        indexed = frame.set_index("0", divisions=divisions, shuffle_method=method)
        # len(indexed) would be answered without any shuffle: Dask knows by now that
        # an index changes no length
        yield [session.client.compute(indexed.map_partitions(len).sum())]

    size = ROWS * COLUMNS * 8
    return Case(
        name=f"nparts={partitions}",
        work=submit,
        data_bytes=size * partitions,
        partition_bytes=size,
        parameters={
            "cols": COLUMNS,
            "part_rows": ROWS,
            "nparts": partitions,
            "method": method,
        },
        seed=_seed(DATAFRAME_2017, nparts, scale),
    )


def bag(nparts: int, scale: float, method: str) -> Case:
    """Group a bag of random integers by their remainder."""
    partitions = max(2, round(nparts * scale))

    def submit(session: Session) -> Steps:
        import dask.bag as db
        from dask.delayed import delayed

        numbers = db.from_delayed(
            [delayed(_random_numbers)(part) for part in range(partitions)]
        )
        groups = numbers.groupby(_Remainder(partitions), shuffle=method)
        sizes = groups.map_partitions(_flat).map_partitions(_bytes)
        yield [session.client.compute(sizes.sum())]

    size = NUMBERS * NUMBER_BYTES
    return Case(
        name=f"nparts={partitions}",
        work=submit,
        data_bytes=size * partitions,
        partition_bytes=size,
        parameters={"nparts": partitions, "method": method},
        seed=_seed(BAG_2017, nparts, scale),
    )


ARRAY = Kind("array", "dask.array", array)
DATAFRAME = Kind("dataframe", "dask.dataframe", dataframe)
BAG = Kind("bag", "dask.bag", bag)
KINDS = {kind.name: kind for kind in (ARRAY, DATAFRAME, BAG)}


def require(module: str) -> None:
    """See whether what a demo computes with can be imported.

    Raises
    ------
    DemoError
        It cannot.
    """
    try:
        importlib.import_module(module)
        importlib.import_module("numpy")
    except ImportError as error:
        extra = "dataframe" if module == DATAFRAME.module else "array"
        raise DemoError(
            f"the demo computes with {module}, which cannot be imported ({error}). "
            f'Install what it needs: pip install "dask[{extra}]"'
        ) from None


def _seed(
    table: dict[int, tuple[str, str]], size: int, scale: float
) -> tuple[str, str]:
    """Look the outcome of 2017 up; what is scaled was never run there."""
    return table.get(size, ("", "")) if scale == 1 else ("", "")


# -- what the workers run ------------------------------------------------------


def _random_frame(part: int, rows: int = ROWS) -> Any:
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(part)
    columns = {str(c): random.integers(0, MAX_INT, rows) for c in range(COLUMNS)}
    return pd.DataFrame(columns)


def _random_numbers(part: int) -> list[Any]:
    import numpy as np

    # integers of NumPy one by one, not of Python: 40 bytes each in the list
    return list(np.random.default_rng(part).integers(0, MAX_INT, NUMBERS))


@dataclass(frozen=True, slots=True)
class _Remainder:
    """Says which group a number belongs to."""

    groups: int

    def __call__(self, number: int) -> int:
        return number % self.groups


def _flat(groups: Sequence[tuple[int, Sequence[Any]]]) -> list[Any]:
    return [number for _, numbers in groups for number in numbers]


def _bytes(numbers: Sequence[Any]) -> list[int]:
    from dask.sizeof import sizeof

    return [sizeof(numbers)]
