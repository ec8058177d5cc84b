"""Hostile frames, made from good ones: pure functions of a seeded source of chance, one for each kind."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

import cv2
import numpy as np
from crc32c import crc32c

from engines.images import RAW_GREY
from tests.hostile import rarities
from tests.hostile.messages import (
    HEIGHT,
    WIDTH,
    Message,
    checksum,
    damaged,
    encoded,
    good_frames,
    jpeg_with,
    picture,
    png_chunk,
    png_with,
    tiff_file,
)

Mutation = Callable[[random.Random], Message]


def _any(chance: random.Random) -> Message:
    return chance.choice(list(good_frames().values()))


def _one(chance: random.Random, *names: str) -> bytes:
    return good_frames()[chance.choice(names)].value


def bit_flips(chance: random.Random) -> Message:
    good = _any(chance)
    value = bytearray(good.value)
    # Half of them near the start: headers are a small part of a file and the larger part of what can go wrong.
    reach = min(len(value), chance.choice([200, len(value)]))
    for _ in range(chance.choice([1, 2, 4, 16, 64])):
        value[chance.randrange(reach)] ^= 1 << chance.randrange(8)
    return damaged(chance, good, bytes(value))


def truncation(chance: random.Random) -> Message:
    good = _any(chance)
    return damaged(chance, good, good.value[: chance.randrange(len(good.value))])


def zeroed_blocks(chance: random.Random) -> Message:
    good = _any(chance)
    value = bytearray(good.value)
    start, length = chance.randrange(len(value)), chance.choice([16, 512, 4096])
    value[start : start + length] = bytes(min(length, len(value) - start))
    return damaged(chance, good, bytes(value))


def wrong_signature(chance: random.Random) -> Message:
    """The start of one format before the rest of another, or noise."""
    starts = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF89a", b"RIFF")
    start, rest = chance.choice(starts), _any(chance).value
    return Message(start + chance.choice([rest, rest[len(start) :], chance.randbytes(chance.randrange(300))]))


def _huge(chance: random.Random, largest: int) -> tuple[int, int]:
    """Width and height of more pixels than are allowed."""
    low = 4_097
    return chance.randint(low, largest), chance.randint(low, largest)


@cache
def _zeros() -> bytes:
    return zlib.compress(bytes(30_000_000), 9)


def png_bomb(chance: random.Random) -> Message:
    width, height = _huge(chance, 2**31 - 1)
    bits, colour = chance.choice([(1, 0), (8, 0), (16, 0), (8, 2), (16, 6)])
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return Message(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", _zeros()) + png_chunk(b"IEND", b""))


def bmp_bomb(chance: random.Random) -> Message:
    value = bytearray(good_frames()["bmp"].value)
    width, height = _huge(chance, 2**31 - 1)
    value[18:26] = struct.pack("<ii", width, chance.choice([1, -1]) * height)
    # Compression 1 is run-length encoding: there the size of the file tells nothing.
    value[30:34] = struct.pack("<I", chance.choice([0, 1, 2, 3]))
    return Message(bytes(value))


def jpeg_bomb(chance: random.Random) -> Message:
    value = bytearray(encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, chance.randrange(2)))
    at = max(value.find(b"\xff\xc0"), value.find(b"\xff\xc2")) + 5
    width, height = _huge(chance, 65_535)
    value[at : at + 4] = struct.pack(">HH", height, width)
    return Message(bytes(value))


def tiff_bomb(chance: random.Random) -> Message:
    """Huge by its size, by its tiles, or by the first of two entries that say different sizes."""
    width, height = _huge(chance, 100_000)
    kind = chance.choice([4, 9])
    huge = [(256, kind, width), (257, kind, height)]
    small = [(256, 4, WIDTH), (257, 4, HEIGHT)]
    body = zlib.compress(picture().tobytes())
    layout = [(258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, HEIGHT), (279, 4, len(body))]
    tiles = [(322, kind, width // 16 * 16), (323, kind, height // 16 * 16), (324, 4, 8), (325, 4, len(body))]
    entries = chance.choice([huge + layout, small + layout[:3] + tiles, huge + small + layout])
    return Message(tiff_file(entries, body))


def cmyk(chance: random.Random) -> Message:
    """A JPEG whose frame header claims four components, with an Adobe marker that says CMYK or YCCK."""
    value = good_frames()["jpeg"].value
    at = value.index(b"\xff\xc0")
    components = b"".join(bytes([number, 0x11, 0]) for number in range(1, 5))
    size = struct.pack(">BHHB", 8, HEIGHT, WIDTH, 4)
    frame = b"\xff\xc0" + struct.pack(">H", 20) + size + components
    scan = value.index(b"\xff\xda", at)
    scans = b"\xff\xda" + struct.pack(">HB", 14, 4) + bytes([1, 0, 2, 0, 3, 0, 4, 0]) + b"\0\x3f\0"
    (old,) = struct.unpack_from(">H", value, at + 2)
    (old_scan,) = struct.unpack_from(">H", value, scan + 2)
    adobe = b"\xff\xee\0\x0eAdobe\0\x64" + bytes(4) + bytes([chance.choice([0, 2])])
    data = value[scan + 2 + old_scan : -2]
    blocks = data * chance.choice([1, 4])
    whole = value[:2] + adobe + value[2:at] + frame + value[at + 2 + old : scan] + scans + blocks + b"\xff\xd9"
    if chance.random() < 0.5:
        return Message(whole)
    changed = bytearray(whole)
    for _ in range(chance.choice([1, 4, 16])):
        changed[chance.randrange(2, len(whole))] = chance.randrange(256)
    return damaged(chance, Message(whole), bytes(changed))


def progressive(chance: random.Random) -> Message:
    good = Message(encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_QUALITY, chance.randint(1, 100)))
    if chance.random() < 0.5:
        return good
    value = bytearray(good.value)
    for _ in range(4):
        value[chance.randrange(len(value))] = chance.randrange(256)
    return damaged(chance, good, bytes(value))


def scan_flood(chance: random.Random) -> Message:
    """A progressive JPEG that goes over its picture thousands of times."""
    value = encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    start = value.index(b"\xff\xda")
    end = value.index(b"\xff", start + 10 + 1)
    while value[end + 1] in {0x00, *range(0xD0, 0xD8)}:
        end = value.index(b"\xff", end + 2)
    return Message(value[:-2] + value[start:end] * chance.randint(1_000, 5_000) + b"\xff\xd9")


def exif_rotation(chance: random.Random) -> Message:
    entry = struct.pack("<HHIHH", 0x112, 3, 1, chance.randrange(12), 0)
    # Half of the directories refer to somewhere else.
    start = chance.choice([8, 8, 8, chance.randrange(2**32)])
    exif = b"II*\0" + struct.pack("<IH", start, chance.choice([1, 1, 0xFFFF])) + entry + bytes(4)
    if chance.random() < 0.5:
        return Message(jpeg_with((0xE1, b"Exif\0\0" + exif)))
    return Message(png_with(png_chunk(b"eXIf", exif)))


@cache
def _animated() -> Mapping[str, bytes]:
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(np.roll(picture(), step, axis=1), cv2.COLOR_GRAY2BGRA) for step in (0, 8, 16)]
    animation.durations = [40, 40, 40]
    return {
        suffix: bytes(cv2.imencodeanimation(suffix, animation)[1].tobytes()) for suffix in (".png", ".gif", ".webp")
    }


def animated(chance: random.Random) -> Message:
    suffix = chance.choice(list(_animated()))
    value = bytearray(_animated()[suffix])
    if suffix == ".png" and chance.random() < 0.7:
        # The first frame's control says another size, or the animation another count.
        at = value.index(chance.choice([b"acTL", b"fcTL"]))
        (length,) = struct.unpack_from(">I", value, at - 4)
        place = at + 4 + 4 * chance.randrange(length // 4)
        value[place : place + 4] = struct.pack(">I", chance.choice([0, 1, 161, 65_535, 2**31 - 1, 2**32 - 1]))
        value[at + 4 + length : at + 8 + length] = struct.pack(">I", zlib.crc32(value[at : at + 4 + length]))
    return Message(bytes(value))


@cache
def _pages(count: int) -> bytes:
    pages = [picture(), *[np.full((HEIGHT * 2, WIDTH * 2), 9, np.uint8)] * (count - 1)]
    return bytes(cv2.imencodemulti(".tiff", pages)[1].tobytes())


def multi_page(chance: random.Random) -> Message:
    value = bytearray(_pages(chance.choice([2, 3, 40])))
    if chance.random() < 0.5:
        value[chance.randrange(8, len(value))] = chance.randrange(256)
    return Message(bytes(value))


def sixteen_bit(chance: random.Random) -> Message:
    deep = np.asarray(picture().astype(np.uint16) << chance.randrange(9), np.uint16)
    value = bytearray(encoded(chance.choice([".png", ".tiff"]), image=deep))
    if chance.random() < 0.5:
        value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
    return Message(bytes(value))


def metadata_flood(chance: random.Random) -> Message:
    """A great deal beside the picture, or a great many small pieces of it."""
    many = chance.choice([3_000, 6_000])
    size = chance.randint(1_000, 60_000)
    packed = b"comment\0\1\0\0\0" + _zeros()
    floods: tuple[Callable[[], bytes], ...] = (
        lambda: jpeg_with(*[(0xFE, bytes(size))] * 50),
        lambda: jpeg_with(*[(0xE1, b"Exif\0\0" + bytes(size))] * 50),
        lambda: jpeg_with(*[(0xFE, b"")] * many),
        lambda: png_with(png_chunk(b"iTXt", b"comment" + bytes(5) + b"x" * size * 50)),
        lambda: png_with(png_chunk(b"iTXt", packed)),
        lambda: png_with(png_chunk(b"zTXt", b"comment\0\0" + _zeros())),
        lambda: png_with(*[png_chunk(b"tEXt", b"a\0b")] * many),
        lambda: tiff_file([(40_000 + number, 4, 1) for number in range(many)]),
    )
    return Message(chance.choice(floods)())


def zero_length_chunks(chance: random.Random) -> Message:
    kind = chance.choice([b"IDAT", b"PLTE", b"tRNS", b"gAMA", b"tEXt", b"acTL", b"fcTL", b"IEND", b"eXIf", b"zzZz"])
    count = chance.choice([1, 10, 1_000])
    if chance.random() < 0.5:
        return Message(png_with(*[png_chunk(kind, b"")] * count))
    value = good_frames()["jpeg"].value
    # A length of 0 or 1 does not even count the two bytes that it stands in.
    length = struct.pack(">H", chance.randrange(3))
    return Message(value[:2] + (bytes([0xFF, chance.choice([0xC4, 0xDB, 0xE1, 0xFE])]) + length) * count + value[2:])


def wrong_checksum(chance: random.Random) -> Message:
    good = _any(chance)
    wrong = b"%08x" % (crc32c(good.value) ^ 1 << chance.randrange(32))
    told = chance.choice(
        [wrong, wrong, b"", b"0x" + wrong, b"+" + wrong[1:], "\u0661\u0662\u0663\u0664".encode(), chance.randbytes(8)]
    )
    return Message(good.value, (*good.headers, ("crc32c", checksum(good.value)), ("crc32c", told)))


def wrong_content_type(chance: random.Random) -> Message:
    name = chance.choice(list(good_frames()))
    good = good_frames()[name]
    others = [b"image/jpeg", b"image/png", b"\xff\xfe", b"", b";" * 9, RAW_GREY.upper().encode() + b" ; a=b"]
    told = chance.choice([*others, RAW_GREY.encode()])
    return Message(good.value, (*good.headers, ("content-type", told)))


def wrong_size_headers(chance: random.Random) -> Message:
    raw = good_frames()["raw"]
    wrong = (
        b"",
        b"0",
        b"-160",
        b"+160",
        b" 160",
        b"1_60",
        b"161",
        b"9" * 9,
        b"9" * 5_000,
        b"1e2",
        "\u0661\u0666\u0660".encode(),
        b"\xff",
    )
    return Message(raw.value, (*raw.headers, (chance.choice(["width", "height"]), chance.choice(wrong))))


KINDS: Final[Mapping[str, Mutation]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        bit_flips,
        truncation,
        zeroed_blocks,
        wrong_signature,
        png_bomb,
        tiff_bomb,
        bmp_bomb,
        jpeg_bomb,
        cmyk,
        progressive,
        scan_flood,
        exif_rotation,
        animated,
        multi_page,
        sixteen_bit,
        metadata_flood,
        zero_length_chunks,
        wrong_checksum,
        wrong_content_type,
        wrong_size_headers,
        rarities.rare_jpegs,
        rarities.rare_pngs,
        rarities.rare_tiffs,
        rarities.rare_bmps,
        rarities.other_formats,
        rarities.thin_giants,
        rarities.profile_flood,
        rarities.header_flood,
    )
}

REFUSED: Final[Mapping[str, frozenset[str]]] = {
    "png-bomb": frozenset({"wrong-size"}),
    "tiff-bomb": frozenset({"wrong-size", "undecodable"}),
    "bmp-bomb": frozenset({"wrong-size"}),
    "jpeg-bomb": frozenset({"wrong-size"}),
    "scan-flood": frozenset({"undecodable"}),
    "wrong-checksum": frozenset({"checksum"}),
    "wrong-size-headers": frozenset({"bad-header", "wrong-size"}),
    "other-formats": frozenset({"unknown-format"}),
}
"""Kinds of which no frame may be decoded, with the reasons that they may be refused for."""


def mutated(kind: str, number: int) -> Message:
    """The frame of this number of a kind: always the same one."""
    return KINDS[kind](random.Random(f"{kind} {number}"))
