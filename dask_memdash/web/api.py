"""The JSON API: handlers that parse, ask the store and write what it says.

Read-only, under ``<prefix>/memdash/api/``.  Every answer is strict JSON (no NaN)
with ``Cache-Control: no-store``; every error, whatever its status, is
``{"error": "one sentence"}``, written by :meth:`JSONHandler.write_error` alone.  The
shapes are those of the store; nothing is worked out here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from tornado import web

from dask_memdash.boundary import Boundary
from dask_memdash.errors import (
    UnknownFailureError,
    UnknownGraphError,
    UnknownIncidentError,
    UnknownWorkerError,
)
from dask_memdash.store.all_rows import all_rows
from dask_memdash.store.base import Store
from dask_memdash.text import plain, short
from dask_memdash.web import schema as shapes
from dask_memdash.web.query import BadRequestError, Query
from dask_memdash.web.readonly import METHODS, ReadOnly
from dask_memdash.web.turns import Turns, gone
from dask_memdash.web.what_if import what_if, would_have_lived

#: Most points of a history that one request may ask for.
MAX_POINTS = 10_000

#: What is said of a path that no route matches.
NOTHING_HERE = "there is nothing at this path"

#: What a store raises for an id or an address that it does not know.
NOT_FOUND = (
    UnknownFailureError,
    UnknownGraphError,
    UnknownIncidentError,
    UnknownWorkerError,
)

#: Characters of one text in an answer; users make keys and errors of any length.
MAX_TEXT = 4000

#: Most requests that wait for their turn, and what is said to one too many.
MOST_WAITING = 500
TOO_MANY = "too many requests wait for an answer: ask again in a few seconds"

Answer = Callable[..., Any]


def schema(store: Store, query: Query) -> Any:
    """Answer ``schema.json``: what every answer looks like."""
    query.accept()
    return shapes.schema()


def cluster(store: Store, query: Query) -> Any:
    """Answer ``cluster``."""
    query.accept()
    return store.cluster()


def workers(store: Store, query: Query) -> Any:
    """Answer ``workers``."""
    return store.workers(*query.slice())


def prefixes(store: Store, query: Query) -> Any:
    """Answer ``prefixes``: with what belongs to no task, largest first."""
    return all_rows(store, *query.slice())


def history(store: Store, query: Query) -> Any:
    """Answer ``history``: of the cluster, or of the worker that the query names."""
    query.accept("worker", "since", "points")
    points = query.natural("points", 300)
    if not points or points > MAX_POINTS:
        raise BadRequestError(f"points must be from 1 to {MAX_POINTS}")
    return store.history(query.text("worker"), query.instant("since"), points)


def limits(store: Store, query: Query) -> Any:
    """Answer ``limits``: the audit of the workers' memory limits, worst first."""
    return store.limits(*query.slice())


def order(store: Store, query: Query) -> Any:
    """Answer ``order``: the graphs against their own order, newest first."""
    return store.order(*query.slice())


def graph(store: Store, query: Query, graph_id: str) -> Any:
    """Answer ``order/<id>``; with a position, what was held there and for whom."""
    query.accept("position")
    position = query.natural("position")
    if position is None:
        return store.graph(graph_id)
    return store.order_point(graph_id, position)


def incidents(store: Store, query: Query) -> Any:
    """Answer ``incidents``, newest first."""
    return store.incidents(*query.slice())


def incident(store: Store, query: Query, incident_id: str) -> Any:
    """Answer ``incidents/<id>``."""
    query.accept()
    return store.incident(incident_id)


def failures(store: Store, query: Query) -> Any:
    """Answer ``failures``, newest first."""
    return store.failures(*query.slice())


def failure(store: Store, query: Query, failure_id: str) -> Any:
    """Answer ``failures/<id>``."""
    query.accept()
    return store.failure(failure_id)


#: What may be wrong with an answer as it was written: a text that is long, or half of
#: a surrogate pair (the escape of a whole one is rare enough to be looked at too).
_SUSPICIOUS = re.compile(rf'"[^"]{{{MAX_TEXT},}}"|\\ud[89a-f]')


