"""What is said of a failure: what happened, in one sentence, and its two log lines.

Takes the dicts of the JSON API, so that it serves live and recorded clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_memdash import terms
from dask_memdash.text import (
    code,
    count,
    format_bytes,
    format_duration,
    join,
    short,
    with_capital,
)

#: Characters of a log line at most.
MAX_LINE = 200

#: Characters of a prefix in a log line.
MAX_PREFIX = 40

#: How sure a cause must be to be called this.
SURE = ((0.8, "Cause"), (0.5, "Likely cause"), (0.0, "Possible cause"))


def what_happened(
    kinds: Mapping[str, int], tasks: Mapping[str, int], workers: int
) -> str:
    """Say in one sentence what a failure consists of.

    Parameters
    ----------
    kinds
        Kind of incident → how many.
    tasks
        Kind → how many tasks these were about.
    workers
        How many workers were involved.
    """
    parts = []
    deaths = {kind: n for kind, n in kinds.items() if kind in terms.DEATHS}
    if deaths:
        parts.append(_deaths(deaths, workers))
    if kinds.get("memory-error"):
        number = max(tasks.get("memory-error", 0), kinds["memory-error"])
        parts.append(f"{count(number, 'task')} ran out of memory (MemoryError)")
    if kinds.get("spill-failed"):
        times = max(tasks.get("spill-failed", 0), kinds["spill-failed"])
        often = "once" if times == 1 else f"{times:,} times"
        parts.append(f"outputs could not be spilled ({often})")
    if kinds.get("kernel-near"):
        parts.append("the kernel was about to kill a worker")
    if kinds.get("stuck"):
        parts.append("the computation got stuck")
    if kinds.get("killed-worker"):
        number = max(tasks.get("killed-worker", 0), 1)
        parts.append(f"Dask gave {count(number, 'task')} up (KilledWorker)")
    sentence = join(parts) or "nothing that is still known"
    return f"{with_capital(sentence)}."


def _deaths(deaths: Mapping[str, int], workers: int) -> str:
    number = sum(deaths.values())
    if number == 1:
        (kind,) = deaths
        return f"a worker died ({terms.label(terms.KINDS, kind)})"
    which = f"{count(number, 'death')} of {count(min(number, workers), 'worker')}"
    how = sorted(deaths.items(), key=lambda item: -item[1])
    return f"{which} ({', '.join(f'{kind} {n}' for kind, n in how)})"


def cost_in_words(cost: Mapping[str, Any]) -> str:
    """Say what a failure has cost, as far as that is known; else an empty text."""
    keys, size = cost["keys_lost"], cost["bytes_lost"]
    seconds = cost["seconds_recomputed"]
    if not keys:
        return ""
    stored = cost.get("keys_stored") or 0
    whole = f" ({format_bytes(size)})" if size is not None else ""
    if stored >= keys:
        what = "1 output" if keys == 1 else f"All {keys:,} outputs"
        were = "was lost is" if keys == 1 else "were lost are"
        return f"{what}{whole} that {were} stored: nothing has to be computed again."
    if stored:
        return stored_in_words(cost)
    told = f"{count(keys, 'stored output')}{whole}"
    again = f", {format_duration(seconds)} of work" if seconds else ""
    return f"{told} had to be computed again{again}."


def stored_in_words(cost: Mapping[str, Any]) -> str:
    """Say what of the lost outputs need not be computed again; else an empty text."""
    lost, stored = cost.get("keys_lost"), cost.get("keys_stored")
    if not lost or not stored:
        return ""
    sizes = cost.get("bytes_lost"), cost.get("bytes_stored")
    if stored >= lost:
        whole = f" ({format_bytes(sizes[0])})" if sizes[0] is not None else ""
        if lost == 1:
            said = f"The output that was lost with it{whole} is stored"
        else:
            said = f"All {lost:,} outputs that were lost with it{whole} are stored"
        return f"{said}: nothing has to be computed again."
    if None in sizes:
        said = f"{stored:,} of the {count(lost, 'output')} lost"
    else:
        said = f"{format_bytes(sizes[1])} of the {format_bytes(sizes[0])} lost"
    verb = "is" if None in sizes and stored == 1 else "are"
    return f"{said} {verb} stored and not computed again. {_rest(cost)}"


def _rest(cost: Mapping[str, Any]) -> str:
    """Say what becomes of lost outputs that are not stored."""
    seconds = cost.get("seconds_recomputed")
    if seconds is None:
        return "The rest is computed again where it is still needed."
    if not seconds:
        return "Nobody needs the rest any more."
    return f"For the rest, {format_duration(seconds)} of work is repeated."


def opening(failure: Mapping[str, Any], page: str | None) -> str:
    """Write the line of the log when a failure opens."""
    start = f"MemDash failure {failure['id']}: {failure['text']}"
    return _line([start, _cause(failure)], page)


def closing(failure: Mapping[str, Any], page: str | None) -> str:
    """Write the line of the log when a failure is over, with its counts."""
    start = f"MemDash failure {failure['id']} is over: {failure['text']}"
    return _line([start, _cause(failure)], page)


def _cause(failure: Mapping[str, Any]) -> str:
    diagnosis, prefix = failure["diagnosis"], failure["responsible"]["prefix"]
    if diagnosis["cause"] == "unknown":
        return "The cause is not known."
    sure = next(word for least, word in SURE if diagnosis["confidence"] >= least)
    who = f" ({code(short(_plain(prefix), MAX_PREFIX))})" if prefix else ""
    return f"{sure}: {terms.label(terms.CAUSES, diagnosis['cause'])}{who}."


def _line(parts: list[str], page: str | None) -> str:
    """Join as many parts as fit into a line, the page last."""
    line = _plain(parts[0])
    for part in (*parts[1:], page):
        if part and len(line) + 1 + len(part) <= MAX_LINE:
            line += f" {part}"
    return short(line, MAX_LINE)


def _plain(text: str) -> str:
    """Return a text on one line, without what a terminal would take for a command."""
    one_line = " ".join(str(text).split())
    return "".join(letter if letter.isprintable() else "?" for letter in one_line)
