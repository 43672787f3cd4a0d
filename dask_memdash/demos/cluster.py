"""A local cluster for a demo: checked beforehand, quiet, and always closed.

Covers the checks that give a clear message in place of a crash (memory of the
host, port of the dashboard), registration of MemDash, and the end.  Does not cover
what is computed on it.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from typing import Any

import dask
import psutil
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

from dask_memdash.demos import DemoError
from dask_memdash.demos.api import Api
from dask_memdash.text import format_bytes

#: What client, scheduler and nannies need beside the workers, in bytes.
OVERHEAD = 400_000_000

#: How long the cluster may take to start and to close, in seconds.
START_TIMEOUT = 60
CLOSE_TIMEOUT = 20

#: How long workers may take to tell of their memory for the first time, in seconds.
READ_TIMEOUT = 15

#: Dask's own words about dying workers would drown the demo's: MemDash says it better.
QUIET = logging.CRITICAL + 1


@dataclass(frozen=True, slots=True)
class Plan:
    """The cluster that a demo asks for."""

    workers: int
    #: Of each worker, in bytes.
    memory_limit: int
    #: Where the dashboard listens; port 0 takes a free one.
    host: str
    port: int
    #: Of each worker.
    threads: int = 1
    #: Dask's configuration of the workers where it is not the default.
    config: Mapping[str, Any] = field(default_factory=dict)
    #: Whether MemDash's guard is on.
    guard: bool = False

    @property
    def needed(self) -> int:
        """Memory that the host must have free, in bytes."""
        return self.workers * self.memory_limit + OVERHEAD


@dataclass(frozen=True, slots=True)
class Running:
    """A running cluster with MemDash registered."""

    client: Client
    #: Where a browser finds the page.
    page: str
    #: Where a program on this machine finds the JSON API, without a slash at the end.
    api: str
    #: How many workers there are while all are well.
    workers: int


def parse_address(text: str) -> tuple[str, int]:
    """Split ``host:port``, ``:port`` or ``port``.

    Raises
    ------
    DemoError
        It is none of these.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:
        raise DemoError(
            f"{text!r} is no address for the dashboard: "
            "give host:port, :port or port, for example :8787"
        )
    return host.strip("[]"), int(port)


def available_memory() -> int:
    """Read how much memory processes can still take on this host, in bytes."""
    return min(int(psutil.virtual_memory().available), int(MEMORY_LIMIT))


def check_memory(plan: Plan, available: int) -> None:
    """Refuse to start what the host cannot hold.

    Raises
    ------
    DemoError
        The workers together could take more than `available` bytes; then the
        kernel, rather than Dask, would choose what to kill.
    """
    if plan.needed > available:
        raise DemoError(
            f"the demo needs {format_bytes(plan.needed)} of free memory "
            f"({plan.workers} workers of {format_bytes(plan.memory_limit)}, and "
            f"{format_bytes(OVERHEAD)} beside them), and this machine has "
            f"{format_bytes(available)}. Close something, ask for less with "
            "--workers or --memory-limit, or go ahead all the same with --force"
        )


def check_port(plan: Plan) -> None:
    """See whether the dashboard can listen where it was asked to.

    Raises
    ------
    DemoError
        Another program listens there, or the address is not of this host.
    """
    if not plan.port:
        return
    host = plan.host or "0.0.0.0"
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, plan.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise DemoError(
            f"the dashboard cannot listen on {host}:{plan.port} ({error.strerror}). "
            "Choose another port with --dashboard-address, or leave the option "
            "away to take a free one"
        ) from None


@contextmanager
def running(plan: Plan) -> Iterator[Running]:
    """Start the cluster, register MemDash, and close everything at the end.

    Raises
    ------
    DemoError
        It did not start in time, or not on the port that was asked for.
    """
    from dask_memdash import MemDash

    # to the end: nannies read it again for each worker that takes a dead one's place
    with (
        _quiet_loggers(),
        dask.config.set(dict(plan.config)),
        ExitStack() as closing,
    ):
        with _ctrl_c_later():
            cluster = LocalCluster(
                n_workers=plan.workers,
                threads_per_worker=plan.threads,
                memory_limit=plan.memory_limit,
                dashboard_address=f"{plan.host}:{plan.port}",
                silence_logs=QUIET,
                timeout=START_TIMEOUT,
            )
            # before Ctrl-C is let through again
            closing.callback(cluster.close, timeout=CLOSE_TIMEOUT)
        port = cluster.scheduler_info["services"].get("dashboard")
        if port is None or (plan.port and port != plan.port):
            raise DemoError(
                f"the dashboard did not start on port {plan.port}"
                if port
                else "Dask started without its dashboard: is bokeh installed?"
            )
        client = Client(cluster, timeout=START_TIMEOUT)
        closing.callback(client.close, timeout=CLOSE_TIMEOUT)
        client.wait_for_workers(plan.workers, timeout=START_TIMEOUT)
        client.register_plugin(MemDash(guard=plan.guard))
        link = str(client.dashboard_link)
        host = plan.host if plan.host not in ("", "0.0.0.0") else "127.0.0.1"
        api = f"http://{host}:{port}/memdash/api"
        # what is known before the first task is what later figures start from
        Api(api).until_read(plan.workers, READ_TIMEOUT)
        yield Running(
            client=client,
            page=link.removesuffix("/status") + "/memdash",
            api=api,
            workers=plan.workers,
        )


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Hold Ctrl-C back while the cluster starts, and from its workers for good.

    A terminal sends it to every process.  Threads and processes that are started
    inside the block inherit the mask, and so do all that these start: the cluster's
    loop, and every worker, also those that take the place of a dead one.  Threads that
    were there before (of numerical libraries) may still take it, and the main thread
    hears of it then: so the handler only takes note meanwhile.
    """
    held: list[int] = []
    # it lifts the mask of the thread that starts it, so it must be there before
    resource_tracker.ensure_running()
    handler = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _quiet_loggers() -> Iterator[None]:
    names = ("distributed", "tornado", "bokeh", "asyncio", "dask_memdash")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(QUIET)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
