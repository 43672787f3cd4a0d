"""Who holds a process's growth, and the baseline that it grows from."""

from hypothesis import given
from hypothesis import strategies as st

from dask_memdash.recorder.attribution import Share, error_of_finished, share_out
from dask_memdash.recorder.baseline import SPACING, WINDOW, Baseline

sizes = st.integers(0, 2**50)


@given(sizes, st.lists(sizes, max_size=8))
def test_shares_sum_to_at_most_the_growth(rss, begun_at):
    shares = share_out(rss, begun_at)
    assert len(shares) == len(begun_at)
    growth = max(0, rss - min(begun_at, default=rss))
    held = sum(share.now for share in shares)
    # rounding down loses less than a byte for each task
    assert growth - len(begun_at) < held <= growth or growth == held == 0
    for share, begun in zip(shares, begun_at, strict=True):
        assert 0 <= share.now <= max(0, rss - begun)
        assert 0 <= share.error <= growth


@given(sizes, st.lists(sizes, min_size=2, max_size=8), st.data())
def test_the_truth_is_within_the_error_however_the_growth_was_caused(
    rss, begun_at, data
):
    shares = share_out(rss, begun_at)
    growth = max(0, rss - min(begun_at))
    index = data.draw(st.integers(0, len(begun_at) - 1))
    truth = data.draw(st.sampled_from([0, growth]))
    if rss > begun_at[index]:
        assert abs(shares[index].now - truth) <= shares[index].error


def test_a_task_alone_holds_all_growth_for_certain():
    assert share_out(700, [400]) == [Share(300, 0)]


def test_a_task_alone_never_holds_less_than_nothing():
    assert share_out(300, [400]) == [Share(0, 0)]


def test_several_tasks_share_in_proportion_to_their_own_growth():
    # growth 400 since the oldest began; own growths 400 and 100
    assert share_out(500, [100, 400]) == [Share(320, 320), Share(80, 320)]


def test_tasks_that_began_together_share_equally():
    assert share_out(400, [100, 100]) == [Share(150, 150), Share(150, 150)]


def test_without_growth_nobody_holds_anything():
    assert share_out(100, [100, 300]) == [Share(0, 0), Share(0, 0)]


def test_no_tasks_have_no_shares():
    assert share_out(100, []) == []


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
