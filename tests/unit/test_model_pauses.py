"""Pauses: bands in a worker's time and a count, and no incidents."""

from builders import A, B, added, removed

from dask_memdash.model.events import WorkerStatusChanged
from dask_memdash.model.pauses import Pause, PauseLog

T = 1_760_000_000.0


def feed(model, *events):
    for event in events:
        model.handle(event)


def status(time, status, address=A):
    return WorkerStatusChanged(T + time, address, status)


def test_a_pause_lasts_until_the_worker_goes_on_and_is_no_incident(model):
    feed(model, added(), status(5, "paused"), status(6, "paused"))
    pauses = model.processes.workers[A].pauses
    assert pauses.bands() == model.pauses.bands() == [[T + 5, None]]
    feed(model, status(8, "running"), status(9, "paused"), status(9.5, "running"))
    assert pauses.bands() == [[T + 5, T + 8], [T + 9, T + 9.5]]
    assert (pauses.count, model.pauses.count, len(model.incidents)) == (2, 2, 0)


def test_a_pause_ends_with_its_worker(model):
    feed(model, added(), status(5, "paused"), removed(time=T + 7, expected=True))
    assert model.processes.departed[A].worker.pauses.bands() == [[T + 5, T + 7]]
    assert model.pauses.bands() == [[T + 5, T + 7]]


def test_pauses_of_several_workers_are_their_own_and_the_clusters(model):
    feed(model, added(), added(B, 7), status(5, "paused"), status(6, "paused", B))
    feed(model, status(7, "running"))
    workers = model.processes.workers
    assert workers[A].pauses.bands() == [[T + 5, T + 7]]
    assert workers[B].pauses.bands() == [[T + 6, None]]
    assert model.pauses.bands() == [[T + 5, T + 7], [T + 6, None]]


def test_a_worker_may_be_paused_when_it_becomes_known(model):
    feed(model, added(status="paused"), status(5, "running"))
    (band,) = model.pauses.bands()
    assert band[1] == T + 5


def test_the_newest_pauses_are_kept_and_all_are_counted():
    log = PauseLog(keep=2)
    for n in range(4):
        log.add(Pause(T + n))
        log.end(T + n + 0.5)
    assert log.bands() == [[T + 2, T + 2.5], [T + 3, T + 3.5]]
    assert log.count == 4


def test_only_pauses_that_lasted_after_an_instant_are_asked_for():
    log = PauseLog()
    for start in (0, 10):
        log.add(Pause(T + start))
        log.end(T + start + 5)
    log.add(Pause(T + 20))
    assert log.bands(since=T + 12) == [[T + 10, T + 15], [T + 20, None]]


def test_a_clock_that_steps_back_makes_no_pause_of_negative_length():
    log = PauseLog()
    log.add(Pause(T))
    log.end(T - 3)
    assert log.bands() == [[T, T]]
