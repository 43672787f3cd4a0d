"""Failures: the incidents of one computation, as the one thing that people see.

A failure groups all incidents of one graph, or of one client's single submits that
share a prefix or a dependency.  It opens with the first of them and stays open while
its computation lives, whatever the time between two incidents: while its graph has
something left to run, or tasks that it cut short are still to run.  It closes when its
graph has left the scheduler, else when a minute has passed without a new incident.

Which graph an incident belongs to is told by the tasks that were running, else by
those that were assigned, else by what was stored.  A first guess is corrected when
the worker's own report arrives, and an incident that turns out to be none leaves its
failure.  Why a failure happened is :mod:`dask_memdash.store.failures`'s.

Imports the standard library only.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from dask_memdash.model.event_parts import TaskInfo
from dask_memdash.model.failure_parts import Failure, Link, Loss, Member, Origin
from dask_memdash.model.graph_index import GraphIndex
from dask_memdash.model.incidents import DEATHS, Incident, IncidentLog
from dask_memdash.model.order_log import OrderLog

#: Seconds without a new incident after which a failure is closed whose computation does
#: not live, as far as is known.
QUIET = 60.0

#: The same where its graph has left the scheduler: late reports still count.
GRAPH_GONE = 5.0

#: Failures kept at most, the newest.
MAX_FAILURES = 200

#: Incidents that one failure lists at most, the newest; the others are counted.
MAX_LISTED = 1_000

#: Incidents listed by all failures together, at most.
MAX_LISTED_IN_ALL = 5_000

#: Keys that are kept of one incident at most.
MAX_KEYS = 8

#: Deaths that tasks were given up for, and failures that became part of another,
#: remembered at most.
MAX_REMEMBERED = 2_000


class FailureLog:
    """The newest failures, by id; ids count up from 1 and are never used twice.

    Parameters
    ----------
    incidents, graphs, orders
        What is known; only read here.
    """

    def __init__(
        self, incidents: IncidentLog, graphs: GraphIndex, orders: OrderLog
    ) -> None:
        self._incidents = incidents
        self._graphs = graphs
        self._orders = orders
        self._failures: OrderedDict[str, Failure] = OrderedDict()
        self._of: dict[str, str] = {}
        # A death → the incident of the tasks that Dask gave up for it.
        self._given_up: OrderedDict[str, str] = OrderedDict()
        # A failure that became part of another → that one.
        self._joined: OrderedDict[str, str] = OrderedDict()
        self._last = 0

    def __len__(self) -> int:
        return len(self._failures)

    def __iter__(self) -> Iterator[Failure]:
        """Newest first."""
        return reversed(self._failures.values())

    def get(self, failure_id: str | None) -> Failure | None:
        """Return a failure, None if it is not (or no longer) known.

        One that became part of another is known by that one's id too.
        """
        if failure_id is None:
            return None
        while failure_id in self._joined:
            failure_id = self._joined[failure_id]
        return self._failures.get(failure_id)

    def of(self, incident_id: str) -> Failure | None:
        """Return the failure that an incident is part of."""
        return self.get(self._of.get(incident_id))

    def follow(self, now: float) -> None:
        """Bring failures up to date with the incidents that have changed.

        Parameters
        ----------
        now
            Unix time in seconds.
        """
        changed, withdrawn = self._incidents.take_changes()
        for incident_id in withdrawn:
            self._leave(incident_id)
        leaders: dict[str, Incident] = {}
        for incident in changed:
            death = self._incidents.get((None, *incident.attempts)[-1])
            if death is not None:
                self._given_up[death.id] = incident.id
            leaders[(death or incident).id] = death or incident
        for incident in leaders.values():
            self._place(incident, now)
        if changed or withdrawn:
            self._make_room()

    def close_quiet(self, now: float) -> None:
        """Close the failures that are over."""
        for failure in self._failures.values():
            over = now >= failure.last + self._patience(failure)
            if failure.closed is None and over and not self._lives(failure):
                failure.closed = now

    def look_for(self) -> dict[str, list[str]]:
        """Return of open failures the keys of tasks that may still be to run, as text.

        By the failure's id.  Of those whose graph is known nobody need look.
        """
        return {
            failure.id: keys
            for failure in self._failures.values()
            if failure.closed is None
            and self._orders.graphs.get(failure.graph or "") is None
            and ((keys := failure.cut_short) or failure.alive)
        }

    def check(self, failure_id: str, *, alive: bool) -> None:
        """Take note whether tasks that a failure cut short are still to run."""
        failure = self.get(failure_id)
        if failure is not None:
            failure.alive = alive

    def _lives(self, failure: Failure) -> bool:
        """Whether its computation goes on, so that the next death will be its too.

        Where Dask gave tasks up, the rest of a graph may stay for ever.
        """
        record = self._orders.graphs.get(failure.graph or "")
        if record is None:
            return failure.alive
        return not (record.finished or failure.killed)

    # -- where incidents belong ------------------------------------------------

    def _place(self, incident: Incident, now: float) -> None:
        """Put an incident where it belongs by what is known of it now.

        What was given up for a death goes with it.
        """
        given_up = self._incidents.get(self._given_up.get(incident.id))
        together = [incident] if given_up is None else [incident, given_up]
        origin = self._origin(together)
        ids = {one.id for one in together}
        current = self.of(incident.id)
        stays = current is not None and (
            current.closed is not None or current.shares(origin, ids)
        )
        target = current if stays else self._other_home(origin, ids, now)
        if target is None and current is not None and current.members.keys() <= ids:
            target = current  # it alone made this failure
        if target is None:
            self._last += 1
            target = Failure(str(self._last), incident.time)
            self._failures[target.id] = target
        for one in together:
            if self.of(one.id) is not target:
                self._leave(one.id)
            self._enter(target, one, origin)

    def _other_home(self, origin: Origin, ids: set[str], now: float) -> Failure | None:
        """Return the failure that something belongs to; several become one."""
        found = [
            failure
            for failure in self._failures.values()
            if self._takes_more(failure, now) and failure.shares(origin, ids)
        ]
        if origin.again is not None:
            # Whichever lost it first: two that lost outputs of one graph stay two.
            found = found[:1]
        for other in found[1:]:
            self._join(other, found[0])
        for target in found[:1]:
            target.closed = None
        return found[0] if found else None

    def _takes_more(self, failure: Failure, now: float) -> bool:
        if failure.closed is None or now < failure.last + QUIET:
            return True
        record = self._orders.graphs.get(failure.graph or "")
        return failure.alive if record is None else record.ended is None

    def _patience(self, failure: Failure) -> float:
        record = self._orders.graphs.get(failure.graph or "")
        gone = record is not None and record.ended is not None
        return GRAPH_GONE if gone else QUIET

    def _enter(self, failure: Failure, incident: Incident, origin: Origin) -> None:
        failure.members[incident.id] = Member(
            incident.id,
            incident.time,
            incident.kind,
            incident.worker.name or incident.worker.address,
            origin,
            Loss(
                incident.keys_lost,
                incident.bytes_lost,
                incident.seconds_lost,
                incident.keys_stored,
                incident.bytes_stored,
            ),
            _keys_of(incident),
        )
        failure.workers.add(incident.worker.name or incident.worker.address)
        if failure.graph != origin.graph:
            failure.graph = _graph_of(failure)
        self._of[incident.id] = failure.id
        while len(failure.members) > MAX_LISTED:
            self._fold(failure)

    def _leave(self, incident_id: str) -> None:
        failure = self.of(incident_id)
        self._of.pop(incident_id, None)
        if failure is None:
            return
        failure.members.pop(incident_id, None)
        if not failure.count:
            del self._failures[failure.id]
            return
        failure.graph = _graph_of(failure)
        if not failure.others:
            members = failure.members.values()
            failure.workers = {member.worker for member in members}
            failure.opened = min((m.time for m in members), default=failure.opened)

    def _join(self, other: Failure, target: Failure) -> None:
        """Make one failure part of another."""
        together = [*target.members.values(), *other.members.values()]
        together.sort(key=lambda member: int(member.id))
        target.members = OrderedDict((member.id, member) for member in together)
        target.others += other.others
        target.others_loss += other.others_loss
        target.workers |= other.workers
        target.opened = min(target.opened, other.opened)
        target.graph = target.graph or other.graph
        self._of.update(dict.fromkeys(other.members, target.id))
        del self._failures[other.id]
        self._joined[other.id] = target.id

    def _fold(self, failure: Failure) -> None:
        """List one incident less, and count it all the same."""
        _, oldest = failure.members.popitem(last=False)
        self._of.pop(oldest.id, None)
        failure.others[oldest.kind] += 1
        failure.others_loss += oldest.loss

    def _make_room(self) -> None:
        for book in (self._given_up, self._joined):
            while len(book) > MAX_REMEMBERED:
                book.popitem(last=False)
        listed = sum(len(failure.members) for failure in self._failures.values())
        while len(self._failures) > 1 and (
            len(self._failures) > MAX_FAILURES or listed > MAX_LISTED_IN_ALL
        ):
            _, oldest = self._failures.popitem(last=False)
            listed -= len(oldest.members)
            for incident_id in oldest.members:
                self._of.pop(incident_id, None)

    # -- where incidents come from ---------------------------------------------

    def _origin(self, together: Sequence[Incident]) -> Origin:
        """Tell where incidents come from, by the best evidence there is.

        Parameters
        ----------
        together
            An incident, and what was given up for it.
        """
        origin = self._by_tasks(together)
        incident = together[0]
        graph = origin.graph
        if incident.kind in DEATHS:
            stored = {row.prefix for row in incident.storage}
            if incident.facts is not None:
                stored |= incident.facts.held.keys()
            graphs = {self._running_with(prefix) for prefix in stored}
            lost = frozenset(g for g in graphs if g is not None and g != graph)
            origin = replace(origin, lost=lost)
        record = self._orders.graphs.get(graph or "")
        done = None if record is None else record.done_at(incident.time)
        if record is not None and done is not None and done >= record.total:
            origin = replace(origin, again=graph)
        return origin

    def _by_tasks(self, together: Sequence[Incident]) -> Origin:
        incident = together[0]
        if incident.tasks:
            return self._from_tasks(incident.tasks[:1])
        if incident.suspects:
            largest = incident.suspects[0]
            infos = {info.key: info for info in incident.assigned}
            unknown = TaskInfo(largest.key, largest.prefix, "", largest.priority)
            origin = self._from_tasks([infos.get(largest.key, unknown)])
            return _with_retries(origin, incident)
        given_up = [task for one in together[1:] for task in one.tasks]
        if incident.assigned or given_up:
            return self._from_tasks(incident.assigned or given_up)
        stored = max(
            incident.storage, key=lambda row: row.managed + row.spilled, default=None
        )
        if stored is not None:
            return self._from_tasks([TaskInfo("", stored.prefix, "", None)])
        return Origin(frozenset({("nothing ran", incident.kind)}), frozenset())

    def _from_tasks(self, tasks: Iterable[TaskInfo]) -> Origin:
        """Return where most of these tasks come from."""
        origins = Counter(map(self._from_task, tasks))
        return origins.most_common(1)[0][0]

    def _from_task(self, task: TaskInfo) -> Origin:
        prefixes = frozenset({task.prefix})
        graph = self._graphs.graph_of(task.group, task.priority) if task.group else None
        if graph is None and not task.group:
            graph = self._running_with(task.prefix)
        if graph is not None:
            return Origin(frozenset({("graph", graph)}), prefixes)
        links: set[Link] = {("submits", task.client, task.prefix)}
        if task.group:
            links |= {("key", key) for key in (hash(task.key), *task.dependencies)}
        return Origin(frozenset(links), prefixes, vague=not task.group)

    def _running_with(self, prefix: str) -> str | None:
        """Return the newest graph that is still there and has tasks of a prefix."""
        for record in reversed(self._orders.graphs.values()):
            there = record.ended is None and not record.submits
            if there and prefix in record.prefixes:
                return record.id
        return None


def _with_retries(origin: Origin, incident: Incident) -> Origin:
    """Link an incident by all tasks that ran where counts do not say whose it was.

    One that runs again, and dies again, makes both deaths one failure.
    """
    counted = sum(suspect.bytes or 0 for suspect in incident.suspects)
    parts = incident.breakdown
    if parts is None or parts.executing <= 2 * counted:
        return origin
    ran: set[Link] = {("ran", hash(suspect.key)) for suspect in incident.suspects}
    return replace(origin, links=origin.links | ran)


def _keys_of(incident: Incident) -> tuple[str, ...]:
    """Return keys of the tasks that an incident is about, as text: some of them."""
    tasks = incident.tasks or incident.suspects or incident.assigned
    return tuple(task.key for task in tasks[:MAX_KEYS])


def _graph_of(failure: Failure) -> str | None:
    """Return the newest graph, before those of which only what was lost ran again."""
    origins = [member.origin for member in reversed(failure.members.values())]
    origins.sort(key=lambda origin: origin.again is not None)
    graphs = (origin.graph for origin in origins)
    return next((graph for graph in graphs if graph is not None), None)
