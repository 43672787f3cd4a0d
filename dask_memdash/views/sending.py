"""What a page's document sends to its browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import panel as pn
from bokeh.document import Document
from bokeh.model import Model
from bokeh.models import ImportedStyleSheet
from panel.io.resources import LOCAL_DIST, patch_stylesheet
from panel.io.state import set_curdoc


def hand_out(root: pn.viewable.Viewable, doc: Document) -> Model:
    """Return Panel's model of a view, for a document; let go of when its session ends.

    As Panel's ``server_doc``, which can make nothing but roots; and a layout of Panel's
    takes nothing up later in a session that Panel did not open.
    """
    model = root.get_root(doc)
    root._documents[doc] = model
    doc.on_session_destroyed(root._server_destroy)
    return model


@contextmanager
def in_one(doc: Document) -> Iterator[None]:
    """Send a document's changes in one message, so that no half of them is seen."""
    doc.hold("combine")
    try:
        yield
    finally:
        doc.unhold()


@contextmanager
def together(doc: Document) -> Iterator[None]:
    """Send a document's changes as one at the end, its stylesheets from this server.

    Panel patches the addresses of its own stylesheets only for pages that it hands out
    itself: neither for a session that is made anew when a browser comes back, nor for
    what is added to a page later.  It is told which document this is about, for Bokeh
    names another one from the moment that a callback of any page has raised.
    """
    doc.hold("combine")
    try:
        with set_curdoc(doc), doc.models.freeze():
            yield
        _from_this_server(doc)
    finally:
        doc.unhold()


def _from_this_server(doc: Document) -> None:
    """Do what Panel's ``patch_model_css`` does with each root, in one walk over all.

    What it changes goes to the browser with the models themselves, so it is no event.
    """
    held = list(doc.callbacks._held_events)
    for model in doc.models:
        if isinstance(model, ImportedStyleSheet):
            patch_stylesheet(model, LOCAL_DIST)
    doc.callbacks._held_events = held
