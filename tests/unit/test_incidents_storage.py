"""Rules on stored outputs: why they were held, and why they were not spilled."""

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
    task,
)

from dask_memdash.analysis.incidents.case import SpillFailure
from dask_memdash.analysis.incidents.rules.storage import (
    awaited,
    pinned,
    run_ahead,
    sizeof,
    spill_blocked,
)
from dask_memdash.model.event_parts import Thresholds

ALL = (run_ahead, awaited, pinned, sizeof, spill_blocked)


def weights(known):
    return {f.cause: round(f.weight, 2) for rule in ALL for f in rule(known)}


HIGH = Thresholds(target=920 * MiB, terminate=950 * MiB)
OFF = Thresholds(terminate=950 * MiB)


def test_outputs_that_tasks_wait_for_are_awaited():
    known = storing(
        "open", 800, held(awaited=400, by="sum"), facts={"thresholds": HIGH}
    )
    (finding,) = awaited(known)
    assert (finding.weight, finding.prefix, finding.thin) == (1.0, "open", "")
    assert finding.text == (
        "800 MiB of `open` were in memory because `sum` still had to run; how much of "
        "it the order needs is not known."
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
        "At 12 of 60 tasks, the order needs 40 MiB of storage on the cluster, and "
        "840 MiB were held; on this worker 640 MiB of `open`"
    )
    assert "(`sum`)" in finding.advice[0]


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
        "Persist less of `open`, or release its futures before the next step: 600 MiB "
        "of this worker's 0.98 GiB would be free.",
    )
    assert list(awaited(known)) == []


def test_reasons_share_a_prefix_as_they_were_last_seen():
    known = storing("open", 500, held(pinned=100, awaited=300, replica=100))
    assert weights(known) == {"awaited": 0.6, "pinned": 0.2}


def test_outputs_nobody_has_looked_at_yet_are_most_likely_awaited():
    (finding,) = awaited(storing("open", 500))
    assert finding.weight == 1.0
    assert finding.thin == "why they were held had not been looked at yet"


def test_a_graph_that_never_fits_says_so():
    known = storing(
        "open",
        800,
        held(awaited=800),
        facts={"order": order(ideal=1200, held=800)},
    )
    (finding,) = awaited(known)
    assert finding.advice == (
        "The graph needs 1.17 GiB of storage in any order, and the workers have "
        "0.98 GiB: add workers, or compute it in parts.",
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
        "measured: 699 MiB on this worker that it cannot see, and so does not spill."
    )


@pytest.mark.parametrize("types", [("int",), ("numpy.ndarray", "float")])
def test_types_whose_size_dask_knows_do_not_lie(types):
    assert list(sizeof(hiding(types))) == []


def test_outputs_measured_at_about_their_size_do_not_lie():
    assert list(sizeof(hiding(believed=500, measured=700, claimed=500))) == []


# -- spilling ------------------------------------------------------------------


def test_spilling_that_is_off_is_blamed_for_what_it_would_have_spilled():
    known = storing("open", 840, held(pinned=840), facts={"thresholds": OFF})
    (finding,) = spill_blocked(known)
    assert (finding.weight, finding.prefix, finding.thin) == (1.0, "open", "")
    assert finding.text == (
        "840 MiB of outputs were in memory; with its defaults Dask would have "
        "spilled 340 MiB of them, as the process, 0.92 GiB, was beyond 600 MiB, 60 % "
        "of the limit. 0 B had been spilled; spilling is off."
    )
    assert "340 MiB would have gone to disk" in finding.advice[0]


def test_little_storage_with_spilling_off_is_blamed_for_its_share():
    (finding,) = spill_blocked(
        case(
            breakdown=parts(managed=85, executing=765),
            storage=(stored("open", 85),),
            facts=facts(thresholds=OFF, claimed={"open": 85}),
        )
    )
    assert finding.weight == 0.1


def test_a_worker_that_is_not_full_needs_no_spilling():
    known = storing("open", 450, held(pinned=450), facts={"thresholds": OFF})
    assert list(spill_blocked(known)) == []


def test_storage_within_the_target_is_not_blocked():
    assert list(spill_blocked(storing("open", 590, held(pinned=590)))) == []


def test_one_output_beyond_the_target_is_on_its_way_to_disk():
    assert list(spill_blocked(storing("open", 640, held(pinned=640)))) == []


def test_storage_far_beyond_the_target_was_kept_from_spilling_by_something():
    (finding,) = spill_blocked(storing("open", 840, held(pinned=840)))
    assert finding.thin == "nothing says what stopped it"
    assert finding.weight == 1.0


def test_what_was_not_spilled_counts_half_where_the_worker_had_died_all_the_same():
    (finding,) = spill_blocked(
        case(
            breakdown=parts(managed=800, executing=400),
            storage=(stored("open", 800),),
            facts=facts(claimed={"open": 800}),
        )
    )
    assert round(finding.weight, 2) == 0.33, "half of 800 of 1200 MiB"


def test_what_may_have_been_spilled_since_the_last_heartbeat_is_not_blocked():
    known = case(
        breakdown=parts(managed=840),
        storage=(stored("open", 500),),
        facts=facts(claimed={"open": 500}),
    )
    assert list(spill_blocked(known)) == []


@pytest.mark.parametrize(
    ("reason", "text", "advice"),
    [
        ("max-spill", "as much had been spilled as", "above 740 MiB"),
        ("disk-full", "the disk was full", "by 540 MiB at least"),
        ("disk-error", "the disk could not be written to", "--local-directory"),
        ("unpicklable", "outputs could not be pickled", "`lock` return something"),
    ],
)
def test_failures_to_spill_say_what_stopped_it(reason, text, advice):
    (finding,) = spill_blocked(
        storing(
            "open",
            840,
            held(pinned=840),
            spilled=200,
            spill_failures=(SpillFailure(reason, "lock", 3),),
        )
    )
    assert finding.weight == 1.0
    assert text in finding.text
    assert "200 MiB had been spilled" in finding.text
    assert advice in finding.advice[0]
    assert finding.prefix == ("lock" if reason == "unpicklable" else "open")


def test_a_failure_to_spill_is_its_own_cause():
    (finding,) = spill_blocked(
        case(
            "spill-failed",
            detail="disk-full: No space left on device",
            tasks=(task("open-1"),),
        )
    )
    assert (finding.weight, finding.prefix) == (1.0, "open")
    assert "the disk was full" in finding.text


def test_of_a_worker_that_never_reported_nothing_is_known_of_spilling():
    known = storing("open", 840, evidence="scheduler")
    assert list(spill_blocked(known)) == []


@pytest.mark.parametrize("rule", ALL)
def test_a_worker_that_stores_nothing_has_none_of_these(rule):
    known = case(
        breakdown=parts(executing=840),
        suspects=(suspect("sum-1", 840),),
        facts=facts(thresholds=THRESHOLDS),
    )
    assert list(rule(known)) == []
