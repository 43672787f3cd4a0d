"""What the person before ``dask memdash top`` chooses: views, rows, orders, by keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dask_memdash.cli.table_text import MARKS, Line, Piece, cells
from dask_memdash.cli.top_columns import families, fullness, peak

#: What is shown, by the key that shows it.
ALL, ONLY_WORKERS, ONLY_PREFIXES, ONLY_FAILURES = (
    "all",
    "workers",
    "prefixes",
    "failures",
)
VIEWS = {"0": ALL, "1": ONLY_WORKERS, "2": ONLY_PREFIXES, "3": ONLY_FAILURES}

Row = Mapping[str, Any]

#: Orders of each list: name → what it is sorted by, smallest first.
ORDERS: dict[str, dict[str, Callable[[Row], Any]]] = {
    ONLY_WORKERS: {
        "fullest first": lambda w: (-fullness(w), str(w["name"])),
        "most memory first": lambda w: -(w["breakdown"]["process"] or 0),
        "most execution first": lambda w: -families(w["breakdown"]).get("execution", 0),
        "by name": lambda w: str(w["name"]),
    },
    ONLY_PREFIXES: {
        "most memory first": lambda p: (-(p["bytes"] or 0), -(peak(p) or 0)),
        "most execution first": lambda p: -(p["execution"]["executing"] or 0),
        "largest peak first": lambda p: -(peak(p) or 0),
        "by name": lambda p: str(p["prefix"]),
    },
    ONLY_FAILURES: {"newest first": lambda f: -f["opened"]},
}

#: Keys, what they do, and how much they matter where there is no room for all.
KEYS = (
    ("1", "workers", 3),
    ("2", "prefixes", 3),
    ("3", "failures", 3),
    ("0", "all", 2),
    ("↑↓", "row", 1),
    ("s", "sort", 1),
    ("p", "pause", 0),
    ("?", "help", 4),
    ("q", "quit", 5),
)

#: Keys that do something where one list is shown alone.
ALONE = ("0", "↑↓", "s")

HELP: tuple[Line, ...] = (
    (
        ("1 2 3  ", "strong"),
        ("workers, task prefixes or failures alone, with details", ""),
    ),
    (("0      ", "strong"), ("all of them; tab goes from one to the next", "")),
    (
        ("↑ ↓    ", "strong"),
        ("choose a row; also j, k, page up and down, home, end", ""),
    ),
    (("s      ", "strong"), ("sort by something else", "")),
    (("p      ", "strong"), ("pause: the figures stay as they are", "")),
    (("q      ", "strong"), ("quit; also ctrl-c", "")),
    (),
    (
        (f"{MARKS['storage']}      ", "storage"),
        ("storage: outputs of finished tasks, data in transfer", ""),
    ),
    (
        (f"{MARKS['execution']}      ", "execution"),
        ("execution: what running tasks have allocated", ""),
    ),
    (
        (f"{MARKS['overhead']}      ", "overhead"),
        ("overhead: interpreter, modules, leaks, what the allocator keeps", ""),
    ),
    (
        (f"{MARKS['free']}      ", "free"),
        ("free, up to the limit", ""),
    ),
    (),
    (("≥      ", "strong"), ("a task was cut short there: it needs at least this", "")),
    (("1/2    ", "strong"), ("tasks: one runs, and the worker has two threads", "")),
    (),
    (("Any key goes back.", "dim"),),
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the person before the screen has chosen."""

    view: str = ALL
    #: Row that is chosen in each list, and which of its orders.
    row: int = 0
    order: int = 0
    paused: bool = False
    help: bool = False


def press(chosen: Chosen, key: str) -> Chosen | None:
    """Return what is chosen after a key; None where it says to quit."""
    if key in ("q", "Q"):
        return None
    if chosen.help:
        return replace(chosen, help=False)
    if key in VIEWS:
        return replace(chosen, view=VIEWS[key], row=0, order=0)
    if key == "tab":
        views = list(VIEWS.values())
        following = views[(views.index(chosen.view) + 1) % len(views)]
        return replace(chosen, view=following, row=0, order=0)
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -10, "pagedown": 10}
    if key in steps:
        return replace(chosen, row=max(0, chosen.row + steps[key]))
    if key == "home":
        return replace(chosen, row=0)
    if key == "end":
        return replace(chosen, row=10**6)
    if key == "s":
        return replace(chosen, order=chosen.order + 1)
    if key == "p":
        return replace(chosen, paused=not chosen.paused)
    if key in ("?", "h"):
        return replace(chosen, help=True)
    return chosen


def foot(chosen: Chosen, width: int) -> Line:
    """Write which keys there are, as many as there is room for."""
    keys = [k for k in KEYS if chosen.view != ALL or k[0] not in ALONE]
    while sum(cells(key) + cells(what) + 3 for key, what, _ in keys) - 2 > width:
        keys.remove(min(keys, key=lambda k: k[2]))
    line: list[Piece] = []
    for key, what, _ in keys:
        if what == "pause" and chosen.paused:
            what = "go on"
        tone = "strong" if VIEWS.get(key) == chosen.view else "dim"
        line += [("  ", "")] if line else []
        line += [(key, "chosen"), (f" {what}", tone)]
    return tuple(line)
