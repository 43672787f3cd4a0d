"""What a page's document sends to its browser: changes in one message.

Bokeh sends a message of its own for every change, and Panel has every text wait for a
turn of its own.  A page that is brought up to date changes twenty things; here they are
one message, which costs one writing, and of which no browser shows a half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import panel as pn
from bokeh.core.serialization import Serializer
from bokeh.document import Document
from bokeh.document.events import DocumentChangedEvent, DocumentPatchedEvent
from bokeh.document.json import PatchJson
from bokeh.model import Model
from bokeh.models import ImportedStyleSheet
from bokeh.protocol.messages.patch_doc import patch_doc
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
    # Panel believes that only sessions of its own pages are connected.
    pn.state._connected[doc] = True
    return model


@contextmanager
def in_one(doc: Document) -> Iterator[None]:
    """Send a document's changes in one message, so that no half of them is seen.

    Panel is told which document this is about, for Bokeh names another one from the
    moment that a callback of any page has raised.
    """
    doc.hold("combine")
    try:
        with set_curdoc(doc):
            yield
    finally:
        session = getattr(doc.session_context, "session", None)
        with _in_one_patch(doc, session):
            doc.unhold()


@contextmanager
def _in_one_patch(doc: Document, session: Any) -> Iterator[None]:
    """Have a session told of a document's changes by one message to each browser."""
    receivers = getattr(doc.callbacks, "_change_callbacks", {})
    if session not in receivers:
        yield
        return
    events: list[DocumentChangedEvent] = []
    tell, receivers[session] = receivers[session], events.append
    try:
        yield
    finally:
        receivers[session] = tell
    patches = []
    for event in events:
        if isinstance(event, DocumentPatchedEvent):
            patches.append(event)
        else:
            event.dispatch(session)
    for connection in list(session._subscribed_connections):
        told = connection is session._current_patch_connection  # it knows its own
        news = [event for event in patches if not (told and event.setter is session)]
        if news:
            message = _patch(doc, news)
            session._pending_writes.append(connection._socket.send_message(message))


def _patch(doc: Document, events: Sequence[DocumentPatchedEvent]) -> Any:
    """Make a message of changes as Bokeh does, but with the arrays within it.

    Bokeh sends each array by itself, in two pieces: a row of the strips is one.
    """
    serializer = Serializer(references=doc.models.synced_references, deferred=False)
    content = PatchJson(events=serializer.encode(list(events)))
    doc.models.flush_synced(lambda model: not serializer.has_ref(model))
    return patch_doc(patch_doc.create_header(), {}, content)


@contextmanager
def together(doc: Document) -> Iterator[None]:
    """Send a document's changes as one at the end, its stylesheets from this server.

    Panel patches the addresses of its own stylesheets only for pages that it hands out
    itself: neither for a session that is made anew when a browser comes back, nor for
    what is added to a page later.
    """
    with in_one(doc):
        with doc.models.freeze():
            yield
        _from_this_server(doc)


def _from_this_server(doc: Document) -> None:
    """Do what Panel's ``patch_model_css`` does with each root, in one walk over all.

    What it changes goes to the browser with the models themselves, so it is no event.
    """
    held = list(doc.callbacks._held_events)
    for model in doc.models:
        if isinstance(model, ImportedStyleSheet):
            patch_stylesheet(model, LOCAL_DIST)
    doc.callbacks._held_events = held
