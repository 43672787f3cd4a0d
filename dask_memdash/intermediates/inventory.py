"""What is in a store, and who deletes: listing, removal, garbage, verification.

An object is *pinned* while a manifest or a draft names it.  Nothing else is deleted but
what nobody pins and is older than a lifetime (mark and sweep): a computation that runs
has a draft, and what it has just stored is young.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dask_memdash.errors import CorruptError, MissingError, StorageError
from dask_memdash.intermediates import manifest
from dask_memdash.intermediates.manifest import Facts
from dask_memdash.intermediates.memory import (
    DRAFTS,
    NAMES,
    OBJECTS,
    Entry,
    Memory,
    address_of,
)
from dask_memdash.intermediates.object_format import check

#: Deletions between two looks whether somebody has begun to use what is deleted.
DELETIONS_PER_LOOK = 100

#: Leftovers of killed writes are never younger, whatever the lifetime, in seconds.
LEAST_LEFTOVER_AGE = 3600.0


@dataclass(frozen=True, slots=True)
class NamedSet:
    """One name of a store."""

    name: str
    finished: bool
    #: None where the manifest cannot be read; then `error` says why.
    facts: Facts | None
    error: str | None
    #: When manifest or draft was written, Unix time in seconds; None if not told.
    written: float | None
    #: Objects that it pins, and those of them that are there.
    objects: int
    stored: int
    #: Of those, in bytes.
    bytes: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that a store holds."""

    sets: Sequence[NamedSet]
    #: Objects that no name pins.
    unpinned: Sequence[Entry]
    #: All objects together, in number and bytes.
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Removal:
    """What a deletion takes away, or would."""

    names: Sequence[str]
    objects: int
    #: Of objects and leftovers, in bytes.
    bytes: int
    #: Files of writes that were killed.
    leftovers: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """One object that is not as it should be."""

    set_name: str
    object_name: str
    message: str


def take_stock(memory: Memory) -> Inventory:
    """Return what a store holds."""
    objects = {e.name.removeprefix(OBJECTS): e for e in memory.list(OBJECTS)}
    sets = list(_sets(memory, objects))
    pinned = {one for found in sets if found.facts for one in found.facts.objects}
    return Inventory(
        sets=sets,
        unpinned=[entry for one, entry in objects.items() if one not in pinned],
        objects=len(objects),
        bytes=sum(entry.size for entry in objects.values()),
    )


def _sets(memory: Memory, objects: dict[str, Entry]) -> Iterator[NamedSet]:
    place = address_of(memory)
    for folder, finished in ((NAMES, True), (DRAFTS, False)):
        for entry in sorted(memory.list(folder), key=lambda entry: entry.name):
            name = entry.name.removeprefix(folder)
            facts, error = None, None
            try:
                facts, _ = manifest.read(memory.get(entry.name), name, place)
            except MissingError:  # finished, or deleted, meanwhile
                continue
            except CorruptError as caught:
                error = str(caught)
            ids = dict.fromkeys(facts.objects) if facts else {}
            there = [objects[one].size for one in ids if one in objects]
            yield NamedSet(
                name=name,
                finished=finished,
                facts=facts,
                error=error,
                written=entry.modified,
                objects=len(ids),
                stored=len(there),
                bytes=sum(there),
            )


def find(memory: Memory, name: str) -> list[NamedSet]:
    """Return what stands under a name: finished, under way, or both.

    Raises
    ------
    MissingError
        Nothing does.
    """
    manifest.check_name(name)
    found = [one for one in take_stock(memory).sets if one.name == name]
    if not found:
        raise MissingError(f"no {name!r} in {address_of(memory)}")
    return found


def remove(memory: Memory, name: str, dry_run: bool = False) -> Removal:
    """Delete a name, and the objects that it alone pins.

    Raises
    ------
    MissingError
        There is no such name.
    StorageError
        Another manifest cannot be read, so that what it pins is not known.
    """
    find(memory, name)
    stock = take_stock(memory)
    others = [one for one in stock.sets if one.name != name]
    own = {
        one
        for found in stock.sets
        if found.name == name and found.facts
        for one in found.facts.objects
    }
    kept = _pinned(memory, others)
    doomed = [
        entry
        for entry in memory.list(OBJECTS)
        if (one := entry.name.removeprefix(OBJECTS)) in own and one not in kept
    ]
    if not dry_run:
        # the name first: a name never stands for objects that are gone
        memory.delete(NAMES + name)
        memory.delete(DRAFTS + name)
        _delete(memory, doomed)
    return Removal([name], len(doomed), sum(entry.size for entry in doomed))


