"""Everything that limits a process's memory, read from the system it runs on.

Composes the small readers of this package into
:class:`~dask_memdash.model.limit_facts.LimitFacts` (once) and
:class:`~dask_memdash.model.limit_facts.LiveFigures` (again and again).  ``root`` is
where the machine's file system begins, another place in tests.  What cannot be read is
None, and nothing here raises, whatever the files hold.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import psutil

from dask_memdash.model.limit_facts import (
    Allocator,
    Cap,
    LimitFacts,
    LiveFigures,
    Scratch,
)
from dask_memdash.system import batch_systems, cgroups
from dask_memdash.system.cgroups import Group, Skipped, read_text

#: File systems that may stand still when their server does: never asked for space.
REMOTE = re.compile(r"nfs|cifs|smb|lustre|ceph|gpfs|beegfs|afs|9p|fuse|glusterfs")

#: Rlimits that bear on memory: label in /proc/<pid>/limits, name, what happens at
#: it, and the line of /proc/<pid>/status that counts against it.
RLIMITS = (
    ("Max address space", "RLIMIT_AS", "fails", "VmSize"),
    ("Max data size", "RLIMIT_DATA", "fails", "VmData"),
    ("Max resident set", "RLIMIT_RSS", "declared", "VmRSS"),
)

#: Allocators that take malloc's place when they are preloaded.
PRELOADED = ("jemalloc", "tcmalloc", "mimalloc")


def read_facts(
    pid: int,
    environ: Mapping[str, str],
    scratch: str | None = None,
    root: str = "/",
) -> LimitFacts:
    """Read all that limits a process.

    Parameters
    ----------
    pid
        The process.
    environ
        Variables in which a batch system speaks to it.
    scratch
        The directory that it spills to, None without one.
    root
        Where the machine's file system begins.
    """
    base, skipped = Path(root), Skipped()
    environ = {name: _sendable(value) for name, value in environ.items()}
    scratch = None if scratch is None else _sendable(scratch)
    machine = machine_id(base)
    named = machine or "this machine"
    meminfo = read_meminfo(base, skipped)
    chain = cgroups.groups(pid, base)
    total = meminfo.get("MemTotal")
    caps = [
        *_host_cap(total, named),
        *reversed(cgroups.caps(pid, base, named, skipped)),
        *batch_systems.caps(environ, base, named, skipped),
        *rlimits(pid, base, named, skipped),
    ]
    facts = LimitFacts(
        caps=tuple(caps),
        machine=machine,
        environment=batch_systems.environment(environ, base),
        rss=read_status(pid, base).get("VmRSS"),
        swap_total=meminfo.get("SwapTotal"),
        swap_limit=cgroups.swap_limit(chain, skipped),
        allocator=read_allocator(pid, environ, base),
        scratch=read_scratch(pid, scratch, base),
        skipped=tuple(skipped.sentences),
    )
    return replace(facts, first=LiveReader(pid, facts, root).read())


class LiveReader:
    """Reads the few figures that change, again and again.

    What is where is found once: a process is not moved between groups while it runs,
    save by somebody's hand.
    """

    def __init__(self, pid: int, facts: LimitFacts, root: str = "/") -> None:
        self._pid = pid
        self._base = Path(root)
        self._group = self._binding_group(facts)
        self._scratch = facts.scratch

    def read(self) -> LiveFigures:
        """Read the figures of this instant."""
        group = self._group
        own = None if group is None else group.path / "memory.pressure"
        waiting = None if own is None else cgroups.pressure(read_text(own, 1000))
        if waiting is None:
            text = read_text(self._base / "proc/pressure/memory", 1000)
            waiting = cgroups.pressure(text)
        scratch = self._scratch
        return LiveFigures(
            available=read_meminfo(self._base, Skipped()).get("MemAvailable"),
            cgroup_used=None if group is None else cgroups.used(group),
            swapped=read_status(self._pid, self._base).get("VmSwap"),
            pressure=waiting,
            scratch_free=None if scratch is None else _space(scratch, self._base)[1],
        )

    def _binding_group(self, facts: LimitFacts) -> Group | None:
        """Return the group with the least cap, else the process's own."""
        chain = cgroups.groups(self._pid, self._base)
        least = facts.least("cgroup")
        if least is not None:
            folder = least.where.rpartition("/")[0]
            chain = [group for group in chain if group.shown == folder] or chain
        return chain[0] if chain else None


def read_meminfo(base: Path, skipped: Skipped) -> dict[str, int]:
    """Read ``/proc/meminfo``, in bytes; lines that make no sense are left out."""
    text = read_text(base / "proc/meminfo", 2**16)
    if text is None:
        return _meminfo_elsewhere(base)
    found = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        match = re.fullmatch(r"\s*([0-9]{1,15}) kB\s*", value)
        if match:
            found[name] = int(match[1]) * 1024
        elif colon and name in ("MemTotal", "MemAvailable", "SwapTotal"):
            skipped.add(f"/proc/meminfo says {line.strip()[:60]!r}")
    return found


