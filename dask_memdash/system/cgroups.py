"""The control groups that a process lives in, and what memory they allow.

Covers cgroup v1 and v2, nested groups (every group from the process's own up to
what is mounted here), and containers that do not see the path that the kernel
names.  Works on a fake tree (``root``) in tests.  What cannot be read is None, what
is read and cannot be used is *skipped*, with a reason; nothing here raises.

``memory.low`` and ``memory.min`` are no limits but what is protected from others, and
``memory.soft_limit_in_bytes`` is a wish: none of them is taken for a limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dask_memdash.model.limit_facts import Cap

#: From here on a figure of cgroup v1 means "no limit" (it rounds 2**63 down to pages).
V1_UNLIMITED = 2**62

#: Groups looked at on one path, and bytes read of one file, at most.
MAX_DEPTH = 64
MAX_FILE = 2**22

#: Sentences about skipped values that are kept, and their length in characters.
MAX_SKIPPED = 20
MAX_SENTENCE = 200


@dataclass(frozen=True, slots=True)
class Group:
    """One control group that limits memory, as a directory."""

    path: Path
    #: The path as a person would type it, without the fake root.
    shown: str
    version: int


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of ``/proc/<pid>/mountinfo``."""

    #: What of the filesystem is mounted, and where.
    root: str
    point: str
    filesystem: str
    options: tuple[str, ...]


class Skipped:
    """Collects why values were not used; bounded."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        """Remember one reason."""
        if len(self.sentences) < MAX_SKIPPED:
            self.sentences.append(sentence[:MAX_SENTENCE])


def read_text(path: Path, most: int = MAX_FILE) -> str | None:
    """Read the beginning of a file; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most).decode("utf-8", "replace")
    except (OSError, ValueError):
        return None


def mounts(pid: int, root: Path) -> list[Mount]:
    """Return what is mounted for a process; lines that make no sense are left out."""
    found = []
    for line in (read_text(root / f"proc/{pid}/mountinfo") or "").splitlines():
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if dash and len(fields) >= 6 and rest:
            options = rest[2].split(",") if len(rest) > 2 else []
            found.append(
                Mount(
                    _unescape(fields[3]), _unescape(fields[4]), rest[0], tuple(options)
                )
            )
    return found


def groups(pid: int, root: Path) -> list[Group]:
    """Return the memory groups of a process, its own first and the outermost last."""
    paths = _paths(pid, root) or {1: "/", 2: "/"}  # not readable in every sandbox
    mounted = mounts(pid, root)
    for version in (1, 2):
        if version not in paths:
            continue
        for mount in _cgroup_mounts(mounted, version):
            chain = _chain(mount, paths[version], root, version)
            if any(_limit_files(group) for group in chain):
                return chain
    return []


def caps(pid: int, root: Path, machine: str, skipped: Skipped) -> list[Cap]:
    """Return every cap that the groups of a process set, its own group's first."""
    found: list[Cap] = []
    chain = groups(pid, root)
    for i, group in enumerate(chain):
        if i and group.version == 1 and _flat(group):
            break  # what this one counts leaves its children out
        for file, effect in _limit_files(group):
            size = _limit(file, f"{group.shown}/{file.name}", group.version, skipped)
            if size is not None:
                found.append(
                    Cap(
                        kind="cgroup",
                        name=file.name,
                        where=f"{group.shown}/{file.name}",
                        bytes=size,
                        effect=effect,
                        scope=_scope(group, machine),
                        used=used(group),
                    )
                )
    if chain and chain[0].version == 1:
        found += _hidden(chain[0], found, machine)
    return found


def used(group: Group) -> int | None:
    """Return a group's use of memory, less its file cache.

    The kernel drops that before it kills anybody; files in a tmpfs are no cache.
    """
    name = "memory.current" if group.version == 2 else "memory.usage_in_bytes"
    total = _number(read_text(group.path / name, 100))
    if total is None or total >= V1_UNLIMITED:
        return None
    stat = read_text(group.path / "memory.stat", 2**16) or ""
    prefix = "" if group.version == 2 else "total_"
    fields = (f"{prefix}inactive_file", f"{prefix}active_file")
    return max(0, total - sum(_field(stat, field) or 0 for field in fields))


def pressure(text: str | None) -> float | None:
    """Read the share of the last 10 s in which some task waited, in percent (PSI)."""
    match = re.search(r"^some avg10=(\d{1,3}\.\d+) ", text or "", re.MULTILINE)
    return float(match[1]) if match and float(match[1]) <= 100 else None


def swap_limit(chain: list[Group], skipped: Skipped) -> int | None:
    """Return the least swap that the groups allow; None without a limit on it."""
    limits = []
    for group in chain:
        if group.version == 2:
            file = group.path / "memory.swap.max"
            size = _limit(file, f"{group.shown}/{file.name}", 2, skipped, least=0)
        else:
            size = _swap_of_v1(group, skipped)
        if size is not None:
            limits.append(size)
    return min(limits, default=None)


