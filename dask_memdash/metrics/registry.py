"""Our collectors in the registry that Dask's own ``/metrics`` serves.

Dask has one collector a process for its schedulers and one for its workers, in
``prometheus_client``'s default registry, and says to it at every request which server
is asked.  Ours is beside it, one for each of the two as well, from the first server
that has MemDash to the last, and tells the figures of the server that Dask was asked
for.  So where schedulers follow each other in a process, or two of them live in it,
each page has its own figures.  A process that has a scheduler *and* workers
(``processes=False``) shows on either page what was last asked of the other too: Dask's
own metrics do.

Nothing is loaded here that Dask has not loaded: without ``prometheus_client`` there is
no page of metrics, and nothing to do.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from dask_memdash.boundary import boundary
from dask_memdash.metrics.family import Family

if TYPE_CHECKING:
    from prometheus_client.core import Metric

logger = logging.getLogger("dask_memdash")

Source = Callable[[], list[Family]]

#: Subsystem → the module that has the handler of Dask's page of metrics.
CORES = {
    "scheduler": "distributed.http.scheduler.prometheus.core",
    "worker": "distributed.http.worker.prometheus.core",
}

# Subsystem → what stands in the registry; and whether somebody was told it cannot.
_collectors: dict[str, Collector] = {}
_told: set[str] = set()
_lock = threading.Lock()


def serve(subsystem: str, server: Any, source: Source) -> Callable[[], None]:
    """Show figures on the page of metrics of a server; call it on its loop.

    Parameters
    ----------
    subsystem
        ``scheduler`` or ``worker``.
    server
        Whose page it is.
    source
        Makes the figures, at each scrape, on the server's loop.

    Returns
    -------
    Callable
        Takes them away again, and from the registry what stands there for the last
        server of its kind; harmless when repeated.
    """
    if CORES[subsystem] not in sys.modules:
        if subsystem not in _told:
            _told.add(subsystem)
            logger.info(
                "The %s has no page of Prometheus metrics, so MemDash has no metrics "
                "there; pip install prometheus-client brings it",
                subsystem,
            )
        return _nothing
    import prometheus_client

    with _lock:
        collector = _collectors.get(subsystem)
        if collector is None:
            collector = _collectors[subsystem] = Collector(subsystem)
            prometheus_client.REGISTRY.register(collector)
        collector.add(server, source)
    return partial(_withdraw, subsystem, server, source)


def _nothing() -> None:
    """Take nothing away."""


def _withdraw(subsystem: str, server: Any, source: Source) -> None:
    import prometheus_client

    with _lock:
        collector = _collectors.get(subsystem)
        if collector is None or not collector.remove(server, source):
            return
        if not collector.serves:
            del _collectors[subsystem]
            prometheus_client.REGISTRY.unregister(collector)


class Collector:
    """What stands in the registry for all servers of one kind of this process.

    Parameters
    ----------
    subsystem
        ``scheduler`` or ``worker``.
    """

    def __init__(self, subsystem: str) -> None:
        from distributed.http.prometheus import PrometheusCollector

        self._subsystem = subsystem
        self._names = PrometheusCollector(None)
        self._names.subsystem = subsystem
        # Id of a server → it, what makes its figures, and its loop's thread.
        self._served: dict[int, tuple[Any, Source, int]] = {}
        self._made = boundary.guarded(self._make, f"the {subsystem}'s metrics", list)

    @property
    def serves(self) -> bool:
        """Whether any server is left."""
        return bool(self._served)

    def add(self, server: Any, source: Source) -> None:
        """Take in a server, or another source of its figures."""
        self._served[id(server)] = (server, source, threading.get_ident())

    def remove(self, server: Any, source: Source) -> bool:
        """Let a server go; False where its figures come from another source by now."""
        known = self._served.get(id(server))
        if known is None or known[1] is not source:
            return False
        del self._served[id(server)]
        return True

    def describe(self) -> list[Metric]:
        """Claim no names, so that nothing is made when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return the figures of the server that Dask was asked for; never raises."""
        yield from self._made()

    def _make(self) -> list[Metric]:
        server = self._asked()
        known = self._served.get(id(server))
        # Whoever serves the registry from a thread of its own would read a model that
        # changes meanwhile.
        if known is None or known[2] != threading.get_ident():
            return []
        return [self._translate(family) for family in known[1]()]

    def _asked(self) -> Any:
        """Return the server of which Dask was asked for the metrics last."""
        handler = getattr(
            sys.modules[CORES[self._subsystem]], "PrometheusHandler", None
        )
        for name in ("_collectors", "_collector"):
            found = getattr(handler, name, self)
            if found is not self:
                first = found[0] if isinstance(found, tuple | list) and found else found
                return getattr(first, "server", None)
        # A version of Dask that keeps it elsewhere: right where there is but one.
        served = list(self._served.values())
        return served[0][0] if len(served) == 1 else None

    def _translate(self, family: Family) -> Metric:
        from prometheus_client import core

        name = self._names.build_name(family.name)
        if family.kind == "gaugehistogram":
            metric = core.GaugeHistogramMetricFamily(name, family.help)
            buckets = [(bound, count) for (bound,), count in family.samples.items()]
            metric.add_metric([], buckets, family.total)
            return metric
        kind = (
            core.CounterMetricFamily
            if family.kind == "counter"
            else core.GaugeMetricFamily
        )
        made = kind(name, family.help, labels=family.labels)
        for values, figure in family.samples.items():
            made.add_metric(values, figure)
        return made
