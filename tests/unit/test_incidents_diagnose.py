"""How findings are weighed against each other, and what is made of them."""

from dataclasses import replace

import pytest
from builders import MiB
from cases import (
    T0,
    case,
    ended,
    expected,
    facts,
    held,
    host,
    parts,
    stored,
    storing,
    suspect,
    task,
)

from dask_memdash.analysis.incidents.diagnose import (
    RULES,
    UNKNOWN_CAUSE,
    certainty,
    diagnose,
    rank,
    weigh,
)
from dask_memdash.analysis.incidents.finding import Diagnosis, Finding
from dask_memdash.analysis.incidents.together import diagnose_together, join_deaths
from dask_memdash.model.event_parts import ActorRow, TaskInputs, Thresholds
from dask_memdash.terms import CAUSES, NOT_MEMORY

OFF = Thresholds(terminate=950 * MiB)


def found(cause, weight, prefix=None, key=None, advice=(), thin=""):
    return Finding(cause, weight, f"{cause} it is.", prefix, key, advice, thin)


def test_there_is_one_rule_for_every_cause_but_the_unknown():
    assert len(RULES) == len(set(RULES)) == len(CAUSES) - 1
    named = {rule.__name__.replace("_", "-"): rule for rule in RULES}
    assert set(named) == {*CAUSES} - {"unknown"}
    for rule in RULES:
        assert rule.__module__.endswith(f"incidents.rules.{rule.__name__}")


def test_the_heaviest_finding_is_the_cause_and_says_who_is_responsible():
    said = diagnose(
        case(
            breakdown=parts(executing=700, managed=150),
            suspects=(suspect("sum-1", 700),),
            storage=(stored("open", 150),),
            facts=facts(held={"open": held(pinned=150)}, claimed={"open": 150}),
        )
    )
    assert (said.cause, said.prefix, said.key) == ("task-too-large", "sum", "sum-1")
    assert [f.cause for f in said.findings] == ["task-too-large", "pinned"]
    assert [f.weight for f in said.findings] == [0.824, 0.176]
    assert said.text.startswith("Cause: one task needs too much. sum-1 held 700 MiB")


def test_without_evidence_the_cause_is_unknown():
    said = diagnose(case("lost", breakdown=None, evidence="scheduler"))
    assert (said.cause, said.confidence, said.relief) == ("unknown", 0.0, None)
    assert said.text == (
        "The cause is not known: no figure of the worker's memory has arrived, and "
        "neither flight recorder nor heartbeat says what was running."
    )


def test_a_full_worker_that_nothing_explains_is_unknown():
    """Its baseline alone fills it, and always has."""
    said = diagnose(case(breakdown=parts(baseline=960)))
    assert (said.cause, said.findings) == ("unknown", ())


@pytest.mark.parametrize(
    ("kind", "exit_", "executing"),
    [("crashed", ended(signal=11), 500), ("exited", ended(code=3), 700)],
)
def test_no_memory_cause_is_given_to_what_is_not_memory(kind, exit_, executing):
    said = diagnose(
        case(
            kind,
            exit=exit_,
            breakdown=parts(executing=executing, managed=140),
            suspects=(suspect("sum-1", 700),),
            storage=(stored("open", 140),),
        )
    )
    assert (said.cause, said.relief) == ("crash", None)
    assert not {f.cause for f in said.findings} - NOT_MEMORY


def test_an_idle_worker_killed_from_outside_is_external():
    said = diagnose(case("killed", exit=ended(signal=9)))
    assert (said.cause, said.confidence) == ("external", 0.98)
    assert not {f.cause for f in said.findings} - NOT_MEMORY


def test_a_full_worker_killed_by_nobody_known_may_well_have_died_of_memory():
    said = diagnose(
        case(
            "killed",
            exit=ended(signal=9),
            breakdown=parts(executing=840),
            suspects=(suspect("sum-1", 840),),
        )
    )
    assert said.cause == "task-too-large"


