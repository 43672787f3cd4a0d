"""Runs that go out of memory on purpose, on a cluster of their own.

The classic that runs out of memory is :mod:`.rechunk`; :mod:`.shuffles` has the three
experiments of 2017.  Complaints with what helps are made of stages (:mod:`.stages`):
:mod:`.collector`, :mod:`.leak`, :mod:`.pinned`, :mod:`.shared`, :mod:`.skew`.

What they share: :mod:`.cluster` starts and ends clusters, :mod:`.experiment` runs one
computation and gathers the figures, :mod:`.api` reads MemDash's JSON API over HTTP as
any program could, :mod:`.progress` draws, :mod:`.words` and :mod:`.tables` put what
was seen into text.

Only :mod:`dask_memdash.cli.demo` imports this package.
"""

from __future__ import annotations

from dask_memdash.errors import MemDashError


class DemoError(MemDashError):
    """A demo that cannot run here; the message says why and what to do."""
