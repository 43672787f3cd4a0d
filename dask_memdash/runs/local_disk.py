"""Whether a path lies on a local disk, by the table of mounts.

SQLite's write-ahead log needs shared memory between the processes of one host, so a
segment that is written lies on a local disk.  Standard library only.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = "/proc/self/mountinfo"

#: File systems that other hosts may write to, or whose locks are not to be relied on.
NETWORK = {
    *("nfs", "nfs4", "lustre", "gpfs", "ceph", "cifs", "smb3", "smbfs", "9p", "afs"),
    *("beegfs", "pvfs2", "orangefs", "glusterfs", "ocfs2", "gfs2", "panfs", "virtiofs"),
    *("wekafs", "quobyte", "fuse"),
}


def file_system(path: str | os.PathLike[str], mounts: str = MOUNTS) -> str | None:
    """Return the type of the file system that a path lies on; None if not known.

    Parameters
    ----------
    path
        It need not exist yet.
    mounts
        The table of mounts.
    """
    real = os.path.realpath(path)
    try:
        lines = Path(mounts).read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    best, found = -1, None
    for line in lines:
        mount, _, source = line.partition(" - ")
        fields, kind = mount.split(" "), source.split(" ")[0]
        if len(fields) < 5 or not kind:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
        inside = point == "/" or real == point or real.startswith(f"{point}/")
        # Of two at one place the later covers the earlier.
        if inside and len(point) >= best:
            best, found = len(point), kind
    return found


def is_network(path: str | os.PathLike[str], mounts: str = MOUNTS) -> bool:
    """Whether a path is known to lie on a network file system."""
    kind = file_system(path, mounts)
    return kind is not None and (kind in NETWORK or kind.startswith("fuse."))
