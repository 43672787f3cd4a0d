"""What a worker was seen to run, and what stays of it when it has left."""

from builders import A, MiB, added, executing, removed, reported

from dask_memdash.model import processes
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.model.task_history import KEPT, TaskHistory
from dask_memdash.store.live import LiveStore

T = 1_760_000_000.0


def task(key="a-1", seconds=1.0, size=MiB, peak=2 * MiB, thread=7):
    return executing(key, size, seconds=seconds, peak=peak, thread=thread)


def test_task_seen_twice_is_one_with_its_largest_size():
    log = TaskHistory()
    log.see([task(seconds=1.0, peak=5 * MiB)], T)
    log.see([task(seconds=3.0, peak=4 * MiB)], T + 2)
    (ran,) = log.tasks()
    assert (ran.start, ran.seen, ran.peak, ran.running) == (T - 1, T + 2, 5 * MiB, True)


def test_task_that_is_gone_runs_no_more_and_keeps_when_it_was_seen():
    log = TaskHistory()
    log.see([task()], T)
    log.see([], T + 5)
    (ran,) = log.tasks()
    assert (ran.seen, ran.running) == (T, False)


def test_task_that_runs_again_is_another_run():
    log = TaskHistory()
    log.see([task(seconds=1.0)], T)
    log.see([], T + 1)
    log.see([task(seconds=0.5)], T + 10)
    assert log.tasks()[-1].start == T + 9.5


def test_log_is_bounded_in_number_and_in_length_of_keys():
    log = TaskHistory()
    for number in range(3 * KEPT):
        log.see([task(f"{number}-" + "x" * 100_000)], T + number)
    ran = log.tasks()
    assert len(ran) == KEPT
    assert ran[-1].key.startswith("179-")
    assert max(len(r.key) for r in ran) == 200


def test_unmeasured_task_has_no_peak():
    log = TaskHistory()
    log.see([task(size=None, peak=None)], T)
    assert log.tasks()[0].peak is None


def test_history_and_tasks_of_a_worker_stay_when_it_has_left():
    model = ClusterModel()
    store = LiveStore(model)
    model.handle(added())
    model.handle(reported(rss=400 * MiB, executing=(task(),)))
    before = store.history(A)
    model.handle(removed())
    (gone,) = store.departed()
    assert (gone["address"], gone["status"]) == (A, "left")
    assert gone["breakdown"]["process"] == 400 * MiB
    assert gone["executing_tasks"] == []
    assert store.history(A) == before
    assert [ran["key"] for ran in store.task_history(A)] == ["a-1"]


def test_only_the_newest_of_those_that_left_are_kept():
    model = ClusterModel()
    for number in range(processes.MAX_DEPARTED + 10):
        address = f"tcp://10.0.0.1:{number}"
        model.handle(added(address, pid=number))
        model.handle(removed(address))
    kept = [worker["address"] for worker in LiveStore(model).departed()]
    assert len(kept) == processes.MAX_DEPARTED
    assert kept[0] == f"tcp://10.0.0.1:{processes.MAX_DEPARTED + 9}"


def test_worker_that_comes_back_at_an_address_shows_its_own_history():
    model = ClusterModel()
    model.handle(added())
    model.handle(reported(rss=400 * MiB))
    model.handle(removed())
    model.handle(added(pid=200))
    store = LiveStore(model)
    assert store.departed() == []
    assert store.history(A)["time"] == []
