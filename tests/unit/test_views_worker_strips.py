"""Heat strips of the workers, beneath the cluster's chart."""

import fake_store
import numpy as np
import pytest
import stories
from stories import NOW

from dask_memdash.views import worker_strips
from dask_memdash.views.base import Context
from dask_memdash.views.worker_strips import WorkerStripsView


def view_of(store, start=NOW - 60, end=NOW):
    context = Context("")
    context.axis.follow(start, end)
    view = WorkerStripsView(store, context)
    view.update()
    return view


def bytes_sent(view):
    """Count what the images of a view weigh, in bytes."""
    columns = (view.strips.data, ("image", "line")), (view.rest.data, ("image",))
    return sum(
        array.nbytes
        for data, names in columns
        for name in names
        for array in data[name]
    )


def test_cells_tell_nothing_from_empty_and_stop_at_the_limit():
    assert worker_strips.cells([None, 0, 50, 100, 300]).tolist() == [
        [0, 1, 51, 101, 101]
    ]


def test_shades_are_one_for_each_value():
    mapper = worker_strips._image("image", "y", 1.0, "#b8327f", 100).color_mapper
    assert (mapper.low, mapper.high, len(mapper.palette)) == (-0.5, 101.5, 102)
    assert mapper.palette[0] == "#00000000"
    assert mapper.palette[101] == "#b8327fff"


def test_single_worker_of_a_thousand_is_seen_in_the_density():
    cells = worker_strips.rest_cells([[1000, 0], [1, 0]], 1000)
    assert cells.tolist() == [[4, 0], [101, 0]]


@pytest.mark.parametrize(
    ("name", "others", "expected"),
    [
        ("3", 0, "worker 3"),
        ("worker-1", 0, "worker-1"),
        ("tcp://127.0.0.1:40437", 0, "….1:40437"),
        ("7", 3, "4 in one"),
    ],
)
def test_names_beside_strips_are_short_and_keep_their_end(name, others, expected):
    strip = {"name": name, "others": others}
    assert worker_strips.short_name(strip) == expected


def test_strip_leads_to_its_worker_and_a_cross_to_its_incident():
    view = view_of(stories.after_incident())
    assert view.hits.data["link"][0] == "worker-tcp%3A%2F%2F10.0.0.1%3A4000"
    assert view.deaths.data["link"][0] == "incident-1"
    assert view.deaths.data["what"][0] == "terminated by its nanny"
    assert view.deaths.data["name"][0] == "worker-1"


def test_what_is_sent_does_not_grow_with_the_cluster():
    small, large = view_of(fake_store.busy(24)), view_of(fake_store.busy(200))
    assert len(small.strips.data["image"]) == 24
    assert len(large.strips.data["image"]) == 16
    assert large.rest.data["rest"] == [184]
    assert max(bytes_sent(small), bytes_sent(large)) <= 24 * 160 * 2
    assert large.figure.height <= small.figure.height


def test_nothing_is_sent_while_nothing_changes():
    view = view_of(fake_store.busy())
    heard = []
    for source in (view.strips, view.rest, view.hits, view.pauses, view.deaths):
        source.on_change("data", lambda attr, old, new: heard.append(new))
    view.store.change()
    view.update()
    assert heard == []


def test_sentence_says_what_strips_show():
    assert worker_strips.in_words(stories.after_incident().strips(NOW - 60, NOW)) == (
        "Fullest: worker-1, up to 96 % of its limit. 3 deaths."
    )


def test_without_workers_there_are_no_strips():
    view = view_of(fake_store.empty())
    assert not view.figure.visible
    assert np.size(view.strips.data["image"]) == 0
