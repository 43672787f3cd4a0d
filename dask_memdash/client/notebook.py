"""The templates that a notebook's output is written with."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from dask_memdash.text import inert


@cache
def page_piece(name: str) -> Any:
    """Return a template by its name; it escapes everything that it is given."""
    return _environment().get_template(name)


@cache
def _environment() -> Any:
    import jinja2

    make: Any = jinja2.Environment
    return make(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=inert,
        trim_blocks=True,
        lstrip_blocks=True,
    )
