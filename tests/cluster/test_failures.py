"""Whatever fails inside MemDash, the cluster computes on and the page says so."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from clusters import wait_for

from dask_memdash import MemDash
from dask_memdash.boundary import boundary
from dask_memdash.plugins.nanny.probe import NannyProbe

pytestmark = pytest.mark.cluster


def inc(x: int) -> int:
    return x + 1


def entry_points(cls: type) -> list[str]:
    """The methods of a class that are behind the boundary."""
    return [
        name
        for name, member in vars(cls).items()
        if not name.startswith("_")
        and inspect.isfunction(member)
        and hasattr(member, "__wrapped__")
    ]


def sabotage(cls: type, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the inside of entry points raise, beneath the boundary."""
    for name in names:
        original = vars(cls)[name].__wrapped__

        if inspect.iscoroutinefunction(original):

            async def broken(*args, **kwargs):
                raise ZeroDivisionError("on purpose")

        else:

            def broken(*args, **kwargs):
                raise ZeroDivisionError("on purpose")

        monkeypatch.setattr(
            cls, name, boundary.guarded(broken, f"{cls.__name__}.{name}")
        )


def computes(session) -> None:
    futures = session.client.map(inc, range(50), pure=False)
    assert session.client.gather(futures, errors="raise") == list(range(1, 51))


HOOKS = [name for name in entry_points(MemDash) if name not in ("start", "detach")]


def test_each_hook_of_the_scheduler_plugin_may_raise_and_harms_nobody(
    start, monkeypatch
):
    session = start(n_workers=1)
    plugin = session.cluster.scheduler.plugins["memdash"]
    for hook in HOOKS:
        boundary.clear()
        with monkeypatch.context() as broken:
            sabotage(MemDash, [hook], broken)
            result = getattr(plugin, hook)()  # with no arguments at all
            if inspect.iscoroutine(result):
                asyncio.run(result)
            computes(session)
            assert session.cluster.scheduler.workers, hook
            texts = boundary.texts()
        assert any(f"MemDash.{hook}" in text for text in texts), hook


@pytest.mark.slow
def test_all_of_the_scheduler_plugin_may_fail_at_once(start, monkeypatch):
    session = start()
    sabotage(MemDash, [h for h in HOOKS if h != "tick"], monkeypatch)
    computes(session)
    session.cluster.scale(3)
    session.client.wait_for_workers(3, timeout=30)
    computes(session)
    notices = wait_for(lambda: session.api("cluster")["degraded"], "the notices")
    assert any("ZeroDivisionError: on purpose" in n["text"] for n in notices)
    wait_for(lambda: session.api("cluster")["n_workers"] == 3, "the new worker")


def test_a_scheduler_plugin_that_cannot_start_leaves_the_cluster_alone(
    start, monkeypatch
):
    session = start(register=False)
    sabotage(MemDash, ["start"], monkeypatch)
    session.client.register_plugin(MemDash())
    computes(session)


def test_all_of_the_worker_probe_may_fail_and_the_page_says_where(start):
    session = start()

    def break_probe(dask_worker):
        import inspect

        from dask_memdash.boundary import boundary
        from dask_memdash.plugins.worker.tasks import RunningTasks

        def broken(*args, **kwargs):
            raise ZeroDivisionError("on purpose")

        probe = dask_worker.extensions["memdash"]
        for name, member in list(vars(type(probe)).items()):
            if inspect.isfunction(member) and name not in ("setup", "teardown"):
                fallback = type(probe).ON_FAILURE.get(name)
                if not name.startswith("_"):
                    guarded = boundary.guarded(broken, f"WorkerProbe.{name}", fallback)
                    setattr(type(probe), name, guarded)
        plugin = dask_worker.plugins["memdash"]
        plugin.transition = type(probe).transition
        for name in ("begin", "end"):
            setattr(RunningTasks, name, broken)

    session.client.run(break_probe)
    computes(session)
    notices = wait_for(
        lambda: [
            n
            for n in session.api("cluster")["degraded"]
            if "WorkerProbe.heartbeat" in n["text"]
        ],
        "the notice",
    )
    assert notices[0]["where"].startswith("worker tcp://")
    computes(session)
    assert len(session.cluster.scheduler.workers) == 2


def test_all_of_the_nanny_probe_may_fail(start, monkeypatch):
    session = start()
    sabotage(NannyProbe, ["teardown"], monkeypatch)
    for nanny in session.cluster.workers.values():
        probe = nanny._memdash_probe
        monkeypatch.setattr(probe, "_hold_back", lambda watched: 1 / 0)
    wait_for(
        lambda: any("the nanny's sampler" in text for text in boundary.texts()),
        "the failure to be noted",
    )
    computes(session)
    monkeypatch.undo()


def test_a_malformed_heartbeat_is_refused_and_the_others_go_on(start):
    session = start()

    def speak_nonsense(dask_worker):
        class Nonsense:
            def heartbeat(self):
                return {"protocol": 2, "pid": "four", "reading": [1, 2, 3]}

        dask_worker.extensions["memdash"] = Nonsense()

    session.client.run(speak_nonsense, workers=session.addresses()[:1])
    notices = wait_for(
        lambda: [
            n for n in session.api("cluster")["degraded"] if "refused" in n["text"]
        ],
        "the notice",
    )
    assert session.addresses()[0] in notices[0]["text"] + notices[0]["where"]
    computes(session)
    assert len(session.cluster.scheduler.workers) == 2


@pytest.mark.slow
def test_a_malformed_report_of_a_nanny_is_refused(start):
    session = start()
    report = session.cluster.scheduler.handlers["memdash_report"]
    for message in (None, 7, {}, {"kind": "death"}, {"kind": "death", "pid": []}):
        assert report(comm=None, message=message)["ok"] is True
    assert session.api.deaths() == []
