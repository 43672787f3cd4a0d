"""Two recorded runs compared: verdicts, their order, and how they are written."""

from __future__ import annotations

import json
import random
import re

import pytest
from click.testing import CliRunner
from compared_runs import MB, Run, Tasks, store, write

import dask_memdash
from dask_memdash.cli.main import main
from dask_memdash.compare.comparison import compare
from dask_memdash.compare.conditions import Condition, failing
from dask_memdash.compare.verdicts import BETTER, CANNOT_SAY, SAME, WORSE
from dask_memdash.compare.written import as_markdown, as_text, to_dict
from dask_memdash.errors import RunError

HOSTILE = "@team <img src=x> | `x` [a](http://e.vil) \x1b[31m\u202e"


@pytest.fixture
def compared(tmp_path):
    """Compare two runs that are written for it."""

    def do(first: Run, second: Run):
        runs = [
            store(write(tmp_path / name, run))
            for name, run in (("first", first), ("second", second))
        ]
        return compare(*runs)

    return do


def spread(mean: int, n: int = 120, seed: int = 0, wide: float = 0.1) -> list[int]:
    chance = random.Random(seed)
    return [int(mean * chance.lognormvariate(0, wide)) for _ in range(n)]


def one(found, measure, subject=None, area=None):
    (row,) = [
        d
        for d in found.differences
        if d.measure == measure
        and subject in (None, d.subject)
        and area in (None, d.area)
    ]
    return row


# -- verdicts --------------------------------------------------------------------------


def test_a_task_that_takes_twice_as_much_is_worse_and_the_other_way_better(compared):
    small = Run({"load": Tasks(spread(50 * MB, 120), spread(40 * MB, 120))})
    large = Run({"load": Tasks(spread(100 * MB, 60, 1), spread(80 * MB, 60, 1))})
    found = compared(small, large)
    for measure in ("peak", "output"):
        assert one(found, measure).verdict == WORSE
    assert one(found, "peak").share == pytest.approx(1.0, abs=0.1)
    assert "2.0 × as much" in one(found, "peak").text
    assert "(120 and 60 tasks)" in one(found, "peak").text
    assert found.verdict == WORSE
    assert any(note.startswith("Not the same work") for note in found.notes)


def test_less_is_better(tmp_path, compared):
    found = compared(
        Run({"load": Tasks(spread(100 * MB))}),
        Run({"load": Tasks(spread(50 * MB, seed=1))}),
    )
    assert one(found, "peak").verdict == BETTER


def test_the_same_is_the_same(compared):
    first = Run({"load": Tasks(spread(50 * MB, 600))})
    found = compared(first, Run({"load": Tasks(spread(50 * MB, 600, 9))}))
    assert one(found, "peak").verdict == SAME
    assert found.counts[WORSE] == 0


@pytest.mark.parametrize("seed", range(10))
def test_chance_alone_makes_nothing_worse_or_better(compared, seed):
    wide = [
        Run(
            {
                f"p{i}": Tasks(spread(60 * MB, n, 2 * (i + 100 * seed) + k, 0.6))
                for i, n in enumerate((8, 9, 12, 20, 40, 80, 150, 400))
            }
        )
        for k in (0, 1)
    ]
    found = compared(*wide)
    peaks = [d for d in found.differences if d.measure == "peak"]
    assert len(peaks) == 8
    assert not {d.verdict for d in peaks} & {WORSE, BETTER}


def test_few_tasks_are_too_few_to_say(compared):
    found = compared(
        Run({"total": Tasks([100 * MB] * 7)}), Run({"total": Tasks([300 * MB] * 7)})
    )
    row = one(found, "peak")
    assert row.verdict == CANNOT_SAY
    assert "too few to say" in row.reason
    assert not row.worse_by(0.0)


def test_a_tail_that_grew_is_worse_though_most_tasks_are_alike(compared):
    usual = spread(50 * MB, 380)
    found = compared(
        Run({"load": Tasks([*usual, *spread(50 * MB, 20, 3)])}),
        Run({"load": Tasks([*usual, *spread(150 * MB, 40, 3)])}),
    )
    assert one(found, "peak").verdict == WORSE


