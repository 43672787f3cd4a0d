"""Why a cluster is stuck, and what would release it."""

from __future__ import annotations

from dataclasses import replace

import cases

from dask_memdash.analysis.incidents.rules.stuck import diagnose_stuck, headline
from dask_memdash.model.breakdown import EMPTY
from dask_memdash.model.event_parts import GraphRow, WaitingTasks
from dask_memdash.model.evidence import OrderFacts
from dask_memdash.model.room import Room
from dask_memdash.model.stall import Holding, Stall

MiB = 2**20
T = 1_760_000_000.0


def parts(managed=576, **more):
    sizes = {"managed": managed, "baseline": 130, **more}
    sizes = {name: size * MiB for name, size in sizes.items()}
    return replace(EMPTY, process=sum(sizes.values()), **sizes)


#: Two workers of 429 MiB, paused at 343 MiB each, full of what a client holds.
PINNED = Stall(
    since=T,
    waiting=(WaitingTasks("keep", 3, 1),),
    n_waiting=4,
    n_paused=2,
    n_workers=2,
    holding=(
        Holding(
            "keep", 576 * MiB, {"pinned": 576 * MiB}, clients={"Client-1": 576 * MiB}
        ),
    ),
    parts=parts(),
    idle=130 * MiB,
    limit=858 * MiB,
    pause=686 * MiB,
    spills=False,
    room=Room(processes=2, storage=556 * MiB, task=342 * MiB, unspilling=2, unknown=""),
    outputs={"keep": 16 * MiB},
)

#: The same full of what `sum` waits for.
AWAITED = replace(
    PINNED,
    waiting=(WaitingTasks("sum", 0, 2),),
    n_waiting=2,
    holding=(
        Holding(
            "load", 576 * MiB, {"awaited": 576 * MiB}, awaited_by={"sum": 576 * MiB}
        ),
    ),
)


def order(minimum, capacity, **more):
    values = {"ideal": 0, "held": 0, "run_ahead": {}, **more}
    return OrderFacts("g", 36, 40, minimum=minimum, capacity=capacity, **values)


def test_outputs_that_a_client_holds():
    told = diagnose_stuck(PINNED, order(640 * MiB, 556 * MiB))
    assert (told.cause, told.relief, told.prefix) == ("pinned", "spilling-off", "keep")
    assert told.advice == (
        "Release futures of `keep` that you no longer need (`del futures`) of 84 MiB: "
        "the rest can then run.",
        "Turn spilling on before the workers start: `dask.config.set("
        '{"distributed.worker.memory.target": 0.6, "distributed.worker.memory.spill": '
        "0.7})`. Up to 576 MiB can then go to disk.",
        "Add 1 worker: `cluster.scale(3)`. Each has room for 278 MiB, and 84 MiB are "
        "missing.",
        'Or raise the limit of each worker: `memory_limit="482MiB"`.',
    )


def test_without_an_order_what_waits_is_reckoned_from_sizes_so_far():
    told = diagnose_stuck(PINNED)  # 20 MiB above the thresholds, and 4 x 16 MiB
    assert "of 84 MiB: the rest" in told.advice[0]


def test_outputs_that_tasks_wait_for():
    told = diagnose_stuck(AWAITED)
    assert (told.cause, told.relief, told.prefix) == (
        "awaited",
        "spilling-off",
        "load",
    )
    assert "576 MiB of `load` fill the workers until `sum` can run." in told.text
    assert not any("Release futures" in advice for advice in told.advice)


def test_outputs_produced_too_early():
    facts = order(
        *(100 * MiB, 556 * MiB),
        ideal=60 * MiB,
        held=576 * MiB,
        run_ahead={"load": 520 * MiB},
        saturation={"load": None},
    )
    told = diagnose_stuck(AWAITED, facts)
    assert (told.cause, told.prefix) == ("run-ahead", "load")
    assert any("worker-saturation" in advice for advice in told.advice)


def grown(**known):
    """A worker whose baseline grew from 100 to 800 MiB, and a cluster stuck so."""
    return (
        replace(
            PINNED,
            holding=(),
            n_paused=1,
            n_workers=1,
            parts=cases.parts(baseline=800),
            idle=100 * MiB,
        ),
        cases.case("stuck", breakdown=cases.parts(baseline=800), facts=known["facts"]),
    )


def test_what_tasks_left_behind_is_a_leak_that_more_workers_only_put_off():
    stall, fullest = grown(
        facts=cases.facts(
            baseline=(100, 300, 500),
            expected={"load": cases.expected(70, left=700)},
        )
    )
    told = diagnose_stuck(stall, fullest=fullest)
    assert (told.cause, told.prefix, told.relief) == (
        "leak",
        "load",
        "nothing-to-spill",
    )
    assert (
        "70 tasks of `load` ended holding 10 MiB more than their outputs" in told.text
    )
    assert told.advice[-1] == (
        "To go on now, restart the paused workers: `client.restart_workers([...])` "
        "with their addresses. About 700 MiB would be free, and what they hold is "
        "computed again."
    )
    assert not any("Add 1 worker" in advice for advice in told.advice)


