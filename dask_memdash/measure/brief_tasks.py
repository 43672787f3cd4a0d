"""Which tasks take too little time to be worth a close look."""

from __future__ import annotations

#: What takes less is brief, in seconds: where tasks are counted anyway, and where
#: nothing else sees what they do.
BRIEF = 0.005
BRIEF_UNCOUNTED = 0.0002

#: Prefixes of which something is remembered.
MAX_PREFIXES = 1000


class PrefixDurations:
    """How long the last task of each prefix took.

    May be used from any thread.

    Parameters
    ----------
    brief
        What takes less is brief, in seconds.
    """

    def __init__(self, brief: float) -> None:
        self._brief = brief
        self._seconds: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._seconds)

    def note(self, prefix: str, seconds: float) -> None:
        """Note how long a task took."""
        if len(self._seconds) >= MAX_PREFIXES:
            self._seconds.clear()
        self._seconds[prefix] = seconds

    def is_brief(self, prefix: str) -> bool:
        """Whether tasks of a prefix are brief; not before one of them has ended."""
        return self._seconds.get(prefix, self._brief) < self._brief

    def was_brief(self, prefix: str) -> bool:
        """Whether the last task of a prefix took next to no time, or is not known."""
        return self._seconds.get(prefix, 0.0) < BRIEF

    def forget(self) -> None:
        """Forget all of them."""
        self._seconds.clear()
