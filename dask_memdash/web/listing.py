"""The dashboard's list of single charts, ``/individual-plots.json``, with ours in it.

JupyterLab's Dask extension reads it.  The host makes it of its own Bokeh application
alone, so the handler that answers is given a subclass that adds to the answer; the
routes themselves stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tornado import web
from tornado.routing import Rule, RuleRouter

#: Name of the host's handler.
HANDLER = "IndividualPlots"


def extend(router: web.Application, paths: Sequence[str]) -> list[Callable[[], None]]:
    """Add pages to the list; give what takes them out again.

    Parameters
    ----------
    router
        The scheduler's HTTP application.
    paths
        Of the pages, relative to the dashboard's prefix.
    """
    listed = {_title(path): f"/{path}" for path in paths}
    undo = []
    for rule in rules(router):
        target = rule.target
        if isinstance(target, type) and target.__name__ == HANDLER:
            rule.target = _extended(target, listed)
            undo.append(_restorer(rule, rule.target, target))
    return undo


def _title(path: str) -> str:
    """Name a page as the host does."""
    return path.replace("-", " ").title()


def rules(router: web.Application) -> Iterator[Rule]:
    """Return every rule that leads to a handler, once."""
    waiting: list[RuleRouter] = [router.default_router, router.wildcard_router]
    seen = {id(known) for known in waiting}
    while waiting:
        for rule in waiting.pop().rules:
            if isinstance(rule.target, RuleRouter):
                if id(rule.target) not in seen:
                    seen.add(id(rule.target))
                    waiting.append(rule.target)
            else:
                yield rule


def _extended(handler: type, listed: dict[str, str]) -> type:
    """Make a handler that answers as another does, and lists more."""

    def write(self: Any, chunk: Any) -> None:
        more = isinstance(chunk, dict) and "error" not in chunk
        handler.write(self, {**chunk, **listed} if more else chunk)  # type: ignore[attr-defined]

    return type(handler.__name__, (handler,), {"write": write})


def _restorer(rule: Rule, ours: Any, before: Any) -> Callable[[], None]:
    def restore() -> None:
        if rule.target is ours:
            rule.target = before

    return restore
