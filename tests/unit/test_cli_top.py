"""`dask memdash top`: tables that fit, the screen, its keys, and what it asks."""

from __future__ import annotations

import json
import queue
import sys
from itertools import product

import fake_store
import pytest
from click.testing import CliRunner

from dask_memdash.cli import top
from dask_memdash.cli.main import main
from dask_memdash.cli.sources import Dashboard, Scheduler, default_address, open_source
from dask_memdash.cli.table_text import (
    Column,
    bar,
    cells,
    cut,
    length,
    padded,
    table,
    written,
)
from dask_memdash.cli.top_choice import Chosen, press
from dask_memdash.cli.top_columns import WORKERS, fullness
from dask_memdash.cli.top_reading import SLICE, Reader
from dask_memdash.cli.top_screen import bounded, everything, screen
from dask_memdash.errors import MemDashError, SchedulerGoneError
from dask_memdash.web.api import ask

NOW = 1_760_000_000.0


class Source:
    """Answers as a scheduler with this store does."""

    address = "tcp://s:8786"
    identity = "S-1"

    def __init__(self, store):
        self.store = store
        self.asked = []
        self.closed = False

    def ask(self, path, **arguments):
        self.asked.append((path, arguments))
        query = {name: str(value) for name, value in arguments.items()}
        status, body = ask(self.store, path, query)
        assert status == 200, body
        return json.loads(body)

    def close(self):
        self.closed = True


def snapshot(store):
    return Reader(Source(store), lambda: NOW).read()


STORES = {
    "empty": fake_store.empty,
    "busy": fake_store.busy,
    "failed": fake_store.after_incident,
    "ten failures": lambda: fake_store.failing(10),
    "hostile": fake_store.hostile,
    "degraded": fake_store.degraded,
    "shared": fake_store.shared_process,
}


# -- tables --------------------------------------------------------------------


def test_wide_letters_take_two_cells_and_marks_none():
    assert [cells("ab"), cells("内存"), cells("e\u0301")] == [2, 4, 1]


def test_a_line_that_is_cut_says_so_and_keeps_its_tones():
    line = (("worker", "strong"), ("-17 内存", "dim"))
    assert cut(line, 20) == line
    assert cut(line, 8) == (("worker", "strong"), ("-…", "dim"))
    assert length(cut(line, 11)) <= 11  # half of a wide letter has no room
    assert cut(line, 0) == ()
    assert length(padded(line, 30)) == 30


ROWS = [("random_sample-with-a-name", "running", 12), ("sum", "paused", 3)]
COLUMNS = (
    Column("name", lambda row: row[0], least=8),
    Column("state", lambda row: row[1], rank=1, least=4),
    Column("empty", lambda row: "", rank=1),
    Column("number", lambda row: str(row[2]), right=True, rank=9),
)


def test_a_table_without_a_width_takes_what_it_needs():
    assert written(table(COLUMNS, ROWS)).splitlines() == [
        "name                       state    number",
        "random_sample-with-a-name  running      12",
        "sum                        paused        3",
    ]


def test_where_there_is_no_room_names_are_cut_and_lesser_columns_left_out():
    assert written(table(COLUMNS, ROWS, 30)).splitlines() == [
        "name           state    number",
        "random_sampl…  running      12",
        "sum            paused        3",
    ]
    assert written(table(COLUMNS, ROWS, 16)).splitlines() == [
        "name      state",
        "random_…  runni…",
        "sum       paused",
    ]


@pytest.mark.parametrize("width", range(1, 60))
def test_a_table_is_never_wider_than_there_is_room(width):
    assert max(map(length, table(COLUMNS, ROWS, width))) <= width


def test_a_bar_is_as_long_as_it_should_be_and_needs_no_colour():
    parts = [("storage", 25), ("execution", 25), ("overhead", 0)]
    assert written([bar(parts, 100, 8)]) == "██▓▓····"
    assert written([bar(parts, None, 8)]) == "████▓▓▓▓"
    assert written([bar(parts, 40, 8)]) == "████▓▓▓▓"  # more than the limit
    assert written([bar([], 0, 4)]) == "····"


# -- the screen ----------------------------------------------------------------


SIZES = [(40, 10), (80, 24), (120, 40), (200, 50), (20, 5)]
VIEWS = ["all", "workers", "prefixes", "failures"]


