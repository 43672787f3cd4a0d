"""Closed segments to where fsspec leads, the manifest after them.

A thread of its own, so that a slow network holds up neither the loop nor the writer.
What is to be sent is what lies in the spool: a directory on a local disk with the
run's closed segments and its manifest.  A segment leaves it once it has been sent, so
that whatever a killed process left is found and sent by the next
(:func:`send_what_was_left`).  A live segment is never copied.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dask_memdash.boundary import boundary
from dask_memdash.errors import RunError
from dask_memdash.redact import without_secrets
from dask_memdash.runs.directory import (
    KINDS,
    MANIFEST,
    Segment,
    closed_name,
    live_name,
    read_manifest,
    segment_of,
    write_manifest,
)
from dask_memdash.runs.segment import LeftSegment, remove
from dask_memdash.text import format_bytes

#: Name of the directory in a scratch directory that spools lie in.
SPOOLS = "dask-memdash-runs"

#: Where a spool's files go, and the lock that its owner holds while it lives.
GOAL, LOCK = "goal.json", "lock"

#: Seconds to the next try, at first and at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


class Spool:
    """A directory on a local disk whose files go elsewhere; owned by one process.

    Parameters
    ----------
    path
        The directory; made if it is not there.
    goal
        URL or path of the run's directory at its destination.

    Raises
    ------
    OSError
        It cannot be made, or belongs to a process that lives (BlockingIOError).
    """

    def __init__(self, path: Path, goal: str | None = None) -> None:
        self.path = path
        path.mkdir(0o700, parents=True, exist_ok=True)
        self._lock = os.open(path / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if goal is None:
                found = json.loads((path / GOAL).read_text(encoding="utf-8"))
                goal = str(found["goal"])
            else:
                handle = os.open(
                    path / GOAL, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600
                )
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump({"goal": goal}, file)
        except BaseException:
            os.close(self._lock)
            raise
        self.goal = goal

    def close(self, *, remove: bool) -> None:
        """Give it up; its files go too where all of them have been sent."""
        if remove:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


class Uploader:
    """Sends what lies in a spool, and tries again until it has been sent."""

    def __init__(
        self,
        spool: Spool,
        first_pause: float = FIRST_PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._first_pause = first_pause
        self._clock = clock
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = False
        self._give_up = float("inf")
        self._to_remove: set[str] = set()
        self._error: str | None = None
        self._pause = 0.0
        self._target: tuple[Any, str] | None = None
        self._sent: bytes | None = None
        self._thread = threading.Thread(
            target=self._run, name="MemDash sends a record", daemon=True
        )
        self._thread.start()

    def changed(self) -> None:
        """Say that there are new files, and a new manifest after them."""
        self._wake.set()

    def removed(self, names: Iterable[str]) -> None:
        """Say that segments are no longer of the run."""
        with self._lock:
            self._to_remove.update(names)
        self._wake.set()

    def trouble(self) -> str | None:
        """Return what is wrong, in one sentence."""
        return self._error

    def close(self, timeout: float) -> None:
        """Send what there is; what cannot be sent stays for the next scheduler."""
        self._give_up = self._clock() + timeout
        self._stop = True
        self._wake.set()
        self._thread.join(timeout)

    # -- the thread ------------------------------------------------------------

    def _run(self) -> None:
        done = False
        try:
            while True:
                self._wake.wait(self._pause or 3600.0)
                self._wake.clear()
                done = self._try()
                if self._stop and (done or self._clock() >= self._give_up):
                    break
                if not done:
                    self._pause = min(
                        LONGEST_PAUSE, max(self._first_pause, self._pause * 2)
                    )
                    if self._stop:
                        self._pause = 0.2
                    else:  # what is new waits with the rest
                        time.sleep(min(self._pause, 0.5))
                else:
                    self._pause = 0.0
        finally:
            self._spool.close(remove=done)

    def _try(self) -> bool:
        """Send all; True if nothing is left."""
        try:
            self._send()
        except Exception as error:  # noqa: BLE001 - any of some dozen libraries
            waiting = sum(path.stat().st_size for path in self._closed())
            why = f"{type(error).__name__}: {error}"[:200]
            self._error = (
                f"the record cannot be sent to {without_secrets(self._spool.goal)} "
                f"({why}); {format_bytes(waiting)} wait in {self._spool.path}"
            )
            self._target = None
            return False
        self._error = None
        return True

    def _closed(self) -> list[Path]:
        with contextlib.suppress(OSError):
            found = [p for p in self._spool.path.iterdir() if segment_of(p.name)]
            return sorted(found, key=lambda path: path.name)
        return []

    def _send(self) -> None:
        if self._target is None:
            self._target = _open(self._spool.goal)
        system, root = self._target
        with self._lock:
            gone = set(self._to_remove)  # the manifest, read below, is without them
        for path in self._closed():
            _put(system, path.read_bytes(), f"{root}/{path.name}")
            path.unlink(missing_ok=True)
        manifest = None
        with contextlib.suppress(FileNotFoundError):
            manifest = (self._spool.path / MANIFEST).read_bytes()
        if manifest is not None and manifest != self._sent:
            if self._closed():
                return  # a segment that was closed just now goes first
            _put(system, manifest, f"{root}/{MANIFEST}")
            self._sent = manifest
        for name in gone:
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(f"{root}/{name}")
            with self._lock:
                self._to_remove.discard(name)


def send_what_was_left(scratch: Path) -> list[Uploader]:
    """Take up the spools of processes that were killed before all was sent.

    Their live segments, which nobody writes any more, are closed and sent too.
    """
    taken = []
    for path in sorted((scratch / SPOOLS).glob("*")):
        try:
            if not (path / GOAL).is_file():
                continue
            spool = Spool(path)
        except (OSError, ValueError, LookupError):
            continue  # its owner lives, or it is none
        try:
            _close_left(path)
        except (RunError, OSError, sqlite3.Error, LookupError) as error:
            boundary.note("closing a record that was left", error)
        uploader = Uploader(spool)
        uploader.changed()
        taken.append(uploader)
    return taken


def _close_left(path: Path) -> None:
    """Close the live segments that a killed process has left in its spool."""
    manifest = read_manifest(path)
    there = [found[0] for p in path.iterdir() if (found := segment_of(p.name))]
    listed = [segment_of(s.name) or (0, "") for s in manifest.segments]
    number = max([0, *there, *(one[0] for one in listed)])
    for kind in KINDS:
        file = path / live_name(kind)
        if not file.is_file():
            continue
        last = file.stat().st_mtime
        with contextlib.suppress(OSError):
            last = max(last, Path(f"{file}-wal").stat().st_mtime)
        try:
            left = LeftSegment(file, kind)
        except LookupError:  # killed while it was begun
            remove(file)
            continue
        number += 1
        name = closed_name(number, kind)
        size = left.close(path / name, last)
        manifest.segments.append(Segment(name, kind, left.opened, last, size))
        manifest.updated = max(manifest.updated, last)
    manifest.live = None
    write_manifest(path, manifest)


def _open(goal: str) -> tuple[Any, str]:
    import fsspec

    system, root = fsspec.core.url_to_fs(goal)
    system.makedirs(root, exist_ok=True)
    return system, root.rstrip("/")


def _put(system: Any, content: bytes, path: str) -> None:
    """Write a file in one step: as objects are, or under another name first."""
    protocol = system.protocol
    local = "file" in (protocol if isinstance(protocol, tuple | list) else (protocol,))
    if not local:
        system.pipe_file(path, content)
        return
    draft = Path(f"{path}.part")
    handle = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    draft.replace(path)
