"""What running tasks need, and whether an empty worker would hold that.

The need of a task is its inputs that are in memory (fetched copies too) and what it
takes beside them: the most that it held here or at an earlier death, or that others of
its prefix have been measured to need.  An *empty* worker has room up to its terminate
threshold, less the idle process.  A task that fits there was not too large, however
little room others had left it.
"""

from __future__ import annotations

from dask_memdash.analysis.incidents.case import Case, most_held
from dask_memdash.analysis.incidents.growth_attribution import give_out, hands_over
from dask_memdash.analysis.incidents.requests import parse
from dask_memdash.model.event_parts import TaskInfo
from dask_memdash.model.incidents import DEATHS, Suspect

#: Need of one task, as a share of an empty worker's room, from which it may be too
#: large by itself, and from which it surely is: it was cut short, and needs more.
MAYBE, SURELY = 0.55, 0.9

#: The same where other memory had taken much of the room: it may not have been about
#: to need more.
FITS, FITS_NOT = 0.9, 1.0

#: Shares of all that is in execution between which one task is not, and is, the one.
ONE_OF_MANY, THE_ONE = 0.5, 0.75

#: A task that holds this share of its peak is thought to be still growing.
GROWING = 0.9

#: What a task held at two deaths, equal to within this share, is all that it needs.
#: One that is cut short while it grows may come close to that by chance.
SAME = 0.005

#: Shares of its count between which all that the process grew by is a task's own.
ALL_ITS_OWN = (0.95, 1.05)

#: Share of all that was counted from which the other tasks' part is a trifle.
NEARLY_ALL = 0.9

#: Share of the memory to explain from which what is beside the running tasks may be
#: what left them no room, and from which it is.
MUCH_BESIDE, MOST_BESIDE = 0.25, 0.3

#: Share of a task's inputs that must be in memory before its worker is said to have
#: gathered them.
MOST_INPUTS = 0.5

#: Parts of the names of Dask's own tasks that join and split chunks of arrays.
JOINS, SPLITS = "rechunk-merge", "rechunk-split"

#: Finished tasks of a prefix that say reliably what it needs.
ENOUGH = 3


def ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to `low`, 1 from `high` on, and a straight line between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


def largest_task(case: Case) -> Suspect | None:
    """Return the running task that holds most; alone, also one without a figure."""
    if not case.suspects:
        return None
    top = max(case.running, key=lambda s: held_by(case, s))
    return top if held_by(case, top) or len(case.suspects) == 1 else None


def held_by(case: Case, suspect: Suspect) -> int:
    """Return what a task held at the instant: counted, and believed to be its own.

    Of one that had not begun: what was read back for it.
    """
    if suspect.gathering:
        return case.read_back.get(suspect.key, 0)
    growth = give_out(case)
    return (suspect.bytes or 0) + round(
        growth.belief * growth.charged.get(suspect.key, 0)
    )


def uncounted_of(case: Case, suspect: Suspect) -> int:
    """Return what may be a task's own beyond its count: the process grew by it.

    Copies of what a task hands over to a shuffle are known to be its own.
    """
    if hands_over(suspect.prefix):
        return 0
    return give_out(case).charged.get(suspect.key, 0)


def mostly_uncounted(case: Case) -> bool:
    """Say whether less than half of what may be the running tasks' was counted."""
    return sum(uncounted_of(case, s) for s in case.suspects) > case.counted


def execution(case: Case) -> int:
    """Return what the running tasks held together, their spilled inputs in RAM too."""
    growth = give_out(case)
    return case.counted + case.inputs_in_use + round(growth.belief * growth.running)


def inputs_of(suspect: Suspect) -> int:
    """Return the inputs of a task, in bytes; 0 where they are not known."""
    return 0 if suspect.inputs is None else suspect.inputs.size


def taken_by(case: Case, suspect: Suspect) -> int:
    """Return what a task takes beside its inputs, at least, in bytes."""
    counted = max(most_held(suspect) or 0, (suspect.bytes or 0) + suspect.filling)
    usual = case.expected(suspect.prefix)
    if usual is not None and usual.finished >= ENOUGH:
        counted = max(counted, usual.p95 or 0, usual.output_p95 or 0)
    counted = max(counted, case.learnt(suspect), joined_by(suspect))
    return max(_raw(case, suspect), counted + sent_by(suspect))


def joined_by(suspect: Suspect) -> int:
    """Return what a task is known to make of its inputs before it has run, in bytes.

    Dask's own tasks that join chunks copy all of their inputs into one; those that
    take a part of each first do not.  Tasks of a P2P shuffle copy what they hand over,
    piece by piece, while they still have the whole (measured: joined and cut, twice
    the inputs).
    """
    if suspect.inputs is None or SPLITS in suspect.prefix:
        return 0
    joins = JOINS in suspect.prefix and suspect.inputs.count > 1
    return (joins + hands_over(suspect.prefix)) * inputs_of(suspect)


def sent_by(suspect: Suspect) -> int:
    """Return the copies that are made of what a task hands over, to send it, in bytes.

    A task of a P2P shuffle hands all of its inputs over, and does not end before they
    are on their way.  Its count has the pieces, and not what is made of them to send.
    """
    return inputs_of(suspect) if hands_over(suspect.prefix) else 0


def need_of(case: Case, suspect: Suspect) -> int:
    """Return what a task needs at least, its inputs included, in bytes."""
    return inputs_of(suspect) + taken_by(case, suspect)


