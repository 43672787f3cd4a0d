"""Sphinx extension of the documentation site: pages that are made at build time.

Each page's Markdown passes through here before it is parsed:

- a line that is only a link to a section of the README, or to another Markdown file
  outside ``docs/``, is replaced by what stands there (:mod:`.repository`);
- a page of a cause gets its title, its sentence and its example (:mod:`.causes`);
- ``<!-- settings -->``, ``<!-- terms: NAME -->`` and ``<!-- causes -->`` become tables
  from the configuration's schema and from the glossary (:mod:`.tables`);
- links to files that the site does not have lead to the repository.

On plain Git hosting, where nothing of this runs, the same files can be read too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask_memdash
from memdash_site.causes import cause_page
from memdash_site.repository import Repository
from memdash_site.tables import filled_in

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: The folder of the site's sources.
DOCS = Path(__file__).parents[1]


def setup(app: Sphinx) -> dict[str, Any]:
    """Be loaded by Sphinx."""
    repository = Repository(DOCS.parent)

    def read(_: Sphinx, name: str, source: list[str]) -> None:
        source[0] = made(repository, name, source[0])

    app.connect("source-read", read)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True}


def signature(
    _app: Sphinx, what: str, name: str, *_: Any
) -> tuple[str, str | None] | None:
    """Leave out how to make what only our functions make."""
    public = name.removeprefix("dask_memdash.") in dask_memdash.__all__
    return ("", None) if what == "class" and not public else None


def made(repository: Repository, name: str, text: str) -> str:
    """Return the Markdown that Sphinx parses for a page.

    Parameters
    ----------
    repository
        Where the page and what it takes in lie.
    name
        Of the page below ``docs/``, without its ending.
    text
        As it lies there.
    """
    folder, _, cause = name.rpartition("/")
    if folder == "causes" and cause != "index":
        text = cause_page(cause, text, DOCS / "examples")
    return filled_in(repository.expanded(name, text))
