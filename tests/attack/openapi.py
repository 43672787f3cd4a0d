"""An OpenAPI description of the JSON API, made from ``schema.json``, for a tester."""

import copy

from schema_check import strict

from dask_memdash.web.api import MAX_POINTS
from dask_memdash.web.schema import VERSION, schema

_NATURAL = {"type": "integer", "minimum": 0}
_MULTIPLE = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e6}

#: Route → the parameters of its query; `required` ones tell two shapes apart.
_LIST = {"limit": _NATURAL, "offset": _NATURAL}
PARAMETERS = {
    "cluster": {},
    "workers": _LIST,
    "prefixes": _LIST,
    "limits": _LIST,
    "order": _LIST,
    "incidents": _LIST,
    "failures": _LIST,
    "history": {
        "worker": {"type": "string"},
        "since": {"type": "number"},
        "points": {"type": "integer", "minimum": 1, "maximum": MAX_POINTS},
    },
    "order/<id>": {"position": _NATURAL},
    "incidents/<id>": {},
    "failures/<id>": {},
    "what-if": {
        "failure": {"type": "string"},
        "limit": _MULTIPLE,
        "threads": {"type": "integer", "minimum": 1},
        "chunks": _MULTIPLE,
        "spilling": {"type": "boolean"},
        "workers": {"type": "integer"},
    },
    "what-if/<id>": {},
}


def description(known):
    """Return the description.

    Parameters
    ----------
    known
        List of a route's ids, by the route's name.
    """
    whole = _moved(strict(copy.deepcopy(schema())))
    answers = whole["properties"]
    paths = {}
    for route, query in PARAMETERS.items():
        name, slash, _ = route.partition("/")
        answer = answers[route]
        if route == "order/<id>":
            answer = {"anyOf": [answer, answers["order/<id>?position"]]}
        parameters = [
            {"name": key, "in": "query", "required": False, "schema": of}
            for key, of in query.items()
        ]
        if slash:
            parameters.append(
                {
                    "name": "id",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1},
                    "examples": {one: {"value": one} for one in known[name]},
                }
            )
        paths[f"/{name}/{{id}}" if slash else f"/{name}"] = {
            "get": {
                "operationId": route,
                "parameters": parameters,
                "responses": {
                    "200": _json(answer),
                    "400": _json(answers["error"]),
                    "404": _json(answers["error"]),
                },
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": whole["title"], "version": str(VERSION)},
        "paths": paths,
        "components": {"schemas": whole["$defs"]},
    }


def _json(of):
    return {
        "description": "as the schema says",
        "content": {"application/json; charset=utf-8": {"schema": of}},
    }


def _moved(part):
    """Return a part of the schema whose references point to where OpenAPI has them."""
    if isinstance(part, list):
        return [_moved(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        name: value.replace("#/$defs/", "#/components/schemas/")
        if name == "$ref"
        else _moved(value)
        for name, value in part.items()
    }
