"""Who else may write to a store: opening a manifest runs its writer's code.

Covers ``file://`` alone: owners and modes of the store's files and directories, and of
the directories above it, as ssh checks them.  Object stores and Redis tell nothing of
the kind: whoever may write to the bucket is trusted.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from dask_memdash.errors import UntrustedError
from dask_memdash.intermediates.manifest import Facts
from dask_memdash.intermediates.memory import DRAFTS, NAMES, OBJECTS, Memory


def check_trust(memory: Memory, facts: Facts) -> None:
    """Raise UntrustedError if others than this user and root can write to a store."""
    root = getattr(memory, "local_root", None)
    if root is None:
        return
    for path, above in _paths(root, facts.name):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        why = _who_else(status, above)
        if why is not None:
            raise UntrustedError(
                f"{facts.name!r} in {root} was not opened: {path} {why}. It says that "
                f"{facts.writer} wrote it. Opening it runs their code: pass trust=True "
                "if you trust everybody who can write there, or mend owner and mode."
            )


def _paths(root: Path, name: str) -> Iterator[tuple[Path, bool]]:
    """Yield what decides about a set's content, and whether it is above the store."""
    whole = Path(os.path.realpath(root))
    for part in (NAMES + name, DRAFTS + name, NAMES, DRAFTS, OBJECTS, ""):
        yield whole / part, False
    for directory in whole.parents:
        yield directory, True


def _who_else(status: os.stat_result, above: bool) -> str | None:
    if status.st_uid not in (os.getuid(), 0):
        try:
            owner = pwd.getpwuid(status.st_uid).pw_name
        except KeyError:
            owner = f"user {status.st_uid}"
        return f"belongs to {owner}"
    if above and status.st_mode & stat.S_ISVTX:
        # as /tmp: nobody can rename or delete what is another's
        return None
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = "everybody" if status.st_mode & stat.S_IWOTH else "its group"
        return f"can be written to by {who} (mode {stat.S_IMODE(status.st_mode):04o})"
    return None
