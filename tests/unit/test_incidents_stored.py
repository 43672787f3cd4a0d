"""What is said of lost outputs that are stored: what need not be computed again."""

import pytest
from builders import A, added, died, removed

from dask_memdash.analysis.incidents.failure_words import stored_in_words
from dask_memdash.model.cluster import ClusterModel
from dask_memdash.store.live import LiveStore

MiB = 2**20

LOST = {
    "keys_lost": 30,
    "bytes_lost": 340 * MiB,
    "keys_stored": 28,
    "bytes_stored": 312 * MiB,
}


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        ({**LOST, "keys_stored": 0}, ""),
        ({"keys_lost": None, "bytes_lost": None, "seconds_recomputed": None}, ""),
        (
            {**LOST, "seconds_recomputed": 4.0},
            "312 MiB of the 340 MiB lost are stored and not computed again. "
            "For the rest, 4.0 s of work is repeated.",
        ),
        (
            {**LOST, "seconds_recomputed": 0.0},
            "312 MiB of the 340 MiB lost are stored and not computed again. "
            "Nobody needs the rest any more.",
        ),
        (
            {**LOST, "bytes_lost": None, "keys_stored": 1},
            "1 of the 30 outputs lost is stored and not computed again. "
            "The rest is computed again where it is still needed.",
        ),
        (
            {**LOST, "keys_stored": 30, "bytes_stored": 340 * MiB},
            "All 30 outputs that were lost with it (340 MiB) are stored: "
            "nothing has to be computed again.",
        ),
        (
            {**LOST, "keys_lost": 1, "keys_stored": 1, "bytes_lost": None},
            "The output that was lost with it is stored: "
            "nothing has to be computed again.",
        ),
    ],
)
def test_what_is_stored_of_the_lost_is_said(cost, said):
    assert stored_in_words(cost) == said


def test_a_death_says_what_is_stored_and_costs_only_what_is_computed_again():
    model = ClusterModel()
    lost = removed(A, **LOST, seconds_lost=0.0)
    for event in (added(A, 100), lost, died(A)):
        model.handle(event)
    death = LiveStore(model).incident("1")
    assert "312 MiB of the 340 MiB lost are stored" in death["diagnosis"]["text"]
    assert death["cost"]["seconds_recomputed"] == 0.0
    assert death["cost"]["keys_stored"] == 28
    assert death["cost"]["bytes_stored"] == 312 * MiB
    (failure,) = LiveStore(model).failures()
    assert failure["cost"]["bytes_stored"] == 312 * MiB
