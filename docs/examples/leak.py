"""`parse` keeps what it has read in a cache that nobody empties, 8 MB a task.

It stands in a module that workers import, `docs/examples/caching.py`. Mended, the cache
keeps the last three.
"""

from __future__ import annotations

from caching import parse
from example import NEVER_PAUSES, Setup, main


def fail(client):
    client.gather(client.map(parse, range(60)))


def bounded(client):
    client.gather(client.map(parse, range(60), most=3))


if __name__ == "__main__":
    main(Setup(fail, memory=NEVER_PAUSES), Setup(bounded, memory=NEVER_PAUSES))
