"""Every error that MemDash raises on purpose.

They are raised inside MemDash and towards the person who calls it (client,
command line).  Towards the host, none of them crosses the boundary: see
``dask_memdash.boundary``.
"""

from __future__ import annotations


class MemDashError(Exception):
    """Base class of every error that MemDash raises on purpose."""


class ConfigError(MemDashError):
    """A configuration value that MemDash cannot use."""

    def __init__(self, key: str, value: object, expected: str) -> None:
        self.key = key
        self.value = value
        self.expected = expected
        super().__init__(f"memdash.{key} is {value!r}; it must be {expected}")


class TaskTooLarge(MemoryError, MemDashError):  # noqa: N818  # as Dask's KilledWorker
    """A task that no worker has room for; the text says what it needs, and where."""


class RecorderError(MemDashError):
    """A flight recorder that cannot be created, or a file that is not one."""


class EventError(MemDashError):
    """A message that cannot be turned into an event."""


class UnknownIncidentError(MemDashError, LookupError):
    """No incident of this id is known (any more)."""

    def __init__(self, incident_id: object) -> None:
        self.incident_id = incident_id
        super().__init__(
            f"no incident {incident_id!r}: it never happened, or it is older than "
            "the oldest one kept"
        )


class UnknownFailureError(MemDashError, LookupError):
    """No failure of this id is known (any more)."""

    def __init__(self, failure_id: object) -> None:
        self.failure_id = failure_id
        super().__init__(
            f"no failure {failure_id!r}: it never happened, or it is older than "
            "the oldest one kept"
        )


class UnknownWorkerError(MemDashError, LookupError):
    """No worker of this address is known (any more)."""

    def __init__(self, address: object) -> None:
        self.address = address
        super().__init__(f"no worker {address!r} is known")


class UnknownPrefixError(MemDashError, LookupError):
    """No task prefix of this name is known (any more)."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no task prefix {name[:80]!r} is known")


class UnknownGraphError(MemDashError, LookupError):
    """No graph of this id is known (any more)."""

    def __init__(self, graph_id: object) -> None:
        self.graph_id = graph_id
        super().__init__(f"no graph {graph_id!r} is known")


class NotRegisteredError(MemDashError):
    """The scheduler that a client talks to has no MemDash, or one it cannot ask."""

    def __init__(self, address: str, why: str = "MemDash is not registered") -> None:
        self.address = address
        super().__init__(
            f"{why} on the scheduler at {address}; "
            "client.register_plugin(dask_memdash.MemDash()) registers it"
        )


class SchedulerGoneError(MemDashError, ConnectionError):
    """The scheduler that a client talks to does not answer (any more)."""

    def __init__(self, address: str, why: str) -> None:
        self.address = address
        super().__init__(f"the scheduler at {address} cannot be asked: {why}")


class UnexplainedError(MemDashError, LookupError):
    """An exception that no incident of this scheduler tells of."""


class StorageError(MemDashError):
    """A store of intermediates refuses, or cannot do, what it is asked for."""


class MissingError(StorageError, LookupError):
    """The store answers, and has no such object or name."""


class UnreachableError(StorageError, ConnectionError):
    """The store does not answer; what is in it is not known."""


class CorruptError(StorageError, ValueError):
    """A stored object is damaged, or is another one's."""


class NameTakenError(StorageError):
    """Something else is stored, or being stored, under that name."""


class UntrustedError(StorageError, PermissionError):
    """A store that others can write to: opening it may run their code."""


class RunError(MemDashError):
    """A recorded run, or a file of one, that cannot be opened."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path}: {why}")
