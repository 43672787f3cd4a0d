"""Why nothing moves (incidents of kind 'stuck'), and what would release it.

Unlike a death this is about the cluster: the accounts are sums over the paused workers,
and what counts is not what grew last but who would have to let go.  All sizes in bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from dask_memdash.analysis.incidents import advice as advise
from dask_memdash.analysis.incidents.advice import paste
from dask_memdash.analysis.incidents.case import Case
from dask_memdash.analysis.incidents.finding import Diagnosis, Finding
from dask_memdash.analysis.incidents.rules.actor_state import actor_state
from dask_memdash.analysis.incidents.rules.graph import graph
from dask_memdash.analysis.incidents.rules.leak import leak
from dask_memdash.analysis.incidents.rules.sizeof import sizeof
from dask_memdash.analysis.incidents.rules.transfer import transfer
from dask_memdash.analysis.incidents.rules.unaccounted import unaccounted
from dask_memdash.model.breakdown import scale
from dask_memdash.model.evidence import OrderFacts, largest
from dask_memdash.model.stall import Holding, Stall
from dask_memdash.terms import CAUSES, STORAGE_CAUSES
from dask_memdash.text import code, count, format_bytes, join, short

MiB = 2**20

#: A share of what fills the workers below this is not the cause of anything.
LEAST = 0.25

#: Findings lighter than this are not worth a word.
LEAST_WEIGHT = 0.03

#: Waiting prefixes and holders that a sentence names.
NAMED = 2

#: Share of a limit at which workers pause, where they do not say.
USUAL_PAUSE = 0.8

#: What may have made the baseline grow, and is told apart as at a death.
GROWTH = (sizeof, actor_state, graph, leak, unaccounted)

#: Causes that more workers or a higher limit only put off: the rest of the tasks would
#: fill them too.
PUT_OFF = frozenset({"leak", "unaccounted", "actor-state"})

#: Room on disk that is advised, as times of what is known to be spilled.
EXTRA = 1.2

#: Why an output could not be spilled → relief, sentence, advice.
SPILL_TROUBLE = {
    "max-spill": (
        "spill-full",
        "As much is spilled as `distributed.worker.memory.max-spill` allows.",
        "Allow more on disk before the workers start: "
        '`dask.config.set({{"distributed.worker.memory.max-spill": "{enough}"}})`. '
        "{short} more have to be stored.",
    ),
    "disk-full": (
        "spill-full",
        "The disk that they spill to is full.",
        "Give workers a disk with {short} more free: `--local-directory "
        "/a/larger/disk`.",
    ),
    "disk-error": (
        "spill-failing",
        "The disk that they spill to cannot be written to.",
        "See to the disk that the workers spill to (`--local-directory`).",
    ),
    "unpicklable": (
        "spill-failing",
        "Outputs cannot be pickled, so that they cannot be spilled.",
        "Return something from {prefix} that can be pickled.",
    ),
}

#: Reason for which outputs are held → the cause that it is.
REASONS = {"pinned": "pinned", "awaited": "awaited", "replica": "replicas"}


def headline(stall: Stall, now: float) -> str:
    """Say who waits, and why nobody serves them.

    Parameters
    ----------
    now
        Unix time until which nothing moved.
    """
    still = f"Nothing has moved for {max(0.0, now - stall.since):.0f} s"
    by = [f"{tasks.count:,} of {code(tasks.prefix)}" for tasks in stall.waiting[:NAMED]]
    more = stall.n_waiting - sum(tasks.count for tasks in stall.waiting[:NAMED])
    by += [f"{more:,} more"] if more > 0 else []
    tasks, verb = (
        count(stall.n_waiting, "task"),
        "is" if stall.n_waiting == 1 else "are",
    )
    if len(by) == 1:
        ready = f"{tasks} of {code(stall.waiting[0].prefix)} {verb} ready"
    else:
        ready = f"{tasks} {verb} ready ({join(by)})"
    if stall.unreceived:
        tasks = count(stall.unreceived, "task")
        verb = "waits" if stall.unreceived == 1 else "wait"
        return (
            f"{still}: {tasks} {verb} for an input that did not fit into memory when "
            "it came, and Dask does not ask for it again."
        )
    if not stall.n_workers:
        return f"{still}: {ready}, and no worker is left."
    if stall.n_paused == stall.n_workers:
        which = "the only worker is" if stall.n_workers == 1 else "all workers are"
    else:
        which = f"{stall.n_paused} of {stall.n_workers} workers are"
    return f"{still}: {ready}, and {which} paused, above the pause threshold."


def diagnose_stuck(
    stall: Stall,
    order: OrderFacts | None = None,
    deaths: Sequence[Diagnosis] = (),
    fullest: Case | None = None,
) -> Diagnosis:
    """Say who would have to let go.

    Parameters
    ----------
    order
        Storage against the order of the graph that runs; None where not known.
    deaths
        Diagnoses of the incidents that it comes of, oldest first: deaths after which no
        worker is left, inputs that could not be received.
    fullest
        The evidence on the fullest of the paused workers; None where there is none.
    """
    if stall.unreceived:
        return _not_received(stall, deaths)
    if stall.parts is None:
        return _none_left(stall, deaths)
    found = sorted(
        _findings(stall, order, fullest), key=lambda finding: -finding.weight
    )
    found = [finding for finding in found if finding.weight >= LEAST_WEIGHT]
    if not found or found[0].weight < LEAST or found[0].cause == "unknown":
        text = found[0].text if found and found[0].cause == "unknown" else ""
        return Diagnosis(
            cause="unknown",
            confidence=0.0,
            prefix=None,
            key=None,
            findings=tuple(f for f in found if f.cause != "unknown"),
            advice=tuple(_more_room(stall, order)),
            text=f"What fills the workers is not known yet. {text}".strip(),
        )
    top = found[0]
    rival = found[1].weight if len(found) > 1 else 0.0
    confidence = min(0.95, 0.5 + 0.5 * (top.weight - rival) / top.weight)
    relief, sentence = _relief(stall, top.cause)
    cause = CAUSES[top.cause].label
    advice = tuple(dict.fromkeys(_release(stall, order, top, relief)))
    return Diagnosis(
        cause=top.cause,
        confidence=round(confidence, 2),
        prefix=top.prefix,
        key=None,
        findings=tuple(f for f in found if f.cause != "unknown"),
        advice=advice,
        text=" ".join(filter(None, (f"Cause: {cause}.", top.text, sentence))),
        relief=relief,
    )


def shortfall(stall: Stall, order: OrderFacts | None) -> int | None:
    """Return what is missing for all that waits to be stored; None where not known."""
    if order is not None and order.capacity and order.minimum > order.capacity:
        return order.minimum - order.capacity
    if stall.parts is None or stall.pause is None:
        return None
    sizes = stall.outputs
    expected = sum(sizes.get(t.prefix, 0) * t.count for t in stall.waiting)
    excess = max(0, stall.parts.process - stall.pause)
    awaited = any(holding.because.get("awaited") for holding in stall.holding)
    # What waits for stored outputs has to gather its inputs on one worker.
    gathered = order.need if order is not None and awaited else 0
    return excess + expected + gathered or None


# -- what fills the workers -----------------------------------------------------


def _findings(
    stall: Stall, order: OrderFacts | None, fullest: Case | None
) -> Iterator[Finding]:
    parts = stall.parts
    if parts is None:
        return
    idle = min(parts.baseline, parts.baseline if stall.idle is None else stall.idle)
    above = max(1, parts.process - idle)
    for cause, held in _stored(stall, order).items():
        text = _TEXTS[cause](stall, held)
        prefix = None if cause == "unknown" else largest(held)[0]
        yield Finding(cause, sum(held.values()) / above, text, prefix)
    for cause, size, text in (
        ("transfer", parts.transfer, "of shuffle and network buffers fill the workers"),
        ("actor-state", parts.actors, "are kept by actors; Dask cannot spill that"),
        (
            "graph",
            parts.graph,
            "came with the tasks, as their arguments, closures and records",
        ),
        ("retained", parts.retained, "were freed, and the allocator keeps them"),
        (
            "too-many-at-once",
            parts.executing,
            f"belong to {count(stall.running, 'task')} that run and use no processor",
        ),
    ):
        if size:
            named = _named(cause, fullest)
            yield Finding(
                cause,
                size / above,
                f"{format_bytes(size)} {text}.",
                None if named is None else named.prefix,
                advice=() if named is None else named.advice,
            )
    if parts.baseline > idle:
        yield from _grown(stall, parts.baseline - idle, above, fullest)


def _named(cause: str, fullest: Case | None) -> Finding | None:
    """Return what a rule finds of a part of the breakdown on the fullest worker."""
    rules = {"graph": graph, "actor-state": actor_state, "transfer": transfer}
    if fullest is None or cause not in rules:
        return None
    return next(rules[cause](fullest), None)


def _grown(
    stall: Stall, size: int, above: int, fullest: Case | None
) -> Iterator[Finding]:
    """Yield what made the baseline grow, as the fullest worker's counts tell it apart.

    Parameters
    ----------
    size
        By how much the paused workers' baselines grew, in bytes.
    above
        What they used beyond idle ones.
    """
    told = [f for rule in GROWTH for f in rule(fullest)] if fullest is not None else []
    whole = sum(finding.weight for finding in told)
    if whole <= 0:
        yield Finding(
            "unaccounted",
            size / above,
            f"{format_bytes(size)} came to the workers since they were idle, and no "
            "task counted them.",
        )
        return
    where = "" if stall.n_paused < 2 else "On the fullest worker: "
    for finding in told:
        weight = finding.weight / whole * size / above
        yield replace(finding, weight=weight, text=f"{where}{finding.text}")


def _stored(stall: Stall, order: OrderFacts | None) -> dict[str, dict[str, int]]:
    """Return by cause, and by prefix, what is stored; 'unknown' was not looked at.

    Never more than is managed: who holds what is looked up a little later.
    """
    found: dict[str, dict[str, int]] = {}
    managed = 0 if stall.parts is None else stall.parts.managed
    whole = sum(holding.bytes for holding in stall.holding)
    sizes = scale({h.prefix: h.bytes for h in stall.holding}, min(managed, whole))
    for holding in stall.holding:
        held = sizes[holding.prefix]
        if not any(holding.because.values()):
            _add(found, "unknown", holding.prefix, held)
            continue
        for why, size in scale(dict(holding.because), held).items():
            cause = REASONS.get(why, "unknown")
            ahead = 0
            if cause == "awaited":
                ahead = round(size * _share_ahead(holding, order))
                _add(found, "run-ahead", holding.prefix, ahead)
            _add(found, cause, holding.prefix, size - ahead)
    return found


def _share_ahead(holding: Holding, order: OrderFacts | None) -> float:
    """Return the share of a prefix's awaited outputs that the order needs later."""
    if order is None:
        return 0.0
    ahead = order.run_ahead.get(holding.prefix, 0)
    together = min(1.0, order.beyond / max(1, sum(order.run_ahead.values())))
    return together * min(1.0, ahead / max(1, holding.because.get("awaited", 0)))


