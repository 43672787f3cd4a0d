"""Tasks that fit into a worker one by one, and not together."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.blocks import block_sentence
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.guard_advice import on_guard
from dask_memdash.analysis.incidents.need import (
    execution,
    held_by,
    largest_task,
    mostly_uncounted,
    need_of,
    too_large_alone,
    too_many_together,
    uncounted_of,
)
from dask_memdash.analysis.incidents.phrases import held, thin_execution
from dask_memdash.model.incidents import Suspect
from dask_memdash.text import code, count, format_bytes


def too_many_at_once(case: Case) -> Iterator[Finding]:
    """Yield running tasks that do not fit into the worker together."""
    top = largest_task(case)
    measured = [s for s in case.running if held_by(case, s)]
    if top is None or len(measured) < 2:
        return
    together = (1 - too_large_alone(case, top)) * too_many_together(case)
    weight = together * execution(case) / case.above
    if weight <= 0:
        return
    by_prefix: dict[str, list[Suspect]] = {}
    for suspect in measured:
        by_prefix.setdefault(suspect.prefix, []).append(suspect)
    sizes = {p: sum(held_by(case, s) for s in by_prefix[p]) for p in by_prefix}
    prefix = max(sizes, key=lambda p: (sizes[p], p))
    yield Finding(
        cause="too-many-at-once",
        weight=weight,
        text=" ".join(_sentences(case, measured, top, prefix)),
        prefix=prefix,
        advice=()
        if mostly_uncounted(case)  # what each needs is a guess
        else (
            *advise.on_many_tasks(case, prefix, by_prefix[prefix]),
            *on_guard(case, measured),
        ),
        thin=thin_execution(case, top) or _never_finished(case, top),
    )


def _sentences(
    case: Case, measured: list[Suspect], top: Suspect, prefix: str
) -> Iterator[str]:
    guess = mostly_uncounted(case)
    if guess:
        grew = sum(uncounted_of(case, s) for s in case.suspects)
        yield (
            f"The process grew by {format_bytes(grew)} that nobody counted while "
            f"{count(len(measured), 'task')} ran. Native code of theirs may have taken "
            f"it; {format_bytes(case.counted)} were counted."
        )
    else:
        total = sum(held_by(case, s) for s in measured)
        yield (
            f"{count(len(measured), 'task')} held {format_bytes(total)} together, the "
            f"largest {held(case, top)}."
        )
    block = block_sentence(top, case.limit, "the largest")
    if block:
        yield block
    same = sum(s.prefix == prefix for s in measured)
    if same < len(measured):
        yield f"{same:,} of them {'is' if same == 1 else 'are'} {code(prefix)}."
    if case.usable is not None:
        need = sum(need_of(case, s) for s in case.suspects)
        room = format_bytes(case.usable)
        if guess:
            yield f"An empty worker has room for {room}."
        elif need > case.usable:
            yield (
                f"They need at least {format_bytes(need)} together, and an empty "
                f"worker has room for {room}."
            )
        else:
            yield (
                f"Cut short, they had taken {format_bytes(need)} of the {room} that an "
                "empty worker has room for."
            )


def _never_finished(case: Case, top: Suspect) -> str:
    """Say so where nothing shows that one of them alone would have fitted."""
    if case.expected(top.prefix) is not None:
        return ""
    return f"no {code(top.prefix)} has finished yet, so one alone may need more"
