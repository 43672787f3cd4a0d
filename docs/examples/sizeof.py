"""`Model` says that it is small, and is 12 MB: Dask does not spill it.

Mended, it says how large it is.
"""

from __future__ import annotations

import time

from example import Setup, main


class Model:
    """Weighs 12 MB, and says 100 bytes."""

    def __init__(self):
        self.weights = b"x" * 12_000_000

    def __sizeof__(self):
        return 100


class HonestModel(Model):
    """Says what it weighs."""

    def __sizeof__(self):
        return len(self.weights)


def train(number, kind=Model):
    time.sleep(0.05)
    return kind()


def fail(client):
    models = client.map(train, range(40))
    client.submit(len, models).result(timeout=60)


def honest(client):
    models = client.map(train, range(40), kind=HonestModel)
    client.gather([client.submit(type, model) for model in models])


#: Stored outputs are spilled from the target on, by the sizes that Dask believes.
BY_SIZE = {"spill": False, "pause": False}

if __name__ == "__main__":
    main(Setup(fail, memory=BY_SIZE), Setup(honest, memory=BY_SIZE))
