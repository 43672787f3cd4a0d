r"""Manifests: what makes stored values a named set.

``drafts/NAME`` is written before anything is computed, ``names/NAME`` last, when every
object is there; each is one object, so it is there whole or not at all.

Byte layout: a stored object (see :mod:`~dask_memdash.intermediates.object_format`) of
type ``memdash-manifest`` whose key is the name, with two frames:

1. the *facts*, a msgpack map that anybody can read without running code;
2. the *body*, a cloudpickle of how the collections are made again.

Entries of the facts:

``name``, ``plan``      of the set; hash of all that decides about it
``user``, ``host``, ``pid``   who wrote it, as they say themselves
``started``, ``finished``     Unix time, in seconds; no ``finished`` in a draft
``versions``, ``version``     of Python and libraries; the user's own, or nil
``collections``         each in words
``objects``             names of all objects that it pins
``functions``           the user's own functions, with a hash of their source
"""

from __future__ import annotations

import getpass
import hashlib
import importlib.metadata
import os
import pickle
import platform
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import cloudpickle
import msgpack

from dask_memdash.errors import CorruptError, StorageError
from dask_memdash.intermediates.memory import Buffer
from dask_memdash.intermediates.object_format import check, pack
from dask_memdash.text import plain, short

KIND = "memdash-manifest"

#: What unpickling raises where a class or a version is another one.
UNLOADABLE = (
    *(ArithmeticError, AttributeError, EOFError, ImportError, LookupError),
    *(RuntimeError, TypeError, ValueError, pickle.UnpicklingError),
)

#: What a name may be; it is part of a path.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

#: Packages whose versions are noted where they are installed.
PACKAGES = (
    "dask",
    "distributed",
    "numpy",
    "pandas",
    "pyarrow",
    "xarray",
    "cloudpickle",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a manifest says without running code."""

    name: str
    plan: str
    user: str
    host: str
    pid: int
    started: float
    finished: float | None
    version: str | None
    versions: Mapping[str, str]
    collections: Sequence[str]
    objects: Sequence[str]
    functions: Mapping[str, str] = field(default_factory=dict)

    @property
    def writer(self) -> str:
        """Who wrote it, for a sentence."""
        return plain(f"{self.user}@{self.host} (process {self.pid})", 200)

    @property
    def keys(self) -> set[str]:
        """Its objects without editions: two sets of the same keys are one thing."""
        return {name.partition("-")[0] for name in self.objects}

    def finish(self) -> Facts:
        """Return the facts of the finished set."""
        return replace(self, finished=time.time())


def check_name(name: object) -> str:
    """Return a name that may be given to a set.

    Raises
    ------
    StorageError
        It may not.
    """
    if isinstance(name, str) and NAME.fullmatch(name):
        return name
    raise StorageError(
        f"{short(repr(name))} is no name for stored collections. Take letters, digits, "
        "dots, dashes and underscores, at most 100, with a letter or digit first."
    )


def draft(
    name: str,
    collections: Sequence[str],
    objects: Sequence[str],
    functions: Mapping[str, str],
    version: str | None,
) -> Facts:
    """Return the facts of a set that this process is about to store."""
    return Facts(
        name=name,
        plan=_plan(objects, collections),
        user=_user(),
        host=socket.gethostname(),
        pid=os.getpid(),
        started=time.time(),
        finished=None,
        version=version,
        versions=versions_here(),
        collections=list(collections),
        objects=list(objects),
        functions=dict(functions),
    )


def _plan(objects: Iterable[str], collections: Iterable[str]) -> str:
    text = "\n".join([*objects, "", *collections])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def versions_here() -> dict[str, str]:
    """Return the versions of Python and of what reads stored values."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(facts: Facts, body: Any) -> list[Buffer]:
    """Return the frames of a manifest or a draft."""
    packed = msgpack.packb(asdict(facts), use_bin_type=True)
    return pack(facts.name, KIND, None, [packed, cloudpickle.dumps(body)])


def read(content: Buffer, name: str, place: str) -> tuple[Facts, memoryview]:
    """Return the facts of a manifest and its body, still pickled.  Runs no code.

    Parameters
    ----------
    name, place
        Of the set and of its store, for messages.

    Raises
    ------
    CorruptError
        It is no manifest of that name, or is damaged.
    """
    header, frames = check(content, f"the manifest of {name!r}", place)
    if header.get("type") != KIND or header["key"] != name or len(frames) != 2:
        raise CorruptError(
            f"what stands for {name!r} in {place} is no manifest of that name: "
            "somebody moved or replaced it. Persist the collection again with "
            "overwrite=True."
        )
    facts = _read_facts(frames[0])
    if facts is None:
        raise CorruptError(
            f"the manifest of {name!r} in {place} cannot be read. Another version of "
            "MemDash wrote it: persist the collection again with overwrite=True."
        )
    return facts, frames[1]


def _read_facts(packed: memoryview) -> Facts | None:
    try:
        found = msgpack.unpackb(packed, strict_map_key=False)
        values = {entry.name: found[entry.name] for entry in fields(Facts)}
        facts = Facts(**values)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException):
        return None
    texts = (facts.name, facts.plan, facts.user, facts.host)
    lists = (*facts.objects, *facts.collections, *facts.functions)
    numbers = isinstance(facts.started, float) and isinstance(
        facts.finished, float | None
    )
    return facts if numbers and all(isinstance(t, str) for t in texts + lists) else None


def load_body(pickled: memoryview, facts: Facts, place: str) -> Any:
    """Unpickle a body: this runs code of whoever wrote it.

    Raises
    ------
    StorageError
        It cannot be loaded here.
    """
    try:
        return cloudpickle.loads(pickled)
    except UNLOADABLE as error:
        reason = error
    here = versions_here()
    other = [
        f"{package} {version} (here {here.get(package, 'none')})"
        for package, version in facts.versions.items()
        if here.get(package) != version
    ]
    why = f" It was written with {', '.join(other)}." if other else ""
    raise StorageError(
        f"{facts.name!r} in {place} cannot be opened here: "
        f"{plain(f'{type(reason).__name__}: {reason}', 200)}.{why} Open it where it "
        "was written, or persist the collection again with overwrite=True."
    ) from reason
