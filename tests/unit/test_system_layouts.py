"""The audit on machines, containers and batch jobs as they are found in the world."""

import pytest
from layouts import FOLDER, LAYOUTS, what_dask_says

from dask_memdash.store.live import LiveStore

every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda x: x.name)


def test_there_are_at_least_thirty_layouts():
    assert len(LAYOUTS) >= 30


@every_layout
def test_the_chain_ends_in_the_expected_cap(layout, tmp_path):
    layout.write(tmp_path)
    facts = layout.facts(tmp_path)
    least = facts.least()
    assert (least.kind if least else None) == layout.expected["source"]
    assert (least.bytes if least else None) == layout.expected["effective"]
    assert facts.environment == layout.expected["environment"]
    assert facts.swap_limit == layout.expected.get("swap_limit")


@every_layout
def test_the_verdict_on_dasks_own_limit_is_the_expected_one(layout, tmp_path):
    layout.write(tmp_path)
    model = layout.model(layout.facts(tmp_path))
    audit = LiveStore(model).limits()[0]
    found = [(f["verdict"], f["severity"], f["text"]) for f in audit["findings"]]
    assert audit["verdict"] == layout.expected["verdict"], found
    assert audit["severity"] == layout.expected["severity"], found
    if "recommended" in layout.expected:
        assert audit["recommended"] == layout.expected["recommended"]


@every_layout
def test_what_makes_no_sense_is_skipped_with_a_reason(layout, tmp_path):
    layout.write(tmp_path)
    skipped = layout.facts(tmp_path).skipped
    expected = layout.expected.get("skipped", [])
    assert len(skipped) >= len(expected)
    for reason in expected:
        assert any(reason in sentence for sentence in skipped), skipped
    assert bool(skipped) == bool(expected)


@pytest.mark.parametrize(
    "layout", [x for x in LAYOUTS if x.dask is not None], ids=lambda x: x.name
)
def test_dask_says_what_stands_beside_it(layout, tmp_path, monkeypatch):
    layout.write(tmp_path)
    assert what_dask_says(layout, tmp_path, monkeypatch) == layout.dask


def test_dask_errs_on_these_layouts():
    errs = {x.name for x in LAYOUTS if x.dask not in (None, x.expected["effective"])}
    too_small = {"memory-low-in-container", "soft-limit-in-container-v1"}
    assert too_small <= errs
    assert {"slurm-cgroup-v2", "systemd-user-slice", "sge-h-vmem"} <= errs
    assert len(errs) == 24


def human(size):
    """Write a size as the table does."""
    if size is None:
        return "–"
    unit, name = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
    return f"{size / unit:.4g} {name}"


@every_layout
def test_the_table_has_its_line(layout):
    expected = layout.expected
    line = (
        f"| `{layout.name}` | {expected['verdict']} | {human(expected['effective'])} "
        f"| {expected['source'] or '–'} | {human(layout.dask)} |"
    )
    assert line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
