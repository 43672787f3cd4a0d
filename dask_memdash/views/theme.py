"""One palette, one set of words and one way to write numbers, for every view.

The parts of memory come in families: storage is blue, execution is orange, overhead
is grey.  The colours are told apart by people with any of the common kinds of colour
blindness, on a light and on a dark ground; hatching and words say the same again.
``static/memdash.css`` holds the same colours (a test compares them) and everything
else that can be said in CSS, the colours of axes and texts in charts included.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from bokeh.models import AdaptiveTicker, CustomJSHover, CustomJSTickFormatter
from bokeh.plotting import figure
from dask.utils import format_bytes

from dask_memdash.views import words


@dataclass(frozen=True, slots=True)
class Part:
    """How a part of memory is drawn and explained."""

    #: Name in the store's breakdown.
    name: str
    label: str
    #: 'storage', 'execution' or 'overhead'.
    family: str
    colour: str
    #: Bokeh hatch pattern, a single blank for none.
    hatch: str
    #: One short clause.
    brief: str
    #: One or two sentences for whoever hovers over it.
    words: str


#: The parts that sum to the process, from the axis outwards.
PARTS = (
    Part(
        "managed",
        "managed",
        "storage",
        "#2f74c0",
        " ",
        "outputs kept in memory",
        words.PARTS["managed"],
    ),
    Part(
        "transfer",
        "in transfer",
        "storage",
        "#63b3ed",
        " ",
        "shuffle and network buffers",
        words.PARTS["transfer"],
    ),
    Part(
        "executing",
        "executing",
        "execution",
        "#e8871e",
        " ",
        "used by running tasks",
        words.PARTS["executing"],
    ),
    Part(
        "retained",
        "retained",
        "overhead",
        "#a3adb8",
        "right_diagonal_line",
        "freed, kept by the allocator",
        words.PARTS["retained"],
    ),
    Part(
        "baseline",
        "baseline",
        "overhead",
        "#7b8794",
        " ",
        "interpreter, modules, leaks",
        words.PARTS["baseline"],
    ),
)

#: Outputs that lie on disk; drawn apart, for they are no part of the process.
SPILLED = Part(
    "spilled",
    "spilled",
    "storage",
    "#2f74c0",
    "left_diagonal_line",
    "outputs moved to disk",
    words.PARTS["spilled"],
)

#: Colour of deaths and of the limit at which a worker is terminated.
ALARM = "#c8372d"
#: Colour of pauses and of the other thresholds.
CAUTION = "#8a5fbf"
#: Colour of the marks of peaks, upon and beside the bars of execution.
PEAK = "#a3540a"
#: How full a process is, from transparent to opaque; none of the parts' colours.
FULL = "#b8327f"
#: Readable on a light and on a dark ground where CSS has no say.
NEUTRAL = "#7c8794"

#: The kinds in which a worker died.
DEATHS = ("terminated", "oom-killed", "killed", "crashed", "exited", "lost")

UNKNOWN = "–"


def size(value: int | float | None) -> str:
    """Write bytes for people, as Dask does; a dash for what is not known."""
    if value is None:
        return UNKNOWN
    if value < 0:
        return "−" + format_bytes(int(-value))
    return format_bytes(int(value))


def percent(part: float | None, whole: float | None) -> str:
    """Write a share in whole per cent; a dash for what is not known."""
    if part is None or not whole:
        return UNKNOWN
    share = 100 * part / whole
    if 0 < share < 1:
        return "< 1 %"
    return f"{share:.0f} %"


def duration(seconds: float | None) -> str:
    """Write a length of time for people."""
    if seconds is None:
        return UNKNOWN
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Write a number and what it counts."""
    noun = singular if number == 1 else plural or singular + "s"
    return f"{number:,} {noun}"


def shorten(text: str, length: int = 28) -> str:
    """Cut the middle out of a long name, so that both its ends can be read."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


def clock(instant: float | None) -> str:
    """Write an instant as the scheduler's local time of day."""
    if instant is None:
        return UNKNOWN
    return time.strftime("%H:%M:%S", time.localtime(instant))


def nice_ceiling(value: float) -> float:
    """Return a round bound above a size, so that an axis seldom changes."""
    step = 2.0**16
    while step * 12 < value:
        step *= 2
    return step * max(1, -(-value // step))


def bytes_ticker() -> AdaptiveTicker:
    """Make ticks that fall on round numbers of KiB, MiB and GiB."""
    return AdaptiveTicker(
        base=1024,
        mantissas=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
        desired_num_ticks=5,
        num_minor_ticks=0,
    )


def bytes_formatter() -> CustomJSTickFormatter:
    """Make a formatter of ticks in bytes; the work is in ``static/formats.js``."""
    return CustomJSTickFormatter(code="return memdash.ticks(tick)")


def bytes_hover() -> CustomJSHover:
    """Make a formatter of bytes in tooltips; the work is in ``static/formats.js``."""
    return CustomJSHover(code="return memdash.bytes(value)")


def clock_hover() -> CustomJSHover:
    """Make a formatter of instants in tooltips: the browser's local time of day."""
    return CustomJSHover(code="return memdash.clock(value)")


def name_axis(axis: Any, text: str) -> None:
    """Write beneath an axis what it counts."""
    axis.axis_label = text
    axis.axis_label_text_color = NEUTRAL
    axis.axis_label_text_font = "system-ui, sans-serif"
    axis.axis_label_text_font_size = "12px"
    axis.axis_label_text_font_style = "normal"


def chart(name: str, height: int, **options: Any) -> figure:
    """Make an empty chart in the style of the page.

    Every chart stretches to its section's width and keeps its height.  It has no
    toolbar, and the wheel belongs to the page.  The browser finds it by its name.
    """
    plot = figure(
        name=f"memdash-chart-{name}",
        height=height,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_alpha=0,
        min_border=0,
        output_backend="canvas",
        css_classes=["md-chart"],
        **options,
    )
    for axis in plot.axis:
        axis.axis_line_alpha = 0
        axis.major_tick_line_alpha = 0
        axis.minor_tick_line_alpha = 0
        axis.major_label_text_color = NEUTRAL
        axis.major_label_text_font = "system-ui, sans-serif"
        axis.major_label_text_font_size = "12px"
    for grid in plot.grid:
        grid.grid_line_color = NEUTRAL
        grid.grid_line_alpha = 0.25
    return plot