def _add(found: dict[str, dict[str, int]], cause: str, prefix: str, size: int) -> None:
    if size > 0:
        held = found.setdefault(cause, {})
        held[prefix] = held.get(prefix, 0) + size


def _by_prefix(held: Mapping[str, int]) -> str:
    named = largest(held, NAMED)
    texts = [f"{format_bytes(held[name])} of {code(name)}" for name in named]
    more = sum(held.values()) - sum(held[name] for name in named)
    return join([*texts, f"{format_bytes(more)} of others"] if more > 0 else texts)


def _pinned(stall: Stall, held: Mapping[str, int]) -> str:
    client = _most(stall, held, "clients")
    who = f"client {short(client, 24)}" if client else "a client"
    return f"{_by_prefix(held)} fill the workers; {who} holds their futures."


def _awaited(stall: Stall, held: Mapping[str, int]) -> str:
    waiter = _most(stall, held, "awaited_by")
    who = code(waiter) if waiter else "other tasks"
    return f"{_by_prefix(held)} fill the workers until {who} can run."


def _run_ahead(stall: Stall, held: Mapping[str, int]) -> str:
    waiter = _most(stall, held, "awaited_by")
    who = code(waiter) if waiter else "other tasks"
    return (
        f"{_by_prefix(held)} were produced earlier than the order needs, and fill the "
        f"workers until {who} can run."
    )