def too_large_alone(case: Case, top: Suspect) -> float:
    """Say how far the largest task would have been too large by itself, from 0 to 1."""
    room, need = case.usable, need_of(case, top)
    if room is not None and need > room:
        return 1.0
    dominates = _dominates(case, top)
    if room is None:
        return dominates
    if _others_finished_with_as_much(case, top):
        return ramp(need / room, FITS, FITS_NOT)
    if need_is_known(case, top):
        return ramp(need / room, FITS, FITS_NOT)
    fills = ramp(need / room, MAYBE, SURELY)
    alone = max(fills, dominates)
    fits = ramp(need / room, FITS, FITS_NOT)
    return alone - _squeezed(case) * max(0.0, alone - fits)


def never_fits(case: Case, top: Suspect) -> bool:
    """Say whether a task needs more than any empty worker of this limit has.

    What it reserved counts only where it had begun to fill it.
    """
    if case.usable is None or need_of(case, top) <= case.usable:
        return False
    return held_by(case, top) + inputs_of(top) >= MUCH_BESIDE * case.above


def gathered_in_vain(case: Case) -> TaskInfo | None:
    """Return a task that had not begun and whose inputs alone fit no empty worker.

    All of them have to be in memory at once before it begins.  None where most of them
    were elsewhere.
    """
    if case.usable is None or case.kind not in DEATHS:
        return None
    there = case.parts.managed + case.parts.transfer + case.in_use
    found = [
        task
        for task in case.assigned
        if task.inputs is not None
        and task.inputs.size > case.usable
        and there >= MOST_INPUTS * task.inputs.size
    ]
    return max(found, key=lambda t: t.inputs.size if t.inputs else 0, default=None)


def need_is_known(case: Case, suspect: Suspect) -> bool:
    """Say whether a task held just as much at an earlier death: it needs no more.

    But not of one that still grows: workers of one limit cut it short at one size.
    """
    if _still_grows(case, suspect):
        return False
    own = [attempt.bytes or 0 for attempt in case.attempts.get(suspect.key, ())]
    learnt = max([*own, case.at_least.get(suspect.prefix, 0)])
    held = _raw(case, suspect)
    return 0 < abs(held - learnt) <= SAME * held or 0 < held == learnt


def _still_grows(case: Case, suspect: Suspect) -> bool:
    """Say whether a process rose up to its end, and by this task's memory alone.

    Other tasks that ran may have added a trifle.
    """
    own, grown = suspect.bytes or 0, case.grown_since(suspect)
    if not own or grown is None or len(case.timeline) < 2:
        return False
    low, high = ALL_ITS_OWN
    together = case.counted if own >= NEARLY_ALL * case.counted else own
    last, end = (size for _, size in case.timeline[-2:])
    return low * own <= grown <= high * together and end > last


def too_many_together(case: Case) -> float:
    """Say how far all running tasks together would not fit an empty worker."""
    if case.usable is None:
        return 1.0
    need = sum(taken_by(case, s) for s in case.suspects)
    return 1 - _squeezed(case) * (1 - ramp(need / case.usable, FITS, FITS_NOT))


def _squeezed(case: Case) -> float:
    """Say how far what is beside the running tasks left them no room, from 0 to 1."""
    return ramp(beside(case) / case.above, MUCH_BESIDE, MOST_BESIDE)


def beside(case: Case) -> int:
    """Return what is beside the running tasks and all that may be theirs, in bytes."""
    used = max(0, case.parts.process - case.idle)
    own = case.counted + case.inputs_in_use + give_out(case).running
    return max(0, used - own - inputs_stored(case))


def inputs_stored(case: Case) -> int:
    """Return how much of what is stored tasks have as their inputs, in bytes.

    Those that run, and one that could not begin for them.
    """
    inputs = sum(inputs_of(s) for s in case.suspects) - case.inputs_in_use
    gathered = gathered_in_vain(case)
    if gathered is not None and gathered.inputs is not None:
        inputs += gathered.inputs.size
    return max(0, min(case.parts.managed, inputs))


def _raw(case: Case, suspect: Suspect) -> int:
    """Return the most that a task held, whatever of it was in RAM by then."""
    own = next((s for s in case.suspects if s.key == suspect.key), suspect)
    growth = give_out(case)
    believed = round(growth.belief * growth.charged.get(suspect.key, 0))
    return (most_held(own) or 0) + believed


def _dominates(case: Case, top: Suspect) -> float:
    """Say how far one task holds most of all execution while it still grows."""
    if top.peak and (top.bytes or 0) < GROWING * min(top.peak, case.parts.executing):
        return 0.0
    growth, others = give_out(case), [s for s in case.running if s is not top]
    # All of what nobody counted may be the others' own, however little of it is
    # believed to be.
    held = held_by(case, top) + sum(
        (s.bytes or 0) + growth.charged.get(s.key, 0) for s in others
    )
    if not held:
        return 1.0 if not others else 0.0
    if any(s.bytes is None for s in others):
        # One that was not measured may hold what others are charged with.
        held = max(held, held_by(case, top) + growth.running)
    return ramp(held_by(case, top) / held, ONE_OF_MANY, THE_ONE)


def _others_finished_with_as_much(case: Case, top: Suspect) -> bool:
    """Say whether its like have finished with as much: they fit, one at a time."""
    usual = case.expected(top.prefix)
    if usual is None or usual.finished < ENOUGH or usual.max is None:
        return False
    return max(_raw(case, top), case.learnt(top)) <= usual.max


def not_received(case: Case) -> int:
    """Return the bytes of inputs that a task was to receive when one did not fit.

    0 where that is not known, and for what is no such incident.
    """
    if case.stage != "receiving" or not case.tasks:
        return 0
    request, inputs = parse(case.detail), case.tasks[0].inputs
    asked = 0 if request is None else request.bytes or 0
    return max(asked, 0 if inputs is None else inputs.size)
