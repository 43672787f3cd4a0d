"""Memory errors and failures to spill are incidents, though no worker dies of them."""

from __future__ import annotations

import numpy as np
import pytest
from clusters import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.hooks]


def too_much(i: int) -> np.ndarray:
    return np.ones(2**50)


def fail_once(path: str) -> str:
    from pathlib import Path

    if not Path(path).exists():
        Path(path).touch()
        raise MemoryError("the first time")
    return "done"


def wrong(i: int) -> None:
    raise ValueError("no trouble of memory")


def block(i: int) -> np.ndarray:
    return np.ones(2_500_000)


class Unpicklable:
    def __init__(self) -> None:
        self.data = np.ones(2_500_000)

    def __sizeof__(self) -> int:
        return self.data.nbytes

    def __reduce__(self):
        raise TypeError("not this one")


def unpicklable(i: int) -> Unpicklable:
    return Unpicklable()


def of_kind(session, kind: str):
    return [i for i in session.api("incidents") if i["kind"] == kind]


def test_tasks_that_raise_memory_error_are_one_incident_and_nobody_dies(start):
    session = start(n_workers=1)
    futures = session.client.map(too_much, range(5), key="huge")
    for future in futures:
        with pytest.raises(MemoryError):
            future.result(timeout=30)
    with pytest.raises(ValueError, match="no trouble"):
        session.client.submit(wrong, 0).result(timeout=30)
    wait_for(
        lambda: [
            i
            for i in of_kind(session, "memory-error")
            if session.api(f"incidents/{i['id']}")["n_tasks"] == 5
        ],
        "the incident",
    )
    (incident,) = session.api.deaths()
    assert incident["worker"]["address"] == session.addresses()[0]
    assert incident["breakdown"]["process"] > 30_000_000
    assert "it asked for 8 PiB" in incident["diagnosis"]["text"]
    story = session.api(f"incidents/{incident['id']}")
    assert story["task"]["prefix"] == "huge"
    assert len(story["task"]["priority"]) == 3
    assert len(story["tasks"]) == 5


@pytest.mark.slow
def test_a_memory_error_that_dask_retries_is_an_incident_too(start, tmp_path):
    session = start(n_workers=1)
    path = str(tmp_path / "tried")
    future = session.client.submit(fail_once, path, retries=1, key="again-1")
    assert future.result(timeout=30) == "done"
    (incident,) = wait_for(lambda: of_kind(session, "memory-error"), "the incident")
    assert "the first time" in incident["diagnosis"]["text"]


@pytest.mark.parametrize(
    ("make", "config", "says"),
    [
        (block, {"max-spill": 1000}, "max-spill"),
        (unpicklable, {}, "cannot be pickled"),
    ],
)
def test_what_cannot_be_spilled_is_an_incident_with_its_prefix_and_reason(
    start, make, config, says
):
    import dask

    limits = {"target": 0.3, "spill": 0.4, "pause": False, "terminate": False}
    values = {f"distributed.worker.memory.{k}": v for k, v in limits.items()}
    values |= {f"distributed.worker.memory.{k}": v for k, v in config.items()}
    with dask.config.set(values):
        session = start(n_workers=1)
        futures = session.client.map(make, range(10), key="made", pure=False)
        (incident,) = wait_for(lambda: of_kind(session, "spill-failed"), "the incident")
        assert says in incident["diagnosis"]["text"]
        story = session.api(f"incidents/{incident['id']}")
        assert story["task"]["prefix"] == "made"
        assert story["n_tasks"] >= 1
        assert session.api.deaths() == [incident] or story["n_tasks"] > 1
        del futures


def test_nonsense_that_a_client_sends_under_the_topic_does_no_harm(start):
    session = start(n_workers=1)
    for message in (
        {"action": "memory-error"},
        {"action": "memory-error", "key": 7, "prefix": None, "text": []},
        {"action": "spill-failed", "key": "x", "size": "many"},
        {"action": "spill-failed", "worker": "tcp://nobody:1", "key": "x", "count": -1},
        {"action": "incident", "id": "1"},
        {"action": "missing"},
        {"action": ["odd"]},
        {},
        None,
        "text",
        7,
    ):
        session.client.log_event("memdash", message)
    wait_for(
        lambda: len(session.client.get_events("memdash")) >= 11, "the events to arrive"
    )
    assert session.api("incidents") == []
    assert session.client.submit(sum, [1, 2]).result(timeout=30) == 3
