"""The documentation site, built once for all tests that look at it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def built_site(factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built site: by ``make docs``'s command, warnings errors.

    Tests that run side by side share one.
    """
    pytest.importorskip("sphinx", reason='pip install "dask-memdash[docs]"')
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    base = factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    site = root / "site"
    with (root / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "site-built").exists():
            command = [sys.executable, "-m", "sphinx", *command_options()]
            command += ["--doctree-dir", str(root / "doctrees"), "docs", str(site)]
            done = subprocess.run(
                command,
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                timeout=170,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            (root / "site-built").touch()
    return site


def command_options() -> list[str]:
    """Return the options that ``make docs`` gives to Sphinx."""
    text = (REPOSITORY / "Makefile").read_text().replace("\\\n", " ")
    (line,) = (text for text in text.splitlines() if "-m sphinx" in text)
    words = line.split("-m sphinx", 1)[1].split()
    return words[: words.index("--doctree-dir")]
