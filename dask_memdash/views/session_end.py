"""How a page's document ends: whole, and without a collection of garbage of its own.

Bokeh collects garbage once as a document is destroyed and once more where anything was
to be called then: half a second of the scheduler's loop for each page that is closed,
and half a minute when fifty are closed at once.  Documents of ours end without either;
who serves them has garbage collected once, when no more have ended for a while.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from bokeh.document import Document


def ends_quietly(doc: Document, ended: Callable[[], object]) -> None:
    """Have a document end without collecting garbage.

    Parameters
    ----------
    ended
        Called when it has.
    """
    doc.destroy = functools.partial(_end, doc, ended)


def _end(doc: Document, ended: Callable[[], object], session: Any) -> None:
    """Do what Bokeh's ``Document.destroy`` does, but for the collection."""
    context = doc.session_context
    callbacks = list(doc.callbacks.session_destroyed_callbacks)
    doc.callbacks.session_destroyed_callbacks.clear()  # or Bokeh collects after them
    for callback in callbacks:
        callback(context)
    doc.remove_on_change(session)
    doc._roots = []
    doc.template_variables.clear()
    doc._session_context = None
    doc.callbacks.destroy()
    doc.models.destroy()
    doc.modules.destroy()
    del doc.destroy
    ended()
