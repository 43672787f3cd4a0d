"""A small summary of a cluster's memory, for a notebook's output.

Needs neither Bokeh nor Panel, and no stylesheet: a notebook has none of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from dask.utils import format_bytes

from dask_memdash.views import words

#: Part of memory → its colour, as in the theme (a test compares them).
COLOURS = {
    "managed": "#2f74c0",
    "transfer": "#63b3ed",
    "executing": "#e8871e",
    "retained": "#a3adb8",
    "baseline": "#7b8794",
}


def card(cluster: Mapping[str, Any] | None, link: str = "") -> str:
    """Write a summary as HTML.

    Parameters
    ----------
    cluster
        What a store says of the cluster at a glance; None where nobody could be asked.
    link
        URL of the page, empty where it is not known.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    breakdown = cluster["breakdown"] if cluster else {}
    parts = [
        (words.LABELS[name], colour, breakdown.get(name))
        for name, colour in COLOURS.items()
    ]
    return environment.get_template("card.html").render(
        cluster=cluster,
        link=link if link.startswith(("http://", "https://")) else "",
        parts=parts,
        process=breakdown.get("process"),
        size=lambda value: "–" if value is None else format_bytes(int(value)),
    )
