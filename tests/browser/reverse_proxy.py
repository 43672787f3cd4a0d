"""A reverse proxy that serves another port of this machine under a path."""

import socket
import socketserver
import threading
from contextlib import contextmanager


class Proxy(socketserver.BaseRequestHandler):
    """One connection through a reverse proxy that serves a server under a path."""

    def handle(self):
        head = b""
        while b"\r\n\r\n" not in head:
            received = self.request.recv(65536)
            if not received:
                return
            head += received
        head, _, body = head.partition(b"\r\n\r\n")
        request, *headers = head.split(b"\r\n")
        method, path, version = request.split(b" ")
        under = self.server.under.encode()
        if not path.startswith(under + b"/"):
            self.request.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        upgrade = any(h.lower().startswith(b"upgrade:") for h in headers)
        if not upgrade:  # one request a connection, or the next would not be rewritten
            headers = [h for h in headers if not h.lower().startswith(b"connection:")]
            headers.append(b"Connection: close")
        first = b" ".join((method, path.removeprefix(under), version))
        with socket.create_connection(("127.0.0.1", self.server.behind)) as behind:
            behind.sendall(b"\r\n".join((first, *headers)) + b"\r\n\r\n" + body)
            back = threading.Thread(target=self.pump, args=(self.request, behind))
            back.start()
            self.pump(behind, self.request)
            back.join()

    @staticmethod
    def pump(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side has gone


class ProxyServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


@contextmanager
def reverse_proxy(port, under):
    """Serve what is at a port under a path of another port; give its origin."""
    with ProxyServer(("127.0.0.1", 0), Proxy) as server:
        server.behind, server.under = port, under
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
