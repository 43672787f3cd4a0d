"""Checksums of stored objects: the same numbers whoever works them out."""

from __future__ import annotations

import subprocess
import sys
import zlib

import pytest

from dask_memdash.intermediates.checksum import crc32

CONTENTS = [b"", b"a", b"DMS1" * 1000, bytes(range(256)) * 5000]

#: Replaces isal before the module is loaded, and says which function it took.
ASKED = """
import sys, types, zlib
{instead}
from dask_memdash.intermediates import checksum
from dask_memdash.intermediates.object_format import decode, encode
value = decode(b"".join(bytes(f) for f in encode("x", b"abc")), "x", "name", "place")
print(checksum.crc32 is zlib.crc32, value == b"abc")
"""


@pytest.mark.parametrize("content", CONTENTS, ids=len)
def test_the_checksum_is_the_one_of_zlib(content):
    assert crc32(content) == zlib.crc32(content)
    assert crc32(memoryview(content)) == zlib.crc32(content)
    assert crc32(bytearray(content)) == zlib.crc32(content)


def test_isal_sums_where_it_is_installed():
    isal_zlib = pytest.importorskip("isal.isal_zlib")
    assert crc32 is isal_zlib.crc32


@pytest.mark.parametrize(
    "instead",
    [
        "sys.modules['isal'] = None",
        "m = sys.modules['isal'] = types.ModuleType('isal')\n"
        "m.isal_zlib = types.SimpleNamespace(crc32=lambda content: 7)",
        "m = sys.modules['isal'] = types.ModuleType('isal')\n"
        "m.isal_zlib = types.SimpleNamespace(crc32=lambda: 7)",
        "m = sys.modules['isal'] = types.ModuleType('isal')",
    ],
    ids=["absent", "wrong", "raises", "empty"],
)
def test_without_a_good_isal_zlib_sums(instead):
    program = ASKED.format(instead=instead)
    run = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout.split() == ["True", "True"], run.stderr