@pytest.mark.parametrize("n", [20, 60, 300])
def test_one_large_task_is_not_called_the_same(compared, n):
    usual = [50 * MB] * n
    found = compared(
        Run({"load": Tasks(usual)}), Run({"load": Tasks([*usual, 200 * MB])})
    )
    assert one(found, "peak").verdict == CANNOT_SAY
    assert "to 191 MiB" in one(found, "peak").text


def test_a_measure_that_may_be_far_off_says_nothing(compared):
    found = compared(
        Run({"load": Tasks([50 * MB] * 50, error=60 * MB)}),
        Run({"load": Tasks([80 * MB] * 50, error=60 * MB)}),
    )
    assert one(found, "peak").verdict == CANNOT_SAY
    assert "the measure itself may be off by" in one(found, "peak").reason


def test_what_died_with_its_worker_counts_as_at_least(compared):
    tasks = Tasks([50 * MB] * 20, at_least=380 * MB)
    found = compared(Run({"load": Tasks([50 * MB] * 20)}), Run({"load": tasks}))
    row = one(found, "peak")
    assert row.verdict == CANNOT_SAY
    assert row.b.at_least
    assert "362 MiB or more" in row.text


def test_one_figure_a_run_is_worse_only_beyond_what_repeats_differ_by(compared):
    found = compared(Run(stored=50 * MB), Run(stored=65 * MB))
    assert one(found, "stored", area="storage").verdict == CANNOT_SAY
    assert "repeats of one job" in one(found, "stored", area="storage").reason


def test_far_more_storage_is_worse(compared):
    found = compared(Run(stored=50 * MB), Run(stored=250 * MB))
    assert one(found, "stored", area="storage").verdict == WORSE


def test_workers_are_compared_in_groups_of_one_limit(compared):
    found = compared(
        Run(workers=spread(100 * MB, 20)), Run(workers=spread(300 * MB, 20, 1))
    )
    row = one(found, "memory", area="workers")
    assert row.verdict == WORSE
    assert row.subject == "2 threads, 381 MiB"


def test_other_limits_and_versions_are_told_and_the_groups_still_compared(compared):
    found = compared(
        Run(versions={"dask": "2025.11.0"}),
        Run(limit=800 * MB, threads=4, versions={"dask": "2026.8.0"}),
    )
    assert one(found, "memory", area="workers").verdict == SAME
    notes = " ".join(found.notes)
    assert "dask 2025.11.0, now 2026.8.0" in notes
    assert "memory limit was 381 MiB, now 763 MiB" in notes
    assert "Threads of a worker: 2, now 4" in notes


def test_work_given_up_is_worse_and_first_in_the_list(compared):
    tasks = {"load": Tasks(spread(50 * MB))}
    found = compared(Run(tasks), Run(tasks, failures=[("load", 4, 1)]))
    assert found.differences[0].area == "failures"
    assert found.differences[0].verdict == WORSE
    assert "4 workers died and 1 task given up" in found.differences[0].text
    assert failing(found, [Condition.parse("failures")])


@pytest.mark.parametrize("gave_up", ["first", "second"])
def test_a_run_that_gave_up_is_not_praised_for_less_memory(compared, gave_up):
    whole = Run({"load": Tasks(spread(50 * MB))}, memory=900 * MB, stored=500 * MB)
    cut = Run(
        {"load": Tasks(spread(50 * MB, 9))},
        memory=200 * MB,
        stored=0,
        failures=[("load", 4, 1)],
    )
    runs = (whole, cut) if gave_up == "second" else (cut, whole)
    found = compared(*runs)
    for measure in ("memory", "stored"):
        row = one(found, measure, area="storage")
        assert row.verdict == CANNOT_SAY
        assert f"the {gave_up} run gave up" in row.reason
    wanted = WORSE if gave_up == "second" else BETTER
    assert one(found, "failures").verdict == wanted


def test_one_death_may_be_chance_and_ten_are_not(compared):
    found = compared(Run(), Run(failures=[(None, 1, 0)]))
    assert one(found, "failures").verdict == CANNOT_SAY
    assert "may be chance" in one(found, "failures").reason


def test_ten_deaths_are_no_chance(compared):
    tasks = {"load": Tasks(spread(50 * MB))}
    found = compared(Run(tasks), Run(tasks, failures=[("load", 10, 0)]))
    assert one(found, "failures").verdict == WORSE


