"""The first advice on what failed, followed to the letter: it completes then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from advice_lines import OWN_KNOBS, NoLineError, Setup, follow
from advice_workloads import (
    WORKLOADS,
    NotHereError,
    Workload,
    follow_first_advice,
)

from dask_memdash.boundary import boundary

pytestmark = pytest.mark.cluster

HAS = frozenset(OWN_KNOBS)


@pytest.fixture(autouse=True)
def nothing_noted() -> Iterator[None]:
    """No rule has failed on the evidence."""
    boundary.clear()
    yield
    assert boundary.texts() == ()
    boundary.clear()


@pytest.mark.corpora
@pytest.mark.timeout(300)
# What Dask's client warns of is what one of the workloads is about.
@pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning")
@pytest.mark.parametrize("workload", WORKLOADS, ids=str)
def test_what_failed_completes_once_its_first_advice_is_followed(
    workload: Workload,
) -> None:
    try:
        followed = follow_first_advice(workload)
    except NotHereError as error:
        pytest.skip(str(error))
    assert not followed.before.well
    if workload.not_enough and not followed.helped:
        pytest.xfail(workload.not_enough)
    diagnosis = followed.before.diagnosis
    assert diagnosis["cause"] in workload.causes
    assert followed.after is not None, followed.why
    assert followed.helped, f"{followed.advice} → {followed.after}"


@pytest.mark.parametrize(
    ("advice", "changed"),
    [
        (
            "Run 2 at a time: `--nthreads 2`. One `load` needs 1 GiB.",
            Setup({"threads_per_worker": 2}),
        ),
        (
            "`--nworkers 1 --nthreads 4 --memory-limit 2GiB`",
            Setup({"n_workers": 1, "threads_per_worker": 4, "memory_limit": "2GiB"}),
        ),
        (
            '`dask.config.set({"array.chunk-size": "32MiB"})`',
            Setup(config={"array.chunk-size": "32MiB"}),
        ),
        ('`x = x.rechunk("8MiB")`', Setup(own={"rechunk": "8MiB"})),
        ("`x = client.scatter(x)`", Setup(own={"scatter": True})),
        ("`client.cancel(futures)`, or `del` it", Setup(own={"release": True})),
        (
            "`--lifetime 20s --lifetime-stagger 5s --lifetime-restart`",
            Setup(
                {"lifetime": "20s", "lifetime_stagger": "5s", "lifetime_restart": True}
            ),
        ),
    ],
)
def test_a_line_to_paste_is_read_to_the_letter(advice: str, changed: Setup) -> None:
    assert follow(advice, Setup(), HAS) == changed


@pytest.mark.parametrize(
    "advice", ["", "Think about `load`.", "`--nthreads many-more --bogus 3`"]
)
def test_what_has_no_line_to_paste_cannot_be_followed(advice: str) -> None:
    with pytest.raises((NoLineError, ValueError)):
        follow(advice, Setup(), HAS)


def test_a_program_without_the_place_for_a_line_cannot_follow_it() -> None:
    with pytest.raises(NoLineError, match="nowhere to paste"):
        follow("`x = client.scatter(x)`", Setup(), frozenset())
