"""What travels to other machines in place of the plugins: small texts of Python.

The host unpickles plugins outside any ``try``, so a plugin pickled by reference
breaks a worker that has no dask_memdash: registration raises, and later workers
fail to start.  What is pickled here is source text that needs nothing but
``distributed`` until its ``setup`` runs, imports the package there, and says in one
sentence what is missing.  Source rather than byte code, since scheduler and workers
may run different versions of Python.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

#: Topic of MemDash's own events on the scheduler.
TOPIC = "memdash"

_WORKER_SIDE = '''
from distributed.diagnostics.plugin import {base}


class {name}({base}):
    """Stands for MemDash on a {kind}, whether the package is there or not."""

    name = "memdash"

    def __init__(self, settings, version, protocol):
        self.settings, self.version, self.protocol = settings, version, protocol
        self.probe = None

    def setup(self, {kind}):
        try:
            import dask_memdash
            from dask_memdash.plugins.{kind}.probe import {probe}, PROTOCOL, Settings
        except Exception as error:
            return self._say({kind}, f"dask_memdash cannot be imported ({{error}}); "
                "install it there to measure this {kind}")
        if PROTOCOL != self.protocol:
            return self._say({kind}, f"dask_memdash is {{dask_memdash.__version__}} "
                f"here and {{self.version}} on the scheduler, which do not understand "
                "each other; install the same version to measure this {kind}")
        try:
            self.probe = {probe}(Settings.from_dict(self.settings))
            self.probe.learnt = self.settings.get("learnt")
        except Exception as error:
            return self._say({kind}, f"MemDash cannot be set up ({{error}}); install "
                "the scheduler's version of dask_memdash there")
        self.probe.setup({kind})
        if hasattr(self.probe, "transition"):
            self.transition = self.probe.transition

    def teardown(self, {kind}):
        if self.probe is not None:
            return self.probe.teardown({kind})

    def _say(self, {kind}, text):
        try:
            {kind}.log_event("memdash", {{"action": "missing", "kind": "{kind}",
                "where": getattr({kind}, "address_safe", ""), "text": text}})
        except Exception:
            pass


plugin = {name}(settings, version, protocol)
'''

WORKER_SOURCE = _WORKER_SIDE.format(
    base="WorkerPlugin",
    name="MemDashOnWorker",
    kind="worker",
    probe="WorkerProbe",
)

NANNY_SOURCE = _WORKER_SIDE.format(
    base="NannyPlugin",
    name="MemDashOnNanny",
    kind="nanny",
    probe="NannyProbe",
)

SCHEDULER_SOURCE = """
try:
    from dask_memdash.plugins.scheduler.plugin import MemDash
except Exception as error:
    raise RuntimeError(
        "MemDash cannot be registered: the scheduler cannot import dask_memdash "
        f"({error}); install dask-memdash where the scheduler runs"
    ) from None
plugin = MemDash(**overrides)
"""


class _ByText:
    """Pickles to the ``plugin`` that a piece of source makes of some values."""

    def __init__(self, source: str, values: Mapping[str, Any]) -> None:
        self._source = source
        self._values = dict(values)

    def __reduce__(self) -> tuple[Any, ...]:
        return by_text(self._source, self._values)


def by_text(source: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what ``__reduce__`` returns for an object that `source` makes.

    Parameters
    ----------
    source
        Python that assigns ``plugin``; sees `values` as its globals.
    """
    return eval, ("exec(source) or plugin", {"source": source, **values})


def worker_plugin(settings: Mapping[str, Any], version: str, protocol: int) -> bytes:
    """Pickle the worker plugin."""
    return _pickle(WORKER_SOURCE, settings, version, protocol)


def nanny_plugin(settings: Mapping[str, Any], version: str, protocol: int) -> bytes:
    """Pickle the nanny plugin."""
    return _pickle(NANNY_SOURCE, settings, version, protocol)


def _pickle(
    source: str, settings: Mapping[str, Any], version: str, protocol: int
) -> bytes:
    values = {"settings": dict(settings), "version": version, "protocol": protocol}
    return pickle.dumps(_ByText(source, values))
