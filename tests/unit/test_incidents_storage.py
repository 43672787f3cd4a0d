"""Rules on stored outputs: why they were held, and why they were not spilled."""

from dataclasses import replace

import pytest
from builders import MiB
from cases import (
    THRESHOLDS,
    case,
    expected,
    facts,
    held,
    order,
    parts,
    stored,
    storing,
    suspect,
)

from dask_memdash.analysis.incidents.diagnose import diagnose
from dask_memdash.analysis.incidents.rules.awaited import awaited
from dask_memdash.analysis.incidents.rules.pinned import pinned
from dask_memdash.analysis.incidents.rules.replicas import replicas
from dask_memdash.analysis.incidents.rules.run_ahead import run_ahead
from dask_memdash.analysis.incidents.rules.sizeof import sizeof
from dask_memdash.model.event_parts import Thresholds

ALL = (run_ahead, awaited, pinned, replicas, sizeof)


def weights(known):
    return {f.cause: round(f.weight, 2) for rule in ALL for f in rule(known)}


HIGH = Thresholds(target=920 * MiB, terminate=950 * MiB)


def test_outputs_that_tasks_wait_for_are_awaited():
    known = storing(
        "open", 800, held(awaited=400, by="sum"), facts={"thresholds": HIGH}
    )
    (finding,) = awaited(known)
    assert (finding.weight, finding.prefix, finding.thin) == (1.0, "open", "")
    assert finding.text == (
        "800 MiB of `open` were in memory, because `sum` needed them and had not run."
    )
    assert weights(known) == {"awaited": 1.0}


def test_outputs_beyond_what_the_order_needs_are_run_ahead():
    known = storing(
        "open",
        800,
        held(awaited=800, by="sum"),
        facts={
            "thresholds": HIGH,
            "order": order(ideal=40, held=840, ahead={"open": 800}),
            "awaited": {"open": 1000},
        },
    )
    assert weights(known) == {"run-ahead": 0.8, "awaited": 0.2}
    (finding,) = run_ahead(known)
    assert finding.prefix == "open"
    assert finding.text.startswith(
        "640 MiB of `open` on this worker had been produced too early. At 12 of 60 "
        "tasks, the order needs 40 MiB of storage on the cluster; 840 MiB were held."
    )
    assert '{"distributed.scheduler.worker-saturation": 1.0}' in finding.advice[0]
    assert "`open` and `sum` be one task" in finding.advice[1]


def ahead(order_facts, **more):
    known = storing(
        "open",
        800,
        held(awaited=800, by="sum"),
        facts={
            "thresholds": HIGH,
            "order": order_facts,
            "awaited": {"open": 800},
            **more,
        },
    )
    return diagnose(known)


def test_what_the_order_needs_a_little_earlier_or_later_is_not_run_ahead():
    sure = order(ideal=40, held=840, ahead={"open": 800})
    assert ahead(sure).cause == "run-ahead"
    near = replace(sure, near=840 * MiB)
    assert ahead(near).cause == "awaited"


def test_outputs_are_not_run_ahead_while_what_they_become_is_not_known():
    sure = order(ideal=40, held=840, ahead={"open": 800})
    found = ahead(replace(sure, near=40 * MiB, doubt=800 * MiB))
    assert found.cause == "awaited"
    assert (
        "The evidence is thin: how large the outputs of `sum` are is not known, so "
        "that they may have been produced too early."
    ) in found.text
    assert (
        "At this point the order needs 40 MiB to 840 MiB of storage on the cluster; "
        "840 MiB were held."
    ) in found.text
    assert "however it is run" not in found.text
    assert found.confidence < ahead(replace(sure, near=900 * MiB)).confidence


@pytest.mark.parametrize(
    ("saturation", "output", "advised"),
    [
        ({"open": None}, 10, True),
        ({"open": 1.0}, 10, False),  # it is done already
        ({"open": 1.1}, 10, False),  # one output more on each worker
        ({"open": 3.0}, 300, True),
        ({"other": None}, 10, False),  # no root tasks: they are not held back
    ],
)
def test_holding_back_is_advised_only_where_it_changes_something(
    saturation, output, advised
):
    sure = order(ideal=40, held=840, ahead={"open": 800})
    known = {"open": expected(output=output)}
    usual = {"open": replace(known["open"], output_p50=output * MiB)}
    found = ahead(replace(sure, saturation=saturation), expected=usual)
    assert found.cause == "run-ahead"
    assert any("worker-saturation" in line for line in found.advice) is advised


def test_one_prefix_ahead_where_another_is_behind_is_not_run_ahead():
    known = storing(
        "open",
        800,
        held(awaited=800),
        facts={
            "thresholds": HIGH,
            "order": order(ideal=850, held=840, ahead={"open": 800}),
            "awaited": {"open": 800},
        },
    )
    assert weights(known) == {"awaited": 1.0}


def test_outputs_that_only_a_client_wants_are_pinned():
    known = storing("open", 600, held(pinned=600), suspects=(suspect("sum-1", 10),))
    (finding,) = pinned(known)
    assert (finding.weight, finding.prefix) == (1.0, "open")
    assert finding.advice == (
        "Release what you hold of `open` before the next step: "
        "`client.cancel(futures)`, or `del` the collection. 600 MiB of this worker's "
        "700 MiB would be free, and 100 MiB would stay.",
    )
    assert list(awaited(known)) == []


def test_reasons_share_a_prefix_as_they_were_last_seen():
    known = storing("open", 500, held(pinned=100, awaited=300, replica=100))
    assert weights(known) == {"awaited": 0.6, "pinned": 0.2, "replicas": 0.2}


