"""The format of stored objects: what goes in comes out, and damage is noticed."""

from __future__ import annotations

import random
import struct
import zlib

import msgpack
import pytest

from dask_memdash.errors import CorruptError
from dask_memdash.intermediates.object_format import check, decode, encode

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")

KEY = ("x-0123", 0, 1)


def stored(value, key=KEY):
    return b"".join(encode(key, value))


def back(value, key=KEY):
    return decode(bytearray(stored(value, key)), key, "objects/a", "here")


def test_the_layout_is_as_documented():
    """Read without the package, as somebody else would."""
    content = stored(np.arange(3, dtype="<i8"))
    assert content[:4] == b"DMS1"
    length, crc = struct.unpack("<II", content[4:12])
    packed = content[12 : 12 + length]
    assert zlib.crc32(packed) == crc
    header = msgpack.unpackb(packed, use_list=False, strict_map_key=False)
    assert header["key"] == "('x-0123', 0, 1)"
    assert header["type"] == "numpy.ndarray"
    assert header["frames"] == 1
    assert header["sizes"] == (24,)
    frame = content[12 + length :]
    assert frame == bytes([0] * 8 + [1] + [0] * 7 + [2] + [0] * 7)
    assert header["crc32"] == (zlib.crc32(frame),)

    from distributed.protocol import deserialize

    assert deserialize(header["how"], [frame]).tolist() == [0, 1, 2]


def read_only():
    array = np.arange(4.0)
    array.flags.writeable = False
    return array


ARRAYS = {
    "plain": np.arange(12.0).reshape(3, 4),
    "0-d": np.array(3.5),
    "no rows": np.empty((0, 5), dtype="f4"),
    "read only": read_only(),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "strided": np.arange(20)[::3],
    "reversed": np.arange(5)[::-1],
    "broadcast": np.broadcast_to(np.float64(1), (3, 4)),
    "objects": np.array(["a", None, {"b": 1}], dtype=object),
    "structured": np.zeros(2, dtype=[("a", "i4"), ("b", "S3")]),
    "dates": np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
    "text": np.array(["é", "日本"]),
    "big endian": np.arange(3, dtype=">i4"),
    "masked": np.ma.masked_array([1, 2, 3], mask=[0, 1, 0]),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_arrays_of_every_kind_come_back(array):
    found = back(array)
    assert type(found) is type(array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


def test_a_writable_array_is_writable_again_without_a_copy():
    content = bytearray(stored(np.zeros(1000)))
    found = decode(content, KEY, "objects/a", "here")
    found[0] = 1.0
    assert np.frombuffer(content, dtype="f8", offset=len(content) - 8000)[0] == 1.0
    assert back(read_only()).flags.writeable is False


def frame(**columns):
    return pd.DataFrame(columns)


FRAMES = {
    "numbers": frame(a=[1, 2], b=[0.5, None]),
    "empty": frame(a=[1], b=["x"]).iloc[:0],
    "no columns": pd.DataFrame(index=[1, 2]),
    "objects": frame(a=pd.Series([{"x": 1}, None, "s"], dtype=object)),
    "categories": frame(a=pd.Categorical(["u", "v", "u"])),
    "strings": frame(a=pd.array(["x", None, "ü"], dtype="string[python]")),
    "dates": frame(a=pd.to_datetime(["2020-01-01", None], utc=True)),
    "multiindex": frame(a=[1, 2]).set_index(
        pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "n"])
    ),
}


@pytest.mark.parametrize("value", FRAMES.values(), ids=FRAMES.keys())
def test_frames_of_every_kind_come_back(value):
    pd.testing.assert_frame_equal(back(value), value)


