"""The line that names the guard: only where it would have helped."""

import pytest
from builders import MiB
from cases import case, expected, facts, parts, suspect

from dask_memdash.analysis.incidents.rules.leak import leak
from dask_memdash.analysis.incidents.rules.task_too_large import task_too_large
from dask_memdash.analysis.incidents.rules.too_many_at_once import too_many_at_once
from dask_memdash.model.event_parts import Thresholds

GUARD = "`client.register_plugin(dask_memdash.MemDash(guard=True))`"


def running(*suspects, **more):
    size = sum(s.bytes or 0 for s in suspects) // MiB
    return case(breakdown=parts(executing=size), suspects=suspects, **more)


def advice_on(known):
    return [text for finding in too_many_at_once(known) for text in finding.advice]


def three(peak=390, prefix="load", **more):
    usual = facts(nthreads=4, expected={prefix: expected(peak=peak)}, **more)
    tasks = [suspect(f"{prefix}-{n}", 266, prefix=prefix) for n in range(3)]
    return running(*tasks, facts=usual)


def test_tasks_that_fit_one_by_one_would_have_been_helped():
    (told,) = [text for text in advice_on(three()) if GUARD in text]
    assert told == (
        f"Or let MemDash start tasks only when they fit: {GUARD}. The largest, "
        "`load`, needs 390 MiB of the 850 MiB that an empty worker has room for: it "
        "starts, and the next waits until there is room."
    )


@pytest.mark.parametrize(
    "known",
    [
        three(guard="on"),
        three(thresholds=Thresholds(600 * MiB, 700 * MiB, None, 950 * MiB)),
        three(prefix="shuffle-transfer"),
        three(prefix="rechunk-p2p"),
        three(peak=800),
        # cut short, with nothing that says how much they need
        running(*(suspect(f"load-{n}", 400) for n in range(2))),
    ],
    ids=[
        "it-is-on",
        "no-pause-threshold",
        "p2p",
        "p2p-array",
        "too-large",
        "cut-short",
    ],
)
def test_where_it_cannot_help_it_is_not_named(known):
    assert not any("guard" in text for text in advice_on(known))


def test_a_dry_run_holds_nothing_back_so_that_it_is_named():
    assert any(GUARD in text for text in advice_on(three(guard="dry-run")))


def test_one_that_is_too_large_and_a_leak_are_not_its_business():
    alone = running(suspect("sum-1", 840))
    told = [f for rule in (task_too_large, leak) for f in rule(alone)]
    assert not any("guard" in text for f in told for text in f.advice)


def test_a_heavy_prefix_among_light_ones_may_be_held_back_alone():
    usual = facts(
        nthreads=4, expected={"big": expected(peak=390), "small": expected(peak=20)}
    )
    known = running(
        *(suspect(f"big-{n}", 266) for n in range(3)),
        suspect("small-1", 2),
        facts=usual,
    )
    (told,) = [text for text in advice_on(known) if "--resources" in text]
    assert told.startswith(
        "Or keep the threads, and let only 2 tasks of `big` run at once on each "
        'worker: start workers with `--resources "big=2"`, and make these tasks under '
        '`with dask.annotate(resources={"big": 1}):`. The others need at most 20 MiB '
        "each."
    )


@pytest.mark.parametrize("peak", [150, None])
def test_beside_others_that_are_heavy_too_or_unknown_it_is_threads(
    peak,
):
    usual = facts(
        nthreads=4, expected={"big": expected(peak=390), "other": expected(peak=peak)}
    )
    known = running(*(suspect(f"big-{n}", 266) for n in range(3)), facts=usual)
    assert "--nthreads 2" in advice_on(known)[0]
    assert not any("--resources" in text for text in advice_on(known))
