"""What incidents say in words."""

import re

import pytest
from builders import MiB, info

from dask_memdash.analysis.incidents.describe import describe, format_bytes
from dask_memdash.model.breakdown import Reading, break_down
from dask_memdash.model.incidents import Exit, Incident, Suspect, WorkerRef

T = 1_760_000_000.0


def incident(kind="terminated", **more):
    values = {
        "limit": 584 * MiB,
        "breakdown": break_down(Reading(T, 561 * MiB)),
        "evidence": "flight-recorder",
        **more,
    }
    return Incident("3", T, kind, WorkerRef("tcp://a:1", "2", "a", 17), **values)


def suspect(key="('sum-1', 0)", size=400 * MiB, **more):
    values = {
        "prefix": "sum",
        "peak": size,
        "share": None if size is None else size / (584 * MiB),
        "seconds": 3.21,
        "thread": 7,
        "priority": None,
        "order_position": None,
        "order_total": None,
        "attempts": (),
        "method": "estimated",
    }
    return Suspect(key=key, bytes=size, **{**values, **more})


def assigned(n):
    return {"n_assigned": n, "assigned": (info("x-1"),)}


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        (
            "terminated",
            {},
            "The nanny terminated worker 2, which was above its terminate threshold: "
            "it used 561 MiB of 584 MiB (96 %). At its death, no task was running.",
        ),
        (
            "oom-killed",
            {},
            "The kernel killed worker 2 because the host or its container ran out of "
            "memory: it used 561 MiB of 584 MiB (96 %). At its death, no task was "
            "running.",
        ),
        (
            "killed",
            {"exit": Exit(None, 9, "unknown")},
            "Worker 2 was killed by signal 9 (SIGKILL) from outside, not by its nanny; "
            "it used 561 MiB of 584 MiB (96 %). At its death, no task was running.",
        ),
        (
            "crashed",
            {"exit": Exit(None, 11, "unknown"), "limit": None},
            "Worker 2 crashed with signal 11 (SIGSEGV); it used 561 MiB, without a "
            "limit. At its death, no task was running.",
        ),
        (
            "exited",
            {"exit": Exit(3, None, "unknown")},
            "Worker 2 ended by itself with status 3, though nobody had asked it to; it "
            "used 561 MiB of 584 MiB (96 %). At its death, no task was running.",
        ),
        (
            "exited",
            {"closing": "worker-execute-fail-hard", "evidence": "heartbeat"},
            "Worker 2 ended by itself (worker-execute-fail-hard), though nobody had "
            "asked it to; it used 561 MiB of 584 MiB (96 %). When it was last heard "
            "of, no task was running.",
        ),
        (
            "lost",
            {"breakdown": None, "evidence": "scheduler"},
            "Worker 2 was lost, and how it ended is not known; when last heard of it "
            "used an unknown amount of memory. As far as the "
            "scheduler knows, nothing says which tasks were running.",
        ),
        (
            "killed-worker",
            {"tasks": (info("sum-1"),), "n_tasks": 1, "attempts": ("1", "2", "4")},
            "Dask gave up on sum-1 (KilledWorker), because 3 workers died while it was "
            "assigned to them. What was really running there stands in incidents #1, "
            "#2, #4.",
        ),
        (
            "killed-worker",
            {"tasks": (info("sum-1"),), "n_tasks": 1235, "attempts": ("1", "2")},
            "Dask gave up on sum-1 and 1,234 other tasks (KilledWorker), because 2 "
            "workers died while it was assigned to them. What was really running there "
            "stands in incidents #1, #2.",
        ),
    ],
)
def test_every_kind_has_its_words(kind, more, expected):
    assert describe(incident(kind, **more)) == expected


def test_the_running_task_is_named_with_what_it_held_and_where_it_stood():
    text = describe(
        incident(
            suspects=(suspect(order_position=37, order_total=1210),), **assigned(5)
        )
    )
    assert text.endswith(
        " At its death, 1 task was running: ('sum-1', 0) with 400 MiB (estimated), "
        "68 % of the limit, for 3.2 s, task 37 of 1,210 in order. 4 other tasks had "
        "been assigned to it and had not started."
    )


def test_a_task_that_was_not_measured_says_so():
    text = describe(incident(suspects=(suspect("sum-1", None),)))
    assert text.endswith("1 task was running: sum-1 with not measured, for 3.2 s.")


def test_three_running_tasks_are_named_and_the_others_counted():
    suspects = tuple(suspect(f"sum-{n}", MiB, share=None) for n in range(5))
    text = describe(incident(suspects=suspects, **assigned(6)))
    assert text.endswith(
        "At its death, 5 tasks were running: "
        "sum-0 with 1 MiB (estimated), for 3.2 s; "
        "sum-1 with 1 MiB (estimated), for 3.2 s; "
        "sum-2 with 1 MiB (estimated), for 3.2 s; and 2 more. "
        "1 other task had been assigned to it and had not started."
    )


def test_a_very_long_key_is_shortened():
    text = describe(incident(suspects=(suspect("k" * 5000),)))
    assert "k" * 69 + "… with" in text
    assert len(text) < 500


def test_a_signal_that_has_no_name_is_a_number():
    text = describe(incident("crashed", exit=Exit(None, 63, "unknown")))
    assert text.startswith("Worker 2 crashed with signal 63; it used")
    assert describe(incident("killed")).startswith("Worker 2 was killed by a signal ")


@pytest.mark.parametrize("attempts", [(), ("1",)])
@pytest.mark.parametrize("n_tasks", [1, 2])
def test_a_killed_worker_is_whole_sentences_whatever_is_known_of_it(attempts, n_tasks):
    text = describe(
        incident(
            "killed-worker",
            tasks=(info("sum-1"),),
            n_tasks=n_tasks,
            attempts=attempts,
        )
    )
    assert "  " not in text
    assert not re.search(r"\s[.,]", text), text
    assert "incidents #1." not in text
    assert "1 worker died while it was assigned to them" not in text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (900, "900 B"),
        (1024, "1 kiB"),
        (922, "0.9 kiB"),
        (921, "921 B"),
        (1536 * 1024, "1.5 MiB"),
        (584 * MiB, "584 MiB"),
        (2**30, "1 GiB"),
        (1000 * MiB, "0.98 GiB"),
        (5 * 2**40, "5 TiB"),
        (-3 * MiB, "−3 MiB"),
    ],
)
def test_sizes_are_formatted_in_binary_units(size, text):
    assert format_bytes(size) == text
