"""Who holds a process's memory, and the baseline beneath it."""

from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.measure.attribution import TaskBegin, error_of_finished, share_out
from dask_memdash.measure.baseline import SPACING, WINDOW, Baseline
from dask_memdash.measure.regression import Share

sizes = st.integers(0, 2**50)
used = st.builds(Share, sizes, sizes)
begun = st.builds(TaskBegin, sizes, st.sampled_from("abc"), st.none() | used)


def begun_at(*sizes):
    """Make tasks, each of a prefix of its own of which nothing is known."""
    return [TaskBegin(size, f"prefix-{n}") for n, size in enumerate(sizes)]


@given(
    sizes,
    st.lists(begun, max_size=8),
    st.none() | st.integers(-(2**50), 2**50),
)
def test_shares_sum_to_what_there_is_or_nothing_and_errors_are_never_negative(
    rss, tasks, total
):
    shares = share_out(rss, tasks, total)
    assert len(shares) == len(tasks)
    growth = max(0, rss - min((task.rss for task in tasks), default=rss))
    whole = growth if total is None or len(tasks) == 1 else max(0, total)
    held = sum(share.bytes for share in shares)
    # rounding down loses less than a byte for each task
    assert whole - len(tasks) < held <= whole or held == 0
    assert all(share.bytes >= 0 and share.error >= 0 for share in shares)


@given(sizes, st.lists(sizes, min_size=2, max_size=8), st.data())
def test_the_truth_is_within_the_error_however_the_growth_was_caused(rss, sizes, data):
    shares = share_out(rss, begun_at(*sizes))
    growth = max(0, rss - min(sizes))
    index = data.draw(st.integers(0, len(sizes) - 1))
    truth = data.draw(st.sampled_from([0, growth]))
    if rss > sizes[index]:
        assert abs(shares[index].bytes - truth) <= shares[index].error


def test_a_task_alone_holds_all_growth_for_certain():
    assert share_out(700, begun_at(400)) == [Share(300, 0)]
    assert share_out(700, begun_at(400), 50) == [Share(300, 0)]


def test_a_task_alone_never_holds_less_than_nothing():
    assert share_out(300, begun_at(400)) == [Share(0, 0)]


def test_several_tasks_share_in_proportion_to_their_own_growth():
    # growth 400 since the oldest began; own growths 400 and 100
    assert share_out(500, begun_at(100, 400)) == [Share(320, 320), Share(80, 320)]


def test_what_is_known_to_be_theirs_goes_before_the_growth():
    # own growths 400 and 100 again, and 600 beyond storage and baseline
    assert share_out(500, begun_at(100, 400), 600) == [
        Share(480, 480),
        Share(120, 480),
    ]
    # outputs were let go meanwhile: less is there than the process has grown by
    assert share_out(500, begun_at(100, 400), 50) == [Share(40, 40), Share(10, 40)]
    assert share_out(500, begun_at(100, 400), -70) == [Share(0, 0), Share(0, 0)]


def test_tasks_that_began_together_share_equally():
    assert share_out(400, begun_at(100, 100)) == [Share(150, 150), Share(150, 150)]


def test_tasks_of_one_prefix_share_equally_whenever_they_began():
    tasks = [TaskBegin(100, "sum"), TaskBegin(400, "sum")]
    assert share_out(500, tasks) == [Share(200, 200), Share(200, 200)]
    assert share_out(500, tasks, 700) == [Share(350, 350), Share(350, 350)]


def test_what_prefixes_are_known_to_use_decides():
    tasks = [
        TaskBegin(100, "open", Share(300, 7)),
        TaskBegin(100, "sum", Share(100, 5)),
    ]
    # just as expected: only what the regression itself leaves open is uncertain
    assert share_out(900, tasks, 400) == [Share(300, 7), Share(100, 5)]
    # 400 more than expected, shared out 3 to 1, as uncertain as 200 a task
    assert share_out(900, tasks, 800) == [Share(600, 207), Share(200, 205)]
    # half of what was expected
    assert share_out(900, tasks, 200) == [Share(150, 107), Share(50, 105)]


