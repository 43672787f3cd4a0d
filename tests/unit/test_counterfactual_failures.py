"""Would it have lived, asked of one failure of a cluster that had others."""

from dataclasses import replace

import stories
from test_counterfactual import DIED, FINISHED, ask

from dask_memdash.counterfactual.evidence import gather
from dask_memdash.model.events import Ticked

MB = 10**6

#: A task of another failure, which took more than any here before it was cut short.
STRANGER = replace(DIED.tasks[0], prefix="read_everything", at_least=200 * MB)


def beside(evidence):
    """Put the other failure's task beside those of a failure."""
    return replace(
        evidence,
        tasks=(*evidence.tasks, STRANGER),
        cut_elsewhere=("read_everything",),
    )


def test_what_another_failure_cut_short_is_not_what_this_ones_tasks_were():
    found = ask(beside(DIED), limit=3.0)
    assert found.verdict == "unknown"
    assert "`load` was cut short" in found.reason
    assert "read_everything" not in found.reason


def test_it_is_said_where_only_another_failures_tasks_were_cut_short():
    assert ask(FINISHED, limit=3.0).verdict == "lived"
    found = ask(beside(FINISHED), limit=3.0)
    assert found.verdict == "unknown"
    assert found.reason.startswith(
        "`read_everything` was cut short in another failure, and it is not known "
        "whether tasks of it were to run here; "
    )
    assert "(largest: `load`)" in found.reason


def test_what_a_failure_cut_short_is_told_by_what_ran_when_its_workers_died():
    live = stories.after_incident()
    failure = live.failures()[-1]["id"]
    assert gather(live, failure).cut_elsewhere == ()
    live._model.prefixes.learn("read_everything", 400 * 2**20)
    stories.tell(live._model, Ticked(stories.NOW + 1))
    assert gather(live, failure).cut_elsewhere == ("read_everything",)
    assert gather(live).cut_elsewhere == ()
