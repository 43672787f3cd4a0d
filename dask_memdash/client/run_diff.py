"""Two recorded runs compared, in the user's hands: :func:`diff`."""

from __future__ import annotations

import html
import os
from typing import TYPE_CHECKING, Any

from dask_memdash.compare.comparison import Comparison, compare
from dask_memdash.compare.conditions import Condition, failing
from dask_memdash.compare.written import as_markdown, as_text, headline, to_dict

if TYPE_CHECKING:
    from dask_memdash.client.recorded import RecordedRun

__all__ = ["RunDiff", "diff"]

#: Column → pandas' type for it.
COLUMNS = {
    "area": "string",
    "subject": "string",
    "measure": "string",
    "verdict": "string",
    "unit": "string",
    "a": "Float64",
    "b": "Float64",
    "change": "Float64",
    "share": "Float64",
    "a_max": "Float64",
    "b_max": "Float64",
    "a_count": "Int64",
    "b_count": "Int64",
    "low": "Float64",
    "high": "Float64",
    "reason": "string",
    "text": "string",
}


def diff(
    a: str | os.PathLike[str] | RecordedRun, b: str | os.PathLike[str] | RecordedRun
) -> RunDiff:
    """Compare two recorded runs.

    Parameters
    ----------
    a, b
        The run that is the measure, and the one that is held against it: directories,
        or what :func:`dask_memdash.open_run` returned.

    Returns
    -------
    RunDiff
        Prints as text, shows as HTML in a notebook, and has everything as DataFrames.

    Raises
    ------
    RunError
        A run cannot be read.

    Notes
    -----
    How a verdict is reached stands in ``docs/compare.md``.
    """
    from dask_memdash.client.recorded import RecordedRun, open_run

    opened = []
    try:
        runs = []
        for one in (a, b):
            if isinstance(one, RecordedRun):
                runs.append(one)
            else:
                runs.append(open_run(one))
                opened.append(runs[-1])
        return RunDiff(compare(runs[0]._store, runs[1]._store))
    finally:
        for run in opened:
            run.close()


class RunDiff:
    """All differences of two recorded runs, those that matter most first."""

    def __init__(self, found: Comparison) -> None:
        self._found = found

    def __repr__(self) -> str:
        return f"<{self._found.b.id} against {self._found.a.id}: {self.verdict}>"

    def __str__(self) -> str:
        return as_text(self._found)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    @property
    def verdict(self) -> str:
        """The verdict of it all, 'worse' if anything is, else 'better' and so on."""
        return self._found.verdict

    @property
    def headline(self) -> str:
        """One sentence."""
        return headline(self._found)

    @property
    def notes(self) -> list[str]:
        """What was otherwise about the runs themselves, and what is not recorded."""
        return list(self._found.notes)

    def table(self, area: str | None = None, verdict: str | None = None) -> Any:
        """Return the differences as a DataFrame, those that matter most first.

        Sizes are in bytes, times in seconds.  ``a`` and ``b`` are what is compared,
        ``low`` and ``high`` the bounds of ``change``; ``share`` is ``change / a``.

        Parameters
        ----------
        area
            'failures', 'prefix', 'workers', 'storage' or 'duration'; all by default.
        verdict
            'worse', 'better', 'cannot say' or 'same'; all by default.
        """
        import pandas as pd

        rows = [
            one
            for one in to_dict(self._found)["differences"]
            if area in (None, one["area"]) and verdict in (None, one["verdict"])
        ]
        return pd.DataFrame(
            {
                name: pd.Series([_cell(one, name) for one in rows], dtype=kind)
                for name, kind in COLUMNS.items()
            }
        )

    def prefixes(self) -> Any:
        """Return what differs by task prefix, as :meth:`table` does."""
        return self.table("prefix")

    def failed(self, *conditions: str) -> list[str]:
        """Return the sentences of what is worse than conditions allow.

        Parameters
        ----------
        *conditions
            As ``--fail-on`` of the command line has them: 'worse', 'peak:25%'.

        Raises
        ------
        ValueError
            One is none.
        """
        parsed = [Condition.parse(text) for text in conditions]
        return [one.text for one in failing(self._found, parsed)]

    def markdown(self) -> str:
        """Return it as GitHub-flavoured Markdown, fit for a comment."""
        return as_markdown(self._found)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, ready for JSON."""
        return to_dict(self._found)


def _cell(one: dict[str, Any], name: str) -> Any:
    """Return the value of a column."""
    if name in ("low", "high"):
        return None if one["bounds"] is None else one["bounds"][name == "high"]
    if name in ("a", "b"):
        value = one[f"compared_{name}"]
        figure = one[name] or {}
        return figure.get("p50") if value is None else value
    run, _, part = name.partition("_")
    if part in ("max", "count"):
        return (one[run] or {}).get(part)
    return one[name]
