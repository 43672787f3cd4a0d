"""Cases for tests of the diagnosis, written by hand: sizes in MiB.

The worker has a limit of 1000 MiB, is terminated at 950 MiB and needs 100 MiB when it
is idle, so it has room for 850 MiB.
"""

from __future__ import annotations

from typing import Any

from builders import MiB

from dask_memdash.analysis.incidents.case import Case
from dask_memdash.model.breakdown import Breakdown
from dask_memdash.model.event_parts import Held, TaskInfo, Thresholds, Weighed
from dask_memdash.model.evidence import Evidence, Expected, HostFacts, OrderFacts
from dask_memdash.model.incidents import Exit, StoredAtDeath, Suspect

T0 = 1_760_000_000.0
THRESHOLDS = Thresholds(600 * MiB, 700 * MiB, 800 * MiB, 950 * MiB)


def parts(**sizes: int) -> Breakdown:
    """Make a breakdown from its parts; the baseline is 100 unless it is given."""
    known = {
        "managed": 0,
        "transfer": 0,
        "actors": 0,
        "executing": 0,
        "retained": 0,
        "graph": 0,
        "baseline": 100,
        **sizes,
    }
    spilled, inputs = known.pop("spilled", 0), known.pop("inputs", None)
    scaled = {name: size * MiB for name, size in known.items()}
    return Breakdown(
        process=sum(scaled.values()),
        **scaled,
        error=0,
        managed_claimed=scaled["managed"],
        inputs=None if inputs is None else inputs * MiB,
        spilled=spilled * MiB,
        spilled_disk=spilled * MiB,
    )


def suspect(key: str = "sum-1", size: int | None = 100, **more: Any) -> Suspect:
    """Make a suspect that holds `size`."""
    held = None if size is None else size * MiB
    values = {
        "prefix": key.partition("-")[0],
        "peak": held,
        "share": None if held is None else held / (1000 * MiB),
        "seconds": 2.0,
        "thread": 7,
        "priority": None,
        "order_position": None,
        "order_total": None,
        "attempts": (),
        "method": "unmeasured" if size is None else "exact",
        **more,
    }
    return Suspect(key=key, bytes=held, **values)  # type: ignore[arg-type]


def stored(prefix: str, managed: int, spilled: int = 0, count: int = 10) -> Any:
    """Make what is stored of a prefix."""
    return StoredAtDeath(prefix, managed * MiB, spilled * MiB, count)


def held(types: tuple[str, ...] = (), by: str = "sum", **because: int) -> Held:
    """Make why outputs are held, from ``awaited=…``, ``pinned=…`` and so on."""
    sizes = {why.replace("_", "-"): size * MiB for why, size in because.items()}
    awaited = sizes.get("awaited", 0)
    return Held(
        pinned=sizes.get("pinned", 0),
        awaited=awaited,
        awaited_by={by: awaited} if awaited else {},
        because=sizes,
        types=types,
    )


def expected(
    finished: int = 10,
    peak: int | None = 50,
    most: int | None = None,
    left: int = 0,
    believed: int = 0,
    output: int | None = None,
) -> Expected:
    """Make what a prefix usually needs."""
    return Expected(
        finished=finished,
        method="exact",
        p50=None if peak is None else peak * MiB,
        p95=None if peak is None else peak * MiB,
        max=None if peak is None else (most or peak) * MiB,
        output_p95=None if output is None else output * MiB,
        weighed=Weighed(finished, believed * MiB, left * MiB),
    )


def facts(**more: Any) -> Evidence:
    """Make what was known when it happened; sizes in `claimed` and so on are in MiB."""
    for name in ("claimed", "awaited"):
        more[name] = {p: s * MiB for p, s in more.get(name, {}).items()}
    baseline = more.pop("baseline", ())
    values = {
        "nthreads": 1,
        "thresholds": THRESHOLDS,
        "baseline": tuple((T0 + n, size * MiB) for n, size in enumerate(baseline)),
        **more,
    }
    return Evidence(**values)


def case(kind: str = "terminated", **more: Any) -> Case:
    """Make a case: of a worker that the nanny has terminated, unless told otherwise."""
    values = {
        "limit": 1000 * MiB,
        "breakdown": parts(),
        "evidence": "flight-recorder",
        "facts": facts(),
        **more,
    }
    return Case(kind=kind, **values)


def storing(prefix: str, managed: int, why: Held | None = None, **more: Any) -> Case:
    """Make a case of a worker full of one prefix's outputs."""
    known = {} if why is None else {prefix: why}
    return case(
        breakdown=parts(managed=managed, spilled=more.pop("spilled", 0)),
        storage=(stored(prefix, managed),),
        facts=facts(held=known, claimed={prefix: managed}, **more.pop("facts", {})),
        **more,
    )


def order(ideal: int, held: int, ahead: dict[str, int] | None = None) -> OrderFacts:
    """Make storage against the order."""
    return OrderFacts(
        graph="g",
        done=12,
        total=60,
        ideal=ideal * MiB,
        held=held * MiB,
        minimum=ideal * MiB,
        capacity=1000 * MiB,
        run_ahead={p: size * MiB for p, size in (ahead or {}).items()},
        saturation=dict.fromkeys(ahead or {}),
    )


def host(effective: int, source: str = "cgroup") -> HostFacts:
    """Make the audit of a limit."""
    size = effective * MiB
    return HostFacts(1000 * MiB, size, source, None, None, "not-seen")


def task(key: str = "sum-1") -> TaskInfo:
    """Make a task."""
    prefix = key.partition("-")[0]
    return TaskInfo(key, prefix, prefix, None)


def ended(code: int | None = None, signal: int | None = None) -> Exit:
    """Make an exit through nobody that is known."""
    return Exit(code, signal, "unknown")
