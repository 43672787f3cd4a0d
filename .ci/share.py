"""Lets another environment see what this one has installed, after its own.

    .venv/bin/python .ci/share.py .venv-oldest/bin/python

Both must be of one Python.  A line of a ``.pth`` file is run by ``site`` when the other
starts, which reads this one's ``.pth`` files too: the package itself is installed so.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

FILE = "shared.pth"


def main() -> None:
    """Write the file into the other environment."""
    other = sys.argv[1]
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = subprocess.check_output([other, "-c", ask], text=True).strip()
    ours = sysconfig.get_path("purelib")
    line = f"import site; site.addsitedir({ours!r})\n"
    (Path(theirs) / FILE).write_text(line)


if __name__ == "__main__":
    main()
