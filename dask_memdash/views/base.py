"""What every view has in common, and the templates that views write HTML with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import panel as pn

from dask_memdash.store.base import Store
from dask_memdash.views import theme
from dask_memdash.views.shared import SharedStore

T = TypeVar("T")


@cache
def environment() -> jinja2.Environment:
    """Give the environment of the templates beside this module; it always escapes."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["size"] = theme.size
    env.filters["duration"] = theme.duration
    env.filters["clock"] = theme.clock
    env.filters["shorten"] = theme.shorten
    env.globals.update(
        percent=theme.percent,
        count=theme.count,
        kinds=theme.KINDS,
        methods=theme.METHODS,
        unknown=theme.UNKNOWN,
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
        if text != self.pane.object:
            self.pane.object = text


class View(ABC):
    """A part of the page that follows a store.

    Parameters
    ----------
    store
        What it shows; read in :meth:`draw` alone.
    """

    #: What is put on the page, made once.
    root: pn.viewable.Viewable

    def __init__(self, store: Store) -> None:
        self.store = store
        self._drawn: int | None = None

    def update(self) -> bool:
        """Draw what is new; give whether there was anything.

        Nothing happens while ``store.version`` stands.
        """
        version = self.store.version
        if version == self._drawn:
            return False
        self.draw()
        self._drawn = version
        return True

    def invalidate(self) -> None:
        """Let the next :meth:`update` draw, whatever the version is."""
        self._drawn = None

    def once(self, question: str, answer: Callable[[], T]) -> T:
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
