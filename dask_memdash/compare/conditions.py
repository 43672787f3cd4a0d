"""When a comparison fails a build: ``--fail-on`` on the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dask_memdash.compare.comparison import Comparison
from dask_memdash.compare.verdicts import MARGIN, REPEATS, Difference

#: What a condition may be about: anything, or one measure.
ANYTHING = "worse"
MEASURES = (ANYTHING, *REPEATS, "pauses", "failures")

_FORM = re.compile(r"([a-z]+)(?::\s*(\d+(?:\.\d+)?)\s*%)?")


@dataclass(frozen=True, slots=True)
class Condition:
    """Fails where a measure is worse by more than a share of the first figure."""

    measure: str
    share: float = MARGIN

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read ``worse``, ``peak`` or ``peak:25%``.

        Raises
        ------
        ValueError
            It is none; the message says how one is written.
        """
        found = _FORM.fullmatch(text.strip())
        if found is None or found[1] not in MEASURES:
            raise ValueError(
                f"{text!r} is no condition; write one of {', '.join(MEASURES)}, and a "
                "share if you like: peak:25%"
            )
        return cls(found[1], MARGIN if found[2] is None else float(found[2]) / 100)

    def met_by(self, found: Comparison) -> list[Difference]:
        """Return the differences that meet it."""
        return [
            one
            for one in found.differences
            if self.measure in (ANYTHING, one.measure) and one.worse_by(self.share)
        ]


def failing(found: Comparison, conditions: Iterable[Condition]) -> list[Difference]:
    """Return the differences that meet any of some conditions, each once."""
    met = [one for condition in conditions for one in condition.met_by(found)]
    return [one for one in found.differences if one in met]
