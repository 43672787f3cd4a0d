"""Whether an answer of the JSON API is what its schema says."""

from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

from dask_memdash.web.schema import answer_schema, route, schema

#: Route → its validator.
_VALIDATORS = {
    path: Draft202012Validator(answer_schema(path)) for path in schema()["properties"]
}


def check(path, answer):
    """Compare an answer with the schema; a path is one beneath ``api/``."""
    parts = urlsplit(path)
    if parts.path == "schema.json":
        return
    validator = _VALIDATORS[route(parts.path, parts.query)]
    wrong = [f"{e.json_path}: {e.message[:200]}" for e in validator.iter_errors(answer)]
    assert not wrong, f"{path}: {wrong[:5]}"
