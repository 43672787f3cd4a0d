"""Real servers for the tests of stores, on the loopback interface.

A package or program that is missing skips a test, except in CI (the variable CI is
set), where that is a failure, as for the browser.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import importlib
import itertools
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def need(available: bool, what: str) -> None:
    if available:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{what} is needed in CI")
    pytest.skip(f"{what} is not installed")


def need_packages(*names: str) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            need(False, f"the package {name}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Start moto's S3, and give its endpoint; there is a bucket named `bucket`."""
    need_packages("s3fs", "moto.server", "flask", "flask_cors")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client("s3", endpoint_url=endpoint, **S3_BOTO)
        client.create_bucket(Bucket="bucket")
        client.close()
        yield endpoint
    finally:
        server.stop()


S3_BOTO = {
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
    "region_name": "us-east-1",
}


def s3_options(endpoint: str) -> dict[str, object]:
    """Return fsspec's options for the server."""
    return {
        "key": "test",
        "secret": "test",
        "client_kwargs": {"endpoint_url": endpoint},
    }


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Start a redis-server of our own, and give its address."""
    need_packages("redis")
    program = shutil.which("redis-server")
    need(program is not None, "redis-server")
    import redis

    port = free_port()
    options = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        folder,
    ]
    with subprocess.Popen(
        [str(program), *map(str, options)], stdout=subprocess.DEVNULL
    ) as server:
        try:
            with redis.Redis(host="127.0.0.1", port=port) as client:
                for _ in range(200):
                    with contextlib.suppress(redis.ConnectionError):
                        client.ping()
                        break
                    time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


@contextlib.contextmanager
def bad_day(endpoint: str, fails: Callable[[int], bool], late: float) -> Iterator[str]:
    """Stand before a server: each answer is late, and some requests get a 503.

    Parameters
    ----------
    fails
        Says of the n-th request whether it fails.
    late
        Seconds before each answer.
    """
    host = endpoint.removeprefix("http://")
    counter = itertools.count()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(late)
            if fails(next(counter)):
                self.answer(503, [], b"")
                return
            there = http.client.HTTPConnection(host, timeout=20)
            try:
                there.request(self.command, self.path, body, dict(self.headers))
                answer = there.getresponse()
                content = answer.read()
                self.answer(answer.status, answer.getheaders(), content)
            finally:
                there.close()

        def answer(
            self, status: int, headers: list[tuple[str, str]], content: bytes
        ) -> None:
            self.send_response(status)
            length = str(len(content))
            for name, value in headers:
                if name.lower() == "content-length":
                    length = value
                elif name.lower() not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = forward  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
