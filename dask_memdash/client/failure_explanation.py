"""One failure as text and as HTML: what happened, why, and what to change.

Takes the dict of the JSON API.  One incident is
:mod:`dask_memdash.client.explanation`'s.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dask_memdash import terms
from dask_memdash.analysis.incidents.failure_words import cost_in_words

#: Characters of a line of prose.
WIDTH = 96

#: Incidents that are named at most, the newest.
MAX_NAMED = 20


class FailureExplanation:
    """One failure: all incidents of one computation.

    Parameters
    ----------
    failure
        As ``failures/<id>`` of the JSON API gives it.
    page
        Address of the failure on the page, None without one.
    lived
        With what it would have lived, in sentences; none where that is no question.
    """

    def __init__(
        self,
        failure: Mapping[str, Any],
        page: str | None = None,
        lived: Sequence[str] = (),
    ) -> None:
        #: The failure, as the JSON API has it.
        self.failure = dict(failure)
        #: Address of its page, None without one.
        self.page = page
        #: Whether it would have lived with something changed, in sentences.
        self.lived = list(lived)

    @property
    def id(self) -> str:
        """The failure's id."""
        return str(self.failure["id"])

    @property
    def kind(self) -> str:
        """What it is, such as 'killed-worker'."""
        return str(self.failure["kind"])

    @property
    def cause(self) -> str:
        """The cause by all its incidents; 'unknown' where the evidence is thin."""
        return str(self.failure["diagnosis"]["cause"])

    @property
    def confidence(self) -> float:
        """How sure the cause is, from 0 to 1."""
        return float(self.failure["diagnosis"]["confidence"] or 0.0)

    @property
    def advice(self) -> list[str]:
        """What to change, most effective first."""
        return [str(text) for text in self.failure["diagnosis"]["advice"]]

    def __str__(self) -> str:
        failure = self.failure
        parts = [
            self._title(),
            _wrapped(f"{failure['text']} {cost_in_words(failure['cost'])}"),
            _wrapped(str(failure["diagnosis"]["text"])),
        ]
        if self.advice:
            advice = [_wrapped(text, "  - ") for text in self.advice]
            parts.append("\n".join(["What to change", *advice]))
        if self.lived:
            lines = [_wrapped(text, "  - ") for text in self.lived]
            parts.append("\n".join(["Would it have lived?", *lines]))
        parts.append(_wrapped(self._incidents()))
        parts += [self.page] if self.page else []
        return "\n\n".join(part for part in parts if part)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from dask_memdash.client.notebook import page_piece

        failure = self.failure
        told = (failure["text"], cost_in_words(failure["cost"]))
        html: str = page_piece("failure.html").render(
            title=self._title(),
            told=[" ".join(filter(None, told)), failure["diagnosis"]["text"]],
            advice=self.advice,
            lived=self.lived,
            incidents=self._incidents(),
            page=self.page,
        )
        return html

    def _title(self) -> str:
        when = datetime.fromtimestamp(self.failure["opened"], UTC)
        kind = terms.label(terms.KINDS, self.kind)
        return f"Failure {self.id}: {kind}, {when:%Y-%m-%d %H:%M:%S} UTC"

    def _incidents(self) -> str:
        numbers = self.failure["incidents"][-MAX_NAMED:]
        named = ", ".join(str(number) for number in numbers)
        return f"Incidents: {named}. explain(id) tells of each."


def _wrapped(text: str, start: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start)
    )
