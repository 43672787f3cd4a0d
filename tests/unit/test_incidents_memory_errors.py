"""What is said of a task that ran out of memory, in its three stages."""

import json

from builders import A, B, MiB, added, info, reported
from test_model_worker_errors import feed

from dask_memdash.analysis.incidents.describe import describe
from dask_memdash.model.event_parts import TaskInfo, TaskInputs
from dask_memdash.model.events import MemoryErrorRaised
from dask_memdash.store.live import LiveStore

T = 1_760_000_000.0
ARRAY = (
    "_ArrayMemoryError: Unable to allocate 256. TiB for an array with shape "
    "(35184372088832,) and data type float64"
)
REFUSED = (
    "MemoryError: Task 'load-1' has 1.46 GiB worth of input dependencies, but worker "
    "tcp://10.0.0.1:1 has memory_limit set to 0.98 GiB."
)
RECEIVING = (
    "_ArrayMemoryError: Unable to allocate 200. MiB for an array with shape "
    "(209715545,) and data type uint8, for input part-1 of 200 MiB"
)


def incident_of(model, text, stage="running", **task):
    known = info("load-1")
    task = TaskInfo(known.key, known.prefix, known.group, known.priority, **task)
    feed(model, added(A, 1), added(B, 2), reported(A, 1))
    feed(model, MemoryErrorRaised(T + 5, A, task, text, stage))
    (incident,) = model.incidents
    return incident


def details(model):
    return LiveStore(model).incident("1")


def test_what_was_asked_for_is_said_with_shape_and_dtype(model):
    assert describe(incident_of(model, ARRAY)) == (
        "Task load-1 ran out of memory on worker 0: it asked for 256 TiB for an array "
        "of shape (35184372088832,) and dtype float64. The worker lives on; it used "
        "400 MiB of 0.98 GiB (40 %)."
    )


def test_an_error_that_does_not_say_it_is_quoted(model):
    assert describe(incident_of(model, "MemoryError")) == (
        "Task load-1 ran out of memory on worker 0: MemoryError. It does not say how "
        "much was asked for. The worker lives on; it used 400 MiB of 0.98 GiB (40 %)."
    )


def test_a_refused_task_is_said_with_its_inputs_and_the_cluster(model):
    inputs = TaskInputs(75, 1500 * MiB, 40, 800 * MiB)
    assert describe(incident_of(model, REFUSED, "refused", inputs=inputs)) == (
        "The scheduler refused to run task load-1 of 75 inputs on worker 0. Its inputs "
        "take 1.46 GiB at once, more than the worker's limit of 0.98 GiB. All workers "
        "together have 1.95 GiB, so storage fits. No worker died."
    )


def test_an_input_that_did_not_fit_belongs_to_the_worker_that_received_it(model):
    assert describe(incident_of(model, RECEIVING, "receiving")) == (
        "Worker 0 ran out of memory while it received input part-1 of 200 MiB for task "
        "load-1: it asked for 200 MiB for an array of shape (209715545,) and dtype "
        "uint8. The task may wait for ever, because Dask does not ask for the input "
        "again. The worker used 400 MiB of 0.98 GiB (40 %)."
    )


def test_an_input_that_did_not_fit_is_its_tasks_need_and_a_restart_asks_for_it(model):
    inputs = TaskInputs(2, 240 * MiB, 2, 240 * MiB)
    incident_of(model, RECEIVING, "receiving", inputs=inputs)
    diagnosis = details(model)["diagnosis"]
    assert diagnosis["cause"] == "task-too-large"
    assert diagnosis["responsible"] == {"prefix": "load", "key": "load-1"}
    assert "`load` needs 2 inputs of 240 MiB in memory at once" in diagnosis["text"]
    assert diagnosis["advice"][0] == (
        f'To go on now, restart the worker: `client.restart_workers(["{A}"])`. Dask '
        "does not ask for the input again, and `load` waits for ever; an empty worker "
        "asks for it anew."
    )


def test_the_buffer_of_the_input_that_did_not_fit_is_its_tasks_need(model):
    inputs = TaskInputs(2, 240 * MiB, 2, 240 * MiB)
    feed(model, added(A, 1), added(B, 2))
    feed(model, reported(A, 1, rss=400 * MiB, reading={"incoming": 240 * MiB}))
    known = info("load-1")
    task = TaskInfo(known.key, known.prefix, known.group, known.priority, inputs=inputs)
    feed(model, MemoryErrorRaised(T + 5, A, task, RECEIVING, "receiving"))
    diagnosis = details(model)["diagnosis"]
    assert diagnosis["cause"] == "task-too-large"
    assert "on the move" not in json.dumps(diagnosis)


def test_inputs_that_no_worker_holds_need_more_memory_first(model):
    inputs = TaskInputs(9, 1800 * MiB, 9, 1800 * MiB)
    text = "MemoryError, for input part-1 of 200 MiB"
    incident_of(model, text, "receiving", inputs=inputs)
    first, second = details(model)["diagnosis"]["advice"]
    assert first.startswith("Give each worker more memory: `--memory-limit ")
    assert "`load` needs at least 1.76 GiB" in first
    assert second.startswith("To go on now, restart the worker: ")


def test_the_api_has_stage_text_request_and_inputs(model):
    inputs = TaskInputs(75, 1500 * MiB, 40, 800 * MiB)
    incident_of(model, ARRAY, inputs=inputs)
    told = json.loads(json.dumps(details(model)))
    assert (told["stage"], told["detail"]) == ("running", ARRAY)
    assert told["cluster_limit"] == 2000 * MiB
    assert told["request"] == {
        "bytes": 256 * 2**40,
        "shape": [35184372088832],
        "dtype": "float64",
        "source": "numpy",
        "device": "host",
        "impossible": False,
        "limit": None,
        "verdict": "mistake",
        "times": 2**48 / (1000 * MiB),
        "text": (
            "It asked for 256 TiB for an array of shape (35184372088832,) and dtype "
            "float64: 268,435 times the worker's limit of 0.98 GiB."
        ),
        "likely": (
            "Probably 35,184,372,088,832 elements are a product of two lengths: a "
            "merge whose keys repeat on both sides, a cross join, or an index that was "
            "multiplied out."
        ),
    }
    assert told["task"]["inputs"] == {
        "count": 75,
        "size": 1500 * MiB,
        "n_fetched": 40,
        "fetched": 800 * MiB,
    }


def test_a_text_that_asks_for_nothing_has_no_request(model):
    incident_of(model, "something else")
    assert details(model)["request"] is None


def test_what_the_scheduler_refuses_is_the_tasks_own_need_and_nothing_relieves_it(
    model,
):
    inputs = TaskInputs(75, 1500 * MiB, 40, 800 * MiB)
    incident_of(model, REFUSED, "refused", inputs=inputs)
    told = details(model)
    assert told["diagnosis"]["cause"] == "task-too-large"
    assert told["diagnosis"]["responsible"]["prefix"] == "load"
    assert told["diagnosis"]["relief"] is None
    assert {finding["cause"] for finding in told["findings"]} == {"task-too-large"}
