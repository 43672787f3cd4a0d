"""How sizes, times, counts and keys are written for people: the only formatter.

Page, tooltips, report, logs, terminal, notes and DataFrames write their figures
through here; ``static/formats.js`` follows the same rules in the browser (a test
compares them).

One rule for digits: three significant ones, rounded half up, without zeros at the end
("5.38 MiB", "53.8 MiB", "538 MiB", "2 GiB").  What is not known is a dash, never a 0.

Imports the standard library only.
"""

from __future__ import annotations

import math
import re
import time as clocks
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Written for what is not known.
UNKNOWN = "–"

#: Binary units and their sizes in bytes, largest first; names as Dask writes them.
UNITS = (
    ("PiB", 2**50),
    ("TiB", 2**40),
    ("GiB", 2**30),
    ("MiB", 2**20),
    ("kiB", 2**10),
)

#: Share of a unit from which it is used: 0.9 GiB rather than 922 MiB.
ENOUGH_OF_A_UNIT = 0.9

#: Characters of a key in a sentence and in a narrow place.
KEY_IN_SENTENCE = 70
KEY_IN_CELL = 28

#: Characters of a file's name and of a function's where a line is told.
MOST_OF_A_FILE = 96
MOST_OF_A_NAME = 64

#: Characters of a key that travel between processes, and that are kept.
KEY_KEPT = 1000

#: What a terminal obeys (but for line ends and tabs), what turns writing round, and
#: halves of surrogate pairs.
_OBEYED = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def format_bytes(size: float | None) -> str:
    """Write a size, in binary units and with three significant digits.

    Parameters
    ----------
    size
        In bytes, of either sign; None where it is not known.
    """
    if size is None or not math.isfinite(size):
        return UNKNOWN
    unit, factor = _unit(abs(size))
    return _signed(size / factor, _places(abs(size) / factor, factor), unit)


def format_parts(parts: Mapping[str, int | None], total: int | None) -> dict[str, str]:
    """Write parts that are shown beside their sum so that they add up as shown.

    All parts get the unit and the places of `total`; what rounding leaves over goes to
    those that it cut most (largest remainder).

    Parameters
    ----------
    parts
        Name → size in bytes, not negative.
    total
        Their sum, as :func:`format_bytes` writes it.

    Returns
    -------
    dict
        The same names → text.  A part below the last digit counts as 0, and is written
        as "< 0.01 GiB".  Parts that do not sum to `total`, or of which one is not
        known, are written one by one.
    """
    return format_groups({"": parts}, total)[""][1]


def format_groups(
    groups: Mapping[str, Mapping[str, int | None]], total: int | None
) -> dict[str, tuple[str, dict[str, str]]]:
    """Write groups of parts so that parts, groups and `total` add up as shown.

    Parameters
    ----------
    groups
        Name of a group → its parts, as :func:`format_parts` takes them.
    total
        Sum of all parts of all groups.

    Returns
    -------
    dict
        Name of a group → its sum as text, and its parts as text.
    """
    counts = _count(groups, total)
    if counts is None or total is None:
        return {
            group: (
                format_bytes(_sum(parts.values())),
                {name: format_bytes(size) for name, size in parts.items()},
            )
            for group, parts in groups.items()
        }
    return {
        group: (
            _write(
                sum(counts[group, name] for name in parts),
                _sum(parts.values()) or 0,
                total,
            ),
            {
                name: _write(counts[group, name], size or 0, total)
                for name, size in parts.items()
            },
        )
        for group, parts in groups.items()
    }


def format_inside(
    groups: Mapping[str, Mapping[str, int | None]],
    total: int | None,
    part: tuple[str, str],
    inside: Sequence[int],
) -> list[str]:
    """Write what a part consists of, to add up as :func:`format_groups` writes it.

    Parameters
    ----------
    groups, total
        As there.
    part
        Names of the part's group and of the part.
    inside
        The sizes that sum to the part's, in bytes.
    """
    counts = _count(groups, total)
    if counts is None or total is None or sum(inside) != groups[part[0]][part[1]]:
        return [format_bytes(size) for size in inside]
    sizes = {("", str(number)): size for number, size in enumerate(inside)}
    factor = _unit(total)[1]
    step = factor / 10 ** _places(total / factor, factor)
    steps = _steps(sizes, step, counts[part])
    return [_write(steps[key], size, total) for key, size in sizes.items()]


