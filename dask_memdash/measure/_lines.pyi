from typing import Final

#: End of the file's name, line (0: not known), function, what it called, flags.
Here = tuple[str, int, str, str, int]

#: Given to a tally, so that it looks.
lines: Final[object]
#: Of Python that it was built for: major, minor.
version: Final[int]

def configure(
    kinds: bytes,
    caches: bytes,
    operators: tuple[str, ...],
    roots: list[tuple[str, int, bool]],
    hosts: list[str],
    /,
) -> None: ...
def here() -> Here: ...
def watched() -> int: ...
def forget_all() -> None: ...
