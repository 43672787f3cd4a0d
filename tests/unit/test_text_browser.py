"""The browser's formatter writes what ``text.py`` writes, value by value."""

import json
import random
import shutil
import subprocess

import pytest

from dask_memdash import text
from dask_memdash.views.assets import static_dir

#: Values at which the rules change, and where rounding is a tie.
SIZES = [
    *(None, 0, 1, 921, 922, 1023, 1024, 1152, 1179648, 5_641_339, 943_718, 943_719),
    *(56_413_390, 564_133_900, 999 * 2**20, 1000 * 2**20, 2**30, 2**53, -3 * 2**20),
    *(int(9.995 * 2**20), int(99.95 * 2**20), int(12.25 * 2**30), 2**50 + 2**42),
]
SECONDS = [
    *(None, 0, 0.004, 0.125, 0.42, 0.994, 0.995, 1.25, 4.25, 9.94, 9.95, 42.5, 59.4),
    *(59.5, 59.7, 60, 125.5, 245, 3599.4, 3599.6, 3600, 7800, 172_799, 260_000, -3),
]
SHARES = [None, 0, 0.001, 0.0099, 0.01, 0.125, 0.335, 0.5, 0.995, 1, 1.005, 3.5]
FACTORS = [None, 0, 0.04, 0.25, 1, 1.25, 9.94, 9.95, 25.5, 1234.5]
PARTS = [
    *([[1, 2, 3], 6], [[0, 0], 0], [[2**21, 2**30, 5], 2**21 + 2**30 + 5]),
    *([[2**20, 3 * 2**20], 5 * 2**20], [[2**20, None], 2**20], [[1], None]),
]


def table():
    """Return what is compared: name of the function → its arguments, many times."""
    random.seed(15)
    many = [int(2 ** random.uniform(0, 52)) for _ in range(300)]
    splits = [
        [int(2 ** random.uniform(0, 34)) for _ in range(random.randint(1, 7))]
        for _ in range(300)
    ]
    return {
        "bytes": SIZES + many,
        "duration": SECONDS + [random.uniform(0, 9000) for _ in range(300)],
        "share": SHARES + [random.random() for _ in range(100)],
        "factor": FACTORS + [random.uniform(0, 30) for _ in range(100)],
        "parts": PARTS + [[sizes, sum(sizes)] for sizes in splits],
    }


def parts(sizes, total):
    named = {str(number): size for number, size in enumerate(sizes)}
    return list(text.format_parts(named, total).values())


WRITE = {
    "bytes": text.format_bytes,
    "duration": text.format_duration,
    "share": text.format_share,
    "factor": text.format_factor,
    "parts": lambda pair: parts(*pair),
}

SCRIPT = """
const asked = JSON.parse(%s);
const written = {};
for (const [name, values] of Object.entries(asked)) {
  written[name] = values.map((value) => name === "parts" || name === "tick"
    ? window.memdash[name](...value) : window.memdash[name](value));
}
"""


@pytest.fixture(scope="module")
def in_javascript():
    """Return a function that writes the table with ``static/formats.js``."""
    source = (static_dir() / "formats.js").read_text(encoding="utf-8")

    def with_node(asked):
        script = SCRIPT % json.dumps(json.dumps(asked))
        done = subprocess.run(
            [shutil.which("node"), "-"],
            input=f"globalThis.window = {{}};{source}{script}"
            "console.log(JSON.stringify(written));",
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return json.loads(done.stdout)

    def with_chromium(asked):
        playwright = pytest.importorskip("playwright.sync_api").sync_playwright
        path = shutil.which("chromium") or shutil.which("google-chrome")
        if path is None:
            pytest.skip("neither Node nor Chromium is installed")
        with playwright() as run:
            args = ["--no-sandbox", "--disable-gpu"]
            browser = run.chromium.launch(executable_path=path, args=args)
            page = browser.new_page()
            page.evaluate(source)
            script = SCRIPT % json.dumps(json.dumps(asked))
            written = page.evaluate(f"(() => {{ {script} return written; }})()")
            browser.close()
        return written

    return with_node if shutil.which("node") else with_chromium


def test_page_and_scheduler_write_the_same(in_javascript):
    asked = table()
    written = in_javascript(asked)
    for name, values in asked.items():
        expected = [WRITE[name](value) for value in values]
        differing = [
            (value, here, there)
            for value, here, there in zip(values, expected, written[name], strict=True)
            if here != there
        ]
        assert differing == [], name


def test_ties_are_rounded_up_on_both_sides(in_javascript):
    written = in_javascript({"bytes": [1179648], "duration": [4.25], "share": [0.125]})
    assert written == {"bytes": ["1.13 MiB"], "duration": ["4.3 s"], "share": ["13 %"]}


def test_ticks_of_an_axis_have_one_unit(in_javascript):
    ticks = [-(2**29), 0, 2**29, 2**30, 3 * 2**29]
    written = in_javascript({"tick": [[tick, ticks] for tick in ticks]})
    assert written["tick"] == ["0.5 GiB", "0", "0.5 GiB", "1 GiB", "1.5 GiB"]
    small = in_javascript({"tick": [[2**27, [0, 2**27, 2**30]]]})
    assert small["tick"] == ["0.125 GiB"]
