"""Names in a store: who may write one, what it stands for, and how it is finished.

A writer claims a name with a draft, made with the store's own conditional write, so of
two at once one gets it and the other an error.  A draft of the same plan may be joined:
that is how a computation that was cut short is resumed.  With ``overwrite=True`` the
last writer wins, and whoever was writing before is told when it wants to finish.
"""

from __future__ import annotations

from typing import Any

from dask_memdash.errors import (
    MissingError,
    NameTakenError,
    StorageError,
)
from dask_memdash.intermediates import manifest
from dask_memdash.intermediates.manifest import Facts
from dask_memdash.intermediates.memory import (
    DRAFTS,
    NAMES,
    OBJECTS,
    Memory,
    address_of,
)
from dask_memdash.text import count, format_instant, join, short

#: Functions named in a message.
MOST_NAMED = 8


def read_finished(memory: Memory, name: str) -> tuple[Facts, memoryview] | None:
    """Return facts and body of a finished set; None if there is none of that name."""
    return _read(memory, NAMES, name)


def read_draft(memory: Memory, name: str) -> tuple[Facts, memoryview] | None:
    """Return facts and body of a set under way; None if there is none of that name."""
    return _read(memory, DRAFTS, name)


def _drafted(memory: Memory, name: str) -> Facts | None:
    found = read_draft(memory, name)
    return found[0] if found else None


def _read(memory: Memory, folder: str, name: str) -> tuple[Facts, memoryview] | None:
    try:
        content = memory.get(folder + name)
    except MissingError:
        return None
    return manifest.read(content, name, address_of(memory))


def stored_ids(memory: Memory) -> dict[str, int]:
    """Return the names of all stored objects, without their folder, and their sizes."""
    return {
        entry.name.removeprefix(OBJECTS): entry.size for entry in memory.list(OBJECTS)
    }


def claim(
    memory: Memory, mine: Facts, body: Any, overwrite: bool, trust_keys: bool
) -> Facts:
    """Claim a name for a set; return its facts, which may be those of a former run.

    With `trust_keys`, objects that other source made are taken for the set's own.

    Raises
    ------
    NameTakenError
        Something else has that name; the message says what differs.
    """
    place = address_of(memory)
    finished = read_finished(memory, mine.name)
    for other in (finished[0] if finished else None, _drafted(memory, mine.name)):
        if other is None or overwrite:
            continue
        if other.plan == mine.plan or (trust_keys and other.keys == mine.keys):
            if other.finished:
                return other
            mine = other
            continue
        raise NameTakenError(difference(other, mine, place))
    frames = manifest.write(mine, body)
    try:
        memory.put(DRAFTS + mine.name, frames, new=True)
    except NameTakenError:
        other = _drafted(memory, mine.name)
        if other is not None and other.plan != mine.plan and not overwrite:
            raise NameTakenError(difference(other, mine, place)) from None
        memory.put(DRAFTS + mine.name, frames)
    return mine


def difference(other: Facts, mine: Facts, place: str) -> str:
    """Say what stands under a name, how it differs, and what can be done."""
    state = "holds" if other.finished else "is being given to"
    when = format_instant(other.finished or other.started)
    begin = f"{mine.name!r} in {place} {state}"
    if other.keys != mine.keys:
        new = count(len(mine.keys - other.keys), "chunk")
        return (
            f"{begin} something else: {join(other.collections[:3])}, by "
            f"{other.writer} at {when}. {new} of this one have other keys. Take "
            "another name, or overwrite=True. If you changed nothing, its keys are not "
            "stable: seed random numbers and give Delayed functions pure=True."
        )
    if other.version != mine.version:
        return (
            f"{begin} version {other.version!r} of this, stored at {when}; the "
            f"memory's version is {mine.version!r}. Pass overwrite=True to compute it "
            "anew."
        )
    return (
        f"{begin} results of other source, stored at {when}. "
        f"{_changed_functions(other, mine)} Pass overwrite=True to compute it anew, or "
        "trust_keys=True to load it as it is."
    )


def _changed_functions(other: Facts, mine: Facts) -> str:
    then, now = dict(other.functions), dict(mine.functions)
    parts = []
    for word, names in (
        ("changed", [n for n in now if n in then and now[n] != then[n]]),
        ("new", [n for n in now if n not in then]),
        ("gone", [n for n in then if n not in now]),
    ):
        if names:
            shown = [short(name) for name in sorted(names)[:MOST_NAMED]]
            more = len(names) - len(shown)
            more_words = [f"{more} more"] if more else []
            parts.append(f"{word}: {join([*shown, *more_words])}")
    return f"Functions {'; '.join(parts)}." if parts else "Its collections differ."


def finish(memory: Memory, mine: Facts, body: Any, overwrite: bool) -> Facts:
    """Give a set its name, now that all its objects are there.

    Raises
    ------
    NameTakenError
        Another writer has taken the name meanwhile; the objects stay.
    StorageError
        Objects have gone meanwhile.
    """
    place = address_of(memory)
    draft = _drafted(memory, mine.name)
    if draft is not None and draft.plan != mine.plan:
        raise NameTakenError(difference(draft, mine, place))
    there = stored_ids(memory)
    gone = [name for name in mine.objects if name not in there]
    if gone:
        raise StorageError(
            f"{mine.name!r} in {place} is not finished: {count(len(gone), 'object')} "
            f"of {len(mine.objects):,} went while it was stored. Persist it again: "
            "only those are computed."
        )
    done = mine.finish()
    frames = manifest.write(done, body)
    try:
        memory.put(NAMES + mine.name, frames, new=not overwrite)
    except NameTakenError:
        other = read_finished(memory, mine.name)
        if other is not None and other[0].plan != mine.plan:
            raise NameTakenError(difference(other[0], mine, place)) from None
    memory.delete(DRAFTS + mine.name)
    return done
