"""A chart of horizontal bars, one row for each worker or prefix.

Names stand on the left axis, figures on the right one, both read from columns of the
chart's source by ``static/formats.js``, as plain text: neither HTML nor TeX in a name
is ever interpreted.  Rows are numbered from 0 at the top.
"""

from __future__ import annotations

from typing import Any

from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    FixedTicker,
    GlyphRenderer,
    HBar,
    LinearAxis,
    Range1d,
    TapTool,
)

from dask_memdash.terms import Term
from dask_memdash.views import theme

#: Height of a row and of what is beneath the rows, in CSS pixels.
ROW = 30
FOOT = 34

#: Width kept free for names and for figures, so that nothing jumps, in CSS pixels.
LEFT = 172
RIGHT = 176


class RowChart:
    """Bars in rows, without bars yet.

    Parameters
    ----------
    name
        Name of the chart.
    source
        Has the columns ``label`` and ``figures``, one entry for each row.
    """

    def __init__(self, name: str, source: ColumnDataSource) -> None:
        self._source = source
        self._x = Range1d(0, 2**30)
        self._y = Range1d(0.5, -0.5)
        plot = theme.chart(name, ROW + FOOT, x_range=self._x, y_range=self._y)
        plot.ygrid.visible = False
        plot.xaxis.ticker = theme.bytes_ticker()
        plot.xaxis.formatter = theme.bytes_formatter()
        plot.xgrid.ticker = plot.xaxis[0].ticker
        plot.min_border_left = LEFT
        plot.min_border_right = RIGHT
        names = plot.yaxis[0]
        figures = LinearAxis(
            axis_line_alpha=0,
            major_tick_line_alpha=0,
            minor_tick_line_alpha=0,
            major_label_text_color=theme.NEUTRAL,
            major_label_text_font="ui-monospace, monospace",
            major_label_text_font_size="12px",
        )
        plot.add_layout(figures, "right")
        self._ticker = FixedTicker(ticks=[0], minor_ticks=[])
        for axis, column in ((names, "label"), (figures, "figures")):
            axis.ticker = self._ticker
            axis.formatter = CustomJSTickFormatter(
                args={"source": source, "column": column},
                code="return memdash.label(source, column, tick)",
            )
        self.figure = plot

    def fit(self, rows: int, widest: float) -> None:
        """Set the size for a number of rows and the longest bar, in bytes."""
        rows = max(rows, 1)
        ticks = list(range(rows))
        if self._ticker.ticks != ticks:
            self._ticker.ticks = ticks
            self._y.start = rows - 0.5
            self.figure.height = rows * ROW + FOOT
        self._x.end = theme.nice_ceiling(widest * 1.02)

    def lead(self) -> None:
        """Have a click on a row open what it is about: its ``link`` in the source."""
        lead(self.figure, self._source)

    def bars(
        self, source: ColumnDataSource, part: Term, **options: Any
    ) -> GlyphRenderer:
        """Add the bars of a part; give their renderer.

        The source has the columns ``from_<part>`` and ``to_<part>``.
        """
        bar = HBar(
            left=f"from_{part.name}",
            right=f"to_{part.name}",
            fill_color=part.colour,
            line_alpha=0,
            hatch_pattern=part.pattern,
            hatch_color="#ffffff" if part.name != "spilled" else part.colour,
            hatch_alpha=0.4 if part.name != "spilled" else 0.8,
            hatch_scale=8,
            fill_alpha=0.3 if part.name == "spilled" else 1.0,
            **options,
        )
        return self.figure.add_glyph(source, bar)


def lead(
    figure: Any, source: ColumnDataSource, rows: ColumnDataSource | None = None
) -> None:
    """Have a click on what a chart draws of a source open its column ``link``.

    Nothing looks chosen afterwards: another part of the page shows what is.

    Parameters
    ----------
    rows
        Rows on which that lies, with a ``link`` of their own: a click beside it opens
        them.
    """
    sources = [source] if rows is None else [source, rows]
    drawn = [
        one for one in figure.renderers if getattr(one, "data_source", None) in sources
    ]
    for one in drawn:
        one.nonselection_glyph = one.selection_glyph = None
    figure.add_tools(  # one for all: of several, but one is active
        TapTool(
            renderers=drawn,
            callback=CustomJS(
                args={"rows": rows},
                code="memdash.go?.(cb_data.source, cb_data.source === rows)",
            ),
        )
    )
