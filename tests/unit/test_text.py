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


def digits(written):
    """Return the number and the unit of a size; what is too small counts as 0."""
    if written == "0 B" or written.startswith("<"):
        return 0.0, ""
    number, unit = written.split()
    return float(number), unit


@given(st.lists(st.integers(0, 2**45), min_size=1, max_size=7))
def test_parts_beside_their_sum_add_up_as_shown(sizes):
    total = sum(sizes)
    shown = text.format_parts({str(n): size for n, size in enumerate(sizes)}, total)
    numbers, units = zip(*map(digits, shown.values()), strict=True)
    whole, unit = text.format_bytes(total).split()
    assert sum(numbers) == pytest.approx(float(whole), abs=1e-9)
    assert set(units) <= {unit, ""}


@given(st.lists(st.integers(0, 2**40), min_size=4, max_size=4))
def test_groups_of_parts_add_up_as_shown(sizes):
    a, b, c, d = sizes
    groups = {"ab": {"a": a, "b": b}, "cd": {"c": c, "d": d}}
    shown = text.format_groups(groups, sum(sizes))
    whole = digits(text.format_bytes(sum(sizes)))[0]
    sums = [digits(of_group)[0] for of_group, _ in shown.values()]
    assert sum(sums) == pytest.approx(whole, abs=1e-9)
    for of_group, parts in shown.values():
        total = sum(digits(part)[0] for part in parts.values())
        assert digits(of_group)[0] == pytest.approx(total, abs=1e-9)


def test_a_part_below_the_last_digit_is_not_written_as_nothing():
    parts = {"large": 2 * 2**30 - 2**20, "small": 2**20, "none": 0}
    shown = text.format_parts(parts, 2 * 2**30)
    assert shown == {"large": "2.00 GiB", "small": "< 0.01 GiB", "none": "0 B"}


@pytest.mark.parametrize("total", [None, 5 * MiB])
def test_parts_that_are_no_parts_of_the_sum_are_written_one_by_one(total):
    shown = text.format_parts({"a": 3 * MiB, "b": MiB}, total)
    assert shown == {"a": "3 MiB", "b": "1 MiB"}


def test_a_part_that_is_not_known_is_a_dash():
    shown = text.format_parts({"a": 3 * MiB, "b": None}, 3 * MiB)
    assert shown == {"a": "3 MiB", "b": "–"}


def test_a_hostile_name_is_one_harmless_line():
    hostile = "a\x1b[31mred\u202e\x00\n\ud800\x07 end"
    assert text.plain(hostile) == "a�[31mred�� �� end"
    assert text.plain("größe – 5 µs…") == "größe – 5 µs…"
    assert text.plain("x" * 100, 10) == "xxxxxxxxx…"


def test_factors_and_ties():
    assert text.format_factor(0.04) == "0.04 ×"
    assert text.format_factor(1.25) == "1.3 ×"
    assert text.format_factor(25.4) == "25 ×"
    assert text.format_factor(None) == "–"
    assert text.format_bytes(1152 * 1024) == "1.13 MiB"


def test_keys_and_names_are_made_harmless_wherever_they_are_shortened():
    hostile = "a\x1b[31m\u202e\x00\ud800\nb</script>"
    safe = "a\ufffd[31m\ufffd\ufffd\ufffd b</script>"
    assert text.short(hostile) == text.shorten(hostile) == safe
    assert text.code(hostile) == f"`{safe}`"
    assert text.plain_lines("a\x1b\nb\r\nc") == "a\ufffd\nb \nc"
    assert len(text.short("\x1b" * 10**6)) == 70


def test_what_templates_write_keeps_its_lines_and_obeys_nobody():
    hostile = "a\x1b[2J\x07\x00\u202eb\r\n\tc\ud800 1\u00a0GiB"
    assert text.inert(hostile) == "a�[2J���b\r\n\tc� 1\u00a0GiB"
    assert (text.inert("größe – 5 µs…"), text.inert(7)) == ("größe – 5 µs…", 7)


@pytest.mark.parametrize(
    ("line", "written"),
    [
        (("app/model.py", 42, "regrid", "np.ones"), "app/model.py:42 in np.ones"),
        (("app/model.py", 42, "f.<locals>.g", ""), "app/model.py:42 in f.g"),
        (("app/model.py", None, "", ""), "app/model.py"),
        (("", None, "", ""), "in a thread outside Python"),
        (("a\x1b[2J\nb.py", 1, "", "x\u202ey"), "a\ufffd[2J b.py:1 in x\ufffdy"),
    ],
)
def test_the_line_of_an_allocation_is_one_harmless_line(line, written):
    assert text.format_line(*line) == written


def test_a_line_of_a_hostile_sender_is_cut():
    told = text.format_line("x" * 4000, 1, "", "y" * 4000)
    assert len(told) < 180
