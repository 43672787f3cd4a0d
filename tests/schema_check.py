"""Whether an answer of the JSON API is what its schema says, and no more than that.

The published schema lets an answer hold more than it lists, so that readers of today
outlive the fields of tomorrow.  The tests do not: a field that is written and not in
the schema is one that nobody can read about.
"""

from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

from dask_memdash.web.schema import answer_schema, route, schema


def strict(part: Any) -> Any:
    """Return a part of a schema whose objects hold nothing but what it lists."""
    if isinstance(part, list):
        return [strict(one) for one in part]
    if not isinstance(part, dict):
        return part
    closed = {name: strict(value) for name, value in part.items()}
    if "properties" in part and part.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


#: Route → its validator.
_VALIDATORS = {
    path: Draft202012Validator(strict(answer_schema(path)))
    for path in schema()["properties"]
}


def check(path, answer):
    """Compare an answer with the schema; a path is one beneath ``api/``."""
    parts = urlsplit(path)
    if parts.path == "schema.json":
        Draft202012Validator.check_schema(answer)
        return
    _compare(path, route(parts.path, parts.query), answer)


def check_error(path, answer):
    """Compare what is answered in place of an answer with the one form of errors."""
    _compare(path, "error", answer)


def _compare(path, name, answer):
    found = _VALIDATORS[name].iter_errors(answer)
    wrong = [f"{e.json_path}: {e.message[:200]}" for e in found]
    assert not wrong, f"{path}: {wrong[:5]}"
