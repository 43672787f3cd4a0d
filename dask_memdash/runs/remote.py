"""Recorded runs behind a URL (``s3://``, ``gs://``, ``memory://``, …), through fsspec.

A list reads their manifests.  A run that is opened is fetched, file by file, into a
temporary directory that goes with the process; a closed segment never changes and is
fetched once.  Only closed segments are there: what a scheduler still writes is not.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

from dask_memdash.errors import RunError
from dask_memdash.redact import without_secrets
from dask_memdash.runs.directory import (
    MANIFEST,
    MAX_MANIFEST,
    Manifest,
    began_of,
    is_run_id,
    parse_manifest,
)
from dask_memdash.runs.listing import LocalRuns, RunRow, told_by
from dask_memdash.runs.reading import find_run
from dask_memdash.text import plain

#: Seconds for which a list is not asked for again.
EACH = 10.0


class RemoteRuns:
    """The runs behind a URL, or the one that it leads to.

    Every method may take long, and may be called in any thread, one at a time.

    Parameters
    ----------
    url
        Of the directory that runs were recorded to.
    """

    def __init__(self, url: str) -> None:
        self.place = without_secrets(url)
        self._url = url
        self._system: Any = None
        self._root = ""
        # Id → manifest of runs that have ended, which do not change.
        self._ended: dict[str, Manifest] = {}
        self._rows: list[RunRow] = []
        self._listed = float("-inf")
        self._cache: Path | None = None

    def rows(self, now: float | None = None) -> list[RunRow]:
        """Return the runs, in no order.

        Raises
        ------
        RunError
            They cannot be listed.
        """
        if time.monotonic() < self._listed + EACH:
            return self._rows
        moment = time.time() if now is None else now
        try:
            self._rows = [self._row(run, moment) for run in self._runs()]
        except Exception as error:  # noqa: BLE001 - any of some dozen libraries
            raise self._error("listed", error) from None
        self._listed = time.monotonic()
        return self._rows

    def fetch(self, run: str) -> Path | None:
        """Fetch what is new of a run, and return its directory; None without such.

        Raises
        ------
        RunError
            It cannot be fetched.
        """
        try:
            content = self._manifest(run)
            if content is None:
                return None
            manifest = parse_manifest(content, f"{self.place}/{run}/{MANIFEST}")
            if self._cache is None:
                self._cache = Path(tempfile.mkdtemp(prefix="dask-memdash-runs-"))
                weakref.finalize(self, shutil.rmtree, self._cache, ignore_errors=True)
            home = self._cache / run
            home.mkdir(0o700, exist_ok=True)
            for segment in manifest.segments:
                path = home / segment.name
                if not path.exists():
                    draft = path.with_name(f".{segment.name}")
                    try:
                        address = f"{self._path(run)}/{segment.name}"
                        self._system.get_file(address, str(draft))
                    except FileNotFoundError:
                        continue  # the reader says that it is missing
                    draft.replace(path)
            (home / MANIFEST).write_bytes(content)
        except RunError:
            raise
        except Exception as error:  # noqa: BLE001 - any of some dozen libraries
            raise self._error("fetched", error) from None
        return home

    def find(self, run: str | None) -> Path:
        """Fetch a run by its id or name, or the only one; of several the newest.

        Raises
        ------
        RunError
            There is none, or there are several and none is named.
        """
        found = [r for r in self.rows() if run in (None, r.id, r.name)]
        if not found:
            what = f"run {run!r}" if run else "recorded run"
            raise RunError(self.place, f"there is no {what} here")
        newest = max(found, key=lambda row: row.id)
        if run is None and len(found) > 1:
            raise RunError(
                self.place,
                f"it holds {len(found):,} runs: name one of them; the newest is "
                f"{newest.id}",
            )
        path = self.fetch(newest.id)
        if path is None:
            raise RunError(self.place, f"run {newest.id} is no longer there")
        return path

    # -- the file system -------------------------------------------------------

    def _open(self) -> None:
        if self._system is None:
            import fsspec

            self._system, root = fsspec.core.url_to_fs(self._url)
            self._root = root.rstrip("/")
        self._system.invalidate_cache()

    def _runs(self) -> list[str]:
        self._open()
        if self._system.exists(f"{self._root}/{MANIFEST}"):
            return [self._root.rpartition("/")[2]]
        names = {
            str(path).rstrip("/").rpartition("/")[2]
            for path in self._system.ls(self._root, detail=False)
        }
        return sorted(name for name in names if is_run_id(name))

    def _path(self, run: str) -> str:
        """Return where a run lies: the URL may lead to it itself."""
        itself = self._root.rpartition("/")[2] == run
        return self._root if itself else f"{self._root}/{run}"

    def _manifest(self, run: str) -> bytes | None:
        if not is_run_id(run):
            return None
        self._open()
        try:
            content = self._system.cat_file(f"{self._path(run)}/{MANIFEST}")
        except FileNotFoundError:
            return None
        if len(content) > MAX_MANIFEST:
            raise RunError(f"{self.place}/{run}/{MANIFEST}", "it is too large for one")
        return bytes(content)

    def _row(self, run: str, now: float) -> RunRow:
        where = f"{self.place}/{run}"
        try:
            known = self._ended.get(run)
            if known is None:
                content = self._manifest(run)
                if content is None:
                    raise RunError(where, f"there is no {MANIFEST} yet")
                known = parse_manifest(content, f"{where}/{MANIFEST}")
            if known.ended is not None:
                self._ended[run] = known
            return told_by(known, where, now)
        except RunError as error:
            return RunRow(run, where, began=began_of(run), note=plain(str(error), 500))

    def _error(self, what: str, error: Exception) -> RunError:
        why = plain(f"{type(error).__name__}: {error}", 200)
        more = ""
        if isinstance(error, ImportError):
            more = "; install what fsspec asks for, such as s3fs for s3://"
        return RunError(self.place, f"it cannot be {what} ({why}){more}")


#: What lists and opens runs.
Runs = LocalRuns | RemoteRuns


def runs_at(place: str) -> Runs:
    """Return the runs of a directory or behind a URL."""
    return RemoteRuns(place) if "://" in place else LocalRuns(place)


def fetched(place: str, run: str | None = None) -> tuple[Path, Runs]:
    """Return the directory of a run, fetched if need be, and what keeps it there.

    Parameters
    ----------
    place
        Directory or URL of the run, or of several.
    run
        Its id or name, where there are several: of several with one name, the newest.

    Raises
    ------
    RunError
        There is none, or there are several and none is named.
    """
    runs = runs_at(place)
    if isinstance(runs, RemoteRuns):
        return runs.find(run), runs
    return find_run(place, run), runs
