"""A worker in a process of its own, started as an attacker or a poor host would.

``python outside.py SCHEDULER NAME [--nanny] [--hide] [--protocol N]``: a worker with
one thread and 300 MB, until it is ended.  ``--hide``: dask_memdash cannot be imported
there; ``--protocol``: it is of another version.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path


class Hidden:
    """Finds that there is no dask_memdash."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "dask_memdash":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@contextlib.contextmanager
def outside(victim, name, *options, prefix=()):
    """Run such a worker beside a cluster; give its process."""
    address = victim.cluster.scheduler_address
    command = [*prefix, sys.executable, __file__, address, name, *options]
    before = set(victim.scheduler.workers)
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        victim.wait_for(lambda: set(victim.scheduler.workers) - before, name, 60)
        yield process
    finally:
        process.terminate()
        process.wait(30)


async def run(options):
    """Be a worker."""
    from distributed import Nanny, Worker

    kind = Nanny if options.nanny else Worker
    async with kind(
        options.scheduler, name=options.name, nthreads=1, memory_limit=300_000_000
    ) as worker:
        await worker.finished()


def main():
    """Prepare as told, and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scheduler")
    parser.add_argument("name")
    parser.add_argument("--nanny", action="store_true")
    parser.add_argument("--hide", action="store_true")
    parser.add_argument("--protocol", type=int)
    options = parser.parse_args()
    if options.hide:
        sys.meta_path.insert(0, Hidden())
    if options.protocol is not None:
        from dask_memdash.plugins import protocol

        protocol.PROTOCOL = options.protocol
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
