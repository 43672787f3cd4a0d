"""Kinds of collections: taken apart into keys, and made again around other tasks.

Covers Array, DataFrame, Series, Index and Scalar, Bag and Item, Delayed, and xarray's
Dataset, DataArray and Variable, which are several Arrays and what is around them.  A
*leaf* is a collection with keys of its own.  What :func:`take_apart` returns can be
pickled without any task, so that a manifest can hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dask.base import is_dask_collection
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import ensure_dict

from dask_memdash.errors import StorageError


@dataclass(frozen=True, slots=True)
class Leaf:
    """A collection without its graph."""

    #: "array", "dataframe", "bag", "item" or "delayed".
    kind: str
    #: Prefix of its tasks, as Dask shows it.
    prefix: str
    #: What it needs to be made again beside graph and keys.
    about: Mapping[str, Any]
    #: For people: shape, partitions, length.
    words: str


@dataclass(frozen=True, slots=True)
class Whole:
    """One argument of persist: how many leaves it takes, and how they make it up."""

    kind: str
    leaves: int
    about: Mapping[str, Any] = field(default_factory=dict)

    def put_together(self, leaves: Sequence[Any]) -> Any:
        """Return the argument, made from its leaves."""
        if self.kind == "leaf":
            return leaves[0]
        return _xarray_again(self.about, leaves)


class LiveGraph(HighLevelGraph):
    """A graph that keeps no copy of its tasks: what changes in them is always seen."""

    def to_dict(self) -> dict[Any, Any]:
        """Return the tasks as they are now."""
        return ensure_dict(self)


def take_apart(argument: Any) -> tuple[Whole, list[Any]]:
    """Return how an argument of persist is made up, and the leaves it is made of.

    Raises
    ------
    StorageError
        It is no collection that can be stored.
    """
    if type(argument).__module__.partition(".")[0] == "xarray":
        return _xarray_apart(argument)
    if not is_dask_collection(argument):
        raise StorageError(
            f"only Dask collections and xarray objects made of them can be persisted; "
            f"this is of type {type(argument).__name__}"
        )
    if _kind_of(argument) == "dataframe":
        # the keys of a DataFrame are known once it is optimized
        argument = argument.optimize()
    return Whole("leaf", 1), [argument]


def describe(leaf: Any) -> Leaf:
    """Return a leaf without its graph.

    Raises
    ------
    StorageError
        Its kind is not known.
    """
    from dask.utils import key_split

    kind = _kind_of(leaf)
    if kind == "array":
        prefix = key_split(leaf.name)
        about = {"chunks": leaf.chunks, "dtype": leaf.dtype, "meta": leaf._meta}
        words = f"Array {leaf.shape} of {leaf.dtype}"
    elif kind == "dataframe":
        prefix = key_split(leaf._name)
        about = {"meta": leaf._meta, "divisions": leaf.divisions}
        words = f"{type(leaf).__name__} of {_partitions(leaf.npartitions)}"
    elif kind == "bag":
        prefix = key_split(leaf.name)
        about = {"npartitions": leaf.npartitions}
        words = f"Bag of {_partitions(leaf.npartitions)}"
    else:
        prefix = key_split(leaf.key)
        about = {"length": getattr(leaf, "_length", None)} if kind == "delayed" else {}
        words = kind.capitalize()
    return Leaf(kind, prefix, about, words)


def _partitions(number: int) -> str:
    return f"{number} partition{'' if number == 1 else 's'}"


def _kind_of(leaf: Any) -> str:
    names = {f"{base.__module__}.{base.__qualname__}" for base in type(leaf).__mro__}
    for kind, name in (
        ("array", "dask.array.core.Array"),
        ("dataframe", "dask.dataframe.dask_expr._collection.FrameBase"),
        ("dataframe", "dask.dataframe.dask_expr._collection.Scalar"),
        ("bag", "dask.bag.core.Bag"),
        ("item", "dask.bag.core.Item"),
        ("delayed", "dask.delayed.Delayed"),
    ):
        if name in names:
            return kind
    raise StorageError(
        f"a collection of type {type(leaf).__name__} cannot be stored. Arrays, "
        "DataFrames, Bags, Delayed and xarray objects can."
    )


def make_again(
    leaf: Leaf, graph: dict[Any, Any], keys: Sequence[Any], name: str
) -> Any:
    """Return a collection around other tasks.

    Parameters
    ----------
    graph
        The tasks; whatever changes in it later changes in the collection.
    keys
        Its output keys, in the order of the old ones.
    name
        What the keys begin with.
    """
    about = leaf.about
    if leaf.kind == "dataframe":
        from dask.dataframe import from_graph

        prefix = f"{leaf.prefix}-load"
        return from_graph(graph, about["meta"], about["divisions"], list(keys), prefix)
    layers = LiveGraph({name: MaterializedLayer(graph)}, {name: set()})
    if leaf.kind == "array":
        from dask.array import Array

        chunks, dtype, meta = about["chunks"], about["dtype"], about["meta"]
        return Array(layers, name, chunks, dtype=dtype, meta=meta)
    if leaf.kind == "bag":
        from dask.bag import Bag

        return Bag(layers, name, about["npartitions"])
    if leaf.kind == "item":
        from dask.bag.core import Item

        return Item(layers, keys[0])
    from dask.delayed import Delayed

    return Delayed(keys[0], layers, about["length"], layer=name)


# -- xarray --------------------------------------------------------------------

#: Name that a DataArray and a Variable have within the Dataset that they are made one.
ONLY = "__memdash__"


def _xarray_apart(given: Any) -> tuple[Whole, list[Any]]:
    import xarray

    name = None
    if isinstance(given, xarray.Dataset):
        kind, dataset = "xarray.Dataset", given
    elif isinstance(given, xarray.DataArray):
        kind, name = "xarray.DataArray", given.name
        dataset = given.rename(ONLY).to_dataset()
    elif isinstance(given, xarray.Variable):
        kind, dataset = "xarray.Variable", xarray.Dataset({ONLY: given})
    else:
        raise StorageError(
            f"xarray's {type(given).__name__} cannot be stored. Dataset, DataArray and "
            "Variable can."
        )
    lazy = {
        name: variable
        for name, variable in dataset.variables.items()
        if is_dask_collection(variable.data if _has_dask(variable) else None)
    }
    if not lazy:
        raise StorageError(
            "nothing in this xarray object is a Dask array: there is nothing to compute"
        )
    around = {
        "kind": kind,
        "name": name,
        "template": dataset.drop_vars(list(lazy)),
        "order": list(dataset.data_vars),
        "coordinates": [name for name in lazy if name in dataset.coords],
        "variables": {
            name: (variable.dims, dict(variable.attrs), dict(variable.encoding))
            for name, variable in lazy.items()
        },
    }
    return Whole(kind, len(lazy), around), [v.data for v in lazy.values()]


def _has_dask(variable: Any) -> bool:
    return getattr(variable, "chunks", None) is not None


def _xarray_again(around: Mapping[str, Any], leaves: Sequence[Any]) -> Any:
    import xarray

    made = {
        name: xarray.Variable(dims, leaf, attrs, encoding)
        for (name, (dims, attrs, encoding)), leaf in zip(
            around["variables"].items(), leaves, strict=True
        )
    }
    template = around["template"]
    dataset = xarray.Dataset(
        {
            name: made[name] if name in made else template.variables[name]
            for name in around["order"]
        },
        coords=template.coords,
        attrs=template.attrs,
    ).assign_coords({name: made[name] for name in around["coordinates"]})
    dataset.encoding = template.encoding
    if around["kind"] == "xarray.Dataset":
        return dataset
    if around["kind"] == "xarray.Variable":
        return dataset.variables[ONLY]
    return dataset[ONLY].rename(around["name"])
