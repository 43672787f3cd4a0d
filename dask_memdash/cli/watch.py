"""``dask memdash watch``: a line for each failure that opens, changes and is over.

For logs and tmux: every line stands for itself and has the time.  It survives the
scheduler's restart, and says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from dask_memdash.analysis.incidents.failure_words import cost_in_words
from dask_memdash.cli.sources import Opener, Source, open_source
from dask_memdash.errors import MemDashError
from dask_memdash.text import count, format_clock, format_duration, plain

#: Seconds between two looks, and between two tries to reach a scheduler that is gone.
INTERVAL = 1.0
AGAIN = 2.0

#: Failures that are asked for at most: more cannot open between two looks.
MOST = 200

#: Seconds that a new failure waits for evidence on its way before it is told.
PATIENCE = 4.0

#: A failure by its number and when it opened, for another scheduler counts anew.
Name = tuple[str, float]
Failure = Mapping[str, Any]


class Watch:
    """Knows which failures were told of, and says what is new.

    Parameters
    ----------
    say
        Takes what happened (``opened``, ``changed``, ``closed``, ``lost``, ``back`` or
        ``watching``), a sentence, and the failure if it is about one.
    clock
        Gives the time, in seconds.
    """

    def __init__(
        self,
        say: Callable[[str, str, Failure | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say = say
        self._clock = clock
        # Failures told of → kind and cause then; those that are over; when first seen.
        self._open: dict[Name, tuple[str, str]] = {}
        self._over: set[Name] = set()
        self._seen: dict[Name, float] = {}

    def begin(self, address: str, failures: list[Failure]) -> None:
        """Say what is watched, and which failures are open already."""
        over = [failure for failure in failures if failure["closed"] is not None]
        self._over.update(map(_name, over))
        past = f"; {count(len(over), 'failure')} before" if over else ""
        self._say("watching", f"watching {plain(address)}{past}", None)
        self.look(failures, earlier=True)

    def look(self, failures: list[Failure], *, earlier: bool = False) -> None:
        """Say what is new among all failures that there are.

        Parameters
        ----------
        earlier
            Whether they may have opened long before.
        """
        now = self._clock()
        for failure in sorted(failures, key=lambda f: f["opened"]):
            name = _name(failure)
            if name in self._over:
                continue
            waited = now - self._seen.setdefault(name, now)
            closed = failure["closed"] is not None
            state = str(failure["kind"]), str(failure["diagnosis"]["cause"])
            if name not in self._open:
                if not (closed or failure["settled"] or waited >= PATIENCE):
                    continue
                self._open[name] = state
                self._say("opened", opened(failure, earlier=earlier), failure)
            elif state != self._open[name]:
                self._open[name] = state
                self._say("changed", changed(failure), failure)
            if closed:
                del self._open[name]
                self._over.add(name)
                self._say("closed", over(failure), failure)
        kept = set(map(_name, failures))
        self._over &= kept
        self._seen = {name: at for name, at in self._seen.items() if name in kept}

    def lost(self, why: str) -> None:
        """Say that nobody answers any more."""
        self._say("lost", f"{plain(why)}; trying again until it answers", None)

    def back(self, address: str, failures: list[Failure], *, same: bool | None) -> None:
        """Say that somebody answers again.

        Parameters
        ----------
        same
            Whether it is the same scheduler as before; None where nobody can tell.
        """
        known = set(map(_name, failures))
        lost = [name for name in self._open if name not in known]
        text = f"{plain(address)} answers again"
        if same:
            text += "; it is the same scheduler"
        elif lost or same is False:
            which = ", ".join(f"failure-{number}" for number, _ in lost)
            what = which or "what was before"
            text += f"; it is another scheduler, which knows nothing of {what}"
        for name in lost:
            del self._open[name]
        self._say("back", text, None)
        self.look(failures, earlier=True)


def opened(failure: Failure, *, earlier: bool = False) -> str:
    """Say in one line that a failure opened: what, why, what to change."""
    advice = failure["diagnosis"]["advice"]
    change = f" What to change: {advice[0]}" if advice else ""
    what = f"{failure['text']} {_cause(failure)}{change}"
    since = f"open since {format_clock(failure['opened'])}" if earlier else "opened"
    return plain(f"{_start(failure)} {since}: {what}")


def changed(failure: Failure) -> str:
    """Say in one line what later incidents and evidence made of a failure."""
    return plain(f"{_start(failure)} goes on: {failure['text']} {_cause(failure)}")


def over(failure: Failure) -> str:
    """Say in one line that a failure is over, after how long, and what it cost."""
    lasted = format_duration(failure["closed"] - failure["opened"])
    cost = cost_in_words(failure["cost"])
    return plain(f"{_start(failure)} over after {lasted}: {failure['text']} {cost}")


def _start(failure: Failure) -> str:
    return f"failure-{failure['id']}"


def _cause(failure: Failure) -> str:
    return str(failure["diagnosis"]["text"])


def _name(failure: Failure) -> Name:
    return str(failure["id"]), float(failure["opened"])


def follow(
    watch: Watch,
    address: str,
    interval: float = INTERVAL,
    opener: Opener = open_source,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Watch a cluster until interrupted.

    Raises
    ------
    MemDashError
        It cannot be asked at the start.
    """
    source: Source | None = None
    told = False
    try:
        source = opener(address)
        watch.begin(source.address, source.ask("failures", limit=MOST))
        identity = source.identity
        while True:
            sleep(AGAIN if told else interval)
            try:
                if source is None:
                    source = opener(address)
                failures = source.ask("failures", limit=MOST)
            except MemDashError as error:
                if not told:
                    watch.lost(str(error))
                told = True
                _closed(source)
                source = None
                continue
            if told:
                known = source.identity and identity
                same = source.identity == identity if known else None
                watch.back(source.address, failures, same=same)
            else:
                watch.look(failures)
            told, identity = False, source.identity
    finally:
        _closed(source)


def _closed(source: Source | None) -> None:
    if source is not None:
        source.close()


def as_line(what: str, text: str, failure: Failure | None, now: datetime) -> str:
    """Write one line for people."""
    return f"{now:%Y-%m-%d %H:%M:%S}  {text}"


def as_json(what: str, text: str, failure: Failure | None, now: datetime) -> str:
    """Write one JSON object, on one line."""
    told = {"time": now.timestamp(), "event": what, "text": text, "failure": failure}
    return json.dumps(told)
