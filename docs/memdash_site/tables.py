"""Tables that are made at build time: settings, terms, causes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import yaml

from dask_memdash.terms import CAUSES, GLOSSARY, NOT_MEMORY

#: What is replaced by a table.
PLACE = re.compile(r"^<!-- (settings|causes|terms: ([\w_]+)) -->$", re.M)


def filled_in(text: str) -> str:
    """Return a page with its tables.

    Raises
    ------
    KeyError
        The glossary has no table of that name.
    """

    def table(match: re.Match[str]) -> str:
        if match[1] == "settings":
            return settings()
        if match[1] == "causes":
            return causes()
        return terms(match[2])

    return PLACE.sub(table, text)


def terms(name: str) -> str:
    """Return a table of the glossary."""
    rows = [
        f"| `{term.name}` | {term.label} | {term.sentence} |"
        for term in GLOSSARY[name].values()
    ]
    return "\n".join(["| name | on the page | it means |", "|---|---|---|", *rows])


def causes() -> str:
    """Return a table of all causes, each with a link to its page."""

    def row(name: str) -> str:
        return f"| [`{name}`](/causes/{name}.md) | {CAUSES[name].sentence} |"

    head = "| cause | it means |\n|---|---|\n"
    memory = [row(name) for name in CAUSES if name not in NOT_MEMORY]
    others = [row(name) for name in CAUSES if name in NOT_MEMORY]
    return (
        f"## What filled the memory\n\n{head}{_lines(memory)}\n\n"
        f"## What is not about memory\n\n{head}{_lines(others)}\n"
    )


def settings() -> str:
    """Return every setting with its default, type and meaning, from the schema."""
    package = resources.files("dask_memdash")
    schema = yaml.safe_load((package / "memdash-schema.yaml").read_text())
    defaults = yaml.safe_load((package / "memdash.yaml").read_text())
    tree = schema["properties"]["memdash"]
    parts = []
    for path, property_ in _leaves(tree["properties"], ()):
        default: Any = defaults["memdash"]
        for step in path:
            default = default[step]
        name = ".".join(("memdash", *path))
        shown = default if isinstance(default, str) else json.dumps(default)
        parts.append(
            f"### `{name}`\n\n{' '.join(_quoted(property_['description']).split())}\n\n"
            f"Default `{shown}`; {_type(property_)}. "
            f"`{_keyword(path)}` of `MemDash(…)`, "
            f"`{_variable(path)}` in the environment."
        )
    return "\n\n".join(parts)


def _leaves(
    properties: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    for name, value in properties.items():
        if "properties" in value:
            yield from _leaves(value["properties"], (*path, name))
        else:
            yield (*path, name), value


def _quoted(text: str) -> str:
    """Write values, commands and quoted words as code."""
    return re.sub(r'"([^"]+)"', r"`\1`", text)


def _type(property_: Mapping[str, Any]) -> str:
    if "enum" in property_:
        values = (v if isinstance(v, str) else json.dumps(v) for v in property_["enum"])
        return "one of " + ", ".join(f"`{value}`" for value in values)
    types = property_["type"]
    names = {"null": "`null`", "object": "a mapping", "string": "text"}
    kinds = [types] if isinstance(types, str) else types
    return " or ".join(names.get(kind, f"{kind}") for kind in kinds)


def _keyword(path: tuple[str, ...]) -> str:
    return "__".join(step.replace("-", "_") for step in path)


def _variable(path: tuple[str, ...]) -> str:
    return "DASK_MEMDASH__" + "__".join(p.replace("-", "_").upper() for p in path)


def _lines(rows: list[str]) -> str:
    return "\n".join(rows)
