"""A P2P rechunk of 512 MB keeps its buffers in memory, on two workers of 300 MB.

It was tried through the disk too, which is the default, on a busy machine: one worker
died of `transfer` all the same.
"""

from __future__ import annotations

import dask.array as da
from example import NEVER_PAUSES, Setup, main


def run(client):
    x = da.random.random((8000, 8000), chunks=(8000, 200))
    y = x.rechunk((200, 8000), threshold=10**6, method="p2p")
    client.compute(y.sum()).result(timeout=60)


CHUNKS = {"array.chunk-size": "8 MiB"}
IN_MEMORY = {"distributed.p2p.storage.disk": False}

if __name__ == "__main__":
    main(Setup(run, workers=2, memory=NEVER_PAUSES, config={**CHUNKS, **IN_MEMORY}))