def test_outputs_nobody_has_looked_at_have_no_cause_and_what_is_missing_is_told():
    known = storing("open", 500)
    assert weights(known) == {}
    assert diagnose(known).text == (
        "The cause is not known: 500 MiB of outputs were in memory, and who needed "
        "them is not known."
    )


def test_copies_of_a_broadcast_are_replicas():
    known = storing("table", 700, replace(held(replica=700), max_copies=4))
    (finding,) = replicas(known)
    assert (finding.weight, finding.prefix) == (1.0, "table")
    assert finding.text == (
        "700 MiB of `table` were copies, fetched from other workers as inputs. "
        "4 workers hold one of them at a time."
    )
    assert "`--nworkers 1 --nthreads 2 --memory-limit 2GiB`" in finding.advice[0]


def test_a_graph_that_never_fits_says_so():
    known = storing(
        "open",
        800,
        held(awaited=800),
        facts={"order": order(ideal=1200, held=800)},
    )
    (finding,) = awaited(known)
    assert finding.advice == (
        "Use 2 workers of `--memory-limit 1000MiB`. The graph needs 1.17 GiB of "
        "storage in any order, and the workers have 0.98 GiB now.",
    )


# -- sizeof --------------------------------------------------------------------


def hiding(types=("Liar",), believed=1, measured=700, claimed=1):
    return case(
        breakdown=parts(managed=claimed, baseline=800),
        storage=(stored("lie", claimed),),
        facts=facts(
            held={"lie": held(types, pinned=claimed)},
            claimed={"lie": claimed},
            baseline=(100, 300, 500, 700),
            expected={"lie": expected(10, left=measured, believed=believed)},
        ),
    )


def test_outputs_larger_than_dask_believes_are_found_with_both_sizes():
    (finding,) = sizeof(hiding())
    assert finding.prefix == "lie"
    assert round(finding.weight, 3) == 0.997, "699 of the 701 MiB to explain"
    assert finding.text == (
        "Dask believes the outputs of `lie` to be 102 kiB each, and 70 MiB were "
        "measured. It does not see 699 MiB on this worker, and so does not spill it in "
        "time."
    )


@pytest.mark.parametrize("types", [("int",), ("numpy.ndarray", "float")])
def test_types_whose_size_dask_knows_do_not_lie(types):
    assert list(sizeof(hiding(types))) == []


def test_a_look_into_a_view_shows_that_it_keeps_more_than_dask_knows():
    lying = hiding(("numpy.ndarray",))
    row = lying.facts.expected["lie"]
    weighed = replace(row.weighed, because="views of other arrays")
    expected = {"lie": replace(row, weighed=weighed)}
    shown = replace(lying, facts=replace(lying.facts, expected=expected))
    (finding,) = sizeof(shown)
    assert finding.prefix == "lie"
    assert finding.advice == (
        "Let `lie` return a copy of what it needs, as in `x[:100].copy()`: a view "
        "keeps all of the array alive that it is of, here 70 MiB for each.",
    )


def test_outputs_measured_at_about_their_size_do_not_lie():
    assert list(sizeof(hiding(believed=500, measured=700, claimed=500))) == []


@pytest.mark.parametrize("rule", ALL)
def test_a_worker_that_stores_nothing_has_none_of_these(rule):
    known = case(
        breakdown=parts(executing=840),
        suspects=(suspect("sum-1", 840),),
        facts=facts(thresholds=THRESHOLDS),
    )
    assert list(rule(known)) == []


def test_what_waits_for_a_task_that_joins_chunks_is_advised_smaller_ones():
    known = storing("random_sample", 800, held(by="rechunk-merge", awaited=800))
    diagnosis = diagnose(known)
    assert diagnosis.cause == "awaited"
    # 800 MiB of room once it has run for a while: for what is joined, what is made
    # of it, and twice that.
    assert diagnosis.advice[0] == (
        "Let Dask join chunks into smaller ones, before the graph is built: "
        '`dask.config.set({"array.chunk-size": "128MiB"})`. Each `rechunk-merge` '
        "needs all that it joins in memory at once, and the same again for its output; "
        "with "
        "128 MiB it will need about 256 MiB of the 800 MiB that a worker has room for "
        "once it has run some tasks."
    )


@pytest.mark.parametrize(
    ("baseline", "terminate", "room"),
    [
        (60, 950, 800),  # of a young worker, which grows to 150 MiB
        (240, 950, 710),  # it has loaded more than usual at once
        (60, 160, 40),  # of a small one that never grows so far: it has 100
    ],
)
def test_advice_plans_with_what_a_worker_has_that_has_run_for_a_while(
    baseline, terminate, room
):
    known = case(
        breakdown=parts(baseline=baseline, managed=100),
        facts=facts(thresholds=Thresholds(terminate=terminate * MiB)),
    )
    assert known.usable == (terminate - baseline) * MiB
    assert known.room == room * MiB


@pytest.mark.parametrize(
    ("output", "types", "advised"),
    [
        (420, ("numpy.ndarray",), True),
        (390, ("numpy.ndarray",), False),  # two of them fit
        (420, ("mine.Box",), False),  # nobody knows how to make these smaller
    ],
)
def test_chunks_of_which_a_worker_holds_hardly_one_are_advised_smaller(
    output, types, advised
):
    known = storing(
        "open",
        420,
        held(types=types, by="sum", awaited=420),
        facts={"expected": {"open": expected(1, output=output)}},
    )
    (finding,) = awaited(known)
    assert finding.advice == (
        (
            'Make chunks smaller where they are made: give `chunks="128MiB"` to what '
            "makes `open`. Each is 420 MiB, and a worker has room for 800 MiB once it "
            "has run some tasks: a task that takes one and makes as much of it needs "
            "840 MiB. With 128 MiB it will need about 256 MiB.",
        )
        if advised
        else ()
    )
