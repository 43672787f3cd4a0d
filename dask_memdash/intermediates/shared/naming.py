"""Names for what is persisted: ``with dask.annotate(persist_as="regridded")``.

The scheduler knows keys and no collections.  What a manifest needs of them is told by
the workers as they store each value: shape and type of an array, an empty frame of a
partition.  When all results of a name are stored, the manifest is written in a thread,
and :func:`dask_memdash.open_persisted` opens the set.

What cannot be told: divisions of DataFrames (they are unknown when opened), and which
arrays make up an xarray Dataset (a set of several collections opens as a tuple).
"""

from __future__ import annotations

import itertools
import logging
import pickle
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dask.utils import key_split

from dask_memdash.boundary import boundary
from dask_memdash.errors import NameTakenError, StorageError
from dask_memdash.intermediates import manifest, names
from dask_memdash.intermediates.kinds import Leaf, Whole
from dask_memdash.intermediates.memory import Memory
from dask_memdash.intermediates.persisting import Body
from dask_memdash.intermediates.shared.index import StoreIndex
from dask_memdash.intermediates.shared.ledger import KEPT, Ledger
from dask_memdash.intermediates.shared.protocol import PERSIST_AS
from dask_memdash.text import plain

logger = logging.getLogger("dask_memdash.storage")

#: Names that are followed at a time.
MOST_NAMES = 1000

#: Names whose refusal is told.
MOST_REFUSED = 5

#: Seconds until a name that could not be given is tried again; doubles from try to try.
AGAIN_AFTER = 5.0
MOST_TRIES = 8


@dataclass(slots=True)
class Named:
    """One name, until it is given."""

    keys: Sequence[Any]
    #: Of them, those that are not stored yet.
    missing: set[Any] = field(default_factory=set)
    given: bool = False
    #: How often that failed, and the monotonic time from which it is tried again.
    failures: int = 0
    again_at: float | None = None
    #: Why it never will be, where something else has it.
    refused: str | None = None


