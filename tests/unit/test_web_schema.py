"""schema.json: one entry for every route, and no answer that differs from it."""

import copy
import json
import typing
from pathlib import Path

import fake_store
import pytest
from jsonschema import Draft202012Validator
from schema_check import check

from dask_memdash.web import api
from dask_memdash.web.schema import ANSWERS, VERSION, answer_schema, schema

STORES = {
    "empty": fake_store.empty,
    "busy": fake_store.busy,
    "after an incident": fake_store.after_incident,
    "failing": lambda: fake_store.failing(1),
    "graphs": fake_store.with_graphs,
}


def answer(store, path, **arguments):
    status, body = api.ask(store, path, arguments)
    assert status == 200, body
    return json.loads(body)


def test_the_schema_is_one_and_names_every_route():
    whole = answer(fake_store.empty(), "schema.json")
    Draft202012Validator.check_schema(whole)
    assert whole["version"] == VERSION
    assert answer(fake_store.empty(), "cluster")["schema_version"] == VERSION
    routes = {path.replace("([^/]+)", "<id>") for path, _ in api.routes}
    routes -= {r"schema\.json"}
    assert set(whole["properties"]) - {"error", "order/<id>?position"} == routes


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize(
    "path", ["cluster", "workers", "prefixes", "history", "limits", "order"]
)
def test_answers_are_as_the_schema_says(name, path):
    check(path, answer(STORES[name](), path))


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("path", ["incidents", "failures", "order"])
def test_lists_and_what_they_list_are_as_the_schema_says(name, path):
    store = STORES[name]()
    listed = answer(store, path)
    check(path, listed)
    for row in listed:
        check(f"{path}/{row['id']}", answer(store, f"{path}/{row['id']}"))


def test_an_answer_that_differs_is_found():
    right = answer(fake_store.busy(), "workers")
    for change in ({"pid": "7"}, {"limit": 1.5}, {"breakdown": {}}, {"degraded": None}):
        wrong = copy.deepcopy(right)
        wrong[0].update(change)
        with pytest.raises(AssertionError, match=next(iter(change))):
            check("workers", wrong)
    del right[0]["address"]
    with pytest.raises(AssertionError, match="address"):
        check("workers", right)


def test_a_field_that_nobody_can_read_about_is_found():
    right = answer(fake_store.after_incident(), "incidents/4")
    for wrong in (
        {**right, "colour": "red"},
        {**right, "cost": {**right["cost"], "euros": 3}},
        {**right, "suspects": [{**right["suspects"][0], "mood": None}]},
    ):
        with pytest.raises(AssertionError, match=r"\('(colour|euros|mood)' was unexp"):
            check("incidents/4", wrong)


def test_readers_of_today_take_a_field_of_tomorrow():
    tomorrow = {**answer(fake_store.busy(), "cluster"), "colour": "red"}
    Draft202012Validator(answer_schema("cluster")).validate(tomorrow)


def test_every_shape_has_a_name_of_its_own():
    named = {}

    def visit(shape):
        for inner in typing.get_args(shape):
            visit(inner)
        if typing.is_typeddict(shape) and named.setdefault(shape.__name__, shape):
            assert named[shape.__name__] is shape
            for inner in typing.get_type_hints(shape).values():
                visit(inner)

    for shape in ANSWERS.values():
        visit(shape)
    assert len(named) > 40


def test_the_published_schema_is_the_one_that_is_served():
    published = Path(__file__).parents[2] / "docs" / "schema.json"
    assert json.loads(published.read_text()) == schema()
