"""The notebook: as it is stored, and run from top to bottom."""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

nbformat: Any = pytest.importorskip("nbformat")

DEMO = Path(__file__).parents[2] / "demo"
NOTEBOOK = DEMO / "rechunk_oom.ipynb"
KEEPS = DEMO / "keep_intermediates.ipynb"

#: Names of the ways to mend it, as the closing table has them.
REMEDIES = ("smaller chunks", "through files", "two larger workers")


def texts(notebook: Any) -> str:
    """Return everything that the cells have put out as text."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            found.append(output.get("text", ""))
            found.append(output.get("data", {}).get("text/plain", ""))
    return "\n".join(found)


def pictures(notebook: Any) -> int:
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )


def check(notebook: Any) -> None:
    """See whether it tells what it is there for."""
    told = texts(notebook)
    assert re.search(r"Open http://127\.0\.0\.1:\d+/memdash", told)
    assert re.search(r"Incident \d+: task given up \(KilledWorker\)", told)
    assert re.search(r"Cause: [a-z ]+ \((?!unknown)[a-z-]+, confidence \d+ %\)", told)
    assert re.search(r"^as it was +KilledWorker ", told, re.M)
    for name in REMEDIES:
        assert re.search(rf"^{name} +ok ", told, re.M), told
    assert pictures(notebook) == 3
    errors = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "error" or output.get("name") == "stderr"
    ]
    assert errors == []


def check_keeps(notebook: Any) -> None:
    """See whether it tells that nothing ran twice, and everything without a store."""
    runs = [int(n) for n in re.findall(r"(\d+) blocks computed", texts(notebook))]
    # first, named, worker killed, new cluster, opened; then Dask alone
    assert runs == [24, 0, 0, 0, 0, 24]
    assert len(set(re.findall(r"^sum (\S+?),?(?: |$)", texts(notebook), re.M))) == 1


CHECKS = {NOTEBOOK: check, KEEPS: check_keeps}
stem = attrgetter("stem")
each_notebook = pytest.mark.parametrize("path", CHECKS, ids=stem)


@each_notebook
def test_stored_notebook_has_its_outputs(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
    CHECKS[path](notebook)


@each_notebook
def test_stored_notebook_names_no_machine(path: Path) -> None:
    text = path.read_text()
    for name in ("/home/", "/root/", "/work/", "/tmp/", "/usr/", "site-packages"):
        assert name not in text


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "path", [NOTEBOOK, pytest.param(KEEPS, marks=pytest.mark.slow)], ids=stem
)
def test_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    notebook = nbformat.read(path, 4)
    nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    CHECKS[path](notebook)
