"""A task reads from address 0 in native code.

There is nothing to mend but the task.
"""

from __future__ import annotations

import ctypes

from example import Setup, main


def decode():
    return ctypes.string_at(0)


def fail(client):
    client.submit(decode).result(timeout=60)


if __name__ == "__main__":
    main(Setup(fail))