@pytest.mark.parametrize("store", STORES)
def test_the_screen_has_exactly_its_size_and_no_escapes(store):
    shown = snapshot(STORES[store]())
    for size, view, helps in product(SIZES, VIEWS, (False, True)):
        chosen = bounded(Chosen(view=view, row=10**6 * helps, help=helps), shown)
        lines = screen(shown, chosen, size, NOW, "it is gone")
        assert len(lines) == size[1]
        assert all(length(line) <= size[0] for line in lines), (size, view)
        text = "".join(piece for line in lines for piece, _ in line)
        assert text.isprintable(), (size, view)


def test_everything_is_said_where_nothing_limits_it():
    text = written(everything(snapshot(fake_store.failing(3)), None))
    for said in (
        "MemDash of tcp://s:8786",
        "4 workers, 4 tasks running",
        "2.87 GiB of 4 GiB, 72 %",
        "storage 1.38 GiB   execution 0.83 GiB   overhead 0.66 GiB   spilled 400 MiB",
        "failure-3",
        "What to change: Make chunks smaller: x.rechunk((500, 500)).",
        "worker-3",
        "random_sample",
    ):
        assert said in text
    assert "█" not in text


@pytest.mark.parametrize(
    "said", ["No failures.", "No worker is connected.", "No task has run yet."]
)
def test_what_is_empty_says_so(said):
    lines = screen(snapshot(fake_store.empty()), Chosen(), (80, 24), NOW)
    assert said in written(lines).splitlines()


def test_a_small_screen_still_says_what_happened_and_what_to_change():
    text = written(screen(snapshot(fake_store.failing(12)), Chosen(), (80, 24), NOW))
    assert "one task needs too much" in text
    assert "What to change: Make chunks smaller: x.rechunk((500, 500))." in text
    assert "more: press 3" in text


def test_a_list_alone_has_the_details_of_the_row_that_is_chosen():
    shown = snapshot(fake_store.busy(40))
    lines = screen(shown, Chosen(view="workers", row=39), (80, 24), NOW)
    text = written(lines)
    assert "40 of 40, fullest first" in text
    (line,) = [line for line in lines if any(tone == "chosen" for _, tone in line)][:1]
    name = min(shown.workers, key=lambda w: (fullness(w), str(w["name"])))
    chosen = "".join(piece for piece, _ in line).split()[0]
    worker = next(w for w in shown.workers if w["name"] == chosen)
    assert fullness(worker) == fullness(name)
    assert f"{chosen} at {worker['address']}" in text
    assert "runs ('sum', " in text


def test_figures_that_are_old_are_said_to_be():
    shown = snapshot(fake_store.busy())
    text = written(screen(shown, Chosen(), (80, 24), NOW + 12, "nobody answers"))
    assert "Figures are 12 s old: nobody answers" in text


def test_before_the_first_figures_the_screen_says_what_it_waits_for():
    assert "Asking the scheduler" in written(screen(None, Chosen(), (80, 24), NOW))


def test_a_peak_that_a_death_taught_is_at_least_so_much():
    store = fake_store.busy()
    store.all_prefixes[0]["execution"]["peak"].update(
        p50=None, p95=None, max=None, at_least=380 * 2**20
    )
    assert "≥ 380 MiB" in written(everything(snapshot(store), None))


def test_a_worker_that_fills_says_when_it_pauses():
    store = fake_store.busy()
    store.all_workers[2]["time_to_limit"] = {"seconds": 130.0, "line": "pause"}
    shown = snapshot(store)
    text = written(screen(shown, Chosen(), (120, 40), NOW))
    assert "worker-3 pauses in 2 min 10 s" in text
    assert "pause in 2 min 10 s" in written(table(WORKERS, shown.workers))


# -- keys ----------------------------------------------------------------------


def test_keys_choose_views_rows_and_orders():
    chosen = Chosen()
    for key in ("2", "down", "j", "up", "s", "p"):
        chosen = press(chosen, key)
    assert chosen == Chosen(view="prefixes", row=1, order=1, paused=True)
    assert press(chosen, "tab").view == "failures"
    assert press(press(chosen, "?"), "x") == chosen  # any key ends the help
    assert press(chosen, "z") == chosen
    assert press(Chosen(help=True), "q") is None


