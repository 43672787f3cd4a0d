"""How storing intermediates goes, in words: one state, a sentence or two, and advice.

Takes the figures of the cluster's memory as the JSON API has them
(:class:`dask_memdash.store.intermediate_shapes.Intermediates`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dask_memdash.text import code, count, format_bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it goes: a state of ``terms.STORING_STATES``, what to read, what to do."""

    state: str
    text: str
    advice: tuple[str, ...] = ()


def judge(told: Mapping[str, Any]) -> Verdict:
    """Say how storing goes, the worst first."""
    verdict, refused = _state(told), told["refused"]
    if not refused:
        return verdict
    text = f" {count(len(refused), 'name')} {_were(len(refused))} not given."
    advice = (*verdict.advice, *(f"{one.rstrip('.')}." for one in refused))
    return Verdict(verdict.state, verdict.text + text, advice)


def _state(told: Mapping[str, Any]) -> Verdict:
    stored, pending, failed = told["stored"], told["pending"], told["failed"]
    wanted = stored + pending + failed
    place = code(told["address"])
    if failed:
        return _failing(told, wanted, place)
    if told["unreachable"]:
        return _unreachable(stored, place)
    if stored > told["objects"]:
        return Verdict(
            "missing",
            f"{count(stored, 'result')} {_were(stored)} stored, and the store lists "
            f"{told['objects']:,} {'object' if told['objects'] == 1 else 'objects'}.",
            (
                f"Look whether {place} is still mounted, and whether somebody has "
                "deleted objects. What is missing is computed again when it is needed.",
            ),
        )
    more, advice = _loads(told, place)
    if pending:
        size = told["workers"]["pending_bytes"]
        wait = f" ({format_bytes(size)})" if size else ""
        text = (
            f"{stored:,} of {count(wanted, 'result')} {_are(stored)} stored; "
            f"{pending:,}{wait} {'waits' if pending == 1 else 'wait'} to be computed "
            "or written."
        )
        return Verdict("writing", text + more, advice)
    if not stored:
        return Verdict("empty", _empty(told, place) + more, advice)
    which = "The only result was" if stored == 1 else f"All {stored:,} results were"
    text = (
        f"{which} written to {place}. If a worker dies, what it had is loaded from "
        "there, and computed again only if the store is gone."
    )
    return Verdict("stored", text + more, advice)


def _unreachable(stored: int, place: str) -> Verdict:
    kept = f"{count(stored, 'result')} {_were(stored)} written to it" if stored else ""
    return Verdict(
        "unreachable",
        f"{place} does not answer" + (f"; {kept} before." if kept else "."),
        (
            f"Look whether {place} is there and may be read by the scheduler. Until "
            "then nothing can be loaded: what a dead worker had is computed again.",
        ),
    )


def _failing(told: Mapping[str, Any], wanted: int, place: str) -> Verdict:
    failed = told["failed"]
    text = f"{failed:,} of {count(wanted, 'result')} could not be stored."
    it = "It stays on its worker" if failed == 1 else "They stay on their workers"
    return Verdict(
        "failing",
        f"{text} {it}, and writing is tried again.",
        (
            f"Look whether {place} is there, has room, and may be written to by every "
            "worker. Until then, what is not stored is computed again if its worker "
            "dies.",
        ),
    )


def _empty(told: Mapping[str, Any], place: str) -> str:
    text = (
        f"Results of `x.persist()` are written to {place} as "
        "soon as they are computed, and listed here."
    )
    if told["objects"]:
        text += (
            f" The store has {count(told['objects'], 'object')} from before: a graph "
            "that asks for the same results loads them."
        )
    return text


def _loads(told: Mapping[str, Any], place: str) -> tuple[str, tuple[str, ...]]:
    """Say which stored values could not be loaded, if any."""
    again = told["recomputed"]
    if not again:
        return "", ()
    text = (
        f" {count(again, 'stored value')} could not be loaded and {_were(again)} "
        "computed again."
    )
    return text, (
        f"Objects in {place} were missing or damaged, or it did not answer. "
        "`dask memdash storage verify` lists those that are damaged.",
    )


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
