"""The map of all workers."""

import fake_parts
import fake_store
import pytest
from stories import MiB

from dask_memdash.views import worker_map
from dask_memdash.views.base import Context
from dask_memdash.views.report import render_report
from dask_memdash.views.worker_bars import processes


def filled(number, sizes):
    """Return a store whose first workers' processes have so many MiB of 1,024."""
    store = fake_store.busy(number)
    for worker, size in zip(store.all_workers, sizes, strict=False):
        worker["breakdown"] = fake_parts.breakdown(size * MiB, *[0] * 6)
    return store


def view_of(store):
    view = worker_map.WorkerMapView(store, Context(""))
    view.update()
    return view


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, (40, 1)), (41, (40, 2)), (1000, (49, 21)), (10_000, (155, 65))],
)
def test_grid_has_room_for_every_worker(number, expected):
    assert worker_map.grid(number) == expected


def test_cells_stand_in_the_order_of_names_from_the_top_left():
    cells = worker_map.cells(processes(fake_store.busy(100).all_workers))
    assert cells["name"][:2] == ["worker-1", "worker-2"]
    assert (cells["column"][41], cells["row"][41]) == (1, 1)
    assert cells["link"][0] == "worker-tcp%3A%2F%2F10.0.0.1%3A4000"


def test_cell_is_as_dark_as_its_process_is_full():
    cells = worker_map.cells(processes(filled(3, (0, 512, 1024)).all_workers))
    assert cells["shade"] == [0.06, 0.53, 1.0]
    assert cells["about"][1] == "about 50 % of 1 GiB"


def test_process_over_its_limit_is_no_darker_than_dark():
    cells = worker_map.cells(processes(filled(1, (3000,)).all_workers))
    assert cells["shade"] == [1.0]
    assert cells["about"] == ["about 295 % of 1 GiB"]


def test_small_moves_change_no_cell():
    before = worker_map.cells(processes(filled(2, (500, 500)).all_workers))
    after = worker_map.cells(processes(filled(2, (510, 505)).all_workers))
    assert before == after


def test_what_is_not_known_is_said_and_not_drawn_as_empty():
    store = fake_store.busy(2)
    store.all_workers[0]["limit"] = None
    store.all_workers[1]["breakdown"] = fake_parts.no_breakdown()
    cells = worker_map.cells(processes(store.all_workers))
    assert cells["shade"] == [0.0, 0.0]
    assert cells["about"] == ["no memory limit", "not measured yet"]


def test_paused_worker_is_crossed_and_framed_not_coloured_alone():
    cells = worker_map.cells(processes(fake_store.busy(4).all_workers))
    assert cells["status"] == ["running", "running", "paused", "running"]
    assert cells["hatch"] == [" ", " ", "x", " "]
    assert cells["edge_width"] == [0.5, 0.5, 2.5, 0.5]


def test_map_is_said_in_words():
    groups = processes(filled(4, (1000, 600, 10, 20)).all_workers)
    assert worker_map.in_words(groups) == (
        "Of 4 processes, at 80 % of the limit or more: 1; at 50 to 80 %: 1; below: 2."
    )


def test_small_cluster_has_no_map():
    view = view_of(fake_store.busy(40))
    assert not view.figure.visible
    assert view.said.pane.object == ""


def test_large_cluster_has_one_cell_for_each_worker():
    view = view_of(fake_store.busy(41))
    assert view.figure.visible
    assert len(view.source.data["name"]) == 41
    assert "Of 41 processes" in view.said.pane.object


def test_workers_of_one_process_share_a_cell():
    store = fake_store.shared_process()
    (name,) = worker_map.cells(processes(store.all_workers))["name"]
    assert name == "3 in one process"


def test_report_has_the_map_of_a_large_cluster_only():
    assert "Of 41 processes" in render_report(fake_store.busy(41))
    assert "A cell for each process" not in render_report(fake_store.busy(4))
