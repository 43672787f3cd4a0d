"""Where commands get a running cluster's figures: its scheduler, or its dashboard.

Both answer with the JSON API's own words.  A scheduler's address is Dask's
(``tcp://host:8786``, ``host:8786``), asked through a client as
:func:`dask_memdash.connect` does; one that begins with ``http`` is a dashboard's.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlencode

from dask_memdash.errors import MemDashError, SchedulerGoneError

#: Longest wait for an answer, in seconds, and its length at most, in bytes.
TIMEOUT = 10.0
MAX_ANSWER = 64 * 2**20

#: Seconds to say good-bye to a scheduler.
GOODBYE = 2.0

#: Schemes of schedulers' addresses.
COMMS = ("tcp", "tls", "ws", "wss", "ucx")

#: Where a scheduler is looked for if nobody says.
DEFAULT = "tcp://127.0.0.1:8786"


class Source(Protocol):
    """What can be asked for a cluster's figures."""

    #: Address, as it was given.
    address: str
    #: Which scheduler it is, empty where that cannot be told.
    identity: str

    def ask(self, path: str, **arguments: int | str) -> Any:
        """Return what the JSON API has at a path.

        Raises
        ------
        SchedulerGoneError
            Nobody answers (any more).
        MemDashError
            Somebody answers, but not as MemDash does.
        """

    def close(self) -> None:
        """Let go of the connection; never raises."""


Opener = Callable[[str], Source]


def default_address() -> str:
    """Return where Dask's configuration has the scheduler, else its usual place."""
    import dask

    return str(dask.config.get("scheduler-address", None) or DEFAULT)


def open_source(address: str) -> Source:
    """Connect to a scheduler, or to a dashboard if the address begins with http.

    Raises
    ------
    SchedulerGoneError
        It cannot be reached.
    """
    if address.startswith(("http://", "https://")):
        return Dashboard(address)
    return Scheduler(address)


def open_dashboard(address: str) -> Source:
    """Connect to a dashboard, or to a scheduler if the scheme is one of Dask's.

    Raises
    ------
    MemDashError
        It is no such address.
    SchedulerGoneError
        It cannot be reached.
    """
    scheme = address.partition("://")[0] if "://" in address else "http"
    return open_source(address) if scheme in COMMS else Dashboard(address)


def hush() -> None:
    """Have Dask log nothing: of a scheduler that goes, the command itself tells."""
    import distributed.client

    logging.getLogger(distributed.__name__).setLevel(logging.CRITICAL)
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("distributed."):
            logging.getLogger(name).setLevel(logging.CRITICAL)


class Dashboard:
    """A scheduler's dashboard, asked over HTTP."""

    def __init__(self, address: str) -> None:
        base = address if "://" in address else f"http://{address}"
        if not base.startswith(("http://", "https://")):
            raise MemDashError(
                f"{address} is no address of a dashboard; write it like "
                "http://localhost:8787"
            )
        base = base.rstrip("/").removesuffix("/status").removesuffix("/memdash")
        self.address = base
        self.identity = ""

    def ask(self, path: str, **arguments: int | str) -> Any:
        """Return what the JSON API has at a path."""
        url = f"{self.address}/memdash/api/{path}"
        if arguments:
            url += f"?{urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                return json.loads(answer.read(MAX_ANSWER))
        except urllib.error.HTTPError as error:
            error.close()
            raise MemDashError(
                f"{url} answers {error.code}; is MemDash registered there?"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise SchedulerGoneError(url, str(reason)) from None
        except ValueError as error:
            raise MemDashError(f"{url} does not answer with JSON: {error}") from None

    def close(self) -> None:
        """Do nothing: every question has a connection of its own."""


class Scheduler:
    """A scheduler, asked through a client of its own."""

    def __init__(self, address: str) -> None:
        from distributed import Client

        from dask_memdash.client.connection import Connection

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # versions that differ
                self._client = Client(
                    address, timeout=TIMEOUT, set_as_default=False, name="memdash-cli"
                )
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            why = f"{error}"
            if address.rpartition(":")[2] == "8787":
                why += "; the dashboard's address begins with http://"
            raise SchedulerGoneError(address, why) from None
        self._connection = Connection(self._client, tells=False)
        self.address = address
        self.identity = str(self._client.scheduler_info(n_workers=0).get("id", ""))

    def ask(self, path: str, **arguments: int | str) -> Any:
        """Return what the JSON API has at a path."""
        if self._client.status != "running":  # it would try by itself, for long
            raise SchedulerGoneError(self.address, "it has closed the connection")
        return self._connection.ask(path, **arguments)

    def close(self) -> None:
        """Let go of the client, whether or not its scheduler is still there."""
        with contextlib.suppress(Exception):
            self._client.close(timeout=GOODBYE)
