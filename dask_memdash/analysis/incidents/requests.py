"""What a failed allocation asked for, read from the text of its error.

Covers the wordings of NumPy, Arrow, Python and the C++ library, of what is often used
with Dask (GDAL, HDF5, Numba, PyTorch, TensorFlow, CuPy, Rust, OpenCV), of Dask's own
scheduler, and of the guard.  What a request means for a worker is
:mod:`dask_memdash.analysis.incidents.request_judgement`'s.

Texts come from users' programs, so they may hold anything: :func:`parse` never raises,
and looks at a bounded part of each.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from dask_memdash.text import format_bytes, short

#: Characters looked at, at each end of a text; a traceback ends with its error.
MAX_END = 8_000

#: Characters of a shape and of a dtype that are read, and of each that are shown.
MAX_SHAPE = 700
MAX_DTYPE = 200
SHOWN = 70

#: More than a process can address.  What asks for it has a negative or overflown size.
ADDRESSABLE = 2**63

#: Whose memory it was asked of.
HOST, GPU = "host", "gpu"

#: Whose words it is where the guard has refused a task.
GUARD = "guard"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for; None where the text does not say it."""

    #: Size in bytes.
    bytes: int | None = None
    #: Shape of the array.
    shape: tuple[int, ...] | None = None
    #: NumPy's name of the dtype, such as 'float64' or '<U10'.
    dtype: str | None = None
    #: Whose words these are, such as 'numpy' or 'arrow'; 'scheduler' where a task was
    #: refused before it started, and `bytes` is the size of its inputs; 'guard' where
    #: the guard does not run it any more, and `bytes` is what it needs at least.
    source: str = "python"
    #: 'host', or 'gpu' for the memory of a graphics card, which no limit counts.
    device: str = HOST
    #: Whether it is more than any process can address.
    impossible: bool = False
    #: The limit that the text itself names, in bytes.
    limit: int | None = None

    def __str__(self) -> str:
        """Return it as words: "256 TiB for an array of shape (…) and dtype float64"."""
        size = "an unknown amount" if self.bytes is None else format_bytes(self.bytes)
        if self.impossible:
            size = "more than a process can address"
        if self.source == "scheduler":
            return f"{size} of inputs"
        array = self.array
        return f"{size} for {array}" if array else size

    @property
    def array(self) -> str:
        """The array that it was for, as words; empty where the text names none."""
        shape = "" if self.shape is None else f"shape {_cut(_tuple(self.shape))}"
        dtype = f"dtype {_cut(self.dtype)}" if self.dtype else ""
        known = " and ".join(part for part in (shape, dtype) if part)
        return f"an array of {known}" if known else ""


def parse(text: str) -> Request | None:
    """Read what was asked for from the text of an error.

    Parameters
    ----------
    text
        As Python prints it, with or without the name of its class and a traceback.

    Returns
    -------
    Request
        With what the text says.  None where it does not speak of memory at all.
    """
    text = text if type(text) is str else ""
    ends = [text] if len(text) <= MAX_END else [text[-MAX_END:], text[:MAX_END]]
    found = [request for end in ends if (request := _parse(end)) is not None]
    return max(found, key=_known, default=None)


def itemsize(dtype: str | None) -> int | None:
    """Return the bytes of one element of a dtype by its name; None if not known."""
    if not dtype:
        return None
    name = dtype.strip().strip("'\"").lstrip("<>=|").strip()
    name = re.sub(r"\[[a-z0-9]{1,6}\]$", "", name)
    if name in _ITEM_SIZES:
        return _ITEM_SIZES[name]
    found = re.fullmatch(r"([USVifucbmM])(\d{1,12})", name)
    if found:
        return int(found[2]) * (4 if found[1] == "U" else 1)
    found = re.fullmatch(r"(?:u?int|float|complex|bfloat)(\d{1,4})", name)
    return int(found[1]) // 8 or None if found else None


# -- reading -----------------------------------------------------------------------

_NUMBER = r"(?P<size>-?\d[\d,_]{0,39}(?:\.\d{0,20})?(?:[eE]\+?\d{1,3})?)"
_UNIT = r"(?:\s?(?P<unit>(?:[kKMGTPEZ]i?[Bbo]|[Bb]ytes?|[KMGT]|B)\b))"

