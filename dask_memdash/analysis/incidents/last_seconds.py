"""What a worker's last seconds are drawn of: bands, one upon the other, for any chart.

Takes an incident as the store gives it; a page, a notebook and a report draw the same.
The tasks that ran at the end lie at the bottom, the largest lowest: who grew is seen on
a level line.  Of a death without samples of its tasks, only the end is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dask_memdash.model.breakdown import scale
from dask_memdash.terms import HATCHES, PARTS, TINTS
from dask_memdash.text import count, format_bytes, shorten

#: Tasks that are told apart, the largest; the rest is summed.
MOST = 12

#: Least seconds before a death that are shown, and how much there is before what
#: matters, as a multiple.
SHORTEST = 3.0
BEFORE = 1.25

#: Where a process is lower than this share of its last rise, the rise begins.
LOW = 0.1

#: Characters of a key, and of a name at the edge of a chart.
KEY, NAME = 60, 15

#: What no part is called, as it is known of it only how much it was.
UNKNOWN = "of which only the size is known"


@dataclass(frozen=True, slots=True)
class Band:
    """One of the bands that sum to the process, in bytes."""

    what: str
    #: The same in little room.
    name: str
    colour: str
    #: As Bokeh calls it; a blank for none.
    hatch: str
    #: Whose it is, where it is a prefix's.
    prefix: str
    #: At each sample of the incident's `last_seconds`; empty where they are not known.
    sizes: tuple[int, ...]
    #: At the death.
    end: int

    @property
    def most(self) -> int:
        """The most that it was, in bytes."""
        return max(self.end, max(self.sizes, default=0))

    @property
    def said(self) -> str:
        """How much it was: at the death, or at most where it was gone by then."""
        end = format_bytes(self.end)
        return end if self.end else f"at most {format_bytes(self.most)}"


def look(place: int) -> tuple[str, str]:
    """Return colour and pattern of the so-many-th task; empty beyond `MOST`."""
    if place >= MOST:
        return "", " "
    tint = TINTS[place % len(TINTS)]
    return tint, HATCHES[(place + place // len(TINTS)) % len(HATCHES)]


@dataclass(frozen=True, slots=True)
class Scene:
    """What is drawn of a worker's last seconds; of nothing where `before` is empty."""

    #: The samples, in seconds before the death: negative or 0, oldest first.
    before: tuple[float, ...] = ()
    #: RSS at each, in bytes.
    process: tuple[int, ...] = ()
    #: From the bottom up; those that were never there are left out.
    bands: tuple[Band, ...] = ()
    #: Seconds before the death that are shown.
    seconds: float = SHORTEST

    @property
    def over_time(self) -> bool:
        """Whether the bands are known at the samples, and not at the death alone."""
        return any(band.sizes for band in self.bands)


def scene(incident: Mapping[str, Any]) -> Scene:
    """Return what is to be drawn of the last seconds of an incident's worker."""
    instants, process, death = _samples(incident)
    if len(instants) < 2:
        return Scene()
    before = [min(0.0, instant - death) for instant in instants]
    ran = [suspect["seconds"] for suspect in incident.get("suspects") or []]
    seconds = seconds_shown(before, process, ran)
    within = sum(1 for place in before if place < -seconds)
    cut = slice(max(0, within - 1), None)  # lines come from beyond the edge
    made = (replace(band, sizes=band.sizes[cut]) for band in bands(incident))
    return Scene(
        tuple(before[cut]),
        tuple(process[cut]),
        tuple(band for band in made if band.most > 0),
        seconds,
    )


def bands(incident: Mapping[str, Any]) -> list[Band]:
    """Return what a worker's memory was made of, from the bottom up."""
    last = incident.get("last_seconds") or {}
    if len(last.get("time") or ()) > 1:
        return [*_tasks_over_time(incident, last), *_parts_over_time(last)]
    return _at_the_end(incident)


def _samples(incident: Mapping[str, Any]) -> tuple[list[float], list[int], float]:
    """Return instants (Unix time in seconds), RSS in bytes, and the death's instant."""
    last = incident.get("last_seconds") or {}
    if len(last.get("time") or ()) > 1:
        return last["time"], last["process"], last["time"][-1]
    timeline = incident.get("timeline") or {}
    return timeline.get("time") or [], timeline.get("process") or [], incident["time"]


