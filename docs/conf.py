"""How Sphinx builds the documentation site; ``make docs`` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import dask_memdash

project = "dask_memdash"
author = "dask_memdash contributors"
copyright = author  # noqa: A001  # as Sphinx calls it
version = release = dask_memdash.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    # docstrings are numpydoc's; this reads them without another package
    "sphinx.ext.napoleon",
    # ours: README's sections as pages, pages of causes, settings, terms
    "memdash_site",
]
exclude_patterns = ["_build", "deploy", "examples"]

# -- Markdown --------------------------------------------------------------------------
# As GitHub makes them, so that links work here and there.
myst_heading_anchors = 4
# Quotes in text are often those of code.
smartquotes = False
myst_enable_extensions = ["attrs_inline"]

# -- the API ---------------------------------------------------------------------------
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False

# -- strictness ------------------------------------------------------------------------
# Every reference must be found.  Types of other projects are not looked up: that would
# take a request to their sites.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(dask|distributed|pandas|pathlib|datetime|collections|os)\..*"),
]
# A page that comes later need not be named by the index at once.
suppress_warnings = ["toc.not_included"]

# -- how it looks ----------------------------------------------------------------------
html_theme = "furo"
html_title = "dask_memdash"
html_favicon = "../static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["memdash.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#1b5fa8",
        "color-brand-content": "#1b5fa8",
    },
    "dark_css_variables": {
        "color-brand-primary": "#82b9f0",
        "color-brand-content": "#82b9f0",
    },
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
