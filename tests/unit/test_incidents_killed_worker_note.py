"""The note on a KilledWorker: where the story stands, and what is known by then."""

from builders import A, MiB, added, died, executing, killed, removed, reported

from dask_memdash.analysis.incidents.killed_worker_note import note
from dask_memdash.model.breakdown import Reading
from dask_memdash.model.event_parts import LargestBlock

PAGE = "http://h:8787/memdash#incident-4"
T = 1_760_000_000.0


def feed(model, *events):
    for event in events:
        model.handle(event)


def one_death(pid, time, *, report=True, size=300 * MiB, key="sum-1", **more):
    task = executing(key, size)
    worker = added(A, pid, time=time, home="tcp://nanny:1")
    seen = reported(A, pid, time=time + 1, executing=(task,))
    gone = removed(A, time=time + 2, assigned_hashes=(hash("sum-1"),), n_assigned=1)
    reading = Reading(time + 2, rss=950 * MiB)
    told = died(
        *(A, pid, time + 2.1),
        **{"executing": (task,), "by": "nanny", "reading": reading, **more},
    )
    return [worker, seen, gone, told] if report else [worker, seen, gone]


def text_of(model, page=PAGE, causes=None):
    incident = next(iter(model.incidents))
    assert incident.kind == "killed-worker"
    deaths = [model.incidents.get(number) for number in incident.attempts]
    return note(incident, deaths, page, causes)


def test_earlier_deaths_are_told_and_the_last_one_is_waited_for(model):
    feed(model, *one_death(1, T), *one_death(2, T + 10, by="kernel"))
    worker, seen, gone = one_death(3, T + 20, report=False)
    feed(model, worker, seen, killed("sum-1", A, time=T + 22), gone)
    assert text_of(model) == (
        "MemDash incident 4: http://h:8787/memdash#incident-4\n"
        "  2 deaths, each while `sum` had 300 MiB of 0.98 GiB.\n"
        "  death 1: worker 0 terminated with 0.93 GiB of 0.98 GiB; "
        "running: sum-1 (300 MiB)\n"
        "  death 2: worker 0 oom-killed with 0.93 GiB of 0.98 GiB; "
        "running: sum-1 (300 MiB)\n"
        "  death 3: worker 0; how it ended is not reported yet\n"
        "  dask_memdash.explain(error) tells the whole story."
    )


def test_causes_that_are_known_by_then_are_told(model):
    feed(model, *one_death(1, T))
    worker, seen, gone = one_death(3, T + 20, report=False)
    feed(model, worker, seen, killed("sum-1", A, time=T + 22), gone)
    lines = text_of(model, causes={"1": "task-too-large"}).splitlines()
    assert lines[1].endswith("running: sum-1 (300 MiB); cause: task-too-large")
    assert lines[2] == "  death 2: worker 0; how it ended is not reported yet"


def test_the_line_of_the_largest_block_is_in_the_note(model):
    block = LargestBlock(200 * MiB, "app/model.py", 42, "regrid", "np.concatenate")
    task = executing("sum-1", 300 * MiB, block=block)
    feed(model, *one_death(1, T, executing=(task,)))
    worker, seen, gone = one_death(3, T + 20, report=False)
    feed(model, worker, seen, killed("sum-1", A, time=T + 22), gone)
    assert (
        text_of(model)
        .splitlines()[1]
        .endswith(
            "running: sum-1 (300 MiB, 200 MiB of it in one block, allocated at "
            "app/model.py:42 in np.concatenate)"
        )
    )


def test_without_a_page_the_id_is_enough(model):
    worker, seen, gone = one_death(3, T, report=False)
    feed(model, worker, seen, killed("sum-1", A, time=T + 2), gone)
    assert text_of(model, page=None).startswith("MemDash incident 2\n")


def test_a_worker_that_ran_nothing_says_so(model):
    feed(model, *one_death(1, T, executing=()))
    worker, seen, gone = one_death(3, T + 20, report=False)
    feed(model, worker, seen, killed("sum-1", A, time=T + 22), gone)
    assert "death 1: worker 0 terminated with 0.93 GiB of 0.98 GiB; no task was" in (
        text_of(model)
    )


def test_keys_are_cut_and_in_one_line(model):
    feed(model, *one_death(1, T, key="sum-\n<b>" + "x" * 10**6))
    worker, seen, gone = one_death(3, T + 20, report=False)
    feed(model, worker, seen, killed("sum-1", A, time=T + 22), gone)
    text = text_of(model)
    assert len(text.splitlines()) == 4
    assert len(text) < 600


def test_a_task_that_is_not_measured_has_no_size(model):
    feed(model, *one_death(1, T, size=None))
    worker, seen, gone = one_death(3, T + 20, report=False)
    feed(model, worker, seen, killed("sum-1", A, time=T + 22), gone)
    assert "running: sum-1 (not measured)" in text_of(model)
