"""Fixtures for real clusters; each is closed with its test and leaves nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import Processes, Session, wait_for
from distributed import Client, LocalCluster
from forked_workers import forked_workers

from dask_memdash.boundary import boundary
from dask_memdash.flight.files import default_directory

#: Ways to die of which another of the same kind is in every run of the tests; words of
#: their names.
OTHERS_OF_THEIR_KIND = (
    *("small ones, one thread", "pandas", "of strings", "two threads, never idle"),
    *("fragmentation", "p2p rechunk", "cannot be pickled", "retired", "os._exit"),
    *("task-based shuffle", "a spill directory that is full"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to ``make corpora`` what says nothing new in every run."""
    for item in items:
        if "test_zoo" in item.nodeid and any(
            words in item.name for words in OTHERS_OF_THEIR_KIND
        ):
            item.add_marker(pytest.mark.corpora)


@pytest.fixture(autouse=True)
def workers_are_forked() -> Iterator[None]:
    """Start workers in a tenth of the time."""
    with forked_workers():
        yield


@pytest.fixture
def start() -> Iterator[Callable[..., Session]]:
    """Start a LocalCluster with MemDash registered (``register=False``: without)."""
    boundary.clear()  # of what tests of other things have left in this process
    with contextlib.ExitStack() as stack:

        def start(register: bool = True, **options: Any) -> Session:
            options = {
                "n_workers": 2,
                "threads_per_worker": 1,
                "memory_limit": "400 MB",
                "dashboard_address": "127.0.0.1:0",
                "silence_logs": logging.CRITICAL,
                **options,
            }
            cluster = stack.enter_context(LocalCluster(**options))
            session = Session(cluster, stack.enter_context(Client(cluster)))
            if register:
                session.register()
            return session

        yield start
    boundary.clear()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No test leaves a flight recorder or a thread of MemDash's behind."""
    yield
    directory = default_directory()

    def clean() -> bool:
        files = list(directory.glob(f"{os.getpid()}-*")) if directory.exists() else []
        threads = [t for t in threading.enumerate() if "MemDash" in t.name]
        return not files and not threads

    wait_for(clean, "files and threads of MemDash's to go", 10)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Start servers as processes of their own."""
    servers = Processes(tmp_path)
    try:
        yield servers
    finally:
        servers.end()