def test_what_is_known_of_some_prefixes_only_does_not_decide():
    tasks = [TaskBegin(100, "open", Share(300, 7)), TaskBegin(400, "sum")]
    assert share_out(500, tasks) == [Share(320, 320), Share(80, 320)]


def test_prefixes_that_are_known_to_use_nothing_share_by_their_growth():
    tasks = [TaskBegin(100, "open", Share(0, 7)), TaskBegin(400, "sum", Share(0, 9))]
    assert share_out(500, tasks) == [Share(320, 320), Share(80, 320)]


def test_without_growth_nobody_holds_anything():
    assert share_out(100, begun_at(100, 300)) == [Share(0, 0), Share(0, 0)]
    # …and what is there all the same may be anybody's
    assert share_out(100, begun_at(100, 300), 60) == [Share(0, 60), Share(0, 60)]


def test_no_tasks_have_no_shares():
    assert share_out(100, []) == []
    assert share_out(100, [], 50) == []


def test_a_finished_tasks_error_is_what_its_output_does_not_explain():
    assert error_of_finished(held_at_end=100, output=80, shared=5) == 20
    assert error_of_finished(held_at_end=80, output=100, shared=5) == 20
    assert error_of_finished(held_at_end=100, output=100, shared=5) == 5
    assert error_of_finished(held_at_end=0, output=0, shared=0) == 0


# -- baseline ------------------------------------------------------------------


def test_the_baseline_is_the_least_rest_at_quiet_instants():
    baseline = Baseline()
    for time, rest in enumerate([300, 200, 400]):
        baseline.see(float(time), rest, quiet=True)
    assert (baseline.bytes, baseline.certain) == (200, True)


def test_before_anything_was_seen_there_is_no_baseline():
    assert (Baseline().bytes, Baseline().certain) == (None, False)


def test_before_the_first_quiet_instant_the_least_rest_stands_in():
    baseline = Baseline()
    baseline.see(0.0, 900, quiet=False)
    baseline.see(1.0, 700, quiet=False)
    baseline.see(2.0, 800, quiet=False)
    assert (baseline.bytes, baseline.certain) == (700, False)
    baseline.see(3.0, 850, quiet=True)
    assert (baseline.bytes, baseline.certain) == (850, True)


def test_busy_instants_do_not_move_a_baseline_that_is_certain():
    baseline = Baseline()
    baseline.see(0.0, 500, quiet=True)
    baseline.see(9.0, 10, quiet=False)
    assert baseline.bytes == 500


def test_quiet_instants_in_quick_succession_count_as_one_with_the_least_rest():
    baseline = Baseline()
    for n in range(1000):
        baseline.see(SPACING * n / 1001, 500 - n % 7, quiet=True)
    baseline.see(SPACING, 600, quiet=True)
    assert baseline.bytes == 494
    for n in range(2, WINDOW + 1):
        baseline.see(SPACING * n, 600, quiet=True)
    assert baseline.bytes == 600


def test_a_baseline_that_grows_is_followed_after_a_while():
    baseline = Baseline()
    baseline.see(0.0, 100, quiet=True)
    for n in range(1, WINDOW + 1):
        baseline.see(float(n), 300, quiet=True)
    assert baseline.bytes == 300


def test_the_last_quiet_instant_is_remembered_with_what_was_free_then():
    baseline = Baseline()
    assert (baseline.last, baseline.last_free) == (None, 0)
    baseline.see(0.0, 300, quiet=False, free=9)
    assert (baseline.last, baseline.last_free) == (None, 0)
    baseline.see(1.0, 200, quiet=True, free=30)
    baseline.see(1.1, 500, quiet=True, free=50)
    baseline.see(1.2, 900, quiet=False, free=70)
    # what earlier tasks left behind is no later task's, but the baseline is the least
    assert (baseline.last, baseline.last_free) == (500, 50)
    assert baseline.bytes == 200
