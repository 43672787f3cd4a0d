"""``dask memdash failures``: the failures of a running cluster, as a table or as JSON.

Asks the JSON API of the scheduler's dashboard over HTTP.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from dask_memdash import terms
from dask_memdash.errors import MemDashError
from dask_memdash.text import format_bytes, format_clock, shorten

#: Longest wait for an answer, in seconds, and its length at most, in bytes.
TIMEOUT = 10.0
MAX_ANSWER = 64 * 2**20

#: Characters of a name in the table.
MAX_NAME = 40

HEAD = ("failure", "began", "over", "kind", "cause", "responsible", "deaths", "lost")


def ask(address: str) -> list[dict[str, Any]]:
    """Ask a scheduler's dashboard for its failures, newest first.

    Raises
    ------
    MemDashError
        It is no such address, or does not answer as MemDash does.
    """
    base = address if "://" in address else f"http://{address}"
    if not base.startswith(("http://", "https://")):
        raise MemDashError(
            f"{address} is no address of a dashboard; write it like "
            "http://localhost:8787"
        )
    base = base.rstrip("/").removesuffix("/status").removesuffix("/memdash")
    url = f"{base}/memdash/api/failures"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            found = json.loads(answer.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        error.close()
        raise MemDashError(
            f"{url} answers {error.code}; is MemDash registered there?"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise MemDashError(f"{url} cannot be reached: {reason}") from None
    except ValueError as error:
        raise MemDashError(f"{url} does not answer with JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(f, dict) for f in found):
        raise MemDashError(f"{url} does not answer with a list of failures")
    return found


def as_text(failures: Sequence[Mapping[str, Any]]) -> str:
    """Write failures as a table."""
    if not failures:
        return "No failures."
    rows = [HEAD, *map(_row, failures)]
    if any(_stored(failure) for failure in failures):
        rows[0] = (*HEAD, "of it stored")
        rows[1:] = [
            (*row, format_bytes(_stored(failure)))
            for row, failure in zip(rows[1:], failures, strict=True)
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _row(failure: Mapping[str, Any]) -> tuple[str, ...]:
    prefix = failure["responsible"]["prefix"]
    closed = failure["closed"]
    return (
        f"failure-{failure['id']}",
        format_clock(failure["opened"]),
        "open" if closed is None else format_clock(closed),
        terms.label(terms.KINDS, failure["kind"]),
        terms.label(terms.CAUSES, failure["diagnosis"]["cause"]),
        _plain(prefix) if prefix else "–",
        str(failure["deaths"]),
        format_bytes(failure["cost"]["bytes_lost"]),
    )


def _stored(failure: Mapping[str, Any]) -> int | None:
    """Return bytes lost that need not be computed again, since they are stored."""
    stored: int | None = failure["cost"].get("bytes_stored")
    return stored


def _plain(name: str) -> str:
    """Return a name that is safe in a terminal, and not too long."""
    return shorten("".join(c if c.isprintable() else "?" for c in name), MAX_NAME)