def _replicas(stall: Stall, held: Mapping[str, int]) -> str:
    return f"{_by_prefix(held)} are copies of what other workers hold too."


def _not_looked_at(stall: Stall, held: Mapping[str, int]) -> str:
    return f"Why {_by_prefix(held)} are held has not been looked at yet."


#: Cause → what is said of the outputs that it is about.
_TEXTS = {
    "pinned": _pinned,
    "awaited": _awaited,
    "run-ahead": _run_ahead,
    "replicas": _replicas,
    "unknown": _not_looked_at,
}


def _most(stall: Stall, held: Mapping[str, int], what: str) -> str | None:
    """Name the client, or the prefix, that wants most of the largest prefix."""
    prefix = largest(held)[0]
    sums: Mapping[str, int] = next(
        (getattr(h, what) for h in stall.holding if h.prefix == prefix), {}
    )
    return max(sums, key=lambda name: (sums[name], name), default=None)


# -- what would release it ------------------------------------------------------


def _relief(stall: Stall, cause: str) -> tuple[str | None, str]:
    """Say why spilling does not help: one of `terms.RELIEFS`, and a sentence."""
    if cause not in STORAGE_CAUSES:
        return "nothing-to-spill", "That is no stored output, so nothing is spilled."
    if stall.spills is None:
        return None, ""
    if not stall.spills:
        return "spilling-off", "Spilling is off."
    if stall.spill_trouble in SPILL_TROUBLE:
        relief, sentence, _ = SPILL_TROUBLE[stall.spill_trouble]
        return relief, sentence
    return "nothing-to-spill", "They are in use, so that spilling does not free them."