_ITEM_SIZES = {
    **dict.fromkeys(("bool", "byte", "ubyte", "?", "b", "B", "char"), 1),
    **dict.fromkeys(("half", "short", "ushort", "e", "h", "H"), 2),
    **dict.fromkeys(("single", "float", "intc", "uintc", "f", "i", "I"), 4),
    **dict.fromkeys(("double", "d", "q", "Q", "l", "L", "long", "object", "O"), 8),
    **dict.fromkeys(("datetime64", "timedelta64", "M8", "m8", "intp", "int_"), 8),
    **dict.fromkeys(("longdouble", "cdouble", "g", "D"), 16),
    **dict.fromkeys(("csingle", "F"), 8),
    **dict.fromkeys(("clongdouble", "G"), 32),
}

#: Whose words → what they look like, most telling first.  All repeats are bounded.
_WORDINGS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (source, re.compile(pattern, re.IGNORECASE | re.DOTALL))
    for source, pattern in (
        (
            "scheduler",
            rf"has {_NUMBER}{_UNIT} worth of input dependencies, but worker "
            r"\S{1,120} has memory_limit set to (?P<limit>\d[\d.,]{0,30}) ?"
            r"(?P<limit_unit>[kKMGTPE]?i?B)",
        ),
        (
            # as dask_memdash.guard.too_large says it
            GUARD,
            rf"of ['\"].{{1,110}}['\"] needs at least {_NUMBER}{_UNIT}.{{0,400}}?"
            r"(?:No worker has more than|in use already, of) "
            r"(?P<limit>\d[\d.,]{0,30}) ?(?P<limit_unit>[kKMGTPE]?i?B)"
            r".{0,200}?is not run again",
        ),
        ("numpy", rf"unable to allocate {_NUMBER}{_UNIT}(?= for an array)"),
        ("numpy", r"unable to allocate array(?= with shape| data)"),
        ("numpy", r"ArrayMemoryError(?=\(\()"),
        ("torch", rf"you tried to allocate {_NUMBER}{_UNIT}?"),
        ("torch", rf"tried to allocate {_NUMBER}{_UNIT}"),
        ("tensorflow", r"OOM when allocating tensor"),
        ("arrow", rf"(?:malloc|realloc|posix_memalign|alloc) (?:of )?size {_NUMBER}"),
        (
            "gdal",
            rf"(?:cannot|failed to|can't) allocate (?P<many>\d{{1,12}}) ?x ?"
            rf"{_NUMBER}{_UNIT}",
        ),
        ("rust", rf"memory allocation of {_NUMBER}{_UNIT} failed"),
        (
            "python",
            r"(?:out of memory"
            r"|(?:can't|cannot|could not|couldn't|unable|failed|failure)"
            r"[^\d\n]{0,30}?(?:allocat\w{0,5}|alloc|reserve)|allocation (?:of|failed))"
            rf"[^\d\n]{{0,60}}?[\s(=:]{_NUMBER}{_UNIT}",
        ),
    )
)

#: Texts that say that memory ran out, and not how much was asked for.
_SHORT = re.compile(
    r"memoryerror|out[ _-]of[ _-]memory|outofmemory|bad_alloc|bad alloc"
    r"|can(?:not|'t|not be) allocate|could not allocate|couldn't allocate"
    r"|(?:unable|failed|failure) to allocate|memory allocation (?:\([^)]{0,20}\) )?fail"
    r"|allocation failed|malloc(?:ation)? (?:failed|failure)|insufficient memory"
    r"|not enough memory|memory exhausted|resource_exhausted|\benomem\b",
    re.IGNORECASE,
)

#: Texts that say that a size overflowed.
_IMPOSSIBLE = re.compile(
    r"array is too big; |maximum allowed (?:dimension|size) exceeded"
    r"|bad_array_new_length|bad_array_length|malloc size overflow"
    r"|exceeds? (?:the )?maximum (?:possible|supported) (?:array )?size",
    re.IGNORECASE,
)