def collect(
    memory: Memory,
    lifetime: float,
    dry_run: bool = False,
    now: Callable[[], float] = time.time,
) -> Removal:
    """Delete what nobody pins and is older than a lifetime, in seconds.

    A draft that is older pins nothing any more, and goes too.  An object whose age the
    store does not tell stays.

    Raises
    ------
    StorageError
        A manifest cannot be read, so that what it pins is not known.
    """
    before = now() - lifetime
    # objects first: what is stored and pinned after this look is not among them
    objects = [e for e in memory.list(OBJECTS) if _older(e.modified, before)]
    sets = take_stock(memory).sets
    old_drafts = [s for s in sets if not s.finished and _older(s.written, before)]
    kept = _pinned(memory, [s for s in sets if s not in old_drafts])
    doomed = [e for e in objects if e.name.removeprefix(OBJECTS) not in kept]
    leftovers = list(_leftovers(memory, min(before, now() - LEAST_LEFTOVER_AGE)))
    if not dry_run:
        for found in old_drafts:
            memory.delete(DRAFTS + found.name)
        _delete(memory, doomed)
        for path, _ in leftovers:
            path.unlink(missing_ok=True)
    size = sum(entry.size for entry in doomed) + sum(size for _, size in leftovers)
    names = [found.name for found in old_drafts]
    return Removal(names, len(doomed), size, len(leftovers))


def _older(written: float | None, before: float) -> bool:
    return written is not None and written < before


def _leftovers(memory: Memory, before: float):  # type: ignore[no-untyped-def]
    look = getattr(memory, "leftovers", None)
    return look(before) if look is not None else ()


def _pinned(memory: Memory, sets: Sequence[NamedSet]) -> set[str]:
    """Return what sets pin; StorageError if one of them cannot tell."""
    pinned: set[str] = set()
    for found in sets:
        if found.facts is None:
            raise StorageError(
                f"the manifest of {found.name!r} in {address_of(memory)} cannot be "
                "read, so nobody knows what it needs: nothing was deleted. Remove "
                f"that name first: dask memdash storage rm {found.name}"
            )
        pinned |= set(found.facts.objects)
    return pinned


def _delete(memory: Memory, doomed: Sequence[Entry]) -> None:
    """Delete objects, unless somebody pins them meanwhile."""
    for start in range(0, len(doomed), DELETIONS_PER_LOOK):
        kept: set[str] = set()
        for found in _sets(memory, {}):
            kept |= set(found.facts.objects) if found.facts else set()
        for entry in doomed[start : start + DELETIONS_PER_LOOK]:
            if entry.name.removeprefix(OBJECTS) not in kept:
                memory.delete(entry.name)


def verify(memory: Memory, name: str | None = None) -> tuple[int, list[Problem]]:
    """Read every object of the finished sets, or of one; run no code of theirs.

    Returns
    -------
    tuple
        How many objects were read, and what is wrong.
    """
    place = address_of(memory)
    sets = find(memory, name) if name is not None else take_stock(memory).sets
    problems: list[Problem] = []
    checked: dict[str, str | None] = {}
    for found in sets:
        if found.error is not None:
            problems.append(Problem(found.name, NAMES + found.name, found.error))
        if found.facts is None or not found.finished:
            continue
        for one in found.facts.objects:
            if one not in checked:
                checked[one] = _wrong_with(memory, one, place)
            message = checked[one]
            if message is not None:
                problems.append(Problem(found.name, OBJECTS + one, message))
    return len(checked), problems


def _wrong_with(memory: Memory, object_id: str, place: str) -> str | None:
    name = OBJECTS + object_id
    try:
        header, _ = check(memory.get(name), name, place)
    except (MissingError, CorruptError) as error:
        return str(error)
    digest = hashlib.sha256(header["key"].encode("utf-8", "surrogatepass")).hexdigest()
    if object_id.partition("-")[0] == digest[:40]:
        return None
    return f"{name} in {place} is another key's object: somebody moved or replaced it"