def _release(
    stall: Stall, order: OrderFacts | None, top: Finding, relief: str | None
) -> Iterator[str]:
    missing = shortfall(stall, order)
    prefix = code(top.prefix or "the task")
    what = f" of {format_bytes(missing)}" if missing else ""
    if top.cause == "pinned":
        yield (
            f"Release futures of {prefix} that you no longer need (`del futures`){what}"
            ": the rest can then run."
        )
    if relief == "spilling-off":
        stored = sum(holding.bytes for holding in stall.holding)
        yield (
            f"Turn spilling on before the workers start: {advise.SPILL_ON}. Up to "
            f"{format_bytes(stored)} can then go to disk."
        )
    elif relief in ("spill-full", "spill-failing"):
        _, _, advice = SPILL_TROUBLE[stall.spill_trouble]
        size = format_bytes(missing) if missing else "what is missing"
        yield advice.format(short=size, prefix=prefix, enough=_enough(stall, missing))
    yield from top.advice
    if top.cause == "graph":
        return  # how much more the waiting tasks will bring is not known
    if top.cause in PUT_OFF:
        grown = stall.parts.baseline - (stall.idle or 0) if stall.parts else 0
        yield (
            "To go on now, restart the paused workers: "
            "`client.restart_workers([...])` with their addresses. About "
            f"{format_bytes(max(0, grown))} would be free, and what they hold is "
            "computed again."
        )
        return
    if top.cause == "retained":
        yield (
            "Give freed memory back: "
            '`client.run(lambda: __import__("ctypes").CDLL(None).malloc_trim(0))`, and '
            "if tasks use Arrow `client.run(lambda: "
            '__import__("pyarrow").default_memory_pool().release_unused())`.'
        )
    no_holding_back = {} if order is None else order.saturation
    if top.cause == "run-ahead" and no_holding_back.get(top.prefix or "", 1) is None:
        yield (
            f"Let {prefix} wait for what consumes it, before the scheduler starts: "
            f"{advise.HOLD_BACK}."
        )
    yield from _more_room(stall, order)


