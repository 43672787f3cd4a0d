"""The border for what arrives: nothing becomes an event that was not checked here.

Covers every message that a worker (heartbeat, events), a nanny (reports, samples) or a
client (questions) sends: its type, protocol, size, times and rate, and that its sender
is a worker or nanny that the scheduler knows.  What each field may hold is
:mod:`dask_memdash.model.event_readers`'s; how much a message may bring is decided here.

Each check costs at most what its message holds, never what is kept.  What is refused
or cut is counted by sender, and shown (:mod:`dask_memdash.plugins.scheduler.refused`).

Does not cover what Dask itself takes in: whoever may speak to the scheduler may run
code on it.  This border is for messages that are wrong, too many or too large.

Runs on the scheduler's event loop.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from distributed.comm.addressing import get_address_host

from dask_memdash.errors import EventError
from dask_memdash.model.event_readers import shown
from dask_memdash.model.events import (
    DeathReported,
    MemoryErrorRaised,
    Noticed,
    SpillFailed,
    WorkerReported,
    WorkerSampled,
)
from dask_memdash.model.last_seconds import is_small, sound
from dask_memdash.plugins.protocol import PROTOCOL
from dask_memdash.plugins.scheduler import translate
from dask_memdash.plugins.scheduler.refused import Refused
from dask_memdash.text import KEY_KEPT, plain

if TYPE_CHECKING:
    from distributed.comm.core import Comm
    from distributed.scheduler import Scheduler, WorkerState

E = TypeVar("E", bound=WorkerReported | WorkerSampled | DeathReported)

#: What one sender may send: at once, and per second from then on.  A worker's
#: heartbeats are half a second apart, a nanny's samples a fifth.
MESSAGES = (50.0, 10.0)
#: Deaths of one nanny: it keeps 20 reports while the scheduler cannot be reached, and a
#: worker takes a second to be there again.
DEATHS = (30.0, 1.0)
#: Events of one worker; those of all senders that are not known; a client's questions.
EVENTS = (50.0, 5.0)
QUESTIONS = (200.0, 50.0)

#: Senders whose rate is known.
MAX_BUCKETS = 20_000

#: Executing tasks taken in of one message, the first; characters of all their keys and
#: prefixes together, and of each where they are more.
MAX_EXECUTING = 256
MAX_KEYS = 64_000
KEY_OF_MANY = 100

#: Sentences and their characters in one message.
MAX_NOTICES = 20
MAX_NOTICE = 500

#: Seconds for which a nanny is known after its last worker was removed.
REMEMBERED = 600.0

#: Oldest death that is reported, and oldest sample before it, in seconds; clocks that
#: differ have been allowed for.
OLDEST = 3600.0

#: Characters of a question's path, its arguments and their characters.
MAX_PATH, MAX_ARGUMENTS = 500, 20

STRANGER = "the scheduler knows no such nanny"


@dataclass(slots=True)
class _Nanny:
    """What is known of a nanny."""

    #: Hosts that its messages may come from; None in it: that could not be seen.
    hosts: set[str | None]
    #: Its workers that are connected.
    workers: set[str] = field(default_factory=set)
    #: Monotonic time at which it was last known to be there, in seconds.
    seen: float = 0.0


class Inbound:
    """Checks messages for one scheduler.

    Parameters
    ----------
    scheduler
        Whose workers and nannies may speak.
    clock, monotonic
        Unix time, and a clock that is never set back; in seconds.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._monotonic = monotonic
        self._refused = Refused()
        # Sender → tokens left, and when.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._nannies: OrderedDict[str, _Nanny] = OrderedDict()
        # Worker → its nanny.
        self._nanny_of: dict[str, str] = {}
        # Workers whose connection has not been seen yet.
        self._unseen: set[str] = set()
        # Who logs an event right now: a worker's address, "" for somebody outside,
        # None for the scheduler itself.
        self._speaker: str | None = None

    # -- who is known ----------------------------------------------------------

    def joined(self, worker: WorkerState) -> None:
        """Take note of a worker, and so of its nanny."""
        address = str(worker.nanny or "")
        if not address:
            return
        nanny = self._nanny(address)
        nanny.workers.add(worker.address)
        nanny.hosts.add(str(worker.host))
        self._nanny_of[worker.address] = address
        self._unseen.add(worker.address)

    def left(self, worker: str) -> None:
        """Take note that a worker was removed; its nanny is known a while longer."""
        self._unseen.discard(worker)
        nanny = self._nannies.get(self._nanny_of.pop(worker, ""))
        if nanny is not None:
            nanny.workers.discard(worker)
            nanny.seen = self._monotonic()

    def look(self) -> None:
        """See where new nannies speak from; forget those that are long gone.

        To be called now and then.  A nanny speaks to the scheduler from the address
        that its worker's connection comes from, which need not be where it listens.
        """
        comms = self._scheduler.stream_comms
        for address in list(self._unseen):
            host = _host_of(getattr(comms.get(address), "comm", None))
            nanny = self._nannies.get(self._nanny_of.get(address, ""))
            if host is not None and nanny is not None:
                nanny.hosts.add(host)
                nanny.hosts.discard(None)
                self._unseen.discard(address)
        for address in self._starting():
            self._nanny(address)
        oldest = self._monotonic() - REMEMBERED
        for address, one in list(self._nannies.items()):
            if not one.workers and one.seen < oldest:
                del self._nannies[address]

    def knows(self, nanny: str) -> bool:
        """Whether a nanny is one of this scheduler's, or was a few minutes ago."""
        return nanny in self._nannies or nanny in self._starting()

    def _nanny(self, address: str) -> _Nanny:
        nanny = self._nannies.get(address)
        if nanny is None:
            nanny = self._nannies[address] = _Nanny({_host(address), None})
        nanny.seen = self._monotonic()
        return nanny

    def _starting(self) -> Iterable[str]:
        """Return nannies whose first worker is not there yet."""
        starting: Iterable[str] = getattr(self._scheduler, "_starting_nannies", ())
        return starting

    # -- messages --------------------------------------------------------------

    def admits(self, worker: WorkerState, data: Any) -> bool:
        """Whether what came with a worker's heartbeat is one of ours, and in time."""
        sender = f"worker {worker.address}"
        if not self._allowed(sender, sender, MESSAGES):
            return False
        try:
            _check_protocol(data)
        except EventError as error:
            self._refuse(sender, str(error))
            return False
        return True

    def heartbeat(
        self, worker: WorkerState, data: Mapping[str, Any], now: float
    ) -> WorkerReported | Noticed | None:
        """Read what was admitted of a worker's at `now`; None where it is refused."""
        sender = f"worker {worker.address}"
        if "packed" not in data and "reading" not in data:
            if "notices" not in data:
                return None  # nothing new, as it is of one of very many workers
            return Noticed(now, sender, _sentences(data.get("notices")))
        try:
            event = translate.worker_reported(worker, self._fitting(sender, data), now)
        except EventError as error:
            self._refuse(sender, str(error))
            return None
        return self._bounded(sender, event)

    def report(
        self, message: Any, comm: Comm | None
    ) -> DeathReported | WorkerSampled | None:
        """Check a nanny's message; None where it is refused.

        Parameters
        ----------
        comm
            Where it came from; None where that is not known.
        """
        stranger = f"a stranger at {_host_of(comm) or 'an unknown host'}"
        try:
            _check_protocol(message)
        except EventError as error:
            self._refuse(stranger, str(error))
            return None
        address = _name_in(message, "nanny")
        if not self.knows(address):
            self._refuse(stranger, STRANGER)
            return None
        if not self._comes_from(address, comm):
            self._refuse(stranger, "it came from another host than the nanny's")
            return None
        sender = f"nanny {address}"
        death = message.get("kind") == "death"
        if not self._allowed(
            sender, f"{sender} {death}", DEATHS if death else MESSAGES
        ):
            return None
        try:
            return self._read_report(sender, address, message)
        except EventError as error:
            self._refuse(sender, str(error))
            return None

    def _read_report(
        self, sender: str, nanny: str, message: Mapping[str, Any]
    ) -> DeathReported | WorkerSampled:
        worker = self._scheduler.workers.get(_name_in(message, "address"))
        if worker is not None and worker.nanny != nanny:
            if message.get("kind") != "death":
                raise EventError("it speaks of another nanny's worker")
            # The address of a worker that died may be another's by now.
            message = {**message, "address": ""}
        now = self._clock()
        event = translate.nanny_reported(
            self._scheduler, self._fitting(sender, message), now
        )
        if isinstance(event, DeathReported):
            event = self._in_time(sender, event, now)
        return self._bounded(sender, event)

    @contextmanager
    def speaking(self, sender: str) -> Iterator[None]:
        """Say by whom events are logged within it: a worker, or "" for others.

        Outside of it, it is the scheduler itself that logs.
        """
        before, self._speaker = self._speaker, sender
        try:
            yield
        finally:
            self._speaker = before

    def may_log(self, topic: str) -> bool:
        """Whether what is logged now may be believed as the scheduler's own word.

        A worker may speak for itself, under its own address; nobody else from outside.
        """
        return self._speaker is None or self._speaker == topic

    def trouble(
        self, message: Mapping[str, Any]
    ) -> MemoryErrorRaised | SpillFailed | None:
        """Check what a worker says of a trouble; None where it is refused."""
        sender = self._sender_of(message)
        if sender is None:
            return None
        try:
            texts = {
                name: value[:KEY_KEPT]
                for name, value in message.items()
                if isinstance(value, str)
            }
            return translate.trouble(
                self._scheduler, {**message, **texts}, self._clock()
            )
        except EventError as error:
            self._refuse(sender, str(error))
            return None

    def degraded(self, message: Mapping[str, Any]) -> tuple[str, str] | None:
        """Check what a worker or nanny says that it lacks; None where it is refused.

        Returns
        -------
        str
            Which worker or nanny.
        str
            What it lacks, a sentence.
        """
        sender = self._sender_of(message, nannies=True)
        if sender is None:
            return None
        (text,) = _sentences([message.get("text")])
        return sender, text

    def question(self, path: Any, arguments: Any, comm: Comm | None) -> str | None:
        """Check what a client asks; return why it is not answered, None if it is."""
        sender = f"a client at {_host_of(comm) or 'an unknown host'}"
        if not self._allowed(sender, f"question {sender}", QUESTIONS):
            return "too many questions; ask again in a second"
        wrong = _wrong_question(path, arguments)
        if wrong is not None:
            self._refuse(sender, wrong)
        return wrong

    def texts(self) -> dict[str, tuple[str, ...]]:
        """Return what was refused and cut of whom, in sentences."""
        return self._refused.texts(self._monotonic())

    # -- checks ----------------------------------------------------------------

    def _sender_of(
        self, message: Mapping[str, Any], *, nannies: bool = False
    ) -> str | None:
        """Return who sent an event of our topic; None if that is not to be believed.

        Workers speak on their own connection; nannies as clients do, so that only the
        name they give can be looked at.
        """
        if self._speaker:
            sender = f"worker {self._speaker}"
            known = self._speaker in self._scheduler.workers
        else:
            where = _name_in(message, "where")
            known = nannies and message.get("kind") == "nanny" and self.knows(where)
            sender = f"nanny {where}" if known else "a client"
        if not known:
            self._refuse(sender, "an event that only workers may log")
            return None
        return sender if self._allowed(sender, f"event {sender}", EVENTS) else None

    def _comes_from(self, nanny: str, comm: Comm | None) -> bool:
        host = _host_of(comm)
        known = self._nannies.get(nanny)
        if host is None or known is None or None in known.hosts:
            return True  # it cannot be told
        return host in known.hosts

    def _allowed(self, sender: str, bucket: str, rate: tuple[float, float]) -> bool:
        """Take a token of a sender's; say whether there was one."""
        most, per_second = rate
        now = self._monotonic()
        tokens, last = self._buckets.pop(bucket, (most, now))
        tokens = min(most, tokens + (now - last) * per_second)
        allowed = tokens >= 1
        self._buckets[bucket] = (tokens - 1 if allowed else tokens, now)
        while len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if not allowed:
            self._refuse(sender, f"more than {per_second:.0f} a second")
        return allowed

    def _fitting(self, sender: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Cut lists and sentences to what is taken in, before they are read."""
        fitting = dict(data)
        executing = data.get("executing")
        if isinstance(executing, list | tuple) and len(executing) > MAX_EXECUTING:
            fitting["executing"] = executing[:MAX_EXECUTING]
            self._cut(sender, f"more than {MAX_EXECUTING} running tasks")
        if not is_small(data.get("last_seconds")):
            fitting["last_seconds"] = None
            self._cut(sender, "last seconds of more samples or tasks than any has")
        if "notices" in data:
            fitting["notices"] = _sentences(data["notices"])
        return fitting

    def _bounded(self, sender: str, event: E) -> E:
        """Cut the texts of an event's tasks."""
        tasks = event.executing
        if not tasks:
            return event
        if len(tasks) > MAX_EXECUTING:  # packed ones cannot be cut before
            event = replace(event, executing=tasks[:MAX_EXECUTING])
            tasks = event.executing
            self._cut(sender, f"more than {MAX_EXECUTING} running tasks")
        total = sum(len(task.key) + len(task.prefix) for task in tasks)
        longest = KEY_KEPT if total <= MAX_KEYS else KEY_OF_MANY
        if total <= KEY_KEPT:
            return event
        cut = tuple(
            replace(
                task,
                key=task.key[:longest],
                prefix=task.prefix[:longest],
                digest=task.digest[:KEY_OF_MANY],
                method=task.method[:KEY_OF_MANY],
            )
            for task in tasks
        )
        if total > MAX_KEYS:
            self._cut(sender, f"keys of more than {MAX_KEYS:,} characters together")
        return replace(event, executing=cut)

    def _in_time(self, sender: str, event: DeathReported, now: float) -> DeathReported:
        """Refuse a death of long ago, and put one of the future at the present."""
        if event.died < now - OLDEST:
            raise EventError("a death of more than an hour ago")
        if event.died > now + translate.CLOCK_TOLERANCE:
            self._cut(sender, "a death in the future")
        died = min(event.died, now)
        samples = tuple(
            (at, size) for at, size in event.samples if died - OLDEST < at <= now
        )
        last = event.last_seconds and sound(event.last_seconds, died - OLDEST, now)
        if last is None and event.last_seconds is not None:
            self._cut(sender, "last seconds that contradict themselves")
        return replace(event, died=died, samples=samples, last_seconds=last)

    def _refuse(self, sender: str, why: str) -> None:
        self._refused.refuse(sender, why, self._monotonic())

    def _cut(self, sender: str, what: str) -> None:
        self._refused.cut(sender, what, self._monotonic())


def _check_protocol(data: Any) -> None:
    if not isinstance(data, Mapping):
        raise EventError(f"it is {shown(data)}, no message of MemDash's")
    protocol = data.get("protocol")
    if protocol != PROTOCOL:
        which = protocol if isinstance(protocol, int) else shown(protocol)
        raise EventError(
            f"it speaks protocol {which}, the scheduler {PROTOCOL}: install the same "
            "version of dask_memdash there"
        )


def _sentences(texts: Any) -> tuple[str, ...]:
    """Return the first of some sentences, each made harmless and cut."""
    known: Sequence[Any] = texts if isinstance(texts, list | tuple) else ()
    return tuple(
        plain(text if isinstance(text, str) else shown(text), MAX_NOTICE)
        for text in known[:MAX_NOTICES]
    )


def _name_in(message: Mapping[str, Any], field: str) -> str:
    """Return an address that a message names; empty where it names none."""
    name = message.get(field)
    return name[:KEY_KEPT] if isinstance(name, str) else ""


def _wrong_question(path: Any, arguments: Any) -> str | None:
    if not isinstance(path, str) or len(path) > MAX_PATH:
        return "a question's path must be a text of at most 500 characters"
    if not isinstance(arguments, Mapping) or len(arguments) > MAX_ARGUMENTS:
        return "a question has 20 arguments at most"
    for name, value in arguments.items():
        if not isinstance(name, str) or not isinstance(value, str):
            return "a question's arguments must be texts"
        if len(name) > MAX_PATH or len(value) > KEY_KEPT:
            return "a question's argument is too long"
    return None


def _host(address: str) -> str | None:
    """Return the host of an address; None where it has none."""
    try:
        return str(get_address_host(address)) or None
    except (ValueError, TypeError, LookupError):  # it is no address
        return None


def _host_of(comm: Any) -> str | None:
    """Return the host at the other end of a connection; None where not known."""
    address = getattr(comm, "peer_address", None)
    return _host(address) if isinstance(address, str) else None
