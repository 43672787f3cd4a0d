"""Open pages as bare web sockets: they read what comes and draw nothing.

Thirty pages in a browser take what cores there are, and a scheduler beside them takes
longer for all it does.  What pages cost the scheduler by themselves, these show.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

#: Where the page says what opens its web socket.
TOKEN = re.compile(r'"token":\s*"([^"]+)"')


async def open_page(url: str) -> WebSocketClientConnection | None:
    """Open a page; None where it is the light one, for too many are open."""
    try:
        page = await AsyncHTTPClient().fetch(url, request_timeout=300)
    except HTTPClientError as error:
        if error.code == 503:
            return None
        raise
    found = TOKEN.search(page.body.decode())
    assert found is not None, "the page names no session"
    request = HTTPRequest(url.replace("http:", "ws:", 1) + "/ws")
    return await websocket_connect(request, subprotocols=["bokeh", found[1]])


async def read(page: WebSocketClientConnection, received: list[int]) -> None:
    """Count the bytes that come, until the page is closed."""
    while (message := await page.read_message()) is not None:
        received[0] += len(message)


async def look(url: str, pages: int, seconds: float) -> None:
    """Open pages, stay for a while, and print what came to one of them as JSON."""
    AsyncHTTPClient.configure(None, max_body_size=10**9)
    url, _, _ = url.partition("#")
    received, reading = [0], []
    for _ in range(pages):
        page = await open_page(url)
        if page is not None:
            reading.append(asyncio.create_task(read(page, received)))
    await asyncio.sleep(2)
    received[0] = 0
    print("ready", flush=True)
    await asyncio.sleep(seconds)
    assert not any(task.done() for task in reading), "a page was closed"
    each = received[0] / seconds / max(1, len(reading))
    print(json.dumps({"bytes": each, "live": len(reading)}), flush=True)


def main() -> None:
    """Read the options and look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--pages", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    asyncio.run(look(options.url, options.pages, options.seconds))


if __name__ == "__main__":
    main()
