"""What a look into an output shows that weighs more than Dask believes."""

from types import SimpleNamespace

import numpy as np
import pytest

from dask_memdash.plugins.worker.worker_storage import WorkerStorage

MB = 1_000_000


class Holder:
    """Keeps data in an attribute, and says that it is small."""

    def __init__(self, data):
        self.data = data

    def __sizeof__(self):
        return 64


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.ones(20 * MB, "u1")[:100], "views of other arrays"),
        (Holder(np.ones(20 * MB, "u1")), "holds more than its own size"),
        (np.ones(100, "u1"), ""),
        ("text", ""),
        (None, ""),
    ],
)
def test_an_output_that_keeps_more_alive_is_known_by_a_look_into_it(value, said):
    worker = SimpleNamespace(data={}, state=SimpleNamespace(tasks={}))
    storage = WorkerStorage(worker)
    worker.data["out-1"] = value
    assert storage.holds_more("out-1", 100) == said


def test_an_output_that_is_gone_or_on_disk_is_not_looked_into():
    spilled = SimpleNamespace(fast=SimpleNamespace(d={}), __iter__=None)
    storage = WorkerStorage(SimpleNamespace(data={}, state=SimpleNamespace(tasks={})))
    assert storage.holds_more("gone-1", 100) == ""
    storage._worker.data = spilled
    assert storage.holds_more("gone-1", 100) == ""
