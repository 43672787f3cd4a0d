"""How one alert is brought to one target; blocks, so it belongs in a thread.

Imports the standard library only.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dask_memdash.notify.message import slack
from dask_memdash.notify.targets import Command, Log, Target, Webhook

logger = logging.getLogger("dask_memdash.alerts")

#: Longest that a target may ask us to wait, in seconds.
MOST_ASKED = 300.0


class DeliveryError(Exception):
    """An alert that did not arrive; the text holds no secret.

    Parameters
    ----------
    text
        What is wrong.
    again
        Whether it may arrive later.
    after
        Seconds that the target asks to be left alone.
    """

    def __init__(self, text: str, *, again: bool, after: float = 0.0) -> None:
        self.again = again
        self.after = after
        super().__init__(text)


class Delivery:
    """Brings alerts to targets, one at a time, and can be cut short from outside.

    Parameters
    ----------
    patience
        Seconds that a target may be silent.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def bring(self, target: Target, alert: Mapping[str, Any]) -> None:
        """Bring an alert to a target.

        Raises
        ------
        DeliveryError
        """
        if isinstance(target, Log):
            logger.log(target.level, "%s", alert["text"])
        elif isinstance(target, Command):
            self._run(target, alert)
        else:
            self._post(target, alert)

    def cut_short(self) -> None:
        """End what is under way; safe from any thread, and does not wait."""
        with self._lock:
            connection, process = self._connection, self._process
        sock = None if connection is None else connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if process is not None:
            _kill(process)

    # -- over HTTP -------------------------------------------------------------

    def _post(self, target: Webhook, alert: Mapping[str, Any]) -> None:
        body = slack(alert) if target.style == "slack" else alert
        request = urllib.request.Request(
            target.url,
            data=json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "User-Agent": "dask_memdash",
                "Idempotency-Key": alert["id"],
                **dict(target.headers),
            },
            method="POST",
        )
        opener = urllib.request.build_opener(
            _Plain(self._connect), _Secure(self._connect), _StayHere()
        )
        try:
            with opener.open(request, timeout=self._patience) as answer:
                answer.read(1)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            # Their texts may hold the address.
            reason = getattr(error, "reason", error)
            name = type(reason if isinstance(reason, Exception) else error).__name__
            raise DeliveryError(f"it does not answer ({name})", again=True) from None
        finally:
            with self._lock:
                self._connection = None

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._connection = connection

    # -- to a command ----------------------------------------------------------

    def _run(self, target: Command, alert: Mapping[str, Any]) -> None:
        try:
            process = subprocess.Popen(
                target.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            text = f"it cannot be started ({type(error).__name__})"
            raise DeliveryError(text, again=False) from None
        with self._lock:
            self._process = process
        try:
            process.communicate(json.dumps(alert).encode(), timeout=self._patience)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()
            text = f"it did not end within {self._patience:g} s, and was killed"
            raise DeliveryError(text, again=False) from None
        finally:
            with self._lock:
                self._process = None
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
        if process.returncode:
            text = f"it ended with status {process.returncode}"
            raise DeliveryError(text, again=True)


def _refused(error: urllib.error.HTTPError) -> DeliveryError:
    """Return what an answer other than success means."""
    again = error.code in (408, 425, 429) or error.code >= 500
    try:
        after = min(MOST_ASKED, max(0.0, float(error.headers.get("Retry-After", 0))))
    except ValueError:  # a date, which is as good as nothing
        after = 0.0
    return DeliveryError(f"it answers {error.code}", again=again, after=after)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and what it has started."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


class _Plain(urllib.request.HTTPHandler):
    """HTTP whose connections are told of, so that they can be cut short."""

    def __init__(self, tell: Any) -> None:
        super().__init__()
        self._tell = tell

    def http_open(self, request: urllib.request.Request) -> Any:
        """Open a connection."""

        def connect(host: str, **options: Any) -> http.client.HTTPConnection:
            connection = http.client.HTTPConnection(host, **options)
            self._tell(connection)
            return connection

        return self.do_open(connect, request)


class _Secure(urllib.request.HTTPSHandler):
    """The same over TLS; certificates are checked."""

    def __init__(self, tell: Any) -> None:
        super().__init__()
        self._tell = tell

    def https_open(self, request: urllib.request.Request) -> Any:
        """Open a connection."""

        def connect(host: str, **options: Any) -> http.client.HTTPConnection:
            connection = http.client.HTTPSConnection(host, **options)
            self._tell(connection)
            return connection

        return self.do_open(connect, request)


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: an alert and its headers are for one address."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Refuse to be sent on."""
        return