def read_status(pid: int, base: Path) -> dict[str, int]:
    """Read the sizes in ``/proc/<pid>/status``, in bytes."""
    text = read_text(base / f"proc/{pid}/status", 2**16) or ""
    sizes = re.findall(r"^(Vm\w+):\s+([0-9]{1,15}) kB$", text, re.MULTILINE)
    return {name: int(value) * 1024 for name, value in sizes}


def machine_id(base: Path) -> str | None:
    """Name the machine, the same inside every container on it."""
    text = read_text(base / "proc/sys/kernel/random/boot_id", 100) or ""
    match = re.fullmatch(r"\s*([0-9a-f-]{8,64})\s*", text)
    return match[1] if match else None


def rlimits(pid: int, base: Path, machine: str, skipped: Skipped) -> list[Cap]:
    """Return the rlimits that bear on memory; the soft ones count."""
    text = read_text(base / f"proc/{pid}/limits", 2**16) or ""
    status = read_status(pid, base)
    found = []
    for label, name, effect, counter in RLIMITS:
        match = re.search(rf"^{label}\s+(\S+)\s+\S+\s+bytes", text, re.MULTILINE)
        if match is None or match[1] == "unlimited":
            continue
        value = int(match[1]) if re.fullmatch("[0-9]{1,20}", match[1]) else -1
        if value >= cgroups.V1_UNLIMITED:
            continue
        where = f"/proc/{pid}/limits"
        if value < 4096:
            skipped.add(f"{where} says {label} {match[1][:40]}, which is no size")
            continue
        scope = f"process {pid} on {machine}"
        found.append(
            Cap("rlimit", name, where, value, effect, scope, status.get(counter))
        )
    return found


def read_allocator(pid: int, environ: Mapping[str, str], base: Path) -> Allocator:
    """Read what malloc was told when the process started.

    The variables count as they were at its start: set later, they do nothing.
    """
    text = read_text(base / f"proc/{pid}/environ")
    if text:
        pairs = (entry.partition("=") for entry in text.split("\0"))
        environ = {name: value for name, _, value in pairs}
    return Allocator(
        trim_threshold=_natural(environ.get("MALLOC_TRIM_THRESHOLD_")),
        arena_max=_natural(environ.get("MALLOC_ARENA_MAX")),
        name=_allocator_name(environ.get("LD_PRELOAD", ""), pid, base),
    )


def option_given(pid: int, name: str, root: str = "/") -> str | None:
    """Return what a ``dask worker`` was told by an option on its command line."""
    text = read_text(Path(root) / f"proc/{pid}/cmdline", 2**16) or ""
    words = text.split("\0")
    if not any(word == "worker" or word.endswith("dask-worker") for word in words):
        return None
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option == name:
            return (value if equals else following)[:100] or None
    return None


def read_scratch(pid: int, path: str | None, base: Path) -> Scratch | None:
    """Tell what kind of directory a process spills to, and how much is free there."""
    if not path:
        return None
    mounted = cgroups.mounts(pid, base)
    best = None
    for mount in mounted:  # a later line lies on top of an earlier one
        inside = PurePosixPath(path).is_relative_to(mount.point)
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    scratch = Scratch(path, None if best is None else best.filesystem)
    total, free = _space(scratch, base)
    return Scratch(path, scratch.filesystem, total, free)


# -- parts ---------------------------------------------------------------------


def _sendable(text: str) -> str:
    """Return a text without the stray halves of characters that no message can hold."""
    return text.encode("utf-8", "replace").decode()


def _host_cap(total: int | None, machine: str) -> list[Cap]:
    if total is None:
        return []
    return [Cap("host", "MemTotal", "/proc/meminfo", total, "kills", machine)]


def _meminfo_elsewhere(base: Path) -> dict[str, int]:
    """Return the same figures where there is no /proc (macOS)."""
    if base != Path("/"):
        return {}
    try:
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    except (psutil.Error, OSError, RuntimeError):
        return {}
    return {
        "MemTotal": int(memory.total),
        "MemAvailable": int(memory.available),
        "SwapTotal": int(swap.total),
    }


def _allocator_name(preload: str, pid: int, base: Path) -> str | None:
    for name in PRELOADED:
        if name in preload:
            return name
    mapped = read_text(base / f"proc/{pid}/maps") or ""
    if "ld-musl-" in mapped:
        return "musl"
    return "glibc" if re.search(r"/libc(\.so\.6|-2\.\d+\.so)$", mapped, re.M) else None


def _natural(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None


def _space(scratch: Scratch, base: Path) -> tuple[int | None, int | None]:
    """Return size and free space of a local file system, in bytes.

    A remote one is not asked: the answer may never come, and the event loop with it.
    """
    if scratch.filesystem is None or REMOTE.search(scratch.filesystem):
        return None, None
    try:
        status = os.statvfs(base / scratch.path.lstrip("/"))
    except (OSError, ValueError):
        return None, None
    return status.f_frsize * status.f_blocks, status.f_frsize * status.f_bavail