def _decent(value: Any) -> Any:
    """Copy a value with ``None`` for what JSON has no number for, texts cut."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_text(str(key)): _decent(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_decent(item) for item in value]
    return value


def _text(value: str) -> str:
    """Return a text that every reader of JSON takes, and no longer than is read."""
    whole = value.encode("utf-8", "replace").decode()
    return short(whole, MAX_TEXT)


def encode(value: Any) -> str:
    """Write a value as strict JSON.

    Numbers that JSON lacks become ``null``, and a text is cut to `MAX_TEXT`.
    """
    try:
        written = json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_decent(value), allow_nan=False)
    if _SUSPICIOUS.search(written):
        return json.dumps(_decent(value), allow_nan=False)
    return written


def respond(
    store: Store, answer: Answer, arguments: Mapping[str, str], path: tuple[str, ...]
) -> tuple[int, str]:
    """Ask the store; give the status and the body in JSON, or what is wrong."""
    try:
        return HTTPStatus.OK, encode(answer(store, Query(arguments), *path))
    except BadRequestError as error:
        return HTTPStatus.BAD_REQUEST, str(error)
    except NOT_FOUND as error:
        return HTTPStatus.NOT_FOUND, str(error)


def ask(store: Store, path: str, arguments: Mapping[str, str]) -> tuple[int, str]:
    """Answer a question that comes some other way than HTTP, with the same words.

    Parameters
    ----------
    path
        Beneath ``api/``, such as ``incidents/3``.
    arguments
        What the query would hold.

    Returns
    -------
    tuple of int and str
        Status as in HTTP, and the body in JSON, or in words what is wrong.
    """
    for pattern, answer in routes:
        match = re.fullmatch(pattern, path)
        if match is not None:
            return respond(store, answer, arguments, match.groups())
    return HTTPStatus.NOT_FOUND, NOTHING_HERE


class JSONHandler(ReadOnly):
    """Any request beneath ``api/``; by itself it knows no path."""

    def set_default_headers(self) -> None:
        """Say JSON, and that no answer may be kept."""
        super().set_default_headers()
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        """Refuse: no handler knows this path."""
        if self.request.method not in METHODS:
            self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)
            return
        self.send_error(HTTPStatus.NOT_FOUND, text=NOTHING_HERE)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write the one form that every error has."""
        text = kwargs.get("text") or HTTPStatus(status_code).phrase.lower()
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(METHODS))
            method = plain(self.request.method or "", 20)
            text = f"{method} is not allowed: this API is read-only"
        self.finish(json.dumps({"error": text}))

    def log_exception(self, *args: Any) -> None:
        """Keep a client's mistakes out of the scheduler's log."""


def read_arguments(handler: web.RequestHandler) -> dict[str, str]:
    """Return the arguments of a request's query.

    Raises
    ------
    BadRequestError
        One that is given twice, or that is no text.
    """
    arguments = {}
    for name, values in handler.request.query_arguments.items():
        if len(values) > 1:
            raise BadRequestError(f"{plain(name, 40)} must be given once")
        try:
            arguments[name] = values[0].decode()
        except UnicodeDecodeError:
            raise BadRequestError(f"{plain(name, 40)} must be UTF-8") from None
    return arguments


def answered(
    handler: web.RequestHandler, store: Store, answer: Answer, path: tuple[str, ...]
) -> tuple[int, str]:
    """Answer a request: the status, and the body in JSON or what is wrong."""
    try:
        return respond(store, answer, read_arguments(handler), path)
    except BadRequestError as error:
        return HTTPStatus.BAD_REQUEST, str(error)


class StoreHandler(JSONHandler):
    """A request that one of the functions above answers."""

    def initialize(
        self, store: Store, boundary: Boundary, turns: Turns, answer: Answer
    ) -> None:
        """Take what the route was made with."""
        self.store = store
        self.answer = answer
        self.boundary = boundary
        self.turns = turns

    def prepare(self) -> None:
        """Let the request through."""

    async def get(self, *path: str) -> None:
        """Answer with what the store says, when it is this request's turn."""
        if self.turns.waiting >= MOST_WAITING:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, text=TOO_MANY)
            return
        async with self.turns.turn():
            if gone(self):
                return
            status, body = self.boundary.guarded(
                answered,
                f"GET api/{self.answer.__name__}",
                (HTTPStatus.INTERNAL_SERVER_ERROR, "MemDash failed to answer this"),
            )(self, self.store, self.answer, path)
        if status == HTTPStatus.OK:
            self.finish(body)
        else:
            self.send_error(status, text=body)


#: Path beneath ``api/`` and what answers it; anything else is a 404.
routes: list[tuple[str, Answer]] = [
    (r"schema\.json", schema),
    (r"cluster", cluster),
    (r"workers", workers),
    (r"prefixes", prefixes),
    (r"history", history),
    (r"limits", limits),
    (r"order", order),
    (r"order/([^/]+)", graph),
    (r"incidents", incidents),
    (r"incidents/([^/]+)", incident),
    (r"failures", failures),
    (r"failures/([^/]+)", failure),
    (r"what-if", what_if),
    (r"what-if/([^/]+)", would_have_lived),
]