class Naming:
    """The names of one scheduler.

    Parameters
    ----------
    index
        What the store holds.
    in_thread
        Has something done in a thread.
    """

    def __init__(
        self,
        memory: Memory,
        ledger: Ledger,
        index: StoreIndex,
        in_thread: Callable[[Callable[[], Any]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory = memory
        self._ledger = ledger
        self._index = index
        self._clock = clock
        self._in_thread = in_thread
        self._names: dict[str, Named] = {}
        self._of_key: dict[Any, set[str]] = {}

    def arrived(self, arguments: Mapping[str, Any]) -> None:
        """Follow the names that a graph is persisted as.

        Raises
        ------
        StorageError
            A name cannot be one.
        """
        keys = arguments["keys"]
        everywhere = (arguments.get("global_annotations") or {}).get(PERSIST_AS)
        by_key = (arguments.get("annotations_by_type") or {}).get(PERSIST_AS) or {}
        if everywhere is None and not by_key:
            return
        groups: dict[str, list[Any]] = {}
        for key in keys:
            name = by_key.get(key, everywhere)
            if name is not None:
                groups.setdefault(manifest.check_name(name), []).append(key)
        for name, wanted in groups.items():
            self._forget(name)
            if len(self._names) >= MOST_NAMES:
                self._forget(next(iter(self._names)))
            self._names[name] = Named(wanted, set(wanted))
            for key in wanted:
                self._of_key.setdefault(key, set()).add(name)
            for key in wanted:
                one = self._ledger.keys.get(key)
                if one is not None and one.state == KEPT and one.facts:
                    self.stored(key)

    def _forget(self, name: str) -> None:
        one = self._names.pop(name, None)
        for key in one.keys if one is not None else ():
            named = self._of_key.get(key, set())
            named.discard(name)
            if not named:
                self._of_key.pop(key, None)

    def stored(self, key: Any) -> None:
        """Take note that a key is stored, and what its value is like is known."""
        for name in list(self._of_key.get(key, ())):
            named = self._names[name]
            named.missing.discard(key)
            if not named.missing and not named.given:
                named.given = True
                self._give(name, named)

    def retry(self) -> None:
        """Give the names that could not be given, where it is time to.

        What the store has lost meanwhile (somebody deleted what no name pinned yet) is
        wanted again first.
        """
        now = self._clock()
        for name, named in list(self._names.items()):
            if named.again_at is None or named.again_at > now:
                continue
            named.again_at = None
            for key in named.keys:
                one = self._ledger.keys.get(key)
                is_kept = one is not None and one.state == KEPT
                if one is not None and is_kept and one.object_id not in self._index:
                    self._ledger.lost(key)
            self._give(name, named)

    def progress(self) -> dict[str, tuple[int, int]]:
        """Return for each name how many of its results are stored, of how many."""
        return {
            name: (len(one.keys) - len(one.missing), len(one.keys))
            for name, one in self._names.items()
        }

    def refused(self) -> list[str]:
        """Return why names were not given that something else has; the first few."""
        told = (one.refused for one in self._names.values() if one.refused)
        return list(itertools.islice(told, MOST_REFUSED))

    def _give(self, name: str, named: Named) -> None:
        rows = [(key, self._ledger.keys.get(key)) for key in named.keys]
        known = {key: one for key, one in rows if one is not None and one.state == KEPT}
        if len(known) < len(rows):
            named.given = False
            named.missing = set(named.keys) - set(known)
            return
        functions: dict[str, str] = {}
        for one in known.values():
            functions |= one.lineage.functions
        objects = {key: one.object_id for key, one in known.items()}
        facts = {key: one.facts for key, one in known.items()}
        give = partial(give_name, self._memory, name, objects, facts, functions)
        try_it = boundary.guarded(self._try, "naming what is persisted")
        self._in_thread(lambda: try_it(named, give))

    def _try(self, named: Named, give: Callable[[], None]) -> None:
        """Give a name, or see to it that it is tried again; in a thread."""
        try:
            give()
        except NameTakenError as error:
            # nothing of ours failed: it is told beside what is stored
            named.refused = plain(str(error), 300)
            logger.warning("What is persisted gets no name: %s", named.refused)
        except StorageError:
            named.failures += 1
            if named.failures >= MOST_TRIES:
                raise
            self._index.hurry()
            named.again_at = self._clock() + AGAIN_AFTER * 2.0 ** (named.failures - 1)


def give_name(
    memory: Memory,
    name: str,
    objects: Mapping[Any, str],
    facts: Mapping[Any, Mapping[str, Any]],
    functions: Mapping[str, str],
) -> None:
    """Write the manifest of a set; in a thread.

    Raises
    ------
    NameTakenError
        Something else has that name.
    StorageError
        What the values are like does not make a collection.
    """
    body = make_body(facts)
    in_order = [objects[key] for keys in body.keys for key in keys]
    words = [leaf.words for leaf in body.leaves]
    version = getattr(memory, "version", None)
    mine = manifest.draft(name, words, in_order, functions, version)
    claimed = names.claim(memory, mine, body, overwrite=False, trust_keys=False)
    if claimed.finished is None:
        names.finish(memory, claimed, body, overwrite=False)


def make_body(facts: Mapping[Any, Mapping[str, Any]]) -> Body:
    """Return the collections that keys and values make up, in the order of names."""
    groups: dict[str, list[Any]] = {}
    for key in facts:
        groups.setdefault(str(key[0] if isinstance(key, tuple) else key), []).append(
            key
        )
    leaves, all_keys = [], []
    for _, keys in sorted(groups.items()):
        keys.sort(key=lambda key: key[1:] if isinstance(key, tuple) else ())
        leaves.append(_leaf(keys, facts))
        all_keys.append(keys)
    return Body([Whole("leaf", 1) for _ in leaves], leaves, all_keys)


def _leaf(keys: Sequence[Any], facts: Mapping[Any, Mapping[str, Any]]) -> Leaf:
    prefix = str(key_split(keys[0]))
    if not isinstance(keys[0], tuple):
        return Leaf("delayed", prefix, {"length": None}, "Delayed")
    kinds = {facts[key].get("kind") for key in keys}
    if kinds == {"array"}:
        return _array(prefix, keys, facts)
    if kinds == {"dataframe"}:
        number = len(keys)
        meta = pickle.loads(facts[keys[0]]["meta"])
        about = {"meta": meta, "divisions": (None,) * (number + 1)}
        words = f"{type(meta).__name__} of {_partitions(number)}"
        return Leaf("dataframe", prefix, about, words)
    return Leaf(
        "bag", prefix, {"npartitions": len(keys)}, f"Bag of {_partitions(len(keys))}"
    )


def _partitions(number: int) -> str:
    return f"{number} partition{'' if number == 1 else 's'}"


def _array(
    prefix: str, keys: Collection[Any], facts: Mapping[Any, Mapping[str, Any]]
) -> Leaf:
    from dask.array.utils import meta_from_array

    first = facts[next(iter(keys))]
    shapes = {key[1:]: tuple(facts[key]["shape"]) for key in keys}
    if any(len(at) != len(shape) for at, shape in shapes.items()):
        raise StorageError(
            f"the chunks of {prefix} have other dimensions than its keys"
        )
    chunks = []
    for dimension in range(len(next(iter(shapes)))):
        sizes = {at[dimension]: shape[dimension] for at, shape in shapes.items()}
        chunks.append(tuple(sizes[number] for number in sorted(sizes)))
    dtype = pickle.loads(first["meta"])
    meta = meta_from_array(None, ndim=len(chunks), dtype=dtype)
    shape = tuple(map(sum, chunks))
    about = {"chunks": tuple(chunks), "dtype": dtype, "meta": meta}
    return Leaf("array", prefix, about, f"Array {shape} of {dtype}")
