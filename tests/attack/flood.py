"""Many requests at once, without end: a program of its own, and what runs it.

``python flood.py N URL…``: keep N connections busy with requests of the URLs in turn
until standard input ends, then print as JSON how many were answered, and with what.
"""

import asyncio
import itertools
import json
import subprocess
import sys
from collections import Counter
from urllib.parse import urlsplit


class Flood:
    """Runs the program while the context is open."""

    def __init__(self, urls, connections):
        command = [sys.executable, __file__, str(connections), *urls]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._stopped = False

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    async def wait(self):
        """Let it go, and wait until this is cancelled."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        await asyncio.Event().wait()

    def end(self):
        """Stop it; return how many requests were answered, and with what."""
        self.process.stdin.close()
        told = json.loads(self.process.stdout.readline())
        return sum(told.values()), sorted(told)


async def flood(urls, connections):
    """Ask until cancelled."""
    statuses = Counter()

    async def ask():
        for url in urls:
            parts = urlsplit(url)
            try:
                reader, writer = await asyncio.open_connection(
                    parts.hostname, parts.port
                )
                path = f"{parts.path}?{parts.query}" if parts.query else parts.path
                writer.write(
                    f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                    "Connection: close\r\n\r\n".encode()
                )
                answer = await reader.read()
                statuses[answer[9:12].decode() or "closed"] += 1
                writer.close()
            except OSError as error:
                statuses[repr(error)] += 1

    running = [asyncio.create_task(ask()) for _ in range(connections)]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in running:
        task.cancel()
    print(json.dumps(statuses), flush=True)


if __name__ == "__main__":
    sys.stdin.readline()
    asyncio.run(flood(itertools.cycle(sys.argv[2:]), int(sys.argv[1])))
