"""A running cluster as cards in a notebook: what `connect(client)` and `MemDash` show.

Static HTML of one instant, with a link to the page and the live charts a click away.
A notebook has no stylesheet of ours, so styles stand in the template; text has the
colour of the notebook's own, so that it is at home on a light and on a dark ground.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_memdash import terms
from dask_memdash.client.notebook import page_piece
from dask_memdash.errors import MemDashError
from dask_memdash.text import (
    count,
    format_bytes,
    format_clock,
    format_parts,
    format_share,
    shorten,
)

#: Workers up to which the fullest are looked for, and rows of each list.
MOST_WORKERS = 200
ROWS = 3

#: Failures that are looked through at most.
MOST_FAILURES = 20

#: Path of the chart that can be seen live, beside the page's own.
LIVE = "individual-memdash-memory-over-time"

Ask = Callable[[str, Mapping[str, Any]], Awaitable[tuple[Any, Mapping[str, Any]]]]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """What is on the cards."""

    #: Address of the scheduler, empty where there is none.
    address: str = ""
    #: Why nothing can be shown, empty where it can; and what to do then.
    trouble: str = ""
    cluster: Row | None = None
    workers: list[Row] = field(default_factory=list)
    prefixes: list[Row] = field(default_factory=list)
    failures: list[Row] = field(default_factory=list)
    #: Address of the page, empty where it is not known.
    page: str = ""


async def gather(ask: Ask, address: str, link: Callable[[Any], str | None]) -> Shown:
    """Ask for what is on the cards; what cannot be asked is told, not raised.

    Parameters
    ----------
    ask
        Gives the JSON API's answer to a path and arguments, and what came with it.
    link
        Gives the page's address from its path.
    """
    try:
        cluster, beside = await ask("cluster", {})
        prefixes, _ = await ask("prefixes", {"limit": ROWS})
        failures, _ = await ask("failures", {"limit": MOST_FAILURES})
        workers: list[Row] = []
        if cluster["n_workers"] <= MOST_WORKERS:
            workers, _ = await ask("workers", {})
    except (TimeoutError, MemDashError, LookupError, OSError) as error:
        return Shown(address, trouble=str(error) or type(error).__name__)
    workers = fullest(workers)
    page = link(beside.get("path")) or ""
    return Shown(address, "", cluster, workers, prefixes, failures, page)


def fullest(workers: Iterable[Row]) -> list[Row]:
    """Return the workers that are shown."""
    return sorted(workers, key=lambda worker: -_fullness(worker))[:ROWS]


def cards(shown: Shown) -> str:
    """Write the cards as HTML."""
    cluster = shown.cluster
    breakdown = cluster["breakdown"] if cluster else {}
    process = breakdown.get("process")
    sizes = {name: breakdown.get(name) for name in terms.PARTS}
    written = format_parts(sizes, process)
    parts = [
        (part.label, part.colour, sizes[name], written[name])
        for name, part in terms.PARTS.items()
    ]
    families = _families(breakdown)
    page = shown.page if shown.page.startswith(("http://", "https://")) else ""
    opened = [failure for failure in shown.failures if failure["closed"] is None]
    html: str = page_piece("cards.html").render(
        shown=shown,
        cluster=cluster,
        page=page,
        live=f"{page.rpartition('/')[0]}/{LIVE}" if page else "",
        parts=parts,
        process=process,
        families=zip(families, format_parts(families, process).values(), strict=True),
        failure=opened[0] if opened else None,
        over=len(shown.failures) - len(opened),
        more=len(opened) - 1,
        workers=[_worker(worker) for worker in shown.workers],
        prefixes=[_prefix(prefix) for prefix in shown.prefixes],
        size=format_bytes,
        share=format_share,
        clock=format_clock,
        count=count,
    )
    return html


def _families(breakdown: Row) -> dict[str, int | None]:
    sums: dict[str, int | None] = {}
    for name, part in terms.PARTS.items():
        size = breakdown.get(name)
        sums[part.family] = (
            None if size is None else (sums.get(part.family) or 0) + size
        )
    return sums


def _fullness(worker: Row) -> float:
    process, limit = worker["breakdown"]["process"], worker["limit"]
    return process / limit if process is not None and limit else -1.0


def _worker(worker: Row) -> dict[str, Any]:
    breakdown = worker["breakdown"]
    full, name = _fullness(worker), str(worker["name"])
    return {
        "name": f"worker {name}" if name.isdigit() else shorten(name),
        "state": "" if worker["status"] == "running" else str(worker["status"]),
        "size": format_bytes(breakdown["process"]),
        "share": format_share(full) if full >= 0 else "",
        "free": (worker["limit"] or 0) - (breakdown["process"] or 0),
        "parts": [
            (part.colour, breakdown[name])
            for name, part in terms.PARTS.items()
            if breakdown[name]
        ],
    }


def _prefix(prefix: Row) -> dict[str, Any]:
    return {
        "name": shorten(str(prefix["prefix"])),
        "stored": format_bytes(prefix["storage"]["managed"]),
        "executing": format_bytes(prefix["execution"]["executing"]),
        "size": format_bytes(prefix["bytes"]),
        "no_task": prefix["kind"] != "task",
    }
