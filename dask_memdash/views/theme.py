"""How charts are drawn: colours of marks and lines, axes, ticks and tooltips.

The colours of the parts of memory are the glossary's (:mod:`dask_memdash.terms`):
storage is blue, execution is orange, overhead is grey.  People with any of the common
kinds of colour blindness can tell them apart, on a light and on a dark ground; patterns
and labels say the same again.  ``static/memdash.css`` holds the same colours (a test
compares them) and everything else that can be said in CSS.
"""

from __future__ import annotations

from typing import Any

from bokeh.models import (
    AdaptiveTicker,
    ColumnDataSource,
    CustomJSHover,
    CustomJSTickFormatter,
)
from bokeh.plotting import figure

from dask_memdash.terms import PARTS

#: Colour of deaths and of the limit at which a worker is terminated.
ALARM = "#c8372d"
#: Colour of pauses and of the other thresholds.
CAUTION = "#8a5fbf"
#: Colour of the marks of peaks, upon and beside the bars of execution.
PEAK = "#a3540a"
#: The moment that is chosen, in all charts over time.
CHOSEN = "#0e8a8a"
#: How full a process is, from transparent to opaque; none of the parts' colours.
FULL = "#b8327f"
#: Readable on a light and on a dark ground where CSS has no say.
NEUTRAL = "#7c8794"
#: White words are readable on it, which they are not on the former.
NEUTRAL_GROUND = "#5b6672"


def nice_ceiling(value: float) -> float:
    """Return a round bound above a size, so that an axis seldom changes."""
    step = 16.0 if value > 0 else 2.0**16  # there are graphs of a hundred bytes
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
    return CustomJSTickFormatter(code="return memdash.tick(tick, ticks)")


def bytes_hover() -> CustomJSHover:
    """Make a formatter of bytes in tooltips; the work is in ``static/formats.js``."""
    return CustomJSHover(code="return memdash.bytes(value)")


def part_hover(source: ColumnDataSource, part: str) -> CustomJSHover:
    """Make a formatter of one part in tooltips that show the process as well.

    Parameters
    ----------
    source
        Has a column for each part, and ``process``, their sum.
    part
        Name of the part.
    """
    return CustomJSHover(
        args={"source": source, "names": list(PARTS), "name": part},
        code="return memdash.part(source, special_vars.index, names, name)",
    )


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


def plain_axis(axis: Any) -> Any:
    """Draw of an axis its labels alone; returns it."""
    axis.axis_line_alpha = 0
    axis.major_tick_line_alpha = 0
    axis.minor_tick_line_alpha = 0
    axis.major_label_text_color = NEUTRAL
    axis.major_label_text_font = "system-ui, sans-serif"
    axis.major_label_text_font_size = "12px"
    return axis


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
        plain_axis(axis)
    for grid in plot.grid:
        grid.grid_line_color = NEUTRAL
        grid.grid_line_alpha = 0.25
    return plot
