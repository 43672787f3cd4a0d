"""What was refused of what arrives, and what was cut: counted by sender, in words.

Bounded whatever arrives: so many senders, so many reasons each, none of them long.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from dask_memdash.text import count, plain

#: Senders that are told apart; all others are counted together.
MAX_SENDERS = 50
OTHERS = "other senders"

#: Reasons told apart for one sender, and characters of one and of a sender's name.
MAX_REASONS = 4
MAX_REASON = 200
MAX_NAME = 120

#: Seconds after its last message that was refused for which a sender is shown.
SHOWN_FOR = 3600.0


@dataclass(slots=True)
class _Sender:
    last: float
    #: (verb, reason) → how often.
    counts: dict[tuple[str, str], int] = field(default_factory=dict)


class Refused:
    """Counts of messages that were refused or cut, by sender."""

    def __init__(self) -> None:
        self._senders: OrderedDict[str, _Sender] = OrderedDict()

    def refuse(self, sender: str, why: str, now: float) -> None:
        """Count a message that was not believed; `now` is any clock's, in seconds."""
        self._count(sender, ("refused", why), now)

    def cut(self, sender: str, what: str, now: float) -> None:
        """Count a message that was taken in only in part."""
        self._count(sender, ("cut", what), now)

    def texts(self, now: float) -> dict[str, tuple[str, ...]]:
        """Return one sentence for each reason of each sender that is still shown."""
        for name in [n for n, s in self._senders.items() if s.last < now - SHOWN_FOR]:
            del self._senders[name]
        return {
            name: tuple(
                f"{count(times, 'message')} of {name} {verb}: {why}"
                for (verb, why), times in sender.counts.items()
            )
            for name, sender in self._senders.items()
        }

    def _count(self, sender: str, what: tuple[str, str], now: float) -> None:
        name = plain(sender, MAX_NAME)
        if name not in self._senders and len(self._senders) >= MAX_SENDERS:
            name = OTHERS
        known = self._senders.setdefault(name, _Sender(now))
        known.last = now
        verb, why = what[0], plain(what[1], MAX_REASON)
        if (verb, why) not in known.counts and len(known.counts) >= MAX_REASONS:
            why = "for several other reasons"
        known.counts[verb, why] = known.counts.get((verb, why), 0) + 1