def test_a_lost_worker_with_room_has_no_memory_cause():
    known = {"breakdown": parts(executing=300), "suspects": (suspect("sum-1", 300),)}
    assert diagnose(case("lost", evidence="heartbeat", **known)).cause == "unknown"


def test_what_a_heartbeat_says_is_trusted_less_than_the_flight_recorder():
    known = {"breakdown": parts(executing=850), "suspects": (suspect("sum-1", 850),)}
    sure = diagnose(case(**known)).confidence
    less = diagnose(case("lost", evidence="heartbeat", **known)).confidence
    assert (sure, less) == (0.98, 0.55)


def test_an_incident_without_a_death_is_not_trusted_less_for_its_heartbeat():
    said = diagnose(
        case(
            "memory-error",
            evidence="heartbeat",
            detail="Unable to allocate 29.1 TiB for an array",
            tasks=(task("outer-1"),),
        )
    )
    assert (said.cause, said.confidence) == ("task-too-large", 0.98)


def test_a_limit_that_is_too_high_explains_the_others_away():
    said = diagnose(
        case(
            "oom-killed",
            breakdown=parts(executing=380),
            suspects=(suspect("sum-1", 380),),
            facts=facts(host=host(500)),
        )
    )
    assert (said.cause, said.relief) == ("overcommitted", "limit-above-memory")
    assert [(f.cause, f.weight) for f in said.findings] == [
        ("overcommitted", 1.0),
        ("task-too-large", 0.4),
    ]


def test_why_outputs_were_there_is_the_cause_and_why_they_stayed_its_relief():
    said = diagnose(storing("open", 840, held(pinned=840), facts={"thresholds": OFF}))
    assert (said.cause, said.prefix, said.relief) == ("pinned", "open", "spilling-off")
    assert [(f.cause, f.weight) for f in said.findings] == [("pinned", 1.0)]
    assert said.text == (
        "Cause: a client holds results. 840 MiB of `open` were in memory, because a "
        "client holds futures or a persisted collection of them. No task was waiting "
        "for them. Spilling is off, so 840 MiB of outputs stayed in memory."
    )
    assert said.advice[0] == (
        "Turn spilling on before the workers start: `dask.config.set("
        '{"distributed.worker.memory.target": 0.6, '
        '"distributed.worker.memory.spill": 0.7})`. 340 MiB of outputs would go to '
        "disk, and about 600 MiB would stay in memory."
    )
    assert said.advice[1].startswith("Release what you hold of `open`")


def test_what_the_allocator_keeps_is_told_with_less_confidence():
    """It is an upper bound."""
    said = diagnose(
        case(
            breakdown=parts(retained=600, executing=240),
            suspects=(suspect("sum-1", 240),),
            facts=facts(expected={"open": expected(5, peak=600)}),
        )
    )
    assert (said.cause, said.prefix) == ("retained", "open")
    assert said.text.endswith(
        " The evidence is thin: what the allocator keeps is an upper bound."
    )
    assert said.confidence < 0.75


# -- weighing ------------------------------------------------------------------


def test_findings_come_heaviest_first_without_trifles():
    causes = [found("leak", 0.02), found("awaited", 0.2), found("pinned", 0.5)]
    assert [f.cause for f in rank(causes)] == ["pinned", "awaited"]


def test_weights_are_shares_whatever_a_rule_says():
    assert [f.weight for f in weigh(case(), [found("awaited", 1.7)])] == [1.0]


@pytest.mark.parametrize(
    ("weights", "sure"),
    [
        ([1.0], 0.98),
        ([0.8, 0.2], 0.875),
        ([0.5, 0.5], 0.5),
        ([0.5], 0.5),
        ([0.3, 0.1], 0.5),
        ([0.6, 0.1], 0.75),
    ],
)
def test_confidence_grows_with_the_lead_over_the_next_and_the_unexplained(
    weights, sure
):
    assert certainty(weights) == pytest.approx(sure)


