"""Open pages are brought up to date in rounds, each in one message."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
from bokeh.document import Document
from bokeh.models import ColumnDataSource, Range1d
from bokeh.server.session import ServerSession
from tornado.ioloop import IOLoop

from dask_memdash.boundary import Boundary
from dask_memdash.views.rounds import BEHIND, LOST, Rounds
from dask_memdash.views.shared import SharedStore
from tests.unit import fake_store

#: Seconds for what is waited for.
PATIENCE = 20


class Browser:
    """A browser's end of the web socket of a session."""

    def __init__(self):
        self.messages = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.let_go = False
        self.latest_pong = 0
        self.ws_connection = SimpleNamespace(abort=self._abort)

    def _abort(self):
        self.let_go = True

    async def send_message(self, message):
        await self.takes.wait()
        self.messages.append(message)


class Connection:
    """What the server knows of a browser."""

    def __init__(self, browser):
        self._socket, self._ping_count = browser, 1


class Opened:
    """A document that a browser has open."""

    def __init__(self):
        self.doc, self.browser = Document(), Browser()
        self.source = ColumnDataSource({"image": [], "number": []})
        self.range = Range1d(0, 1)
        self.doc.add_root(self.source)
        self.doc.add_root(self.range)
        self.copy = Document.from_json(self.doc.to_json())
        self.session = ServerSession("s", self.doc, io_loop=IOLoop.current())
        self.context = SimpleNamespace(session=self.session)
        self.doc._session_context = lambda: self.context
        self.connection = Connection(self.browser)
        self.session.subscribe(self.connection)
        self.updates = 0

    def update(self):
        self.updates += 1
        self.range.update(start=self.updates, end=self.updates + 1)
        image = np.full((2, 3), self.updates, np.uint8)
        self.source.data = {"image": [image], "number": [7]}
        self.source.patch({"number": [(0, 8)]})

    def end(self):
        for ended in self.doc.callbacks.session_destroyed_callbacks:
            ended(self.context)


class Pages:
    """Rounds over a store, and documents that they keep up."""

    def __init__(self):
        self.store, self.boundary = fake_store.busy(), Boundary()
        self.rounds = Rounds(SharedStore(self.store), 1.0, self.boundary)

    def open(self, update=None):
        opened = Opened()
        self.rounds.follow(opened.doc, update or opened.update, "updating a page")
        return opened

    async def round(self, *, news=True):
        if news:
            self.store.change()
        await self.rounds._round()


@pytest.fixture
async def pages():
    pages = Pages()
    yield pages
    pages.rounds.close()


async def test_all_that_an_update_changes_is_one_message_and_one_for_each_version(
    pages,
):
    opened = pages.open()
    await pages.round()
    await pages.round(news=False)
    (message,) = opened.browser.messages
    assert len(message.content["events"]) == 4
    assert message.buffers == []
    opened.copy.apply_json_patch(message.payload)
    source, axis = opened.copy.roots
    assert (axis.start, axis.end) == (1, 2)
    assert list(source.data["number"]) == [8]
    assert np.array_equal(source.data["image"][0], np.full((2, 3), 1))
    await pages.round()
    assert len(opened.browser.messages) == 2
    assert pages.boundary.texts() == ()


async def test_two_browsers_of_one_session_are_both_told(pages):
    opened, other = pages.open(), Browser()
    opened.session.subscribe(Connection(other))
    await pages.round()
    assert len(opened.browser.messages) == len(other.messages) == 1


async def test_what_has_been_put_off_is_tried_again_without_a_new_version(pages):
    left = [True, True, False]
    opened = pages.open(lambda: left.pop(0))
    await pages.round()
    for _ in range(4):
        await pages.round(news=False)
    assert left == []
    assert opened.browser.messages == []  # nothing has changed


async def test_updates_wait_for_a_browser_that_reads_and_a_lost_one_is_let_go(pages):
    opened = pages.open()
    connection, browser = opened.connection, opened.browser
    for sent, answered, updates in (
        (1, 0, 1),
        (BEHIND + 1, 0, 2),
        (BEHIND + 2, 0, 2),
        (BEHIND + 2, 3, 3),
        (LOST + 1, 0, 3),
    ):
        connection._ping_count, browser.latest_pong = sent, answered
        await pages.round()
        assert opened.updates == updates
    assert not browser.let_go
    connection._ping_count = LOST + 2
    await pages.round()
    assert browser.let_go


async def test_a_session_that_its_browser_has_left_is_not_kept_up(pages):
    opened = pages.open()
    opened.session.unsubscribe(opened.connection)
    await pages.round()
    assert opened.updates == 0
    opened.session.subscribe(opened.connection)
    await pages.round(news=False)
    assert opened.updates == 1


async def test_a_browser_that_takes_nothing_holds_up_no_other(pages):
    stuck, other = pages.open(), pages.open()
    stuck.browser.takes.clear()
    for number in range(1, 4):
        await pages.round()
        assert other.updates == number
    assert stuck.updates == 1
    stuck.connection._ping_count = LOST + 2
    await pages.round()
    assert stuck.browser.let_go  # though it has not taken all yet
    stuck.connection._ping_count = 1
    stuck.browser.takes.set()
    await asyncio.wait_for(stuck.session.with_document_locked(lambda: None), PATIENCE)
    await pages.round()
    assert stuck.updates == 2


async def test_a_page_that_fails_is_told_and_holds_up_no_other(pages):
    pages.open(lambda: 1 / 0)
    other = pages.open()
    await pages.round()
    assert other.updates == 1
    assert "updating a page" in " ".join(pages.boundary.texts())


async def test_pages_are_followed_by_themselves_until_the_last_session_ends(pages):
    first, second = pages.open(), pages.open()
    while not (first.updates and second.updates):
        await asyncio.wait_for(asyncio.sleep(0.01), PATIENCE)
    first.end()
    pages.store.change()
    while second.updates < 2:
        await asyncio.wait_for(asyncio.sleep(0.01), PATIENCE)
    assert first.updates == 1
    timer = pages.rounds._timer
    assert timer.is_running()
    second.end()
    assert not timer.is_running()
    third = pages.open()
    while not third.updates:
        await asyncio.wait_for(asyncio.sleep(0.01), PATIENCE)
