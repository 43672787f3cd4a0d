"""What the process of a client uses, and may use; in bytes."""

from __future__ import annotations

import os
from typing import Any


def own_memory() -> dict[str, Any]:
    """Return this process's RSS and the least of what limits it.

    That is the machine, the container, or ``ulimit -v``.
    """
    import psutil
    from distributed.system import MEMORY_LIMIT

    caps = [int(MEMORY_LIMIT)]
    try:
        import resource
    except ImportError:  # no Unix
        pass
    else:
        space = resource.getrlimit(resource.RLIMIT_AS)[0]
        if space != resource.RLIM_INFINITY:
            caps.append(space)
    rss = psutil.Process(os.getpid()).memory_info().rss
    return {"rss": int(rss), "limit": min(caps)}