# -- KilledWorker --------------------------------------------------------------


def joined(deaths):
    return join_deaths([(case(), death) for death in deaths])


def diagnosis(cause, weight, confidence=0.9, prefix="sum", key=None, advice=()):
    finding = found(cause, weight, prefix, key, advice)
    return Diagnosis(cause, confidence, prefix, key, (finding,), advice, "text")


def test_deaths_that_agree_are_joined():
    deaths = [
        diagnosis("task-too-large", 0.9, 0.8, key="sum-1", advice=("smaller",)),
        diagnosis("task-too-large", 0.7, 0.6, key="sum-1", advice=("smaller",)),
    ]
    said = joined(deaths)
    assert (said.cause, said.prefix, said.key) == ("task-too-large", "sum", "sum-1")
    assert said.confidence == 0.7
    assert [f.weight for f in said.findings] == [pytest.approx(0.8)]
    assert said.advice == ("smaller",)


def test_advice_that_one_death_alone_gives_is_given_for_all():
    deaths = [
        diagnosis("replicas", 0.5, prefix="table", advice=("share one copy",)),
        diagnosis("replicas", 0.3, prefix="table", advice=("another",)),
        diagnosis("replicas", 0.9, prefix="table"),
    ]
    assert joined(deaths).advice == ("share one copy",)


def test_deaths_that_disagree_count_by_weight_and_lower_the_confidence():
    said = joined(
        [
            diagnosis("pinned", 0.8, 0.9, "held"),
            diagnosis("pinned", 0.6, 0.8, "held"),
            diagnosis("leak", 0.9, 0.9, "sum"),
        ]
    )
    assert (said.cause, said.prefix) == ("pinned", "held")
    assert said.confidence == 0.57, "1.7 of 3 deaths"
    assert [f.cause for f in said.findings] == ["pinned", "leak"]


def test_different_tasks_of_one_prefix_leave_the_key_open():
    deaths = [
        diagnosis("task-too-large", 0.9, key="sum-1"),
        diagnosis("task-too-large", 0.9, key="sum-2"),
    ]
    assert joined(deaths).key is None


@pytest.mark.parametrize("deaths", [[], [UNKNOWN_CAUSE], [UNKNOWN_CAUSE] * 3])
def test_of_deaths_that_nobody_understands_the_sum_is_unknown(deaths):
    assert joined(deaths).cause == "unknown"


def test_one_death_that_is_understood_among_unknown_ones_is_told_with_little_weight():
    said = joined([UNKNOWN_CAUSE, diagnosis("pinned", 0.9, 0.8, "held")])
    assert (said.cause, said.confidence) == ("pinned", 0.4)


def test_all_deaths_together_say_what_they_have_in_common():
    deaths = [
        case(
            id=str(n),
            breakdown=parts(executing=size),
            suspects=(suspect("sum-1", size),),
        )
        for n, size in ((3, 790), (4, 840), (7, 835))
    ]
    said = diagnose_together(deaths)
    assert (said.cause, said.prefix, said.key) == ("task-too-large", "sum", "sum-1")
    assert said.relief == "nothing-to-spill"
    assert said.text.startswith(
        "Cause: one task needs too much. 3 deaths, each while `sum` had between "
        "790 MiB and 840 MiB of 0.98 GiB. At death #3: sum-1 held"
    )


def test_what_several_deaths_had_in_common_is_told_of_what_was_left_behind():
    deaths = [
        case(
            id=str(n),
            breakdown=parts(baseline=800),
            suspects=(suspect("sum-1", 0),),
            facts=facts(
                baseline=(100, 300, 500), expected={"sum": expected(70, left=700)}
            ),
        )
        for n in (3, 4)
    ]
    said = diagnose_together(deaths)
    assert said.text.startswith(
        "Cause: memory leak. 2 deaths, each after `sum` had left 700 MiB of 0.98 GiB "
        "behind. At death #3: "
    )


