"""The README names every setting, command-line option and API route."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from dask_memdash import config
from dask_memdash.cli import main
from dask_memdash.web import api

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
LINES = README.splitlines()


def commands(
    command: click.Command, path: tuple[str, ...] = ("dask", "memdash")
) -> Iterator[tuple[str, click.Command]]:
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            yield from commands(sub, (*path, name))


def has_line_with(*texts: str) -> bool:
    return any(all(text in line for text in texts) for line in LINES)


@pytest.mark.parametrize("key", sorted(config.CHECKS))
def test_every_setting_has_a_line(key: str) -> None:
    assert has_line_with(f"`memdash.{key}`")


def test_defaults_in_the_settings_table_are_the_real_ones() -> None:
    text = (REPOSITORY / "dask_memdash" / "memdash.yaml").read_text()

    def walk(tree: dict[str, object], path: str) -> Iterator[tuple[str, object]]:
        for key, value in tree.items():
            if isinstance(value, dict):
                yield from walk(value, f"{path}.{key}")
            else:
                yield f"{path}.{key}", value

    for key, value in walk(yaml.safe_load(text)["memdash"], "memdash"):
        shown = value if isinstance(value, str) else json.dumps(value)
        assert has_line_with(f"`{key}`", f"`{shown}`"), key


@pytest.mark.parametrize("path", [path for path, _ in commands(main.main)])
def test_every_command_is_named(path: str) -> None:
    assert path in README


@pytest.mark.parametrize(
    "option",
    sorted(
        option
        for _, command in commands(main.main)
        for parameter in command.params
        for option in parameter.opts
        if option not in ("--help", "-h", "--version")
    ),
)
def test_every_option_has_a_line(option: str) -> None:
    assert has_line_with(f"`{option}")


#: Routes as the README writes them.
ROUTES = [
    pattern.replace("([^/]+)", "<id>").replace("\\.", ".") for pattern, _ in api.routes
]


@pytest.mark.parametrize(
    "route",
    ROUTES,
)
def test_every_api_route_has_a_line(route: str) -> None:
    assert has_line_with(f"`{route}")


def test_every_documented_route_exists() -> None:
    known = set(ROUTES)
    table = README.split("## JSON API")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    named = {row.split("`")[1].split("?")[0] for row in rows}
    assert named == known


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "demo/README.md"])
def test_links_to_files_of_the_repository_lead_somewhere(name: str) -> None:
    page = REPOSITORY / name
    for part in page.read_text().split("](")[1:]:
        target = part.split(")")[0].split("#")[0]
        if target and "://" not in target:
            assert (page.parent / target).exists(), target