def test_what_came_with_the_tasks_themselves_is_no_memory_that_nobody_counted():
    stall, fullest = grown(
        facts=cases.facts(
            baseline=(100, 300, 500), graph={"use": GraphRow(14, 700 * MiB, 42_000)}
        )
    )
    told = diagnose_stuck(stall, fullest=fullest)
    assert (told.cause, told.prefix) == ("graph", "use")
    assert "scatter" in told.advice[0]
    assert len(told.advice) == 1, "what waits brings more, so no room is enough"


def test_memory_that_the_allocator_keeps():
    told = diagnose_stuck(
        replace(PINNED, holding=(), parts=parts(0, retained=576), spills=True)
    )
    assert (told.cause, told.relief) == ("retained", "nothing-to-spill")
    assert "malloc_trim" in told.advice[0]


def test_memory_that_nobody_counted():
    grown = replace(PINNED, holding=(), parts=parts(0, baseline=706), spills=True)
    told = diagnose_stuck(grown)
    assert (told.cause, told.prefix) == ("unaccounted", None)


def test_spilling_that_has_reached_its_end():
    told = diagnose_stuck(replace(PINNED, spills=True, spill_trouble="max-spill"))
    assert told.relief == "spill-full"
    assert told.advice[1] == (
        "Allow more on disk before the workers start: `dask.config.set("
        '{"distributed.worker.memory.max-spill": "396MiB"})`. 84 MiB more have to be '
        "stored."
    )


def test_what_was_not_looked_at_yet_is_not_known():
    unseen = replace(PINNED, holding=(Holding("keep", 576 * MiB),))
    told = diagnose_stuck(unseen)
    assert (told.cause, told.confidence) == ("unknown", 0.0)
    assert "has not been looked at yet" in told.text


def test_no_part_weighs_more_than_the_whole():
    mixed = replace(
        PINNED, parts=parts(300, transfer=100, retained=50, executing=126), running=2
    )
    told = diagnose_stuck(mixed)
    assert sum(finding.weight for finding in told.findings) <= 1.0001
    assert all(0 < finding.weight <= 1 for finding in told.findings)


def test_headlines_say_who_waits_and_why():
    assert headline(AWAITED, T + 12) == (
        "Nothing has moved for 12 s: 2 tasks of `sum` are ready, and all workers are "
        "paused, above the pause threshold."
    )
    several = replace(
        PINNED,
        waiting=tuple(WaitingTasks(name, 2, 0) for name in ("a", "b", "c")),
        n_waiting=6,
        n_workers=3,
    )
    assert headline(several, T + 12) == (
        "Nothing has moved for 12 s: 6 tasks are ready (2 of `a`, 2 of `b` and 2 "
        "more), and 2 of 3 workers are paused, above the pause threshold."
    )
    gone = replace(PINNED, n_workers=0, n_paused=0, n_waiting=1, parts=None)
    assert headline(gone, T + 20) == (
        "Nothing has moved for 20 s: 1 task of `keep` is ready, and no worker is left."
    )


def test_hostile_names_stay_short():
    name = "x" * 5000
    told = diagnose_stuck(
        replace(
            PINNED,
            holding=(
                Holding(name, 576 * MiB, {"pinned": 576 * MiB}, clients={name: 1}),
            ),
        )
    )
    assert len(told.text) < 400


def test_an_input_that_nobody_asks_for_again_is_told_by_what_did_not_fit():
    waits = replace(PINNED, unreceived=1, n_paused=1, deaths=("4",))
    assert headline(waits, T + 12) == (
        "Nothing has moved for 12 s: 1 task waits for an input that did not fit into "
        "memory when it came, and Dask does not ask for it again."
    )
    error = replace(
        diagnose_stuck(AWAITED), cause="task-too-large", text="Cause: one task."
    )
    told = diagnose_stuck(waits, deaths=[error])
    assert told.cause == "task-too-large"
    assert told.text == (
        "The input could not be received in incident #4. Cause: one task."
    )
    (restart,) = diagnose_stuck(waits).advice
    assert "`client.restart_workers([...])`" in restart


def test_arguments_that_fill_the_workers_are_advised_to_be_sent_once():
    stall, fullest = grown(
        facts=cases.facts(graph={"score": GraphRow(7, 600 * MiB, 0)})
    )
    full = parts(0, graph=600)
    told = diagnose_stuck(
        replace(stall, parts=full),
        fullest=replace(fullest, breakdown=cases.parts(graph=600)),
    )
    assert (told.cause, told.prefix) == ("graph", "score")
    assert told.advice[0].startswith(
        "Send large arguments once: `x = client.scatter(x)`, and pass that to `score`"
    )