def test_arrow_strings_come_back():
    pytest.importorskip("pyarrow")
    value = frame(a=pd.array(["x", None, "ü" * 100], dtype="string[pyarrow]"))
    pd.testing.assert_frame_equal(back(value), value)
    pd.testing.assert_frame_equal(back(value.iloc[:0]), value.iloc[:0])


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        "text",
        b"bytes",
        b"",
        [],
        {},
        [1, (2, {"a": {3}}), None],
        {("tuple", 1): [b"x"], 2: "y", None: 1.5},
        2**200,
        float("inf"),
        "\ud800 half a pair",
    ],
)
def test_plain_values_come_back(value):
    found = back(value)
    assert found == value
    assert type(found) is type(value)


def test_containers_of_arrays_come_back():
    value = {"a": [np.arange(3), np.empty(0)], "b": (np.array(1), "x", frame(c=[1]))}
    found = back(value)
    assert found["a"][0].tolist() == [0, 1, 2]
    assert found["a"][1].shape == (0,)
    assert found["b"][0] == 1
    assert found["b"][1] == "x"
    assert found["b"][2].c.tolist() == [1]


@pytest.mark.parametrize(
    "key",
    [
        *("../../etc/passwd", "a\0b", "x" * 5000, "\ud800"),
        *(("x", b"\xff", 1), ("é", -1, (2, 3.5))),
    ],
)
def test_any_key_can_be_stored_under(key):
    assert back(1, key) == 1


# -- damage --------------------------------------------------------------------


def test_every_single_flipped_bit_and_cut_is_noticed():
    content = stored(np.arange(40.0))
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        with pytest.raises(CorruptError):
            decode(damaged, KEY, "objects/a", "here")
    for end in range(len(content)):
        with pytest.raises(CorruptError):
            decode(bytearray(content[:end]), KEY, "objects/a", "here")


def test_random_damage_is_noticed():
    draw = random.Random(3)
    content = stored([np.arange(5000.0), "text", pd.Series(["a", "b"])])
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 5)):
            damaged[draw.randrange(len(damaged))] ^= draw.randint(1, 255)
        if damaged == content:
            continue
        with pytest.raises(CorruptError):
            decode(damaged, KEY, "objects/a", "here")


def test_what_follows_the_last_frame_is_noticed():
    with pytest.raises(CorruptError, match="and should have"):
        decode(bytearray(stored(1) + b"\0"), KEY, "objects/a", "here")


def test_another_keys_object_is_noticed_and_both_are_named():
    with pytest.raises(CorruptError) as caught:
        decode(bytearray(stored(1, ("x", 0))), ("x", 1), "objects/a", "file:///s")
    assert str(caught.value) == (
        "objects/a in file:///s is the object of ('x', 0), not of ('x', 1): somebody "
        "moved or replaced it. Delete the object and persist the collection again: "
        "only what is not stored is computed."
    )


def test_the_message_names_key_object_store_and_what_to_do():
    content = bytearray(stored(np.arange(3)))
    content[-1] ^= 1
    with pytest.raises(CorruptError) as caught:
        decode(content, KEY, "objects/ab", "file:///s")
    assert str(caught.value) == (
        "objects/ab in file:///s, the value of ('x-0123', 0, 1), is damaged: the "
        "checksum of frame 1 of 1 is wrong. Delete the object and persist the "
        "collection again: only what is not stored is computed."
    )


@pytest.mark.parametrize(
    "header",
    [
        *(b"", b"\xc0", b"\x93\x01\x02\x03", b"\x81\xa3key\xa1x", b"\xff" * 40),
        msgpack.packb({"key": "k", "sizes": [-5, 5], "crc32": [0, 0], "how": {}}),
        msgpack.packb({"key": "k", "sizes": ["a"], "crc32": [0], "how": {}}),
        msgpack.packb({"key": 5, "sizes": [], "crc32": [], "how": {}}),
    ],
)
def test_a_forged_header_is_corrupt_and_nothing_worse(header):
    content = b"DMS1" + struct.pack("<II", len(header), zlib.crc32(header)) + header
    with pytest.raises(CorruptError):
        check(content, "objects/a", "here")