# -- parts ---------------------------------------------------------------------


def _paths(pid: int, root: Path) -> dict[int, str]:
    """Return the process's path by version; with both, v1 has the memory controller."""
    found: dict[int, str] = {}
    for line in (read_text(root / f"proc/{pid}/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        path = path.removesuffix(" (deleted)")
        if not colon or not path.startswith("/"):
            continue
        if "memory" in controllers.split(","):
            found[1] = path
        elif number == "0" and not controllers:
            found[2] = path
    return found


def _cgroup_mounts(mounted: list[Mount], version: int) -> list[Mount]:
    if version == 2:
        known = [m for m in mounted if m.filesystem == "cgroup2"]
        return known or [Mount("/", "/sys/fs/cgroup", "cgroup2", ())]
    known = [m for m in mounted if m.filesystem == "cgroup" and "memory" in m.options]
    return known or [Mount("/", "/sys/fs/cgroup/memory", "cgroup", ("memory",))]


def _chain(mount: Mount, path: str, root: Path, version: int) -> list[Group]:
    """Return the groups from the process's own up to the mount's root.

    Where the path leads to nothing that is mounted here (a container that shares its
    host's cgroup namespace, or a process outside of ours), the mount's root stands
    for the process's own group: it is the innermost one that can be seen.
    """
    inner = _below(path, mount.root)
    parts = [] if inner is None else [part for part in inner.split("/") if part]
    point = mount.point.rstrip("/") or "/"
    base = root / point.lstrip("/")
    if ".." in parts or not base.joinpath(*parts).is_dir():
        parts = []
    if not base.is_dir():
        return []
    return [
        Group(base.joinpath(*parts[:n]), "/".join([point, *parts[:n]]), version)
        for n in range(min(len(parts), MAX_DEPTH), -1, -1)
    ]


def _below(path: str, top: str) -> str | None:
    """Return the part of a path below another one, None where it is not below."""
    if top == "/":
        return path
    if path == top or path.startswith(top + "/"):
        return path[len(top) :]
    return None


def _limit_files(group: Group) -> list[tuple[Path, str]]:
    names = (
        [("memory.limit_in_bytes", "kills")]
        if group.version == 1
        else [("memory.max", "kills"), ("memory.high", "throttles")]
    )
    files = [(group.path / name, effect) for name, effect in names]
    return [(file, effect) for file, effect in files if file.exists()]


def _limit(
    file: Path, shown: str, version: int, skipped: Skipped, least: int = 4096
) -> int | None:
    """Read a limit; None without one, and with a reason where it makes no sense."""
    text = read_text(file, 100)
    if text is None:
        if file.exists():
            skipped.add(f"{shown} cannot be read")
        return None
    text = text.strip()
    if text == "max":
        return None
    size = _number(text)
    if size is None:
        skipped.add(f"{shown} holds {text[:40]!r}, which is no size")
        return None
    if size >= V1_UNLIMITED or (version == 1 and text == "-1"):
        return None
    if size < least:
        skipped.add(f"{shown} holds {size}, too little for any process")
        return None
    return size


def _hidden(group: Group, found: list[Cap], machine: str) -> list[Cap]:
    """Return the limit of groups above what is mounted here, which v1 sums up."""
    stat = read_text(group.path / "memory.stat", 2**16) or ""
    size = _field(stat, "hierarchical_memory_limit")
    least = min((cap.bytes for cap in found), default=V1_UNLIMITED)
    if size is None or not 4096 <= size < least:
        return []
    where = f"{group.shown}/memory.stat"
    name = "hierarchical_memory_limit"
    return [
        Cap("cgroup", name, where, size, "kills", f"above {_scope(group, machine)}")
    ]


def _flat(group: Group) -> bool:
    """Whether a v1 group does not count what its children use."""
    return (read_text(group.path / "memory.use_hierarchy", 10) or "").strip() == "0"


def _swap_of_v1(group: Group, skipped: Skipped) -> int | None:
    both_file = group.path / "memory.memsw.limit_in_bytes"
    own_file = group.path / "memory.limit_in_bytes"
    both = _limit(both_file, f"{group.shown}/{both_file.name}", 1, skipped)
    own = _limit(own_file, f"{group.shown}/{own_file.name}", 1, Skipped())
    return None if both is None or own is None else max(0, both - own)


def _scope(group: Group, machine: str) -> str:
    """Name a group so that all who live in it give it the same name."""
    try:
        status = group.path.stat()
        return f"cgroup {status.st_ino} of {machine}"
    except OSError:
        return f"cgroup {group.shown} of {machine}"


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else None


def _field(stat: str, name: str) -> int | None:
    match = re.search(rf"^{name} ([0-9]{{1,18}})$", stat, re.MULTILINE)
    return int(match[1]) if match else None


def _unescape(text: str) -> str:
    """Undo the octal escapes of blanks in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)