def test_what_several_ends_without_memory_had_in_common_has_no_sizes():
    deaths = [
        case(
            "exited",
            id=str(n),
            exit=ended(code=3),
            suspects=(suspect("quit-1", 1),),
        )
        for n in (1, 2)
    ]
    said = diagnose_together(deaths)
    assert "2 deaths, each while `quit` was running. At death #1: " in said.text


def about_to_begin(size, managed):
    """A worker with nothing running, and a task of so many MiB of inputs."""
    waiting = replace(task("total-1"), inputs=TaskInputs(6, size * MiB, 0, 0))
    return replace(
        storing("part", managed, held(by="total", awaited=managed)),
        assigned=(waiting,),
        breakdown=parts(managed=managed, baseline=250),
    )


def test_a_task_whose_inputs_alone_fit_no_worker_is_too_large_before_it_begins():
    said = diagnose(about_to_begin(900, 600))
    assert (said.cause, said.prefix, said.key) == ("task-too-large", "total", "total-1")
    assert said.relief == "nothing-to-spill"
    assert (
        "total-1 was about to begin. All of its 6 inputs have to be in memory at once: "
        "900 MiB, and an empty worker has room for"
    ) in said.text
    assert said.advice


def test_a_task_whose_inputs_fit_or_are_elsewhere_is_not_to_blame():
    for size, managed in ((500, 600), (2_000, 600)):
        assert diagnose(about_to_begin(size, managed)).cause == "awaited"


def test_what_is_no_death_is_not_called_one():
    full = storing("open", 840, held(pinned=840), facts={"thresholds": OFF})
    failed = replace(full, kind="spill-failed", detail="max-spill: no", id="1")
    said = diagnose_together([failed, replace(full, kind="stuck", id="2")])
    assert "2 incidents, each while `open` had 840 MiB" in said.text
    assert "death" not in said.text


def test_one_error_that_says_nothing_has_no_deaths_behind_it():
    error = case("memory-error", detail="MemoryError", tasks=(task("sum-1"),))
    assert "death" not in diagnose_together([error]).text


def test_what_one_death_shows_of_a_task_counts_for_all_of_them():
    """At the first it was cut short at 300 MiB, beside outputs; it needs 900 MiB."""
    first = case(
        breakdown=parts(executing=300, managed=500),
        suspects=(suspect("sum-1", 300),),
        storage=(stored("open", 500),),
        facts=facts(held={"open": held(pinned=500)}, claimed={"open": 500}),
    )
    assert diagnose(first).cause == "pinned"
    second = case(breakdown=parts(executing=900), suspects=(suspect("sum-1", 900),))
    said = diagnose_together([first, second])
    assert (said.cause, said.prefix) == ("task-too-large", "sum")


def test_a_task_that_an_empty_worker_holds_is_not_to_blame_beside_outputs():
    """What left it no room is, and the task is a suspect."""
    said = diagnose(
        case(
            breakdown=parts(executing=400, managed=450),
            suspects=(suspect("heavy-1", 700),),
            storage=(stored("keep", 450),),
            facts=facts(
                held={"keep": held(pinned=450)}, claimed={"keep": 450}, thresholds=OFF
            ),
        )
    )
    assert (said.cause, said.prefix, said.relief) == ("pinned", "keep", "spilling-off")


def test_a_task_that_no_empty_worker_holds_is_to_blame_beside_outputs():
    said = diagnose(
        case(
            breakdown=parts(executing=400, managed=450),
            suspects=(suspect("heavy-1", 900),),
            storage=(stored("keep", 450),),
            facts=facts(
                held={"keep": held(pinned=450)}, claimed={"keep": 450}, thresholds=OFF
            ),
        )
    )
    assert {f.cause: f.weight for f in said.findings} == {
        "task-too-large": 0.75,
        "pinned": 0.265,
    }
    assert (said.key, said.confidence) == ("heavy-1", 0.82)