def test_a_death_is_worse_where_its_prefix_takes_more(compared):
    found = compared(
        Run({"load": Tasks(spread(50 * MB))}),
        Run({"load": Tasks(spread(150 * MB))}, failures=[("load", 1, 0)]),
    )
    assert one(found, "failures").verdict == WORSE
    assert "its tasks take more memory" in one(found, "failures").text


def test_graphs_are_compared_by_name(compared):
    found = compared(
        Run(graphs=[("total", 5.0), ("other", 3.0)]), Run(graphs=[("total", 50.0)])
    )
    assert one(found, "duration").verdict == WORSE
    assert one(found, "duration").subject == "total"


def lasting(seconds, tasks=120):
    return Run({"load": Tasks(spread(50 * MB, tasks), duration=seconds)})


def test_tasks_that_last_twice_as_long_are_told_though_repeats_may_differ_by_that(
    compared,
):
    row = one(compared(lasting(0.5), lasting(1.0)), "duration", area="prefix")
    assert row.subject == "load"
    assert row.share == pytest.approx(1.0)
    assert "lasts 0.50 s, now 1.0 s" in row.text
    assert row.verdict == CANNOT_SAY
    assert row.reason == "repeats of one job may differ by 60 %"


@pytest.mark.parametrize(
    ("before", "after", "tasks", "verdict"),
    [
        (0.5, 1.5, 120, WORSE),
        (2.0, 0.5, 120, BETTER),
        # What short tasks lose matters where there are many of them.
        (0.01, 0.04, 12, SAME),
        (0.01, 0.04, 1200, WORSE),
    ],
)
def test_tasks_that_last_longer_than_noise_explains_are_worse(
    compared, before, after, tasks, verdict
):
    found = compared(lasting(before, tasks), lasting(after, tasks))
    row = one(found, "duration", area="prefix")
    assert row.verdict == verdict
    assert row.worse_by(0.1) == (verdict == WORSE)


def test_the_time_of_few_tasks_is_no_verdict(compared):
    row = one(compared(lasting(1.0, 5), lasting(9.0, 5)), "duration", area="prefix")
    assert row.verdict == CANNOT_SAY
    assert row.reason == "5 tasks in one run: too few to say"


def test_pauses_are_counts(compared):
    found = compared(Run(), Run(pauses=20))
    assert one(found, "pauses").verdict == WORSE


# -- names -----------------------------------------------------------------------------


def test_a_rename_is_suggested_by_evidence_and_never_a_verdict(compared):
    tasks = Tasks(spread(50 * MB, 40), [8 * MB] * 40)
    more = Tasks(spread(150 * MB, 40), [8 * MB] * 40)
    found = compared(
        Run({"regrid": tasks, "gone": Tasks([MB] * 9)}),
        Run({"interpolate": more, "new": Tasks([300 * MB] * 11)}),
    )
    (rename,) = found.renames
    assert (rename.was, rename.now) == ("regrid", "interpolate")
    assert rename.evidence[0] == "as many tasks (40)"
    row = one(found, "peak", "interpolate")
    assert row.verdict == CANNOT_SAY
    assert row.was == "regrid"
    assert "If 'regrid' is called 'interpolate' now" in row.text
    assert not failing(found, [Condition.parse("worse:0%")])
    assert "is gone" in one(found, "peak", "gone").text
    assert "the second run alone has it" in one(found, "peak", "new").text


def test_two_candidates_are_no_suggestion(compared):
    tasks = Tasks([50 * MB] * 40, [8 * MB] * 40)
    found = compared(Run({"aaa": tasks}), Run({"bbb": tasks, "ccc": tasks}))
    assert found.renames == ()


# -- written ---------------------------------------------------------------------------


def test_markdown_is_bounded_and_lets_no_name_through(compared):
    first = {f"{HOSTILE}{i}": Tasks(spread(50 * MB)) for i in range(200)}
    second = {f"{HOSTILE}{i}": Tasks(spread(150 * MB)) for i in range(200)}
    text = as_markdown(compared(Run(first), Run(second)))
    assert len(text) < 20_000
    assert text.startswith("### Memory: worse\n")
    bare = re.sub(r"`[^`\n]*`", "", text)  # nothing lives in code but a pipe's escape
    assert "@team" not in bare
    assert "<img" not in bare
    assert "](" not in bare
    assert "\x1b" not in text
    assert "\u202e" not in text
    for line in text.splitlines():
        if line.startswith("|"):
            cells = len(re.findall(r"(?<!\\)\|", line)) - 1
            assert cells in (3, 5), line


