"""What an alert says: as JSON, and as a text in plain English.

What happened, whose memory it was and on which line, what to change, and where to read
more, in that order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_memdash import terms
from dask_memdash.analysis.incidents.failure_words import cost_in_words
from dask_memdash.store.answers import Told
from dask_memdash.text import code, plain

#: Version of the JSON.
SCHEMA_VERSION = 1

#: Characters of a text, and of one of its paragraphs.
MAX_TEXT = 4_000
MAX_PART = 600

#: Advice that is told.
MAX_ADVICE = 3


def message(
    event: str,
    failure: Mapping[str, Any],
    told: Told,
    *,
    page: str | None,
    scheduler: Mapping[str, str],
    now: float,
    left_out: int = 0,
) -> dict[str, Any]:
    """Return an alert as JSON has it; its ``text`` is for people.

    Parameters
    ----------
    event
        ``failure-opened`` or ``failure-closed``.
    failure, told
        The failure as the JSON API has it, and as the page tells it first.
    page
        Address of the page; None without one.
    scheduler
        Its ``id`` and ``address``.
    now
        Unix time in seconds.
    left_out
        Alerts that were not sent since the last one, because they were too many.
    """
    diagnosis = failure["diagnosis"]
    return {
        "schema_version": SCHEMA_VERSION,
        "id": f"{scheduler['id']}/{failure['id']}/{event}",
        "event": event,
        "time": now,
        "scheduler": dict(scheduler),
        "failure": {
            **{name: failure[name] for name in ("id", "opened", "closed", "kind")},
            **{name: failure[name] for name in ("count", "deaths", "workers")},
            **{name: failure[name] for name in ("graph", "responsible", "cost")},
            "cause": diagnosis["cause"],
            "relief": diagnosis["relief"],
            "confidence": diagnosis["confidence"],
            "line": told.line or None,
            "advice": list(diagnosis["advice"][:MAX_ADVICE]),
        },
        "page": page,
        "left_out": left_out,
        "text": _text(event, failure, told, page, left_out),
    }


def _text(
    event: str,
    failure: Mapping[str, Any],
    told: Told,
    page: str | None,
    left_out: int,
) -> str:
    over = event == "failure-closed"
    head = (
        "A failure on a Dask cluster is over." if over else "A Dask computation fails."
    )
    parts = [f"{head} {told.happened}", f"Why: {told.why}", _whose(told)]
    if over:
        parts.append(cost_in_words(failure["cost"]))
    elif told.changes:
        parts.append(f"What to change: {told.changes[0].text}")
    if left_out:
        were = "alert was" if left_out == 1 else "alerts were"
        parts.append(f"{left_out:,} earlier {were} left out: there were too many.")
    if page:
        parts.append(f"More: {page}")
    return "\n".join(plain(part, MAX_PART) for part in parts if part)[:MAX_TEXT]


def _whose(told: Told) -> str:
    """Say whose memory it was, and which line allocated it; as far as it is known."""
    if not told.prefix:
        return ""
    cause = terms.label(terms.CAUSES, told.cause)
    line = f", allocated at {told.line}" if told.line else ""
    return f"Responsible: tasks {code(told.prefix)} ({cause}){line}."


def slack(alert: Mapping[str, Any]) -> dict[str, str]:
    """Return an alert as Slack takes it, and Mattermost, and others like these.

    Names of tasks are made by users: what would call people (``<!channel>``, ``@all``)
    or begin a link is none here.
    """
    escaped = (
        alert["text"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    )
    return {"text": escaped.replace("@", "@\u200b")}