def test_a_diagnosis_names_its_instant():
    assert diagnose(case(instant=12.5)).instant == 12.5


def test_what_a_death_shows_of_a_task_is_no_proof_of_its_need_for_itself():
    """A task that grew until its worker died has not held all that it needs."""
    known = case(
        breakdown=parts(executing=500, managed=350),
        suspects=(suspect("hog-1", 500),),
        storage=(stored("x", 350),),
        facts=facts(
            held={"x": held(awaited=350)}, expected={"hog": expected(5, peak=1200)}
        ),
    )
    assert diagnose(known).cause == "task-too-large"
    assert diagnose_together([known]).cause == "task-too-large"
    ignorant = replace(
        known,
        facts=replace(known.facts, expected={}),
        suspects=(suspect("hog-2", 450),),
    )
    assert diagnose_together([ignorant, known]).cause == "task-too-large"


def test_outputs_of_which_nothing_else_is_known_outweigh_a_lighter_cause():
    known = case(
        breakdown=parts(managed=500, baseline=400), facts=facts(baseline=(100,))
    )
    said = diagnose(known)
    assert said.cause == "unknown"
    assert said.text == (
        "The cause is not known: 500 MiB of outputs were in memory, and who needed "
        "them is not known."
    )


def test_outputs_in_use_of_which_nothing_is_known_outweigh_a_lighter_cause():
    known = case(
        breakdown=parts(managed=150, baseline=700, spilled=350, inputs=350),
        storage=(stored("view", 150, spilled=350),),
        facts=facts(baseline=(100,)),
    )
    said = diagnose(known)
    assert said.cause == "unknown"
    assert said.text.startswith("The cause is not known: 500 MiB of outputs were in")


def test_growth_that_only_came_while_a_task_ran_does_not_weigh_for_what_was_stored():
    """Outputs left no room to what was counted; the rest may be anybody's."""
    known = case(
        breakdown=parts(managed=270, executing=580),
        suspects=(suspect("read-1", 0, grown=400 * MiB),),
        storage=(stored("x", 270),),
        facts=facts(held={"x": held(awaited=270)}, claimed={"x": 270}),
    )
    said = diagnose(known)
    assert (said.cause, said.prefix) == ("unaccounted", None)
    counted = replace(known, suspects=(suspect("read-1", 400, grown=400 * MiB),))
    assert diagnose(counted).cause == "awaited"


def test_a_process_that_nobody_saw_idle_leaves_a_lighter_cause_open():
    known = case(
        breakdown=parts(managed=250, baseline=650),
        storage=(stored("x", 250),),
        facts=facts(held={"x": held(awaited=250)}, claimed={"x": 250}),
        timeline=((T0 - 20, 900 * MiB), (T0, 900 * MiB)),
    )
    said = diagnose(known)
    assert said.cause == "unknown"
    assert said.text == (
        "The cause is not known: no heartbeat came, and nothing says how much of "
        "650 MiB the process needed when it was idle."
    )
    young = replace(known, timeline=((T0 - 0.3, 900 * MiB), (T0, 900 * MiB)))
    assert diagnose(young).cause == "awaited"


def test_what_one_death_could_not_count_is_what_filled_another_of_the_same_tasks():
    told = case(
        breakdown=parts(actors=500, managed=300, baseline=100),
        storage=(stored("x", 300),),
        facts=facts(
            held={"x": held(awaited=300)},
            claimed={"x": 300},
            actors={"Keeper": ActorRow(1, 500 * MiB, 500 * MiB)},
        ),
    )
    silent = replace(
        told,
        breakdown=parts(managed=300, baseline=600),
        facts=replace(told.facts, actors={}, baseline=((T0, 100 * MiB),)),
    )
    assert diagnose(silent).cause == "unaccounted"
    said = diagnose_together([told, silent])
    assert (said.cause, said.prefix) == ("actor-state", "Keeper")