def _enough(stall: Stall, missing: int | None) -> str:
    """Write what each worker may have to spill: what is stored, and what is missing."""
    spilled = 0 if stall.parts is None else stall.parts.spilled or 0
    stored = spilled + sum(holding.bytes for holding in stall.holding)
    each = (stored + (missing or 0)) / max(1, stall.n_paused)
    return paste(EXTRA * each)


def _more_room(stall: Stall, order: OrderFacts | None) -> Iterator[str]:
    """Yield how many workers, or how much larger ones, it takes."""
    missing, room = shortfall(stall, order), stall.room
    if not missing or not room.storage or not room.processes:
        return
    each = room.storage // room.processes
    if each > 0:
        more = math.ceil(missing / each)
        yield (
            f"Add {count(more, 'worker')}: `cluster.scale({stall.n_workers + more})`. "
            f"Each has room for {format_bytes(each)}, and {format_bytes(missing)} are "
            "missing."
        )
    if stall.limit and stall.n_paused:
        usable = (stall.pause or USUAL_PAUSE * stall.limit) / stall.limit
        higher = stall.limit / stall.n_paused + missing / stall.n_workers / usable
        yield (
            "Or raise the limit of each worker: "
            f'`memory_limit="{math.ceil(higher / MiB)}MiB"`.'
        )


def _not_received(stall: Stall, errors: Sequence[Diagnosis]) -> Diagnosis:
    """Say what the errors say with which inputs could not be received."""
    known = [error for error in errors if error.cause != "unknown"]
    which = join([f"#{number}" for number in stall.deaths])
    before = f"The input could not be received in incident {which}. " if which else ""
    if known:
        return replace(known[-1], text=f"{before}{known[-1].text}")
    return Diagnosis(
        cause="unknown",
        confidence=0.0,
        prefix=None,
        key=None,
        findings=(),
        advice=(
            "To go on now, restart the workers that hold the waiting tasks: "
            "`client.restart_workers([...])` with their addresses.",
        ),
        text=f"{before}What filled the worker is not known.",
    )


def _none_left(stall: Stall, deaths: Sequence[Diagnosis]) -> Diagnosis:
    """Say what the deaths say after which no worker is left."""
    known = [death for death in deaths if death.cause != "unknown"]
    restart = "Start workers: `cluster.scale(n)`, or new `dask worker` processes."
    which = ", ".join(f"#{number}" for number in stall.deaths)
    word = "incident" if len(stall.deaths) == 1 else "incidents"
    before = f" It died in {word} {which}." if which else ""
    if not known:
        return Diagnosis(
            cause="unknown",
            confidence=0.0,
            prefix=None,
            key=None,
            findings=(),
            advice=(restart,),
            text=f"Nothing starts the last worker again.{before}",
        )
    last = known[-1]
    return Diagnosis(
        cause=last.cause,
        confidence=last.confidence,
        prefix=last.prefix,
        key=last.key,
        findings=last.findings,
        advice=(*last.advice, restart),
        text=f"Nothing starts the last worker again.{before} {last.text}",
        relief=last.relief,
    )
