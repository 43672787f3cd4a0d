"""The time axis: one range for all charts over time of an open page.

It follows the newest reading, over the length that the reader chose, until the reader
zooms into it; then it stands still until asked to follow again.  One cursor, and one
mark at the moment that is chosen, are in all charts: a click chooses an instant, a drag
a span.  Instants are milliseconds in the range, as Bokeh has them, and seconds
everywhere else.
"""

from __future__ import annotations

from typing import Any

from bokeh.events import RangesUpdate
from bokeh.models import (
    BoxAnnotation,
    BoxSelectTool,
    BoxZoomTool,
    CrosshairTool,
    CustomJS,
    CustomJSTickFormatter,
    DatetimeTicker,
    Range1d,
    Span,
)

from dask_memdash.store.base import Store
from dask_memdash.views import theme

#: Points of a history that are asked for at once.
POINTS = 300

#: Least length of the axis, in seconds, so that a young cluster's does not race.
LEAST = 60.0

#: Width kept for the labels of sizes, so that charts stand beneath each other exactly,
#: in CSS pixels.
LEFT = 72


class TimeAxis:
    """The time axis of one page.

    Parameters
    ----------
    drag
        What a drag does: 'choose' a moment, which takes the page around the charts,
        'zoom', or 'nothing' where no server follows.
    """

    def __init__(self, drag: str = "choose") -> None:
        self._drag = drag
        self.range = Range1d(0, LEAST * 1000)
        #: Length in seconds, None for all there is.
        self.window: float | None = None
        #: Whether the reader has zoomed: then it does not follow.
        self.zoomed = False
        #: How often that happened.
        self.zooms = 0
        #: Grows when time itself was moved: nothing drawn before holds any more.
        self.epoch = 0
        #: The line at the pointer, in all charts at once.
        self.cursor = Span(
            name="memdash-cursor",
            dimension="height",
            line_color=theme.NEUTRAL,
            line_alpha=0.6,
            level="overlay",
        )
        #: The moment that is chosen, marked in each chart.
        self.chosen: tuple[float, float] | None = None
        self._marks: list[tuple[Span, BoxAnnotation]] = []

    @property
    def start(self) -> float:
        """Earliest instant drawn."""
        return float(self.range.start) / 1000

    @property
    def end(self) -> float:
        """Latest instant drawn."""
        return float(self.range.end) / 1000

    @property
    def subject(self) -> tuple[Any, ...]:
        """Which stretch of time is shown; while it is the same, points are added."""
        shown = (self.start, self.end) if self.zoomed else (self.window,)
        return (*shown, self.epoch)

    def since(self, newest: float) -> float | None:
        """Return the instant from which readings are needed, None for all."""
        if self.zoomed:
            return self.start - LEAST
        return None if self.window is None else newest - self.window - LEAST

    def show(self, window: float | None) -> None:
        """Follow the newest reading over this length."""
        self.window = window
        self.zoomed = False

    def follow(self, first: float, newest: float) -> None:
        """Move to the newest reading, unless the reader has zoomed."""
        if self.zoomed:
            return
        start = first if self.window is None else newest - self.window
        start = min(start, newest - LEAST)
        self.range.update(start=start * 1000, end=newest * 1000)

    def keep_up(self, store: Store) -> None:
        """Follow a store: from the first reading that is kept to the newest."""
        times = store.history(None, None, POINTS)["time"]
        newest = store.cluster()["time"]
        first = times[0] if times else newest
        self.follow(first, max(newest, first))

    def put_under(self, plot: Any) -> None:
        """Make it the horizontal axis of a chart."""
        plot.x_range = self.range
        plot.xgrid.visible = False
        plot.min_border_left = LEFT
        plot.xaxis.formatter = CustomJSTickFormatter(code="return memdash.clock(tick)")
        plot.xaxis.ticker = DatetimeTicker(desired_num_ticks=8, num_minor_ticks=0)
        plot.add_tools(CrosshairTool(overlay=self.cursor))
        if self._drag == "choose":
            self._choose_on(plot)
        elif self._drag == "zoom":
            zoom = BoxZoomTool(dimensions="width")
            plot.add_tools(zoom)
            plot.toolbar.active_drag = zoom
            plot.on_event(RangesUpdate, self._zoomed)

    def choose(self, at: tuple[float, float] | None) -> None:
        """Mark another moment, or none."""
        self.chosen = at
        for span, box in self._marks:
            self._mark(span, box)

    def zoom(self, start: float, end: float) -> None:
        """Stand still over a stretch of time."""
        if end > start:
            self.zoomed = True
            self.zooms += 1
            self.range.update(start=start * 1000, end=end * 1000)

    def _zoomed(self, event: RangesUpdate) -> None:
        if event.x0 is not None and event.x1 is not None:
            self.zoom(event.x0 / 1000, event.x1 / 1000)

    def _choose_on(self, plot: Any) -> None:
        """Have a click on a chart choose an instant, and a drag a span."""
        span = Span(
            dimension="height",
            line_color=theme.CHOSEN,
            line_width=2,
            visible=False,
            level="overlay",
        )
        box = BoxAnnotation(
            fill_color=theme.CHOSEN,
            fill_alpha=0.12,
            line_color=theme.CHOSEN,
            line_alpha=1,
            line_width=2,
            visible=False,
        )
        plot.add_layout(box)
        plot.add_layout(span)
        self._marks.append((span, box))
        self._mark(span, box)
        drag = BoxSelectTool(dimensions="width", renderers=[], continuous=False)
        drag.overlay.update(
            fill_color=theme.CHOSEN, fill_alpha=0.08, line_color=theme.CHOSEN
        )
        plot.add_tools(drag)
        plot.toolbar.active_drag = drag
        told = {"range": self.range}
        plot.js_on_event(
            "tap", CustomJS(args=told, code="memdash.tapped(cb_obj.x, range)")
        )
        plot.js_on_event(
            "selectiongeometry",
            CustomJS(args=told, code="memdash.dragged(cb_obj.geometry, range)"),
        )

    def _mark(self, span: Span, box: BoxAnnotation) -> None:
        start, end = self.chosen or (0.0, 0.0)
        there, is_span = self.chosen is not None, end > start
        span.update(location=start * 1000, visible=there and not is_span)
        box.update(left=start * 1000, right=end * 1000, visible=there and is_span)
