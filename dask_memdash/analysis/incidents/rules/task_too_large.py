"""A task that needs more memory than an empty worker has."""

from __future__ import annotations

from collections.abc import Iterator

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.blocks import block_sentence
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Finding
from dask_memdash.analysis.incidents.growth_attribution import hands_over
from dask_memdash.analysis.incidents.need import (
    JOINS,
    execution,
    gathered_in_vain,
    held_by,
    inputs_of,
    inputs_stored,
    largest_task,
    need_of,
    never_fits,
    not_received,
    sent_by,
    too_large_alone,
    uncounted_of,
)
from dask_memdash.analysis.incidents.phrases import held, thin_execution
from dask_memdash.analysis.incidents.plausible import judge_request
from dask_memdash.analysis.incidents.requests import GUARD, parse
from dask_memdash.analysis.incidents.shuffle_advice import to_disk
from dask_memdash.model.incidents import Suspect
from dask_memdash.text import code, count, format_bytes, short

#: What a task held at an earlier death is told from this share of its need.
WORTH_TELLING = 0.1

#: Least weight of a task that no empty worker holds, however much else was there.
NEVER_FITS = 0.75


def task_too_large(case: Case) -> Iterator[Finding]:
    """Yield one running task, or one that was refused, that does not fit."""
    if case.kind == "memory-error":
        yield from _refused(case)
        return
    yield from _gathering(case)
    top = largest_task(case)
    if top is None:
        return
    alone = too_large_alone(case, top)
    weight = alone * (execution(case) + inputs_stored(case)) / case.above
    if weight <= 0:
        return
    if never_fits(case, top):
        weight = max(weight, NEVER_FITS)
    yield Finding(
        cause="task-too-large",
        weight=weight,
        text=" ".join(_sentences(case, top)),
        prefix=top.prefix,
        key=top.key,
        advice=(*_of_shuffle(case, top), *advise.on_one_task(case, top)),
        thin=thin_execution(case, top),
    )


def _of_shuffle(case: Case, top: Suspect) -> Iterator[str]:
    """Yield what gives a task of a shuffle room that the shuffle has taken."""
    if hands_over(top.prefix):
        yield from to_disk(case, case.parts.transfer)


def _sentences(case: Case, top: Suspect) -> Iterator[str]:
    beyond = format_bytes(case.above)
    uncounted = uncounted_of(case, top)
    guess = uncounted > (top.bytes or 0)
    own = 0 if guess else held_by(case, top) - (top.bytes or 0)
    if top.gathering:
        own = 0
        yield (
            f"{short(top.key)} was about to begin, and all of its inputs have to be in "
            f"memory at once. {format_bytes(held_by(case, top))} of them had just been "
            f"read back from disk, of the {beyond} beyond an idle worker."
        )
    elif guess:
        yield (
            f"The process grew by {format_bytes(uncounted)} that nobody counted while "
            f"{short(top.key)} ran, of the {beyond} beyond an idle worker. Native code "
            f"of this task may have taken it; {format_bytes(top.bytes or 0)} were "
            "counted."
        )
    else:
        yield (
            f"{short(top.key)} held {held(case, top)} of the {beyond} beyond an idle "
            "worker."
        )
    block = block_sentence(top, case.limit)
    if block:
        yield block
    if own > 0 and hands_over(top.prefix):
        yield f"{format_bytes(own)} of that are copies of its pieces on their way."
    elif own > 0 and top.bytes:
        yield f"{format_bytes(own)} of that was not counted and came while it ran."
    if top.inputs is not None and top.inputs.count:
        verb = "takes" if top.inputs.count == 1 else "take"
        yield (
            f"Its {count(top.inputs.count, 'input')} {verb} "
            f"{format_bytes(inputs_of(top))}."
        )
        if JOINS in top.prefix:
            yield (
                "Dask joins chunks up to `array.chunk-size`, which makes this task as "
                "large as it is."
            )
    need, room = need_of(case, top), case.usable
    if room is not None and guess:
        yield f"An empty worker has room for {format_bytes(room)}."
    elif room is not None and need <= room:
        yield (
            f"Cut short, it had taken {format_bytes(need)} of the "
            f"{format_bytes(room)} that an empty worker has room for."
        )
    elif room is not None:
        sent = sent_by(top)
        copies = f", {format_bytes(sent)} of it copies to be sent" if sent else ""
        yield (
            f"It needs at least {format_bytes(need)}{copies}, and an empty worker has "
            f"room for {format_bytes(room)}."
        )
    if room is not None and case.loaded >= WORTH_TELLING * room:
        yield (
            f"{format_bytes(case.loaded)} beside that came with the tasks before they "
            "ran, as the modules do that they import."
        )
    usual = case.expected(top.prefix)
    if usual is not None and usual.p50 is not None:
        low, high = format_bytes(usual.p50), format_bytes(usual.max)
        peaks = high if low == high else f"{low} (median) to {high}"
        yield (
            f"{count(usual.finished, 'task')} of {code(top.prefix)} had finished, with "
            f"peaks of {peaks}."
        )
    tries = [t.bytes for t in case.attempts.get(top.key, ()) if t.bytes]
    if tries and max(tries) >= WORTH_TELLING * need:
        yield (
            f"At {count(len(tries), 'earlier death')} it had asked for up to "
            f"{format_bytes(max(tries))}."
        )


