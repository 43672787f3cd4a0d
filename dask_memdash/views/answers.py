"""The first thing on the Overview: what happened and what to change, or how it stands.

What is said is worked out in :mod:`dask_memdash.store.answers`; here it becomes words.
"""

from __future__ import annotations

from dataclasses import dataclass

from dask_memdash.store.answers import (
    Standing,
    executing_of,
    standing,
    stored_of,
    told_failures,
)
from dask_memdash.store.base import Store
from dask_memdash.store.worker_shapes import Worker
from dask_memdash.text import (
    count,
    format_bytes,
    format_duration,
    format_rate,
    format_share,
    shorten,
    with_capital,
)
from dask_memdash.views.base import TextView
from dask_memdash.views.tabular import address

#: What a worker comes to, by the line that ends its work → what then happens to it.
ENDS = {
    "pause": "is paused",
    "terminate": "is terminated",
    "limit": "reaches its limit",
}

#: The same lines as places.
LINES = {
    "pause": "the line at which it is paused",
    "terminate": "the line at which it is terminated",
    "limit": "its limit",
}

#: Share of a line that is left from which on there is little, and next to nothing.
LITTLE, NEXT_TO_NOTHING = 0.25, 0.1

#: Seconds to the limit that are soon, and very soon.
SOON, VERY_SOON = 900.0, 120.0

#: Characters of a name in a fact.
NAME = 30


@dataclass(frozen=True, slots=True)
class Fact:
    """One of the answers to how it stands."""

    question: str
    figure: str
    text: str
    #: Where more is told: a fragment of the page's address, or empty.
    link: str = ""
    #: 'good', 'caution', 'alarm' or empty.
    mood: str = ""
    #: Whether the figure is a name of the user's, which is set as code.
    is_name: bool = False


def worker_called(worker: Worker) -> str:
    """Name a worker in a sentence; nobody knows whose a shared process's memory is."""
    if worker["shares_process_with"]:
        return f"the process of {worker['shares_process_with'] + 1:,} workers"
    name = worker["name"]
    return f"worker {name}" if name.isdigit() else shorten(name, NAME)


def facts(store: Store) -> list[Fact]:
    """Say how a cluster stands, in four facts."""
    stands, cluster = standing(store), store.cluster()
    return [
        _headroom(stands, n_workers=cluster["n_workers"]),
        _time(stands, n_workers=cluster["n_workers"]),
        _execution(stands),
        _storage(stands),
    ]


def _headroom(stands: Standing, n_workers: int) -> Fact:
    question, room = "Headroom", stands.headroom
    if room is None:
        why = (
            "No worker has a limit, or none has reported yet."
            if n_workers
            else "No worker is connected."
        )
        return Fact(question, "not known", why)
    worker, share = room.worker, room.left / max(1, room.at)
    who = worker_called(worker)
    link = address("worker", worker["address"])
    if room.left < 0:
        text = f"{who} is {format_bytes(-room.left)} above {LINES[room.line]}."
        return Fact(question, "none", with_capital(text), link, "alarm")
    mood = (
        "alarm" if share < NEXT_TO_NOTHING else "caution" if share < LITTLE else "good"
    )
    text = (
        f"{format_share(share)} of {format_bytes(room.at)} is left on {who}, the "
        f"fullest, up to {LINES[room.line]}."
    )
    return Fact(question, format_bytes(room.left), text, link, mood)


def _time(stands: Standing, n_workers: int) -> Fact:
    question = "Time to the limit"
    if stands.soonest is None:
        text = (
            "No worker fills up steadily." if n_workers else "No worker is connected."
        )
        return Fact(question, "none in sight" if n_workers else "not known", text)
    worker, told = stands.soonest
    what = "its storage" if told["grows"] == "storage" else "what tasks leave behind"
    text = (
        f"Then {worker_called(worker)} {ENDS.get(told['line'], 'is full')}, if {what} "
        f"grows on by {format_rate(told['rate'])}."
    )
    seconds = told["seconds"]
    mood = "alarm" if seconds < VERY_SOON else "caution" if seconds < SOON else ""
    link = address("worker", worker["address"])
    return Fact(question, f"about {format_duration(seconds)}", text, link, mood)


def _execution(stands: Standing) -> Fact:
    question, prefix = "Largest user of execution", stands.executes
    if prefix is None:
        return Fact(question, "none", "No running task has memory of its own now.")
    running = prefix["execution"]["running"]
    text = (
        f"{format_bytes(executing_of(prefix))} in {count(running, 'running task')}."
        f"{_usual(prefix['execution']['peak']['p95'])}"
    )
    return Fact(
        question,
        shorten(prefix["prefix"], NAME),
        text,
        address("prefix", prefix["prefix"]),
        is_name=True,
    )


def _usual(peak: int | None) -> str:
    if peak is None:
        return ""
    return f" 95 of 100 of its tasks stay below {format_bytes(peak)} each."


def _storage(stands: Standing) -> Fact:
    question, prefix = "Largest user of storage", stands.stores
    if prefix is None:
        return Fact(question, "none", "No output is stored on a worker now.")
    storage = prefix["storage"]
    text = f"{format_bytes(storage['managed'])} in memory"
    if storage["spilled"]:
        text += f" and {format_bytes(storage['spilled'])} on disk"
    outputs = f" in {count(storage['count'], 'output')}" if storage["count"] else ""
    text += f"{outputs}.{_wanted(storage['awaited'], storage['pinned'])}"
    assert stored_of(prefix)
    return Fact(
        question,
        shorten(prefix["prefix"], NAME),
        text,
        address("prefix", prefix["prefix"]),
        is_name=True,
    )


def _wanted(awaited: int | None, pinned: int | None) -> str:
    """Say who wants what is stored, the larger of the two."""
    if pinned and pinned >= (awaited or 0):
        return f" A client holds {format_bytes(pinned)} of it."
    if awaited:
        return f" Tasks to come need {format_bytes(awaited)} of it."
    return ""


class AnswersView(TextView):
    """What happened, or how it stands, above all else on the Overview."""

    template = "answers.html"

    def draw(self) -> None:
        """Write what happened; where nothing has, how it stands."""
        told, more = self.once("what happened", lambda: told_failures(self.store))
        cluster = self.store.cluster()
        self.about.write(
            told=told,
            more=more,
            facts=[] if told else self.once("how it stands", lambda: facts(self.store)),
            n_workers=cluster["n_workers"],
            n_failures=cluster["n_failures"],
            live=self.context.live,
        )
