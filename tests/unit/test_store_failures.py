"""Failures as data: one cause from all incidents, counts and words."""

import pytest
from builders import A, B, MiB, added, died, executing, info, killed, removed, reported

from dask_memdash.analysis.incidents import failure_words
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.events import Ticked
from dask_memdash.store import incidents
from dask_memdash.store.live import LiveStore

T = 1_760_000_000.0

COST = {
    "keys_lost": 0,
    "bytes_lost": None,
    "seconds_recomputed": None,
    "keys_stored": 0,
    "bytes_stored": 0,
}


@pytest.fixture
def store_of(model):
    """Make a store of some events."""

    def make(*events):
        for event in events:
            model.handle(event)
        return LiveStore(model)

    return make


def hog_dies(address, pid, moment, number, size=940 * MiB):
    """Return the events of a worker of 1,000 MiB in which one large task ran."""
    task = executing(f"hog-{number}", size, method="exact", error=0)
    rss = size + 60 * MiB
    then = Reading(time=T + moment, rss=rss, base=60 * MiB, live=size, busy=True)
    return (
        added(address, pid, T + moment - 1),
        reported(
            address, pid, T + moment - 0.5, rss=60 * MiB, reading={"base": 60 * MiB}
        ),
        removed(address, T + moment, n_assigned=1, assigned=(info(f"hog-{number}"),)),
        died(
            address, pid, T + moment + 0.1, executing=(task,), by="nanny", reading=then
        ),
    )


def test_a_failure_is_one_with_its_deaths_and_what_was_given_up(store_of):
    given_up = killed("hog-1", B, T + 20, allowed_failures=1)
    first, second = hog_dies(A, 1, 10, 1), hog_dies(B, 2, 20, 1)
    store = store_of(*first, *second[:2], given_up, *second[2:])
    (failure,) = store.failures()
    assert (failure["id"], failure["kind"], failure["count"]) == (
        *("1", "killed-worker"),
        3,
    )
    assert (failure["deaths"], failure["workers"], failure["worker_names"]) == (
        *(2, 1),
        ["0"],
    )
    assert failure["text"] == (
        "2 deaths of 1 worker (terminated 2) and Dask gave 1 task up (KilledWorker)."
    )
    assert (failure["opened"], failure["closed"]) == (T + 10, None)
    assert failure["incidents"] == ["1", "2", "3"]
    assert (failure["killed_workers"], failure["tasks_given_up"]) == (["3"], 1)
    assert failure["settled"]


def test_what_one_death_shows_is_the_cause_of_the_failure(store_of):
    """The second worker died before anything was known of its task."""
    blind = (
        added(B, 2, T + 19),
        removed(B, T + 20, n_assigned=1, assigned=(info("hog-1"),)),
        died(B, 2, T + 20.1, signal=None, recorded=False),
    )
    store = store_of(*hog_dies(A, 1, 10, 1), *blind)
    (failure,) = store.failures()
    assert store.incident("2")["diagnosis"]["cause"] == "unknown"
    known = store.incident("1")["diagnosis"]
    assert known["cause"] != "unknown"
    assert failure["diagnosis"]["cause"] == known["cause"]
    assert failure["responsible"]["prefix"] == "hog"


def test_the_cause_of_a_closed_failure_is_kept(store_of):
    store = store_of(*hog_dies(A, 1, 10, 1), Ticked(T + 100))
    (failure,) = store.failures()
    assert failure["closed"] == T + 100
    assert store.failures() == [failure]


# -- words ---------------------------------------------------------------------


def test_what_happened_is_one_sentence():
    said = failure_words.what_happened
    assert said({"oom-killed": 1}, {}, 1) == (
        "A worker died (killed by the kernel (out of memory))."
    )
    assert said({"terminated": 3, "lost": 1}, {}, 2) == (
        "4 deaths of 2 workers (terminated 3, lost 1)."
    )
    assert said({"memory-error": 1, "spill-failed": 2}, {"memory-error": 4}, 1) == (
        "4 tasks ran out of memory (MemoryError) and outputs could not be spilled "
        "(2 times)."
    )
    assert said({"stuck": 1}, {}, 2) == "The computation got stuck."
    assert said({"kernel-near": 2}, {}, 2) == "The kernel was about to kill a worker."
    assert said({}, {}, 0) == "Nothing that is still known."


def test_cost_is_told_as_far_as_it_is_known():
    said = failure_words.cost_in_words
    assert said(COST) == ""
    assert said({**COST, "keys_lost": 1}) == "1 stored output had to be computed again."
    whole = {"keys_lost": 12, "bytes_lost": 100 * MiB, "seconds_recomputed": 4.5}
    assert said(whole) == (
        "12 stored outputs (100 MiB) had to be computed again, 4.5 s of work."
    )
    stored = {**whole, "keys_stored": 10, "bytes_stored": 90 * MiB}
    assert said(stored) == (
        "90 MiB of the 100 MiB lost are stored and not computed again. For the rest, "
        "4.5 s of work is repeated."
    )
    assert said({**stored, "keys_stored": 12}) == (
        "All 12 outputs (100 MiB) that were lost are stored: nothing has to be "
        "computed again."
    )


def told(**diagnosis):
    values = {"cause": "task-too-large", "confidence": 0.9, **diagnosis}
    return {
        "id": "3",
        "text": "A worker died (lost).",
        "responsible": {"prefix": "hog"},
        "diagnosis": values,
    }


def test_a_log_line_says_how_sure_the_cause_is():
    line = failure_words.opening
    start = "MemDash failure 3: A worker died (lost)."
    assert line(told(), None) == f"{start} Cause: one task needs too much (`hog`)."
    assert line(told(confidence=0.5), None) == (
        f"{start} Likely cause: one task needs too much (`hog`)."
    )
    assert line(told(confidence=0.49), None) == (
        f"{start} Possible cause: one task needs too much (`hog`)."
    )
    assert line(told(cause="unknown"), None) == f"{start} The cause is not known."
    assert failure_words.closing(told(cause="unknown"), "http://x/memdash") == (
        "MemDash failure 3 is over: A worker died (lost). The cause is not known. "
        "http://x/memdash"
    )


def test_a_link_that_does_not_fit_into_a_log_line_is_left_out():
    line = failure_words.opening(told(), "http://" + "x" * 200)
    assert line.endswith("(`hog`).")


def test_an_open_failure_is_judged_again_only_when_its_evidence_grows(
    store_of, model, monkeypatch
):
    judged = []

    def together(cases):
        judged.append(len(cases))
        return real(cases)

    real = incidents._together
    monkeypatch.setattr(incidents, "_together", together)
    store = store_of(*hog_dies(A, 1, 10, 1))
    for _ in range(3):
        (failure,) = store.failures()
        assert failure["responsible"]["prefix"] == "hog"
    assert judged == [1]
    for event in hog_dies(B, 2, 20, 1):
        model.handle(event)
    for _ in range(3):
        (failure,) = store.failures()
        assert failure["deaths"] == 2
    assert judged == [1, 2]