def _gathering(case: Case) -> Iterator[Finding]:
    """Yield a task whose inputs alone, as they were gathered, fit no worker."""
    task = gathered_in_vain(case)
    if task is None or task.inputs is None:
        return
    size, room = task.inputs.size, case.usable
    yield Finding(
        cause="task-too-large",
        weight=min(1.0, size / case.above),
        text=f"{short(task.key)} was about to begin. All of its "
        f"{count(task.inputs.count, 'input')} have to be in memory at once: "
        f"{format_bytes(size)}, and an empty worker has room for "
        f"{format_bytes(room)}.",
        prefix=task.prefix,
        key=task.key,
        advice=(
            *advise.more_memory(case, task.prefix, size, advise.HEADROOM * size),
            f"Or let several tasks do the work of {code(task.prefix)}, a part of its "
            "inputs each, as in a tree of reductions.",
        ),
    )


def _not_received(case: Case) -> Iterator[Finding]:
    """Yield a task of which an input did not fit when it came."""
    task, room = case.tasks[0] if case.tasks else None, case.usable
    size = not_received(case)
    if task is None or room is None or not size:
        return
    many = "" if task.inputs is None else f"{count(task.inputs.count, 'input')} of "
    fits = size <= room
    more = advise.HEADROOM * size
    yield Finding(
        cause="task-too-large",
        weight=min(1.0, size / room),
        text=f"{code(task.prefix)} needs {many}{format_bytes(size)} in memory at once, "
        f"and an empty worker has room for {format_bytes(room)}.",
        prefix=task.prefix,
        key=task.key,
        advice=(
            *(() if fits else advise.more_memory(case, task.prefix, size, more)),
            *advise.ask_again(case, task.prefix),
        ),
    )


def _refused(case: Case) -> Iterator[Finding]:
    """Yield a task that asked for more than it could have."""
    if case.stage == "receiving":
        yield from _not_received(case)
        return
    request = parse(case.detail)
    task = case.tasks[0] if case.tasks else None
    if request is None or task is None:
        return
    judged = judge_request(case, request)
    limit = case.limit or request.limit
    room = case.usable or limit
    weight = {"mistake": 1.0, "too-large": 1.0}.get(judged.verdict, 0.0)
    if judged.verdict == "shortage" and request.bytes and room:
        weight = min(1.0, request.bytes / room)
    if weight <= 0:
        return
    text = f"{code(task.prefix)} could not get what it needs. {judged.text}"
    if request.source == GUARD:
        text = f"{code(task.prefix)} has no room on any worker. {judged.text}"
    advice: tuple[str, ...] = ()
    if judged.verdict == "mistake":
        text += f" No worker has that. {judged.likely}".rstrip()
        advice = (
            f"Look at the shapes that {code(task.prefix)} combines: {request} is more "
            "than any worker has, and smaller chunks do not help.",
        )
    elif request.bytes:
        advice = tuple(advise.on_request(case, task, request.bytes))
    yield Finding(
        cause="task-too-large",
        weight=weight,
        text=text,
        prefix=task.prefix,
        key=task.key,
        advice=advice,
    )