def _count(
    groups: Mapping[str, Mapping[str, int | None]], total: int | None
) -> dict[tuple[str, str], int] | None:
    """Round parts to counts of the last digit of their sum; None if they are not it."""
    sizes = {
        (group, name): size
        for group, parts in groups.items()
        for name, size in parts.items()
    }
    known = {key: size for key, size in sizes.items() if size is not None}
    if total is None or len(known) < len(sizes) or sum(known.values()) != total:
        return None
    factor = _unit(total)[1]
    places = _places(total / factor, factor)
    return _steps(known, factor / 10**places, _half_up(total / factor, places))


def _write(count: int, size: int, total: int) -> str:
    """Write a size, rounded to a count of the last digit of the sum it is part of."""
    unit, factor = _unit(total)
    places = _places(total / factor, factor)
    if count == 0:
        return f"< {1 / 10**places:.{places}f} {unit}" if size else "0 B"
    return f"{count / 10**places:.{places}f} {unit}"


def _steps(
    sizes: Mapping[tuple[str, str], int], step: float, total: int
) -> dict[tuple[str, str], int]:
    """Round sizes to counts of a step, which sum to `total` of them."""
    whole = {key: math.floor(size / step) for key, size in sizes.items()}
    left = total - sum(whole.values())
    by_cut = sorted(sizes, key=lambda key: sizes[key] / step - whole[key])
    for key in by_cut[len(by_cut) - left :] if 0 < left <= len(by_cut) else ():
        whole[key] += 1
    return whole


