"""One formatter: what sizes, times, shares and names look like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_memdash import text

MiB = 2**20


@pytest.mark.parametrize(
    ("size", "written"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0 B"),
        (921, "921 B"),
        (922, "0.9 kiB"),
        (1024, "1 kiB"),
        (5_641_339, "5.38 MiB"),
        (56_413_390, "53.8 MiB"),
        (564_133_900, "538 MiB"),
        (1000 * MiB, "0.98 GiB"),
        (-3 * MiB, "−3 MiB"),
        (2**53, "8 PiB"),
    ],
)
def test_a_size_has_three_significant_digits(size, written):
    assert text.format_bytes(size) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, "–"),
        (0.42, "0.42 s"),
        (4.24, "4.2 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (245, "4 min 05 s"),
        (7800, "2 h 10 min"),
        (260_000, "3.0 days"),
        (-3, "−3.0 s"),
    ],
)
def test_a_duration_reads_as_people_say_it(seconds, written):
    assert text.format_duration(seconds) == written


def test_shares_counts_and_lists():
    assert text.format_share(1, 3) == "33 %"
    assert text.format_share(0.001) == "< 1 %"
    assert text.format_share(None) == text.format_share(1, 0) == "–"
    assert text.count(1, "entry", "entries") == "1 entry"
    assert text.count(1234, "task") == "1,234 tasks"
    assert text.join(["a", "b", "c"]) == "a, b and c"


def test_long_names_keep_both_ends_and_long_keys_their_beginning():
    assert text.shorten("abcdefghij", 7) == "abc…hij"
    assert text.short("abcdefghij", 7) == "abcdef…"


@given(st.lists(st.integers(0, 2**45), min_size=1, max_size=7))
def test_parts_beside_their_sum_add_up_as_shown(sizes):
    total = sum(sizes)
    shown = text.format_parts({str(n): size for n, size in enumerate(sizes)}, total)
    numbers = [float(part.split()[0]) for part in shown.values()]
    units = {part.split()[1] for part in shown.values() if part != "0"}
    whole = text.format_bytes(total).split()
    assert sum(numbers) == pytest.approx(float(whole[0]), abs=1e-9)
    assert units <= {whole[1]}