def test_rows_end_where_the_list_does():
    shown = snapshot(fake_store.busy())
    assert bounded(press(Chosen(view="workers"), "end"), shown).row == 3
    assert press(Chosen(view="workers"), "up").row == 0
    assert bounded(Chosen(row=5), None).row == 0


def test_what_a_terminal_sends_is_read_as_keys():
    assert list(top.read_keys("\x1b[A\x1b[Bq\t")) == ["up", "down", "q", "tab"]
    assert list(top.read_keys("a\x1b[200~")) == ["a"]


# -- asking --------------------------------------------------------------------


def test_few_workers_are_asked_for_each_time():
    source = Source(fake_store.busy(5))
    times = iter([NOW, NOW + 2])
    reader = Reader(source, lambda: next(times))
    reader.read()
    assert reader.read().workers_time == NOW + 2


def test_many_workers_are_asked_for_in_slices_and_more_rarely():
    number = 2 * SLICE + 100
    source = Source(fake_store.busy(number))
    times = iter([NOW, NOW + 2, NOW + 4, NOW + 6])
    reader = Reader(source, lambda: next(times))
    assert len(reader.read().workers) == number
    asked = [arguments for path, arguments in source.asked if path == "workers"]
    assert [each["offset"] for each in asked] == [0, SLICE, 2 * SLICE]
    assert [reader.read().workers_time for _ in range(3)] == [NOW, NOW, NOW + 6]


def test_a_scheduler_that_is_gone_is_looked_for_until_it_is_back(monkeypatch):
    monkeypatch.setattr(top, "AGAIN", 0.01)
    events = queue.SimpleQueue()
    first, second = Source(fake_store.busy()), Source(fake_store.busy(2))
    first.ask = lambda path, **arguments: gone()
    tries = iter([gone, lambda: second])
    watching = top.Watching(first, "s", 0.01, events, lambda address: next(tries)())
    watching.start()
    came = [events.get(timeout=10) for _ in range(3)]
    watching.stop()
    watching.join(timeout=10)
    assert [what for what, _ in came] == ["trouble", "trouble", "snapshot"]
    assert len(came[2][1].workers) == 2
    assert first.closed
    assert second.closed


def gone():
    raise SchedulerGoneError("s", "it went")


# -- the command ---------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(main, ["top", *arguments])


def test_without_a_terminal_everything_is_written_once(monkeypatch):
    opened = []

    def opener(address):
        opened.append((address, Source(fake_store.failing(1))))
        return opened[-1][1]

    monkeypatch.setattr(top, "open_source", opener)
    monkeypatch.setitem(sys.modules, "rich", None)  # it is not needed for that
    answer = run("tcp://s:8786")
    assert answer.exit_code == 0
    assert "failure-1" in answer.output
    ((address, source),) = opened
    assert address == "tcp://s:8786"
    assert source.closed


def test_without_rich_the_live_screen_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.live", None)
    with pytest.raises(MemDashError, match=r"pip install rich[^\n]*\n.*--once"):
        top.live("tcp://s:8786", 2.0)


def test_a_scheduler_that_is_not_there_is_a_clear_error():
    answer = run("http://127.0.0.1:9/status")
    assert answer.exit_code == 3
    assert "http://127.0.0.1:9/memdash/api/cluster cannot be asked" in answer.output


def test_an_address_with_http_is_a_dashboards_and_others_are_a_schedulers(monkeypatch):
    import dask

    monkeypatch.setattr(Scheduler, "__init__", lambda self, address: None)
    assert isinstance(open_source("http://s:8787"), Dashboard)
    assert isinstance(open_source("s:8786"), Scheduler)
    assert default_address() == "tcp://127.0.0.1:8786"
    with dask.config.set({"scheduler-address": "tls://s:1"}):
        assert default_address() == "tls://s:1"


def test_rich_draws_what_the_lines_say():
    from rich.console import Console

    lines = screen(snapshot(fake_store.failing(2)), Chosen(), (100, 30), NOW)
    console = Console(width=100, height=30, record=True, color_system="truecolor")
    with console.capture() as drawn:
        console.print(top.painted(lines), end="")
    assert "failure-2" in drawn.get()
    assert drawn.get().count("\n") == 29