_GPU = re.compile(
    r"\bcuda|\bgpu\b|cudaerror|device:gpu|\bhip out of memory|\bcupy|\brmm\b"
    r"|\bxpu out of memory|\bmps backend",
    re.IGNORECASE,
)
_SHAPE = re.compile(
    r"(?:shape ?=? ?|ArrayMemoryError\()(?:torch\.Size)?"
    rf"[(\[]{{1,2}}([\d, _]{{0,{MAX_SHAPE}}})[)\]]"
)
_DTYPE = re.compile(
    r"(?:(?:data type|dtype|and type)[ =]{1,3}(?:dtype\()?|dtype\()"
    rf"(\[\(.{{0,{MAX_DTYPE}}}?\)\]|[^\s,;()]{{1,80}})"
)
_SOURCES = (
    ("arrow", re.compile(r"\bArrow|pyarrow", re.IGNORECASE)),
    ("cupy", re.compile(r"cupy", re.IGNORECASE)),
    ("torch", re.compile(r"torch|DefaultCPUAllocator", re.IGNORECASE)),
    ("hdf5", re.compile(r"hdf5|h5py|raw data chunk", re.IGNORECASE)),
    ("netcdf", re.compile(r"netcdf", re.IGNORECASE)),
    ("gdal", re.compile(r"gdal|\bCPL|\bVSI\w{0,9}alloc|\.cpp, \d", re.IGNORECASE)),
    ("numpy", re.compile(r"numpy|_ArrayMemoryError|\barray\b", re.IGNORECASE)),
    ("c++", re.compile(r"bad_alloc|bad_array", re.IGNORECASE)),
    ("system", re.compile(r"\[Errno -?\d", re.IGNORECASE)),
)

_POWERS = {letter: power for power, letter in enumerate("KMGTPEZ", 1)}


def _parse(text: str) -> Request | None:
    device = GPU if _GPU.search(text) else HOST
    for source, wording in _WORDINGS:
        match = wording.search(text)
        if match:
            named = match.groupdict()
            size, impossible = _size(named.get("size"), named.get("unit"))
            if size is not None and named.get("many"):
                size *= int(named["many"])
            limit, _ = _size(named.get("limit"), named.get("limit_unit"))
            near = text[match.start() : match.end() + 2 * MAX_SHAPE]
            if source == "python":
                source = _source(text)
            request = Request(size, None, None, source, device, impossible, limit)
            return _with_array(request, near)
    impossible = _IMPOSSIBLE.search(text) is not None
    if impossible or _SHORT.search(text):
        request = Request(None, None, None, _source(text), device, impossible)
        return _with_array(request, text)
    return None


def _with_array(request: Request, text: str) -> Request:
    """Add shape and dtype, and the size that follows from them."""
    shape, dtype = _shape(text), _dtype(text)
    width = itemsize(dtype)
    size = request.bytes
    if shape is not None and width is not None:
        whole = math.prod(shape) * width
        # The text is rounded to three digits, so the product says it better.
        if size is None or abs(whole - size) <= size * 0.02:
            size = whole
    impossible = request.impossible or (size is not None and size >= ADDRESSABLE)
    size = None if impossible else size
    return replace(request, bytes=size, shape=shape, dtype=dtype, impossible=impossible)


def _size(number: str | None, unit: str | None) -> tuple[int | None, bool]:
    """Return a size in bytes, and whether it is one that no process can address."""
    if not number:
        return None, False
    number = number.replace(",", "").replace("_", "")
    plain = number.removeprefix("-")
    letter = (unit or "B")[0].upper()
    binary = (unit or "")[1:2] == "i" or len(unit or "") == 1
    factor = (1024 if binary else 1000) ** _POWERS.get(letter, 0)
    if plain.isdecimal():
        value = int(plain) * factor
    else:
        value = round(min(float(plain), 1e270) * factor)
    if number.startswith("-") or value >= ADDRESSABLE:
        return None, True
    return value, False


def _shape(text: str) -> tuple[int, ...] | None:
    match = _SHAPE.search(text)
    if match is None:
        return None
    lengths = [part.strip().replace("_", "") for part in match[1].split(",")]
    lengths = [part for part in lengths if part]
    if not all(part.isdecimal() and len(part) <= 40 for part in lengths):
        return None
    return tuple(int(part) for part in lengths)


def _dtype(text: str) -> str | None:
    match = _DTYPE.search(text)
    if match is None:
        return None
    return match[1].strip().strip("'\"`.:").strip() or None


def _source(text: str) -> str:
    return next((name for name, sign in _SOURCES if sign.search(text)), "python")


def _known(request: Request) -> int:
    """Count what is known of a request, to choose the fuller of two."""
    told = (request.bytes, request.shape, request.dtype, request.impossible or None)
    return sum(part is not None for part in told)


def _tuple(shape: tuple[int, ...]) -> str:
    inside = ", ".join(f"{length}" for length in shape)
    return f"({inside},)" if len(shape) == 1 else f"({inside})"


def _cut(text: str) -> str:
    return short(" ".join(text.split()), SHOWN)
