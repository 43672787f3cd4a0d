"""``schema.json``: the JSON Schema of every answer, made from the store's own shapes.

Every route beneath ``api/`` has an entry in ``properties``, by its path; what shapes
have in common stands in ``$defs``.  An answer may hold more than is listed, so that a
later version may say more without breaking a reader; what is listed is always there.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from dask_memdash import terms
from dask_memdash.counterfactual import shapes as what_if_shapes
from dask_memdash.store import (
    cluster_shapes,
    incident_shapes,
    limit_shapes,
    order_shapes,
    prefix_shapes,
    worker_shapes,
)

DRAFT = "https://json-schema.org/draft/2020-12/schema"

#: Version of the shapes, as ``cluster`` says it too.
VERSION = 1

#: Path → what it answers.
ANSWERS: Mapping[str, Any] = {
    "cluster": cluster_shapes.Cluster,
    "workers": list[worker_shapes.Worker],
    "prefixes": list[prefix_shapes.Prefix],
    "history": cluster_shapes.History,
    "limits": list[limit_shapes.LimitAudit],
    "order": list[order_shapes.Graph],
    "order/<id>": order_shapes.Graph,
    "order/<id>?position": order_shapes.OrderPoint,
    "incidents": list[incident_shapes.Incident],
    "incidents/<id>": incident_shapes.IncidentDetails,
    "failures": list[incident_shapes.Failure],
    "failures/<id>": incident_shapes.Failure,
    "what-if": what_if_shapes.WhatIfAnswer,
    "what-if/<id>": what_if_shapes.WouldHaveLived,
}

#: (Shape, field) → the glossary's table that its values are from.
ENUMERATIONS: Mapping[tuple[str, str], Mapping[str, terms.Term]] = {
    ("FailureDiagnosis", "cause"): terms.CAUSES,
    ("IncidentDiagnosis", "cause"): terms.CAUSES,
    ("IncidentFinding", "cause"): terms.CAUSES,
    ("FailureDiagnosis", "relief"): terms.RELIEFS,
    ("IncidentDiagnosis", "relief"): terms.RELIEFS,
    ("Incident", "kind"): terms.KINDS,
    ("IncidentDetails", "kind"): terms.KINDS,
    ("Failure", "kind"): terms.KINDS,
    ("OrderVerdict", "kind"): terms.ORDER_VERDICTS,
    ("Intermediates", "state"): terms.STORING_STATES,
    ("Prefix", "kind"): terms.ROW_KINDS,
    ("OtherMemory", "group"): terms.OTHERS,
    ("OtherMemory", "method"): terms.OTHER_METHODS,
}

_PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean"}


@cache
def schema() -> dict[str, Any]:
    """Return the schema of all answers; nobody may change it."""
    shapes: dict[str, Any] = {}
    answers = {path: _schema(shape, shapes) for path, shape in ANSWERS.items()}
    answers["error"] = {
        "type": "object",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
        "additionalProperties": False,
    }
    return {
        "$schema": DRAFT,
        "title": "MemDash's JSON API",
        "version": VERSION,
        "type": "object",
        "properties": answers,
        "$defs": dict(sorted(shapes.items())),
    }


def answer_schema(path: str) -> dict[str, Any]:
    """Return the schema of one route's answer, whole.

    Parameters
    ----------
    path
        As in `ANSWERS`, or "error".
    """
    whole = schema()
    return {**whole["properties"][path], "$defs": whole["$defs"]}


def route(path: str, query: str = "") -> str:
    """Return the route, as in `ANSWERS`, that a path beneath ``api/`` belongs to."""
    head, slash, _ = path.partition("/")
    name = f"{head}/<id>" if slash else head
    return f"{name}?position" if slash and "position=" in query else name


def _schema(shape: Any, shapes: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type; dicts of their own names are added to `shapes`."""
    if shape is Any:
        return {}
    if shape in _PLAIN:
        return {"type": _PLAIN[shape]}
    if shape is type(None):
        return {"type": "null"}
    if is_typeddict(shape):
        return _defined(shape, shapes)
    origin, inner = get_origin(shape), get_args(shape)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(one, shapes) for one in inner]}
    if origin is list:
        return {"type": "array", "items": _schema(inner[0], shapes)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(inner[1], shapes)}
    raise TypeError(f"no schema for {shape!r}")


def _defined(shape: Any, shapes: dict[str, Any]) -> dict[str, Any]:
    name = shape.__name__
    if name not in shapes:
        shapes[name] = {}  # so that a shape may hold itself
        properties = {}
        for field, type_ in get_type_hints(shape).items():
            table = ENUMERATIONS.get((name, field))
            written = _schema(type_, shapes)
            if table is not None:
                null = [None] if "anyOf" in written else []
                written = {"enum": [*table, *null]}
            properties[field] = written
        shapes[name] = {
            "type": "object",
            "description": (shape.__doc__ or "").split("\n")[0],
            "properties": properties,
            "required": sorted(shape.__required_keys__),
        }
    return {"$ref": f"#/$defs/{name}"}
