"""Whether a page that stays open costs ever more memory, here and in the browser.

The cluster of ``page.py``, whose histories are full before the page is opened, as they
are after an hour: what grows from then on is the page's.  One page stays open on the
overview; every tenth of the time the process that holds scheduler and simulated
workers says its RSS, and the browser the size of its heap after a collection of
garbage.  At the end a line through each column says how much an hour would add.

The browser's own observers tell of every frame that took longer than 50 ms and of every
shift of the layout; what falls into a collection of garbage that was asked for is not
counted.  Updates are counted by the page's clock.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import page
import simulated
from common import progress

#: Samples, the first of which is left out of the line: things are still warming up.
SAMPLES = 10

#: Heartbeats of each worker before the start.
ROUNDS = 660


#: Notes what the browser says of itself; the page has no part in it.
OBSERVE = """
  const seen = {frames: [], shift: 0, updates: 0, apart: []};
  window.seen_by_browser = seen;
  new PerformanceObserver((list) => {
    for (const frame of list.getEntries()) {
      seen.frames.push([frame.startTime, frame.duration]);
    }
  }).observe({type: "long-animation-frame", buffered: true});
  new PerformanceObserver((list) => {
    for (const shift of list.getEntries()) {
      seen.shift += shift.hadRecentInput ? 0 : shift.value;
    }
  }).observe({type: "layout-shift", buffered: true});
"""

#: Begins to count once the page is there, and what it had come to until then.
BEGIN = """() => {
  const {seen_by_browser: seen} = window;
  const opening = seen.shift;
  Object.assign(seen, {frames: [], shift: 0, from: performance.now()});
  new MutationObserver(() => { seen.updates += 1; }).observe(
    document.querySelector("[data-fact=clock]"),
    {childList: true, characterData: true, subtree: true});
  return opening;
}"""

#: Collects garbage, apart from what is counted, and tells what was seen.
COLLECT = """() => {
  const {seen_by_browser: seen} = window;
  const start = performance.now();
  gc();
  seen.apart.push([start - 50, performance.now() + 50]);
  const own = seen.frames.filter(
    ([at, long]) => !seen.apart.some(([a, b]) => at < b && at + long > a));
  return {
    heap: performance.memory.usedJSHeapSize,
    nodes: document.getElementsByTagName("*").length,
    longest: Math.max(0, ...own.map(([, long]) => long)) / 1000,
    long: own.length,
    stutters: own.filter(([, long]) => long > 200).length,
    shift: seen.shift,
    updates: seen.updates / ((performance.now() - seen.from) / 60_000),
  };
}"""


def browse(url: str, seconds: float) -> None:
    """Open the page and print the size of its heap as often as is asked for."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=page.chromium(),
            args=[*page.ARGUMENTS, "--js-flags=--expose-gc"],
        )
        opened = browser.new_page(viewport={"width": 1400, "height": 1000})
        opened.add_init_script(OBSERVE)
        opened.goto(url)
        opened.wait_for_selector("html[data-memdash=ready]", timeout=120_000)
        opened.wait_for_timeout(3000)
        opening = opened.evaluate(BEGIN)
        for number in range(SAMPLES + 1):
            if number:
                opened.wait_for_timeout(seconds / SAMPLES * 1000)
            told = opened.evaluate(COLLECT)
            print(json.dumps({**told, "opening": opening}), flush=True)
        browser.close()


def rss() -> int:
    """Return this process's resident memory, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def stay(url: str, seconds: float) -> list[dict[str, Any]]:
    """Let a browser look; give what was seen on both sides, in order."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--browse", url, "--seconds", str(seconds)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    seen: list[dict[str, Any]] = []
    start = time.monotonic()
    while line := await child.stdout.readline():
        gc.collect()
        seen.append({**json.loads(line), "at": time.monotonic() - start, "rss": rss()})
        progress(f"{seen[-1]['at'] / 60:.1f} min: {seen[-1]['rss'] / 2**20:.0f} MiB")
    if await child.wait() or len(seen) <= SAMPLES:
        raise RuntimeError("the browser failed")
    return seen


async def measure(
    options: argparse.Namespace, caught: dict[str, dict[str, Any]]
) -> None:
    """Stay and print what memory did."""
    async with page.cluster(options, caught, options.rounds) as running:
        url = f"http://127.0.0.1:{running.http_server.port}/memdash"
        seen = await stay(url, options.seconds)
    common.header("minutes", "scheduler, RSS in MiB", "tab, heap in MiB", "elements")
    for row in seen:
        common.row(
            f"{row['at'] / 60:.1f}",
            f"{row['rss'] / 2**20:.1f}",
            f"{row['heap'] / 2**20:.2f}",
            row["nodes"],
        )
    hours = [row["at"] / 3600 for row in seen[1:]]
    slopes = [
        np.polyfit(hours, [row[name] / 2**20 for row in seen[1:]], 1)[0]
        for name in ("rss", "heap")
    ]
    common.row("an hour adds", *(f"{slope:+.1f}" for slope in slopes), "")
    last = seen[-1]
    longest = 1000 * last["longest"]
    print(
        f"\n{last['updates']:.0f} updates a minute; frames over 50 ms: {last['long']}, "
        f"over 200 ms: {last['stutters']}, the longest {longest:.0f} ms; layout shift "
        f"while it was open: {last['shift']:.4f}, while it opened: "
        f"{last['opening']:.4f}"
    )


def main() -> None:
    """Read the options and measure."""
    parser = common.parser(__doc__)
    parser.add_argument("--workers", type=int, help="simulated workers")
    parser.add_argument("--prefixes", type=int, help="task prefixes")
    parser.add_argument("--incidents", type=int, help="incidents")
    parser.add_argument("--seconds", type=float, help="time that the page stays open")
    parser.add_argument("--rounds", type=int, help="heartbeats before the start")
    parser.add_argument("--browse", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.browse:
        browse(options.browse, options.seconds)
        return
    for name, sizes in {
        "workers": (1000, 1000, 50),
        "prefixes": (10_000, 10_000, 100),
        "incidents": (10_000, 10_000, 100),
        "seconds": (1800.0, 120.0, 10.0),
        "rounds": (ROUNDS, 60, 3),
    }.items():
        if getattr(options, name) is None:
            setattr(options, name, common.sized(options, *sizes))
    progress("catching heartbeats of a real worker")
    asyncio.run(measure(options, simulated.catch()))


if __name__ == "__main__":
    main()
