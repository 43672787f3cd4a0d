"""What may be on its way follows the room that there is, and is put back."""

from types import SimpleNamespace

from dask_memdash.guard.fetching import FetchLimit


def state(**more):
    made = {"data_needed": {"a": 1}, "running": True, **more}
    return SimpleNamespace(transfer_incoming_bytes_limit=100, **made)


def test_it_is_lowered_to_the_room_and_raised_to_no_more_than_it_was():
    now = state()
    fetch = FetchLimit(now)
    assert not fetch.set(500)
    assert not fetch.lowered
    assert not fetch.set(40)
    assert (now.transfer_incoming_bytes_limit, fetch.lowered) == (40, True)
    assert fetch.set(60)
    assert now.transfer_incoming_bytes_limit == 60
    assert fetch.set(500)
    assert (now.transfer_incoming_bytes_limit, fetch.lowered) == (100, False)


def test_one_byte_is_left_so_that_something_is_fetched():
    now = state()
    FetchLimit(now).set(-500)
    assert now.transfer_incoming_bytes_limit == 1


def test_more_is_no_news_where_nothing_is_to_be_fetched_or_the_worker_is_paused():
    for now in (state(data_needed={}), state(running=False)):
        fetch = FetchLimit(now)
        fetch.set(40)
        assert not fetch.set(60)


def test_it_is_put_back():
    now = state()
    fetch = FetchLimit(now)
    fetch.set(40)
    fetch.restore()
    fetch.restore()
    assert (now.transfer_incoming_bytes_limit, fetch.lowered) == (100, False)
