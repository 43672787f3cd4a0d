"""Visitors that open pages and then do not read: a program of its own, on raw sockets.

``python visitors.py URL N``: open the page N times at once, as browsers do (the HTML,
then the web socket that it names), read nothing from the sockets, and print one JSON
line with how long that took.  Each line on standard input is then an order: ``reset``
ends all sockets with a reset, ``open`` opens as many again, end of file ends it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

#: Bytes that the kernel keeps for a visitor that does not read.
RECEIVED = 8192

TIMEOUT = 60


@dataclass
class Visit:
    """What became of one visit."""

    #: Until the HTML had come, and until the web socket was open, in seconds.
    page: float | None = None
    socket: float | None = None
    #: Whether the page said that it is a light one.
    light: bool = False
    error: str = ""


def connect(host: str, port: int) -> socket.socket:
    """Connect with a small window."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED)
    made.settimeout(TIMEOUT)
    made.connect((host, port))
    return made


def read_all(made: socket.socket) -> bytes:
    """Read until the server closes."""
    chunks = []
    while chunk := made.recv(1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def visit(url: str, sockets: list[socket.socket]) -> Visit:
    """Open the page once; its web socket stays open and unread."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    seen, start = Visit(), time.monotonic()
    try:
        with connect(host, port) as plain:
            plain.sendall(
                f"GET {parts.path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            page = read_all(plain)
        seen.page = time.monotonic() - start
        found = re.search(rb'"token":\s*"([^"]+)"', page)
        if found is None:
            seen.light = b"memdash-light" in page
            seen.error = "" if seen.light else page[:80].decode(errors="replace")
            return seen
        made = connect(host, port)
        sockets.append(made)
        made.sendall(
            f"GET {parts.path}/ws HTTP/1.1\r\nHost: {host}:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Origin: http://{host}:{port}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            f"Sec-WebSocket-Protocol: bokeh, {found[1].decode()}\r\n\r\n".encode()
        )
        answer = made.recv(400)
        if b" 101 " not in answer:
            seen.error = answer[:80].decode(errors="replace")
        seen.socket = time.monotonic() - start
    except OSError as error:
        seen.error = repr(error)
    return seen


def open_all(url: str, count: int, sockets: list[socket.socket]) -> None:
    """Open pages at once, and print what came of it."""
    start = time.monotonic()
    with ThreadPoolExecutor(count) as threads:
        visits = list(threads.map(lambda _: visit(url, sockets), range(count)))
    print(
        json.dumps(
            {
                "seconds": time.monotonic() - start,
                "slowest_page": max((v.page or TIMEOUT for v in visits), default=0),
                "full": sum(v.socket is not None for v in visits),
                "light": sum(v.light for v in visits),
                "errors": [v.error for v in visits if v.error],
            }
        ),
        flush=True,
    )


def main() -> None:
    """Open, then do as told."""
    url, count = sys.argv[1], int(sys.argv[2])
    sockets: list[socket.socket] = []
    open_all(url, count, sockets)
    for line in sys.stdin:
        if line.strip() == "open":
            open_all(url, count, sockets)
        elif line.strip() == "reset":
            for made in sockets:
                now = struct.pack("ii", 1, 0)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
                made.close()
            sockets.clear()
            print(json.dumps({"reset": True}), flush=True)


if __name__ == "__main__":
    main()
