"""Keys that will be other ones in the next session, so that nothing is found again.

What can be told from a graph: random identifiers in keys (impure Delayed,
``name=False``) and random generators that nobody seeded.  What cannot is told when it
happens: the same name with other keys is an error that says so.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from dask.utils import key_split

from dask_memdash.text import code, join

#: A random identifier at the end of a name, as Dask makes it for what is impure.
RANDOM_NAME = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
)

#: Entropy with so many bits was drawn from the system: people type short seeds.
BITS_OF_NO_SEED = 100

#: Layers named in a warning, and arguments looked at within one task.
MOST_NAMED = 5
MOST_ARGUMENTS = 200


class UnstableKeysWarning(UserWarning):
    """What is stored will not be found again by its keys."""


def warn_of_unstable(tasks: Mapping[Any, Any]) -> None:
    """Warn once of each kind of unstable key in a graph, and name the layers."""
    named: dict[str, Any] = {}
    layers: set[str] = set()
    for key, task in tasks.items():
        name = str(key[0] if isinstance(key, tuple) else key)
        if name not in layers:
            layers.add(name)
            named[name] = task
    impure = [name for name in named if RANDOM_NAME.search(name)]
    unseeded = [name for name, task in named.items() if _draws_unseeded(task)]
    if impure:
        _warn(
            impure,
            "has a random key",
            "have random keys",
            "Give Delayed functions pure=True, and from_array a name.",
        )
    if unseeded:
        _warn(
            unseeded,
            "draws random numbers without a seed",
            "draw random numbers without a seed",
            "Seed the generator: da.random.default_rng(1).",
        )


def _warn(names: list[str], one: str, several: str, advice: str) -> None:
    prefixes = list(dict.fromkeys(key_split(name) for name in names))
    shown = [code(prefix) for prefix in prefixes[:MOST_NAMED]]
    more = len(prefixes) - len(shown)
    if more:
        shown.append(f"{more} more")
    verb = one if len(prefixes) == 1 else several
    warnings.warn(
        f"{join(shown)} {verb}: the next session will compute what is stored now once "
        f"more. {advice} open_persisted finds it by name all the same.",
        UnstableKeysWarning,
        stacklevel=5,
    )


def _draws_unseeded(task: Any) -> bool:
    """Return whether a random generator among a task's arguments has no seed."""
    random = getattr(sys.modules.get("numpy"), "random", None)
    if random is None:
        return False
    stack, looked = [task], 0
    while stack and looked < MOST_ARGUMENTS:
        part = stack.pop()
        looked += 1
        if isinstance(part, random.Generator):
            part = part.bit_generator
        if isinstance(part, random.BitGenerator):
            part = part.seed_seq
        if isinstance(part, random.SeedSequence):
            entropy = part.entropy
            if isinstance(entropy, int) and entropy.bit_length() > BITS_OF_NO_SEED:
                return True
        elif isinstance(part, dict):
            stack.extend(part.values())
        elif isinstance(part, list | tuple):
            stack.extend(part)
        else:
            stack.extend(getattr(part, "args", None) or ())
            stack.extend((getattr(part, "kwargs", None) or {}).values())
    return False
