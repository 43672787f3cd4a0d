"""How answers of a store are kept in a segment: as JSON, or compressed.

The dictionary stands in each segment's ``meta`` too (``dictionary``, in hex), so that
what was packed by one version is unpacked by any other.  Standard library only.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

#: What answers have in common, for the compression: the most frequent last.
DICTIONARY = (
    b'"batch": null, "rlimit": null, "cgroup": null, "host": null, "available": nu'
    b'll, "severity": "ok", "recommended": null, "headroom": {"bytes": , "slope": '
    b'null, "seconds": null}, "n_siblings": 1, "siblings": null, "set_by": "given"'
    b', "swapped": null, "pressure": null, "scratch_free": null, "cgroup_used": nu'
    b'll, "chain": [{"level": "host", "name": "MemTotal", "where": "/proc/meminfo"'
    b', "bytes": , "effect": "kills", "binding": true}], "output_bins": [{"low": 0'
    b', "high": 0, "count": 1}], "awaited_by": [], "sizeof": null, "leak": null, "'
    b'unseen": {"native": 0, "arrow": 0, "untouched": 0, "small": 0}, "peak": {"p5'
    b'0": null, "p95": null, "max": null, "at_least": null}, "output_bytes": {"min'
    b'": null, "p50": null, "p95": null, "max": null}, "children": {"processes": 0'
    b', "rss": 0, "peak": null}, "graph_bytes": 0, "advice": null, "prefix": "", "'
    b'storage": {"managed": 0, "managed_claimed": 0, "replicas": 0, "spilled": 0, '
    b'"spilled_disk": 0, "pinned": 0, "awaited": 0, "stored": 0, "stored_pending":'
    b' 0, "count": 0, "execution": {"executing": 0, "running": 0, "finished": 0, "'
    b'method": "exact", "error": 0, {"address": "tcp://127.0.0.1:", "name": "tcp:/'
    b'/10.0.0.", "host": "127.0.0.1", "pid": , "nthreads": 1, "status": "running",'
    b' "n_pauses": 0, "last_seen": 17, "stale_for": null, "limit": 0, "thresholds"'
    b': {"target": , "spill": , "pause": , "terminate": }, "breakdown": {"process"'
    b': , "managed": , "transfer": 0, "actors": 0, "executing": , "retained": , "g'
    b'raph": 0, "baseline": , "error": 0, "managed_claimed": , "unmanaged": , "unm'
    b'anaged_old": , "unmanaged_recent": 0, "inputs": 0, "spilled": 0, "spilled_di'
    b'sk": 0, "shuffle_disk": 0, "reclaimable": }, "rss": {"anon": , "file": , "sh'
    b'mem": 0}, "children": {"processes": 0, "rss": 0, "tasks": []}, "shares_proce'
    b'ss_with": 0, "transfer": {"incoming": 0, "outgoing": 0, "shuffle": 0}, "stor'
    b'ed": 0, "stored_pending": 0, "storing": null, "executing_tasks": [{"key": "('
    b'\'", "prefix": "", "thread": 1, "seconds": 0., "bytes": , "peak": , "method":'
    b' "exact", "error": 0, "largest_block": null}], "method": "exact", "degraded"'
    b': [], "self_cost": {"worker": {"cpu": 0.00, "cpu_max": 0.00, "bytes": , "hel'
    b'd_back": 0}, "nanny": {"cpu": 0.00, "cpu_max": 0.00, "bytes": , "held_back":'
    b" 0}}}"
)


def to_json(answer: Any) -> str:
    """Return an answer as text."""
    return json.dumps(answer, ensure_ascii=True, default=str)


def pack(answer: Any) -> bytes:
    """Return an answer compressed: zlib with :data:`DICTIONARY` over JSON in UTF-8."""
    packer = zlib.compressobj(6, zdict=DICTIONARY)
    return packer.compress(to_json(answer).encode()) + packer.flush()


def unpack(stored: bytes | str, dictionary: bytes = DICTIONARY) -> Any:
    """Return an answer as it was, from text or from what :func:`pack` made.

    Parameters
    ----------
    stored
        The value of a column ``answer``.
    dictionary
        That of the segment: ``bytes.fromhex`` of its ``meta`` ``dictionary``.

    Raises
    ------
    ValueError
        It is neither.
    """
    if isinstance(stored, str):
        return json.loads(stored)
    unpacker = zlib.decompressobj(zdict=dictionary)
    try:
        text = unpacker.decompress(stored) + unpacker.flush()
    except zlib.error as error:
        raise ValueError(f"an answer that cannot be unpacked: {error}") from None
    if not unpacker.eof:
        raise ValueError("an answer that is cut short")
    return json.loads(text)
