"""What a batch system says that its job may use, from its variables.

Covers SLURM, PBS and Torque, LSF and HTCondor; SGE says nothing in variables and
sets an rlimit.  These figures are what was asked for: whether anything enforces
them cannot be seen here (a cgroup or an rlimit would be found as such).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dask_memdash.model.limit_facts import Cap, MiB
from dask_memdash.system.cgroups import V1_UNLIMITED, Skipped, read_text

#: Variable that is set → the surroundings that it tells, most telling first.
SIGNS = (
    ("SLURM_JOB_ID", "slurm"),
    ("PBS_JOBID", "pbs"),
    ("LSB_JOBID", "lsf"),
    ("_CONDOR_MACHINE_AD", "htcondor"),
    ("_CONDOR_SLOT", "htcondor"),
    ("SGE_TASK_ID", "sge"),
    ("KUBERNETES_SERVICE_HOST", "kubernetes"),
)


def environment(environ: Mapping[str, str], root: Path) -> str:
    """Name the surroundings that a process runs in; 'host' where nothing tells."""
    for name, kind in SIGNS:
        if environ.get(name):
            return kind
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return "container"
    if environ.get("container"):
        return "container"
    if "microsoft" in (read_text(root / "proc/version", 1000) or "").lower():
        return "wsl"
    return "host"


def caps(
    environ: Mapping[str, str], root: Path, machine: str, skipped: Skipped
) -> list[Cap]:
    """Return what the batch system says that the job may use on this machine."""
    found = [
        *_slurm(environ, skipped),
        *_pbs(environ, skipped),
        *_lsf(environ, skipped),
        *_condor(environ, root, skipped),
    ]
    caps = []
    for name, where, size, job in found:
        if size < V1_UNLIMITED:
            scope = f"{job[:100]} on {machine}"
            caps.append(Cap("batch", name, where[:200], size, "declared", scope))
        else:
            skipped.add(f"{name} says {size}, more than there is anywhere")
    return caps


_Found = list[tuple[str, str, int, str]]


def _slurm(environ: Mapping[str, str], skipped: Skipped) -> _Found:
    job = f"slurm {environ.get('SLURM_JOB_ID', '?')}"
    if node := _mebibytes(environ, "SLURM_MEM_PER_NODE", skipped):
        return [("SLURM_MEM_PER_NODE", "environment", node, job)]
    for name, counter in (
        ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"),
        ("SLURM_MEM_PER_GPU", "SLURM_GPUS_ON_NODE"),
    ):
        each = _mebibytes(environ, name, skipped)
        if not each:
            continue
        count = _count(environ.get(counter))
        if count:
            return [(name, f"environment, × {counter}={count}", each * count, job)]
        skipped.add(f"{name} is set, but not how many of them ({counter})")
    return []


def _pbs(environ: Mapping[str, str], skipped: Skipped) -> _Found:
    job = f"pbs {environ.get('PBS_JOBID', '?')}"
    for name in ("PBS_RESC_MEM", "PBS_VMEM"):
        if name in environ:
            size = _size(environ[name])
            if size:
                return [(name, "environment", size, job)]
            skipped.add(f"{name} is {environ[name][:40]!r}, which is no size")
    return []


def _lsf(environ: Mapping[str, str], skipped: Skipped) -> _Found:
    name = "LSB_MAX_MEM_RUSAGE"
    if name not in environ:
        return []
    count = _count(environ[name])
    if count is None:
        skipped.add(f"{name} is {environ[name][:40]!r}, which is no number")
        return []
    job = f"lsf {environ.get('LSB_JOBID', '?')}"
    return [(name, "environment", count * 1024, job)]


def _condor(environ: Mapping[str, str], root: Path, skipped: Skipped) -> _Found:
    """Read the slot's memory off the advertisement that lies beside the job."""
    path = environ.get("_CONDOR_MACHINE_AD")
    if not path:
        return []
    text = read_text(root / path.lstrip("/"))
    if text is None:
        skipped.add(f"{path} cannot be read")
        return []
    match = re.search(r"^Memory\s*=\s*(\S{1,40})\s*$", text, re.MULTILINE)
    count = _count(match[1]) if match else None
    if not count:
        skipped.add(f"{path} does not say how much memory the slot has")
        return []
    slot = environ.get("_CONDOR_SLOT", "slot")
    return [("Memory of the slot", path, count * MiB, f"htcondor {slot}")]


def _mebibytes(environ: Mapping[str, str], name: str, skipped: Skipped) -> int | None:
    """Read SLURM's mebibytes; None for none and for 0, which means all memory."""
    text = environ.get(name)
    if text is None:
        return None
    count = _count(text)
    size = count * MiB if count is not None else _size(text)
    if size is None:
        skipped.add(f"{name} is {text[:40]!r}, which is no size")
    return size or None


def _count(text: str | None) -> int | None:
    match = re.fullmatch(r"\s*([0-9]{1,15})\s*", text or "")
    return int(match[1]) if match else None


def _size(text: str) -> int | None:
    """Read a size such as ``34359738368``, ``16gb`` or ``4G``; units are binary."""
    match = re.fullmatch(r"\s*([0-9]{1,19})\s*([kmgt]?)i?b?\s*", text.lower())
    if not match:
        return None
    size = int(match[1]) * 1024 ** " kmgt".index(match[2] or " ")
    return size if 0 < size < 2**62 else None
