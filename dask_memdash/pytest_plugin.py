"""pytest: the fixture ``memdash`` and the marker of the same name.

``@pytest.mark.memdash(peak="300 MB", no_deaths=True)`` records what a test does on its
Dask cluster and fails it where a task takes more, or a worker dies.  The record of a
test that fails is kept and its path printed; that of one that passes is removed.

pytest loads this module in every session where the package is installed, so that it
imports nothing but pytest, and nothing happens in a test without fixture and marker.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

#: Longest waits: for the record to begin, and for its end.
BEGIN = 10.0
END = 8.0
LOOK = 0.05

MARKER = (
    "memdash(peak=None, stored=None, no_deaths=False): record the test's Dask cluster, "
    'and fail where one task takes more than peak ("300 MB", or prefix -> size), more '
    "than stored is stored at once, or a worker dies."
)

_KEY = pytest.StashKey["Watch"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add where records of failing tests are kept."""
    parser.getgroup("memdash").addoption(
        "--memdash-records",
        metavar="DIR",
        default=None,
        help="directory that records of failing tests are kept in; pytest's "
        "temporary directory unless given",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a marked test the fixture."""
    names = getattr(item, "fixturenames", None)
    if names is not None and "memdash" not in names and _marked(item):
        names.append("memdash")


@pytest.fixture
def memdash(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watch]:
    """Record what the test does on a cluster: ``memdash(client)``.

    Without that call the default client is watched; and so are clusters that the test
    starts itself in this process, or connects a client to.  ``memdash.check(peak="300
    MB")`` ends the record and checks it, ``await memdash.check(…)`` in an asynchronous
    test; what the marker says is checked when the test has passed.
    """
    given = request.config.getoption("--memdash-records")
    folder = Path(given).absolute() if given else tmp_path_factory.mktemp("memdash")
    folder.mkdir(parents=True, exist_ok=True)
    watch = request.node.stash[_KEY] = Watch(folder, request.node.nodeid)
    yield watch
    watch.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Watch the test, and check its record once it has passed."""
    watch = item.stash.get(_KEY, None)
    if watch is None:
        return (yield)
    with ExitStack() as during:
        watch.begin(during)
        yield
    watch.check_what_was_not_awaited()
    for mark in reversed(list(item.iter_markers("memdash"))):
        watch.check(**mark.kwargs)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say where the record of a test that failed is; remove it once one has passed."""
    report = yield
    watch = item.stash.get(_KEY, None)
    if watch is not None and report.failed and not watch.failed:
        watch.failed = True
        watch.stop()
        text = "\n".join(
            f"{path}\nLook at it with: dask memdash runs open {path}"
            for path in watch.paths
        )
        if text:
            report.sections.append(("Recorded by memdash", text))
    # Fixtures end after ours: one of them may have failed.
    if watch is not None and call.when == "teardown" and not watch.failed:
        watch.remove()
    return report


class Watch:
    """What the fixture gives: call it with a client to record that client's cluster."""

    def __init__(self, folder: Path, name: str) -> None:
        self.failed = False
        self._folder = folder
        self._name = name[-200:]
        self._client: Any = None
        self._before = set(_runs(folder))
        self._own: list[Path] = []
        self._adopted: set[Any] = set()
        # What `check` was asked for in an asynchronous test.
        self._later: list[dict[str, Any]] = []
        self._ended = False

    def __call__(self, client: Any) -> Any:
        """Record the cluster of a client from now on.

        Returns
        -------
        Watch
            This; of an asynchronous client something to await.
        """
        if self._client is not None and self._client is not client:
            raise RuntimeError("memdash records one cluster of a test, and has one")
        known, self._client = self._client is client, client
        if client.asynchronous:
            return self._begin_record(client)
        if not known:
            client.register_plugin(self._plugin())
            self._wait_for_record()
        return self

    @property
    def paths(self) -> list[Path]:
        """Directories of the test's records, one for each cluster."""
        return self._mine()

    def check(self, **expected: Any) -> Any:
        """End the record, and fail where it is not as expected.

        Parameters
        ----------
        peak
            The most that one task may take: a size, or prefix → size.
        stored
            The most that may be stored at once.
        no_deaths
            Whether no worker may die.

        Returns
        -------
        None or Awaitable
            In an asynchronous test something to await; what is not awaited is checked
            when the test has ended.

        Raises
        ------
        AssertionError
            Something is not; its message names task, line and size.
        """
        __tracebackhide__ = True
        if self._in_its_loop():
            self._later.append(expected)
            return self._check_soon(expected)
        self.stop()
        self._check(expected)
        return None

    async def _check_soon(self, expected: dict[str, Any]) -> None:
        __tracebackhide__ = True
        self._later = [one for one in self._later if one is not expected]
        if not self._ended:
            self._ended = True
            await self._end()
        self._check(expected)

    def check_what_was_not_awaited(self) -> None:
        """Check what an asynchronous test asked for and did not wait for."""
        __tracebackhide__ = True
        while self._later:
            self.check(**self._later.pop())

    def _check(self, expected: dict[str, Any]) -> None:
        __tracebackhide__ = True
        from dask_memdash.client.expectations import broken
        from dask_memdash.runs.reading import RunReader
        from dask_memdash.store.recorded import RecordedStore

        if not self.paths:
            pytest.fail(
                "memdash recorded nothing: give it a client, memdash(client), before "
                "the work begins.",
                pytrace=False,
            )
        with ExitStack() as opened:
            readers = [RunReader(path) for path in self.paths]
            for reader in readers:
                opened.callback(reader.close)
            found = broken([RecordedStore(one) for one in readers], expected)
        if found:
            pytest.fail("\n".join(found), pytrace=False)

    def begin(self, during: ExitStack) -> None:
        """Watch the default client, and whatever cluster the test starts."""
        if self._client is None:
            client = _default_client()
            if client is not None and not client.asynchronous:
                self(client)
        import dask

        preload = dask.config.get("distributed.scheduler.preload", None) or []
        preload = [preload] if isinstance(preload, str) else list(preload)
        settings = {
            "distributed.scheduler.preload": [*preload, "dask_memdash"],
            "distributed.scheduler.preload-argv": [],
            "memdash.record.to": str(self._folder),
            "memdash.record.run": self._name,
            "memdash.record.tags": self._tags(),
        }
        during.enter_context(dask.config.set(settings))

        from dask_memdash.client.last_figures import around_clients

        during.enter_context(around_clients(self._begin_record, self._let_go))

    def stop(self) -> None:
        """End the record, with the workers' last figures in it; never raises."""
        if self._ended or self._in_its_loop():
            return
        self._ended = True
        client = self._client
        with suppress(Exception):  # what is recorded is recorded
            if self._running() and not client.asynchronous:
                client.sync(self._end)
            elif self._running():
                client.loop.asyncio_loop.run_until_complete(self._end())
        deadline = time.monotonic() + END
        while time.monotonic() < deadline and not all(map(_ended, self._mine())):
            time.sleep(LOOK)

    async def _end(self) -> None:
        """End the record of the client's cluster, and wait for that."""
        import asyncio

        await self._end_record(self._client)
        deadline = time.monotonic() + END
        while time.monotonic() < deadline and not all(map(_ended, self._mine())):
            await asyncio.sleep(LOOK)

    def _in_its_loop(self) -> bool:
        """Whether an asynchronous test goes on, whose loop may not be held up."""
        return bool(
            self._running()
            and self._client.asynchronous
            and self._client.loop.asyncio_loop.is_running()
        )

    def _running(self) -> bool:
        return self._client is not None and self._client.status == "running"

    def _plugin(self) -> Any:
        from dask_memdash import MemDash

        return MemDash(record=str(self._folder), run=self._name, tags=self._tags())

    async def _begin_record(self, client: Any) -> Watch:
        """Record a client's cluster unless MemDash is there; wait until that began."""
        import asyncio

        from dask_memdash.client.last_figures import has_memdash

        if not await client._run_on_scheduler(has_memdash):
            self._adopted.add(client)
            await client._register_scheduler_plugin(self._plugin(), "memdash", True)
            deadline = time.monotonic() + BEGIN
            while time.monotonic() < deadline and not self._mine():
                await asyncio.sleep(LOOK)
        return self

    async def _let_go(self, client: Any) -> None:
        """End the record of a cluster that outlives this client."""
        if client in self._adopted:
            await self._end_record(client)

    async def _end_record(self, client: Any) -> None:
        from dask_memdash.client.last_figures import has_memdash, last_of_client

        self._adopted.discard(client)
        await last_of_client(client)
        if await client._run_on_scheduler(has_memdash):
            await client.scheduler.unregister_scheduler_plugin(name="memdash")

    def remove(self) -> None:
        """Remove the record."""
        for run in self._mine():
            shutil.rmtree(run, ignore_errors=True)

    def _tags(self) -> dict[str, str]:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        tags = {"test": self._name, "pytest": f"{os.getpid()}"}
        return {**tags, "xdist": worker} if worker else tags

    def _mine(self) -> list[Path]:
        """Return the records of this test; other tests may use the directory too."""
        new = [run for run in _runs(self._folder) if run not in self._before]
        return [run for run in new if self._is_mine(run)]

    def _is_mine(self, run: Path) -> bool:
        if run not in self._own:
            from dask_memdash.errors import RunError
            from dask_memdash.runs.directory import read_manifest

            try:
                tags = read_manifest(run).tags
            except RunError:
                return False
            if any(tags.get(k) != v for k, v in self._tags().items()):
                return False
            self._own.append(run)
        return True

    def _wait_for_record(self) -> None:
        deadline = time.monotonic() + BEGIN
        while not self._mine():
            if time.monotonic() > deadline:
                raise RuntimeError(
                    "memdash could not begin a record: is MemDash registered on this "
                    "cluster already? Unregister it first: "
                    'client.unregister_scheduler_plugin("memdash")'
                )
            time.sleep(LOOK)


def _runs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/run.json"))


def _ended(run: Path) -> bool:
    from dask_memdash.errors import RunError
    from dask_memdash.runs.directory import read_manifest

    try:
        return read_manifest(run).ended is not None
    except RunError:
        return True


def _default_client() -> Any:
    """Return the client that was made last; None where nothing of Dask is loaded."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def _marked(item: pytest.Item) -> bool:
    return item.get_closest_marker("memdash") is not None
