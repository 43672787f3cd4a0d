"""A small summary of a cluster's memory, for a notebook's output.

Needs neither Bokeh nor Panel, and no stylesheet: a notebook has none of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from dask_memdash import terms
from dask_memdash.text import count, format_bytes, format_parts, inert


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
        finalize=inert,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    breakdown = cluster["breakdown"] if cluster else {}
    sizes = {name: breakdown.get(name) for name in terms.PARTS}
    process = breakdown.get("process")
    written = format_parts(sizes, process)
    parts = [
        (part.label, part.colour, sizes[name], written[name])
        for name, part in terms.PARTS.items()
    ]
    return environment.get_template("card.html").render(
        cluster=cluster,
        link=link if link.startswith(("http://", "https://")) else "",
        parts=parts,
        process=process,
        size=format_bytes,
        count=count,
    )
