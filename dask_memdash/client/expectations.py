"""What a test expects of its own record: most memory of a task, storage, no deaths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dask_memdash.compare.facts import PrefixFacts, RunFacts, facts_of
from dask_memdash.errors import RunError
from dask_memdash.store.recorded import RecordedStore
from dask_memdash.store.recorded_cuts import DEATHS
from dask_memdash.text import format_bytes, plain

#: What may be expected.
NAMES = ("peak", "stored", "no_deaths")

#: Sentences of one kind that are told at most, and states of workers looked through for
#: the line of a task.
TOLD = 5
LOOKED_THROUGH = 2_000

#: Characters of a key that are told.
KEY = 100

Size = int | float | str


def broken(stores: Sequence[RecordedStore], expected: Mapping[str, Any]) -> list[str]:
    """Say what in the records of a test is not as expected; nothing where all is.

    Parameters
    ----------
    stores
        A record of each cluster that the test used.
    expected
        ``peak``: the most that one task may take, or prefix → that; ``stored``: the
        most that may be stored at once; ``no_deaths``: whether workers must live.
        Sizes in bytes, or as text such as "300 MB".

    Raises
    ------
    ValueError
        Something else is expected, or a size is none.
    """
    unknown = expected.keys() - set(NAMES)
    if unknown:
        raise ValueError(
            f"memdash knows {', '.join(NAMES)}, and not {', '.join(sorted(unknown))}"
        )
    found = []
    if expected.get("no_deaths"):
        found += [text for store in stores for text in _deaths(store)]
    peak, stored = expected.get("peak"), expected.get("stored")
    if peak is None and stored is None:
        return found
    facts = [(store, one) for store in stores if (one := _facts(store)) is not None]
    if peak is not None:
        found += _peaks(facts, peak)
    if stored is not None:
        most, limit = (
            max((f.most["stored"] for _, f in facts), default=0),
            _size(stored),
        )
        if most > limit:
            found.append(
                f"{format_bytes(most)} of outputs were stored at once, more than "
                f"{format_bytes(limit)}."
            )
    return found


def _peaks(facts: Sequence[tuple[RecordedStore, RunFacts]], expected: Any) -> list[str]:
    limits: dict[str, int] | None = None
    if isinstance(expected, Mapping):
        limits = {str(name): _size(size) for name, size in expected.items()}
    known: dict[str, list[tuple[RecordedStore, PrefixFacts, int]]] = {}
    for store, run in facts:
        for name, prefix in run.prefixes.items():
            most = _most(prefix)
            if most is not None:
                known.setdefault(name, []).append((store, prefix, most))
    if not known:
        return [
            "No task was measured, so that no peak is known: was the client given to "
            "memdash before the work began, and did its cluster live until the end of "
            "the test?"
        ]
    found = [
        f"No task of {plain(name, KEY)!r} was measured, so that its peak is not known."
        for name in limits or ()
        if name not in known
    ]
    for name, every in known.items():
        limit = _size(expected) if limits is None else limits.get(name)
        store, prefix, most = max(every, key=lambda one: one[2])
        if limit is not None and most > limit:
            found.append(_too_large(store, prefix, most, limit))
    return found[:TOLD]


def _too_large(store: RecordedStore, prefix: PrefixFacts, most: int, limit: int) -> str:
    cut = prefix.at_least is not None and prefix.at_least >= most
    size = f"{'at least ' if cut else ''}{format_bytes(most)}"
    if prefix.peaks.error and not cut:
        size += f" (which may be off by {format_bytes(prefix.peaks.error)})"
    who = f"A task of {plain(prefix.name, KEY)!r}"
    key = _largest_key(store, prefix.name)
    if key:
        who += f", such as {plain(key, KEY)!r},"
    where = _line(store, prefix.name)
    at = f", at {where}" if where else ""
    return f"{who} took {size}{at}: more than {format_bytes(limit)}."


def _most(prefix: PrefixFacts) -> int | None:
    known = [p for p in (prefix.peak_max, prefix.at_least) if p is not None]
    return max(known, default=None)


def _largest_key(store: RecordedStore, prefix: str) -> str | None:
    """Return the key of the task of a prefix that was seen with most memory."""
    rows = store.reader.ask_all(
        store.reader.files("main"),
        "SELECT peak, key FROM tasks WHERE prefix = ? AND peak IS NOT NULL "
        "ORDER BY peak DESC LIMIT 1",
        (prefix,),
    )
    best: tuple[int, str] | None = max(rows, default=None)
    return None if best is None else best[1]


def _line(store: RecordedStore, prefix: str) -> str | None:
    """Return the line that allocated the largest block seen of a prefix."""
    found: list[tuple[int, str]] = []

    def take(tasks: Any) -> None:
        for task in tasks or ():
            block = task.get("largest_block")
            if block and task.get("prefix") == prefix:
                found.append((block["bytes"], block["text"]))

    for segment in store.reader.files("main"):
        rows = store.reader.ask(
            segment,
            "SELECT answer FROM worker_states WHERE running > 0 "
            f"ORDER BY time DESC LIMIT {LOOKED_THROUGH}",
        )
        for (stored,) in rows:
            state = store.reader.answer(segment, stored)
            take((state or {}).get("executing_tasks"))
    for incident in store.incidents(TOLD):
        take(store.incident(incident["id"]).get("suspects"))
    return plain(max(found)[1], 200) if found else None


def _deaths(store: RecordedStore) -> list[str]:
    found = []
    for brief in store.incidents():
        if brief["kind"] in DEATHS:
            incident = store.incident(brief["id"])
            suspects = incident.get("suspects") or []
            said = plain(incident["diagnosis"]["text"], 400)
            text = f"Worker {plain(incident['worker']['name'], KEY)} died: {said}"
            if suspects:
                first = suspects[0]
                text += f" Running: {plain(first['key'], KEY)!r}"
                text += f", {format_bytes(first['bytes'])}"
                block = first.get("largest_block")
                text += f", at {plain(block['text'], 200)}" if block else ""
                text += "."
            found.append(text)
    left = len(found) - TOLD
    return found[:TOLD] + ([f"{left:,} more workers died."] if left > 0 else [])


def _facts(store: RecordedStore) -> RunFacts | None:
    try:
        return facts_of(store)
    except RunError:  # it holds no figures yet
        return None


def _size(size: Size) -> int:
    from dask.utils import parse_bytes

    return int(parse_bytes(size))
