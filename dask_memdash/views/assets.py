"""Where the static files are, in a wheel and in an editable install."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path

from dask_memdash.errors import MemDashError

#: A file that every complete directory of static files holds.
_LANDMARK = "memdash.css"


def _candidates() -> tuple[Path, ...]:
    package = Path(__file__).resolve().parent.parent
    return package / "static", package.parent / "static"


def static_dir() -> Path:
    """Find the directory of the static files.

    Installed from a wheel they lie in the package, in an editable install at the
    top of the repository.

    Raises
    ------
    MemDashError
        When neither place has them: the installation is incomplete.
    """
    for candidate in _candidates():
        if (candidate / _LANDMARK).is_file():
            return candidate
    places = " or ".join(str(candidate) for candidate in _candidates())
    raise MemDashError(
        f"MemDash's static files are not in {places}: the installation is "
        "incomplete, install dask-memdash again"
    )


@cache
def _content_version(path: Path, modified: int) -> str:
    return sha256(path.read_bytes()).hexdigest()[:12]


def asset_url(name: str) -> str:
    """Return the URL of a static file, relative to the page, with its version.

    The version is taken from the file's content, so that a browser may keep the
    file for as long as it likes.

    Parameters
    ----------
    name
        Name of the file in the static directory, such as ``"memdash.css"``.
    """
    path = static_dir() / name
    return f"memdash/static/{name}?v={_content_version(path, path.stat().st_mtime_ns)}"