def seconds_shown(
    before: Sequence[float], process: Sequence[int], ran: Iterable[float | None]
) -> float:
    """Return how many seconds before a death are to be shown.

    From before the last rise of the process, and before the oldest task that ran.

    Parameters
    ----------
    before
        The samples' instants, in seconds before the death: at most 0, oldest first.
    ran
        For how long the tasks had been running, in seconds.
    """
    whole = -before[0]
    least, end = min(process), process[-1]
    level = least + LOW * (end - least)
    low = [-at for at, size in zip(before, process, strict=True) if size <= level]
    rise = low[-1] if low else whole
    known = [seconds for seconds in ran if seconds]
    return max(min(whole, BEFORE * max(rise, 0.0, *known)), SHORTEST)


def _tasks_over_time(
    incident: Mapping[str, Any], last: Mapping[str, Any]
) -> Iterable[Band]:
    """Return what was executing: the tasks that ran at the end, then those before."""
    places = {s["key"]: n for n, s in enumerate(incident.get("suspects") or [])}
    number, made = max(MOST, len(last["time"])), []
    more = [0] * len(last["time"])
    further = len(places)
    for row in last["tasks"]:
        place = places.get(row["key"])
        if place is None:
            place, further = further, further + 1
        colour, hatch = look(place)
        sizes = [size or 0 for size in row["bytes"]]
        if not colour:
            more = [size + other for size, other in zip(sizes, more, strict=True)]
            continue
        prefix = row["prefix"]
        what = shorten(row["key"] or "", KEY)
        if row["key"] is None:
            what = f"{shorten(prefix, KEY)}: {count(row['count'], 'task')} that ended"
        rank = (row["key"] is None, -sizes[-1] or -max(sizes), min(place, number))
        name = shorten(prefix, NAME)
        band = Band(what, name, colour, hatch, prefix, tuple(sizes), sizes[-1])
        made.append((rank, band))
    made.sort(key=lambda pair: pair[0])
    others = [size + other for size, other in zip(last["others"], more, strict=True)]
    part = PARTS["executing"]
    yield from (band for _, band in made)
    yield _band("other tasks", "other tasks", part.colour, "vertical_line", others)
    yield _uncounted(last["uncounted"], last["uncounted"][-1])


def _parts_over_time(last: Mapping[str, Any]) -> Iterable[Band]:
    for name, part in PARTS.items():
        if name != "executing":
            colour, hatch = part.colour, part.pattern
            yield _band(part.label, part.label, colour, hatch, last[name])
    yield _band(UNKNOWN, "not known", "", " ", last["unknown"])


def _at_the_end(incident: Mapping[str, Any]) -> list[Band]:
    """Return what the process was made of at the death, of which a breakdown is known.

    Instead of what was executing, the running tasks: at most as much as was executing,
    the rest being nobody's.
    """
    breakdown = incident.get("breakdown") or {}
    if breakdown.get("process") is None:
        return []
    suspects = incident.get("suspects") or []
    executing = breakdown["executing"] or 0
    counted = {n: int(s.get("bytes") or 0) for n, s in enumerate(suspects)}
    sizes = scale(counted, min(executing, sum(counted.values())))
    made = []
    for place, suspect in enumerate(suspects[:MOST]):
        colour, hatch = look(place)
        prefix = suspect["prefix"]
        what, name = shorten(suspect["key"], KEY), shorten(prefix, NAME)
        made.append(Band(what, name, colour, hatch, prefix, (), sizes[place]))
    made.sort(key=lambda band: -band.end)
    more = sum(sizes[place] for place in range(MOST, len(suspects)))
    part = PARTS["executing"]
    said = count(len(suspects) - MOST, "more task")
    left = executing - sum(sizes.values())
    made += [
        Band(said, "more tasks", part.colour, "vertical_line", "", (), more),
        _uncounted((), left),
    ]
    for name, part in PARTS.items():
        if name != "executing":
            size = breakdown[name] or 0
            label, colour, hatch = part.label, part.colour, part.pattern
            made.append(Band(label, label, colour, hatch, "", (), size))
    return made


def _uncounted(sizes: Sequence[int], end: int) -> Band:
    what, colour = "executing, and counted for no task", PARTS["executing"].colour
    return Band(what, "not counted", colour, "left_diagonal_line", "", (*sizes,), end)


def _band(what: str, name: str, colour: str, hatch: str, sizes: Sequence[int]) -> Band:
    return Band(what, name, colour, hatch, "", tuple(sizes), sizes[-1])