def test_notes_of_hostile_versions_are_escaped_too(compared):
    found = compared(Run(versions={"dask": HOSTILE}), Run(versions={"dask": "2"}))
    text = as_markdown(found)
    assert "@\u2060team" in text
    assert r"\<img" in text


def test_text_lists_what_matters_and_counts_the_rest(compared):
    found = compared(
        Run({"load": Tasks(spread(50 * MB)), "tiny": Tasks([100] * 20)}),
        Run({"load": Tasks(spread(150 * MB)), "tiny": Tasks([100] * 20)}),
    )
    text = as_text(found)
    assert text.index("Worse") < text.index("more figures not listed")
    assert "'tiny'" not in text
    assert "'tiny'" in as_text(found, everything=True)
    assert json.loads(json.dumps(to_dict(found), allow_nan=False))["verdict"] == WORSE


def test_a_run_that_was_killed_or_is_itself_is_told(tmp_path):
    path = write(tmp_path / "one", Run(ended=False))
    found = compare(store(path), store(path))
    assert "Both are the same run." in found.notes
    assert any("not ended in order" in note for note in found.notes)
    assert found.counts[WORSE] == found.counts[BETTER] == 0


# -- the command line and the client ---------------------------------------------------


@pytest.fixture
def runs(tmp_path):
    write(
        tmp_path / "runs" / "20260801-100000-aaaaaa",
        Run({"load": Tasks(spread(50 * MB))}),
    )
    write(
        tmp_path / "runs" / "20260802-100000-bbbbbb",
        Run({"load": Tasks(spread(100 * MB))}),
    )
    return tmp_path / "runs"


def command(*words) -> object:
    return CliRunner().invoke(main, ["runs", "diff", *map(str, words)])


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ((), 0),
        (("worse",), 1),
        (("peak:10%",), 1),
        (("peak:300%",), 0),
        (("output", "failures"), 0),
        (("output", "peak"), 1),
        (("peek",), 2),
        (("peak:10",), 2),
    ],
)
def test_fail_on_decides_the_exit_status(runs, conditions, status):
    a, b = sorted(runs.iterdir())
    words = [word for text in conditions for word in ("--fail-on", text)]
    done = command(a, b, *words)
    assert done.exit_code == status, done.output
    if status != 2:
        assert "A task of 'load' takes 2.0 × as much" in done.output


def test_runs_of_one_directory_are_named(runs):
    a, b = (path.name for path in sorted(runs.iterdir()))
    done = command(runs, "--run", a, "--run", b, "--json")
    assert done.exit_code == 0
    assert json.loads(done.output)["b"]["id"] == b
    assert command(runs, "--run", a).exit_code == 2
    assert command(runs, runs, runs).exit_code == 2
    assert command(runs, "--run", a, "--run", "no-such").exit_code == 3
    done = command(runs, "--run", a, "--run", b, "--markdown")
    assert done.output.startswith("### Memory: worse")


def test_the_client_gives_frames_and_text(runs):
    a, b = sorted(runs.iterdir())
    found = dask_memdash.diff(a, b)
    assert found.verdict == WORSE
    assert "A task of 'load' takes 2.0 × as much" in str(found)
    frame = found.table(verdict=WORSE)
    assert list(frame.subject) == ["load"]
    assert frame.share[0] == pytest.approx(1.0, abs=0.1)
    assert frame.low[0] < frame.change[0] < frame.high[0]
    assert set(found.prefixes().area) == {"prefix"}
    assert len(found.failed("peak:10%")) == 1
    with dask_memdash.open_run(a) as first, dask_memdash.open_run(b) as second:
        assert str(first.diff(second)) == str(found)
        assert first.diff(a).verdict in (SAME, CANNOT_SAY)
    with pytest.raises(RunError):
        dask_memdash.diff(a, runs / "none")


def test_a_run_too_short_to_tell_its_memory_says_so_and_not_that_it_was_nothing(
    compared,
):
    found = compared(Run(memory=0, stored=0), Run())
    assert "memory not recorded" in as_text(found)
    assert "0 B" not in as_text(found)
    (line,) = [
        one
        for one in as_markdown(found).splitlines()
        if one.startswith("| most memory")
    ]
    assert line.count("not recorded") == 1
