"""``dask memdash failures``: the failures of a running cluster, as a table or as JSON.

Asks the JSON API; the table looks as in ``dask memdash top``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dask_memdash.cli.sources import open_dashboard
from dask_memdash.cli.table_text import table, written
from dask_memdash.cli.top_columns import failure_columns
from dask_memdash.errors import MemDashError


def ask(address: str) -> list[dict[str, Any]]:
    """Ask for the failures of a cluster, newest first.

    Parameters
    ----------
    address
        Of the scheduler's dashboard; with ``tcp://`` or ``tls://``, of the scheduler.

    Raises
    ------
    MemDashError
        It is no such address, or does not answer as MemDash does.
    """
    source = open_dashboard(address)
    try:
        found = source.ask("failures")
    finally:
        source.close()
    if not isinstance(found, list) or not all(isinstance(f, dict) for f in found):
        raise MemDashError(f"{source.address} does not answer with a list of failures")
    return found


def as_text(failures: Sequence[Mapping[str, Any]]) -> str:
    """Write failures as a table."""
    if not failures:
        return "No failures."
    return written(table(failure_columns(failures), failures))
