"""What every view has in common, and the templates that views write HTML with."""

from __future__ import annotations

import html
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import jinja2
import panel as pn
import param
from bokeh.models import ColumnDataSource

from dask_memdash import terms, text
from dask_memdash.store.base import Store
from dask_memdash.views.browser_state import Shown
from dask_memdash.views.shared import SharedStore
from dask_memdash.views.tabular import address
from dask_memdash.views.time_axis import TimeAxis

T = TypeVar("T")

#: Wraps a function, given what it is in words, so that it never raises.
Guard = Callable[[Callable[..., Any], str], Callable[..., Any]]

#: Processor time from which drawing a view was long, in seconds, and how many times as
#: long the view then rests.
LONG = 0.05
REST = 20.0


@cache
def environment() -> jinja2.Environment:
    """Return the environment of the templates beside this module; it always escapes."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=text.inert,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["size"] = text.format_bytes
    env.filters["duration"] = text.format_duration
    env.filters["factor"] = text.format_factor
    env.filters["clock"] = text.format_clock
    env.filters["shorten"] = text.shorten
    env.filters["with_capital"] = text.with_capital
    env.globals.update(
        percent=text.format_share,
        count=text.count,
        parts=text.format_parts,
        address=address,
        terms=terms,
        drawn_parts=lambda sizes: {name: sizes.get(name) for name in terms.PARTS},
        drawn_terms=(*terms.PARTS.values(), terms.BESIDE["spilled"]),
        other_terms=(
            *(term for term in terms.BESIDE.values() if term.name != "spilled"),
            *terms.STORING.values(),
            *terms.CONCEPTS.values(),
        ),
        label=terms.label,
        sentence=terms.sentence,
        unknown=text.UNKNOWN,
    )
    return env


def tooltip(
    rows: Sequence[tuple[str, str]],
    *,
    head: str = "",
    words: str = "",
    swatch: str = "",
) -> str:
    """Write what a hover shows; Bokeh fills in and escapes the columns (``@{name}``).

    Parameters
    ----------
    rows
        Labels and values, the latter with columns.
    head
        First line.
    words
        Explanation beneath.
    swatch
        Colour that stands before the first line.
    """
    template = environment().get_template("tooltip.html")
    return template.render(rows=rows, head=head, words=words, swatch=swatch)


class Text:
    """A piece of HTML that a template writes, changed in place.

    Parameters
    ----------
    template
        Name of the template.
    stylesheet
        URL of the page's stylesheet.
    css_classes
        Classes of the element around it.
    """

    def __init__(
        self, template: str, stylesheet: str, css_classes: list[str] | None = None
    ) -> None:
        self._template = environment().get_template(template)
        self.pane = pn.pane.HTML(
            "",
            sizing_mode="stretch_width",
            margin=0,
            css_classes=css_classes or [],
            stylesheets=[stylesheet],
        )

    def write(self, **values: Any) -> None:
        """Fill the template in; the browser hears of it only if the text differs."""
        text = self._template.render(**values)
        if text == self.pane.object:
            return
        # Panel would work out all properties of its models anew for every text.
        with param.parameterized.discard_events(self.pane):
            self.pane.object = text
        for model, _ in self.pane._models.values():
            model.text = html.escape(text)


def sync(source: ColumnDataSource, data: Mapping[str, Sequence[Any]]) -> None:
    """Bring a source's columns up to date; the browser hears of what differs alone.

    The columns are copied: what several pages share must not be patched in place.
    """
    old = source.data
    length = len(next(iter(data.values()), ()))
    if old.keys() != data.keys() or len(next(iter(old.values()), ())) != length:
        source.data = {name: list(column) for name, column in data.items()}
        return
    patches = {}
    for name, column in data.items():
        before = old[name]
        changed = [
            (i, value) for i, value in enumerate(column) if _differs(before[i], value)
        ]
        if changed:
            patches[name] = changed
    if sum(map(len, patches.values())) * 2 > length * len(data):
        source.data = {name: list(column) for name, column in data.items()}
    elif patches:
        source.patch(patches)


def _differs(before: Any, value: Any) -> bool:
    """Say whether a cell has to be sent again: NaN (not known) stays what it was."""
    both_unknown = before != before and value != value
    return bool(before != value) and not both_unknown


@dataclass(slots=True)
class Context:
    """What the views of one open page share."""

    #: URL of the page's stylesheet, relative to the page.
    stylesheet: str
    #: What the browser shows, as it told last.
    shown: Shown = field(default_factory=Shown)
    #: The time axis of all charts over time.
    axis: TimeAxis = field(default_factory=TimeAxis)
    #: Whether a browser tells what is done to the charts; none does in a report.
    live: bool = True
    #: Whether a view has put off what is new, for it took long.
    resting: bool = False
    #: Wraps what a browser calls, so that it never raises.
    guarded: Guard = lambda function, where: function
    #: Sources of the tables, by name, which are there before their views are made.
    tables: dict[str, ColumnDataSource] = field(default_factory=dict)
    #: Sources of their rows of totals.
    totals: dict[str, ColumnDataSource] = field(default_factory=dict)


class View(ABC):
    """A part of the page that follows a store.

    Parameters
    ----------
    store
        What it shows; read in :meth:`draw` alone.
    context
        What it shares with the other views of its page.
    """

    #: What is put on the page, made once.
    root: pn.viewable.Viewable

    def __init__(self, store: Store, context: Context) -> None:
        self.store = store
        self.context = context
        self._drawn: tuple[Any, ...] | None = None
        self._rests_until = 0.0

    @property
    def shown(self) -> Shown:
        """What the browser shows."""
        return self.context.shown

    def update(self) -> bool:
        """Draw what is new; give whether there was anything.

        Nothing happens while ``store.version`` and what the browser shows stand.  A
        view that took long to draw rests before it follows the store again, so that
        no cluster is too large for its scheduler's loop.
        """
        asked = (self.shown, self.context.axis.zooms)
        now = (self.store.version, asked)
        if now == self._drawn:
            return False
        resting = time.monotonic() < self._rests_until
        if resting and self._drawn is not None and self._drawn[1] == asked:
            self.context.resting = True
            return False
        start = time.thread_time()
        self.draw()
        took = time.thread_time() - start
        if took > LONG:
            self._rests_until = time.monotonic() + REST * took
        self._drawn = now
        return True

    def once(self, question: Hashable, answer: Callable[[], T]) -> T:
        """Work something out once for all pages that show the same version.

        Only what depends on the store alone may be had from here, and nobody may
        change it.
        """
        if isinstance(self.store, SharedStore):
            return self.store.remember(question, answer)
        return answer()

    @abstractmethod
    def draw(self) -> None:
        """Bring the models up to date with the store, in place."""


class TextView(View):
    """A view that is the text of one template, of the name :attr:`template`.

    Parameters
    ----------
    store
        What it shows.
    context
        What it shares with the other views of its page.
    """

    template: ClassVar[str]

    def __init__(self, store: Store, context: Context) -> None:
        super().__init__(store, context)
        #: What :meth:`View.draw` writes.
        self.about = Text(self.template, context.stylesheet)
        self.root = pn.Column(self.about.pane, sizing_mode="stretch_width", margin=0)
