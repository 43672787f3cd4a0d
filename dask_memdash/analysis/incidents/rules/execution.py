"""Tasks that need too much while they run: one of them, or all that ran together."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import give_out
from dask_memdash.analysis.incidents.rules.outside import ramp, requested
from dask_memdash.model.incidents import Suspect
from dask_memdash.text import code, count, format_bytes, format_share, short

#: Need of one task, as a share of an idle worker's room, from which it may be too large
#: by itself, and from which it surely is.
MAYBE, SURELY = 0.55, 0.9

#: What speaks for a task that ran alone, however little it held when it ended: it may
#: have been about to take more.
AT_LEAST = 0.5

#: Shares of all running tasks' bytes between which one is not, and is, the one.
ONE_OF_MANY, THE_ONE = 0.5, 0.85

#: Finished tasks of a prefix that say reliably what it needs.
ENOUGH = 3


def task_too_large(case: Case) -> Iterator[Finding]:
    """Yield one running task that does not fit into the worker."""
    if case.kind == "memory-error":
        yield from _refused(case)
        return
    top = _largest(case)
    if top is None:
        return
    alone = _alone(case, top)
    share = _execution(case) / case.above
    if alone * share <= 0:
        return
    need, room = _need(case, top), case.usable
    rest = ""
    if room is not None:
        rest = f", and an idle worker has {format_bytes(room)} for it"
    yield Finding(
        cause="task-too-large",
        weight=share * alone,
        text=f"{short(top.key)} held {_held(top)} of the {format_bytes(case.above)} "
        f"that the worker used beyond an idle one{rest}.{_history(case, top, need)}",
        prefix=top.prefix,
        key=top.key,
        advice=tuple(_advice_on_one(case, top, need)),
        thin=_thin(case, top),
    )


def too_many_at_once(case: Case) -> Iterator[Finding]:
    """Yield running tasks that do not fit into the worker together."""
    top = _largest(case)
    measured = [s for s in case.suspects if s.bytes]
    if top is None or len(measured) < 2:
        return
    share = _execution(case) / case.above
    together = 1 - _alone(case, top)
    if share * together <= 0:
        return
    by_prefix: dict[str, list[Suspect]] = {}
    for suspect in measured:
        by_prefix.setdefault(suspect.prefix, []).append(suspect)
    prefix = max(by_prefix, key=lambda p: (sum(s.bytes or 0 for s in by_prefix[p]), p))
    held = sum(s.bytes or 0 for s in measured)
    yield Finding(
        cause="too-many-at-once",
        weight=share * together,
        text=f"{count(len(measured), 'task')} held {format_bytes(held)} together, the "
        f"largest {_held(top)}; {len(by_prefix[prefix]):,} of them "
        f"{'was' if len(by_prefix[prefix]) == 1 else 'were'} {code(prefix)}.",
        prefix=prefix,
        advice=tuple(_advice_on_many(case, prefix, by_prefix[prefix])),
        thin=_thin(case, top) or _never_finished(case, top),
    )


def _largest(case: Case) -> Suspect | None:
    """Return the task that held most; alone, also one that was not measured."""
    if not case.suspects:
        return None
    top = max(case.suspects, key=lambda s: s.bytes or 0)
    return top if top.bytes or len(case.suspects) == 1 else None


def _execution(case: Case) -> int:
    """Return what the running tasks hold, in bytes; what is not counted, by half."""
    return case.counted + give_out(case).running // 2


def _need(case: Case, top: Suspect) -> int:
    """Return what a task needs at least, from what was seen of it, in bytes."""
    tries = [attempt.bytes or 0 for attempt in case.attempts.get(top.key, ())]
    return max(top.bytes or 0, top.peak or 0, *tries, 0)


def _alone(case: Case, top: Suspect) -> float:
    """Say how far one task would have been too large by itself, from 0 to 1."""
    others = sum(s.bytes or 0 for s in case.suspects if s is not top)
    need = _need(case, top)
    if not others:
        if case.usable is None:
            return 1.0
        need += give_out(case).running
        return max(AT_LEAST, ramp(need / case.usable, MAYBE, SURELY))
    mine = (top.bytes or 0) / max(1, (top.bytes or 0) + others)
    dominates = ramp(mine, ONE_OF_MANY, THE_ONE)
    if case.usable is None:
        return dominates
    fills = ramp(need / case.usable, MAYBE, SURELY)
    expected = case.expected(top.prefix)
    usual = expected.max if expected is not None else None
    if expected is not None and usual and expected.finished >= ENOUGH and need <= usual:
        # Its like have finished with as much: they fit, one at a time.
        return min(fills, ramp(usual / case.usable, SURELY, 1.0))
    return max(fills, dominates)


def _history(case: Case, top: Suspect, need: int) -> str:
    parts = []
    expected = case.expected(top.prefix)
    if expected is not None and expected.p95 is not None:
        parts.append(
            f" {count(expected.finished, 'task')} of {code(top.prefix)} had finished, "
            f"with peaks of {format_bytes(expected.p50 or 0)} (median) to "
            f"{format_bytes(expected.max or 0)}."
        )
    tries = case.attempts.get(top.key, ())
    if tries:
        parts.append(
            f" It was running at {count(len(tries), 'earlier death')} too, and held up "
            f"to {format_bytes(max(t.bytes or 0 for t in tries))} there."
        )
    return "".join(parts)


def _advice_on_one(case: Case, top: Suspect, need: int) -> Iterator[str]:
    if case.usable is None or not need:
        return
    parts = max(2, -(-2 * need // case.usable))
    output = case.expected(top.prefix)
    of = ""
    if output is not None and output.output_p95:
        of = f" (its outputs are {format_bytes(output.output_p95)}, 95 % of them)"
    yield (
        f"{code(top.prefix)} held {format_bytes(need)} when it ended, so it needs at "
        f"least that; the worker has {format_bytes(case.usable)}. Make its chunks "
        f"smaller, {parts} times at least{of}, or give the worker more than "
        f"{format_bytes(case.idle + 2 * need)}."
    )


def _advice_on_many(case: Case, prefix: str, running: list[Suspect]) -> Iterator[str]:
    expected = case.expected(prefix)
    usual = expected.p95 if expected is not None else None
    peak = max([s.peak or s.bytes or 0 for s in running] + [usual or 0])
    if case.limit is None or case.usable is None or not peak:
        return
    how = "(p95)" if peak == usual else "at least"
    # As many as ran did not fit; of those that held less than they need, fewer do.
    fit = min(case.usable // peak, max(1, len(running) - 1))
    threads = case.facts.nthreads or len(running)
    block = case.usable * 9 // 10 // max(2, threads)
    what = f"{code(prefix)} peaks at {format_bytes(peak)} {how}"
    if fit < 1:
        yield f"{what}; not even one fits into {format_bytes(case.limit)}."
    elif fit < len(running) or fit < threads:
        use = "1 thread" if fit == 1 else f"{fit} threads"
        yield (
            f"{what}; {max(len(running), fit + 1)} at once do not fit into "
            f"{format_bytes(case.limit)}: use {use} per worker, or tasks that peak at "
            f"{format_bytes(block)} at most."
        )


def _refused(case: Case) -> Iterator[Finding]:
    """Yield a request that was refused though it is not absurd."""
    wanted = requested(case)
    room = case.usable
    name = case.tasks[0].prefix if case.tasks else None
    if wanted is None or name is None or room is None:
        return
    yield Finding(
        cause="task-too-large",
        weight=min(1.0, wanted / room),
        text=f"{code(name)} asked for {format_bytes(wanted)} at once, and an idle "
        f"worker has {format_bytes(room)}.",
        prefix=name,
        key=case.tasks[0].key,
        advice=(
            f"Make the chunks of {code(name)} smaller, {-(-wanted // room)} times at "
            "least.",
        ),
    )


def _held(suspect: Suspect) -> str:
    if suspect.bytes is None:
        return "an unmeasured part"
    share = (
        "" if suspect.share is None else f", {format_share(suspect.share)} of the limit"
    )
    return f"{format_bytes(suspect.bytes)} ({suspect.method}{share})"


def _never_finished(case: Case, top: Suspect) -> str:
    """Say so where nothing shows that one of them alone would have fitted."""
    if case.expected(top.prefix) is not None:
        return ""
    return f"no {code(top.prefix)} has finished yet, so one alone may need more"


def _thin(case: Case, top: Suspect) -> str:
    if case.evidence != "flight-recorder" and case.kind != "paused":
        return "what was running is known from the last heartbeat only"
    if top.bytes is None:
        return "the running task could not be measured"
    if top.method == "estimated" and len(case.suspects) > 1:
        return "what each task held is estimated"
    return ""
