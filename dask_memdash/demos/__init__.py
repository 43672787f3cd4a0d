"""Runs that go out of memory on purpose, on a cluster of their own.

One module per demo (:mod:`.rechunk`), and what they share: :mod:`.cluster` starts
and ends the cluster, :mod:`.api` reads MemDash's JSON API over HTTP as any program
could, :mod:`.words` puts what it says into text.

Only :mod:`dask_memdash.cli` imports this package.
"""

from __future__ import annotations

from dask_memdash.errors import MemDashError


class DemoError(MemDashError):
    """A demo that cannot run here; the message says why and what to do."""