def _sum(sizes: Iterable[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


def format_duration(seconds: float | None) -> str:
    """Write a length of time: "0.42 s", "4.2 s", "42 s", "4 min 05 s", "2 h 10 min"."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 0:
        return "−" + format_duration(-seconds)
    if seconds < 59.5:
        return (
            f"{_fixed(seconds, 2 if seconds < 0.995 else 1 if seconds < 9.95 else 0)} s"
        )
    whole = _half_up(seconds, 0)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = _half_up(seconds / 60, 0)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{_fixed(minutes / 60 / 24, 1)} days"


def format_rate(per_second: float | None) -> str:
    """Write a rate in bytes per second."""
    return UNKNOWN if per_second is None else f"{format_bytes(per_second)}/s"


def format_share(part: float | None, whole: float | None = 1.0) -> str:
    """Write a share in whole per cent; a dash where it cannot be told."""
    if part is None or not whole:
        return UNKNOWN
    share = 100 * part / whole
    if 0 < share < 1:
        return "< 1 %"
    return f"{_half_up(share, 0)} %"


def format_factor(factor: float | None) -> str:
    """Write how many times as much something is: "0.25 ×", "1.8 ×", "25 ×"."""
    if factor is None or not math.isfinite(factor):
        return UNKNOWN
    return f"{_fixed(factor, 2 if factor < 0.995 else 1 if factor < 9.95 else 0)} ×"


def format_clock(instant: float | None) -> str:
    """Write an instant (Unix time, in seconds) as local time of day."""
    if instant is None:
        return UNKNOWN
    return clocks.strftime("%H:%M:%S", clocks.localtime(instant))


def format_instant(instant: float | None) -> str:
    """Write an instant (Unix time, in seconds) as local date and time of day."""
    if instant is None:
        return UNKNOWN
    return clocks.strftime("%Y-%m-%d %H:%M", clocks.localtime(instant))


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Write a number and what it counts: "1 task", "1,234 tasks"."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def join(parts: Sequence[str]) -> str:
    """Join parts of a sentence: "a", "a and b", "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def plain(text: str, length: int | None = None) -> str:
    """Make a text harmless where it is printed: one line, no escapes, no hidden marks.

    Keys, names and errors are made by users.  Control characters (escape sequences of
    terminals, NUL, bells, line breaks), marks that reverse the direction of writing
    and halves of surrogate pairs are written as "�" or, for white space, as a blank.

    Parameters
    ----------
    length
        Characters that are kept at most; None for all.
    """
    if length is not None and len(text) > length:
        text = f"{text[: length - 1]}…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "\ufffd"
        for letter in text
    )


def inert(value: Any) -> Any:
    """Return a text as one that no terminal obeys and that turns no writing round.

    It keeps its lines and its letters, unlike :func:`plain`; templates hand it all that
    they write.  What is no text, and what is markup already, is returned as it is.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return value if value.isprintable() else _OBEYED.sub("\ufffd", value)


def plain_lines(text: str) -> str:
    """Make each line of a text harmless, as :func:`plain` does one."""
    return "\n".join(plain(line) for line in text.split("\n"))


def short(key: str, length: int = KEY_IN_SENTENCE) -> str:
    """Cut the end off a key that is too long to be read; make it harmless."""
    return plain(key, length)


def with_capital(text: str) -> str:
    """Return a text as a sentence begins: Dask's own letters stay as they are."""
    return text[:1].upper() + text[1:]


def shorten(name: str, length: int = KEY_IN_CELL) -> str:
    """Cut the middle out of a long name, so that both its ends can be read.

    It is made harmless too.
    """
    if len(name) <= length:
        return plain(name)
    tail = (length - 1) // 2
    return plain(f"{name[: length - 1 - tail]}…{name[-tail:]}")


def format_latency(seconds: float) -> str:
    """Write how long one of many quick things took, in seconds: "8 ms", "1.2 s"."""
    if seconds >= 1:
        return format_duration(seconds)
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "under 1 ms"


def format_stored(stored: int, pending: int) -> str:
    """Say how many bytes of outputs lie in the cluster's memory too; empty for none."""
    if not stored and not pending:
        return ""
    said = f"{format_bytes(stored)} of its outputs" if stored else "None of its outputs"
    said += " are stored too" if stored else " is stored yet"
    return said + (f", {format_bytes(pending)} are to be." if pending else ".")


def code(prefix: str) -> str:
    """Set a prefix off from the words around it."""
    return f"`{short(prefix)}`"


def format_line(file: str, line: int | None, function: str, called: str) -> str:
    """Write where something was allocated: "app/model.py:42 in np.concatenate".

    Parameters
    ----------
    file
        End of the file's name; empty where no line of Python allocated it.
    function
        That the line is in, named where it is not known what the line called.
    """
    if not file:
        return "in a thread outside Python"
    place = plain(file, MOST_OF_A_FILE)
    if line is not None:
        place += f":{line}"
    name = called or function.replace(".<locals>", "")
    return f"{place} in {plain(name, MOST_OF_A_NAME)}" if name else place


def _unit(size: float) -> tuple[str, int]:
    for unit, factor in UNITS:
        if size >= factor * ENOUGH_OF_A_UNIT:
            return unit, factor
    return "B", 1


def _places(value: float, factor: int) -> int:
    """Return the places after the point that make three significant digits."""
    if factor == 1 or value >= 99.95:
        return 0
    return 1 if value >= 9.995 else 2


def _half_up(value: float, places: int) -> int:
    """Round half up to a number of places, as a count of the last one.

    Python's own rounding and the browser's differ where a value lies half way.
    """
    return math.floor(value * 10.0**places + 0.5)


def _fixed(value: float, places: int) -> str:
    return f"{_half_up(value, places) / 10**places:.{places}f}"


def _signed(value: float, places: int, unit: str) -> str:
    text = _fixed(abs(value), places)
    if places:
        text = text.rstrip("0").rstrip(".")
    return f"{'−' if value < 0 else ''}{text} {unit}"
