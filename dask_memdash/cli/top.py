"""``dask memdash top``: reads a cluster in a thread, and draws it on a terminal.

What stands on the screen is :mod:`dask_memdash.cli.top_screen`'s.  Rich puts it there
where there is a terminal; without a terminal, or with ``--once``, it is not needed.
"""

from __future__ import annotations

import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dask_memdash import terms
from dask_memdash.cli.sources import Opener, Source, open_source
from dask_memdash.cli.table_text import Line, written
from dask_memdash.cli.top_choice import Chosen, press
from dask_memdash.cli.top_reading import Reader, Snapshot
from dask_memdash.cli.top_screen import bounded, everything, screen
from dask_memdash.errors import MemDashError

#: Seconds between two looks at the terminal's size, and from one try to reach a
#: scheduler that is gone to the next.
LOOK = 0.5
AGAIN = 2.0

#: What the escape sequences of keys mean.
SEQUENCES = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "pageup",
    "\x1b[6~": "pagedown",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
}

#: How tones look.
STYLES = {
    "head": "bold",
    "strong": "bold",
    "dim": "dim",
    "alarm": "bold red",
    "caution": "magenta",
    "good": "green",
    "chosen": "reverse",
    "storage": terms.PARTS["managed"].colour,
    "execution": terms.PARTS["executing"].colour,
    "overhead": terms.PARTS["baseline"].colour,
    "free": "dim",
}

NO_RICH = (
    "drawing on a terminal needs Rich: pip install rich\n"
    "Without it, --once writes the same once."
)

Event = tuple[str, Any]


def once(address: str, width: int | None) -> str:
    """Write a cluster once, as plain text.

    Raises
    ------
    MemDashError
        It cannot be asked.
    """
    source = open_source(address)
    try:
        return written(everything(Reader(source).read(), width))
    finally:
        source.close()


def need_rich() -> None:
    """Raise an error with the line that installs it, if Rich is not there."""
    try:
        import rich.live  # noqa: F401
    except ImportError:
        raise MemDashError(NO_RICH) from None


class Watching(threading.Thread):
    """Reads snapshot after snapshot into a queue, and comes back to a new scheduler.

    Puts ``("snapshot", Snapshot)`` or ``("trouble", text)``.
    """

    def __init__(
        self,
        source: Source,
        address: str,
        interval: float,
        events: queue.SimpleQueue[Event],
        opener: Opener = open_source,
    ) -> None:
        super().__init__(name="memdash-top", daemon=True)
        self._source: Source | None = source
        self._address = address
        self._interval = interval
        self._events = events
        self._opener = opener
        self._over = threading.Event()

    def run(self) -> None:
        """Read until :meth:`stop`."""
        reader = Reader(self._source) if self._source else None
        while not self._over.is_set():
            began = time.monotonic()
            try:
                if reader is None:
                    self._source = self._opener(self._address)
                    reader = Reader(self._source)
                self._events.put(("snapshot", reader.read()))
                pause = self._interval
            except MemDashError as error:
                self._events.put(("trouble", str(error)))
                self._close()
                reader, pause = None, AGAIN
            took = time.monotonic() - began
            self._over.wait(max(pause, 4 * took))
        self._close()

    def stop(self) -> None:
        """Read no more, and let go of the scheduler."""
        self._over.set()

    def _close(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()


def live(address: str, interval: float) -> None:
    """Draw a cluster until somebody quits.

    Raises
    ------
    MemDashError
        It cannot be asked at the start, or Rich is not there.
    """
    need_rich()
    source = open_source(address)
    try:
        first = Reader(source).read()
    except MemDashError:
        source.close()
        raise
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    events.put(("snapshot", first))
    watching = Watching(source, address, interval, events)
    watching.start()
    try:
        with keys(lambda key: events.put(("key", key))):
            _draw(events)
    finally:
        watching.stop()
        watching.join(timeout=5)


def _draw(events: queue.SimpleQueue[Event]) -> None:
    """Draw what comes, until a key says to quit."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    chosen: Chosen | None = Chosen()
    shown: Snapshot | None = None
    trouble = ""
    with Live(console=console, screen=True, auto_refresh=False) as display:
        while chosen is not None:
            size = (console.size.width, console.size.height)
            lines = screen(shown, chosen, size, time.time(), trouble)
            display.update(painted(lines), refresh=True)
            try:
                what, value = events.get(timeout=LOOK)
            except queue.Empty:
                continue
            if what == "key":
                chosen = press(chosen, value)
            elif what == "trouble":
                trouble = value
            else:
                trouble = ""
                shown = shown if shown and chosen.paused else value
            chosen = chosen and bounded(chosen, shown)


def painted(lines: list[Line]) -> Any:
    """Return lines as what Rich draws."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="crop", end="")
    for number, line in enumerate(lines):
        text.append("\n" if number else "")
        for piece, tone in line:
            text.append(piece, STYLES.get(tone, ""))
    return text


@contextmanager
def keys(hear: Callable[[str], None]) -> Iterator[None]:
    """Have every key that is pressed heard, and the terminal as it was at the end."""
    import termios
    import tty

    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)
    over = threading.Event()

    def listen() -> None:
        while not over.is_set():
            if select.select([file], [], [], LOOK)[0]:
                pressed = os.read(file, 64).decode(errors="replace")
                if not pressed:  # the terminal is gone
                    hear("q")
                    return
                for key in read_keys(pressed):
                    hear(key)

    tty.setcbreak(file)
    thread = threading.Thread(target=listen, name="memdash-keys", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=2 * LOOK)
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def read_keys(pressed: str) -> Iterator[str]:
    """Give the names of the keys in what a terminal sent."""
    while pressed:
        known = next((s for s in SEQUENCES if pressed.startswith(s)), None)
        if known is not None:
            yield SEQUENCES[known]
            pressed = pressed[len(known) :]
        elif pressed[0] == "\t":
            yield "tab"
            pressed = pressed[1:]
        elif pressed[0] == "\x1b":  # another sequence: nothing we know
            return
        else:
            yield pressed[0]
            pressed = pressed[1:]
