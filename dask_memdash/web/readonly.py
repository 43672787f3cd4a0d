"""What every answer of MemDash's says to a browser, and that nobody may do but read.

A visitor needs no credentials, so each route answers GET and HEAD alone, and says what
a browser may do with the answer:

- *data* (JSON, CSV, static files) runs nothing and is shown in no frame;
- *a notice* in the page's place runs nothing either;
- *the list of runs* has one script, which speaks to its own server;
- *the report* runs its own scripts, loads nothing and speaks to nobody;
- *the page* loads from and speaks to its own server alone.  Bokeh writes its start into
  the page as a script and makes its templates with ``new Function``: neither works
  without ``unsafe-inline`` and ``unsafe-eval``.  The page may be framed by anybody, as
  Dask's own pages may: JupyterLab and editors show them in frames from other ports and
  schemes.  A visitor who is tricked into a click changes nothing, for nothing on the
  page changes the cluster.
"""

from __future__ import annotations

from typing import Any

from tornado import web

_NOWHERE = "base-uri 'none'; form-action 'none'; object-src 'none'"

#: Of JSON, CSV and static files: they run nothing, and nobody frames them.
DATA = (
    f"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; {_NOWHERE}"
)

#: Of a page without scripts, which stands where the page would and is framed as it is.
NOTICE = f"default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; {_NOWHERE}"

#: Of the report: one file that names no other.
REPORT = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    f"frame-ancestors 'none'; {_NOWHERE}"
)

#: Of the page; ``frame-ancestors`` is left out on purpose, see above.
PAGE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    f"font-src 'self' data:; connect-src 'self'; {_NOWHERE}"
)

#: Of the list of runs: its own script and style, and its own server, alone.
RUNS = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; object-src 'none'"
)

METHODS = ("GET", "HEAD")


def write_headers(handler: web.RequestHandler, policy: str) -> None:
    """Set what every answer has."""
    handler.set_header("Content-Security-Policy", policy)
    handler.set_header("X-Content-Type-Options", "nosniff")
    handler.set_header("Referrer-Policy", "no-referrer")


class ReadOnly(web.RequestHandler):
    """A handler that answers GET, and HEAD with the same headers and no body."""

    SUPPORTED_METHODS = METHODS

    #: What a browser may do with the answer.
    policy = DATA

    def set_default_headers(self) -> None:
        """Set what every answer has."""
        write_headers(self, self.policy)

    def head(self, *path: str) -> Any:
        """Answer as GET does; Tornado leaves the body out."""
        return self.get(*path)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Name the methods that are allowed where another was asked for."""
        if status_code == 405:
            self.set_header("Allow", ", ".join(METHODS))
        super().write_error(status_code, **kwargs)


class StaticFiles(ReadOnly, web.StaticFileHandler):
    """The files that the page loads."""

    def head(self, path: str) -> Any:  # type: ignore[override]
        """Answer as GET does, without the body."""
        return web.StaticFileHandler.head(self, path)


class Redirect(ReadOnly, web.RedirectHandler):
    """Sends a browser elsewhere."""


def hardened(handler: type, policy: str) -> type:
    """Make a handler of somebody else's answer reads alone, with our headers.

    Parameters
    ----------
    handler
        A class of Tornado's handlers.
    policy
        What a browser may do with its answers.
    """

    def set_default_headers(self: Any) -> None:
        handler.set_default_headers(self)  # type: ignore[attr-defined]
        write_headers(self, policy)

    return type(
        handler.__name__,
        (handler,),
        {"SUPPORTED_METHODS": METHODS, "set_default_headers": set_default_headers},
    )
