"""Hostile frames of the formats' rarer kinds: whole ones, and ones damaged where a decoder looks."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import Final

from engines.images import RAW_GREY
from tests.hostile import variants
from tests.hostile.messages import (
    HEIGHT,
    Message,
    damaged,
    good_frames,
    jpeg_with,
    png_chunk,
    png_with,
)

EDGES: Final = (0, 1, 2, 3, 7, 8, 12, 16, 127, 128, 254, 255)


def rare_jpegs(chance: random.Random) -> Message:
    """Samplings, restarts, CMYK; and headers that claim more: lossless, arithmetic, 12 bits, hierarchical."""
    good = Message(chance.choice(list(variants.jpegs().values())))
    value = bytearray(good.value)
    at = max(value.find(b"\xff\xc0"), value.find(b"\xff\xc2"))
    scan = value.index(b"\xff\xda")
    match chance.randrange(6):
        case 0:
            return good
        case 1:
            value[at + 1] = chance.choice([0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF])
        case 2:
            value[at + 4] = chance.choice([0, 1, 2, 7, 9, 12, 16, 255])
        case 3:
            # The height is to follow behind the first scan, or never does; or one component has another sampling.
            place = at + chance.choice([5, 11])
            value[place : place + 2] = struct.pack(">H", chance.choice([0, 0x11FF, 0x4400, 0xFFFF]))
            if chance.random() < 0.5:
                value[-2:-2] = b"\xff\xdc\0\4" + struct.pack(">H", HEIGHT)
        case 4:
            # The tables of the coefficients or of their lengths are missing, or there twice.
            table = value.index(chance.choice([b"\xff\xdb", b"\xff\xc4"]))
            (length,) = struct.unpack_from(">H", value, table + 2)
            segment = value[table : table + 2 + length]
            value[table : table + 2 + length] = segment * chance.choice([0, 2, 50])
        case _:
            for _ in range(chance.choice([1, 3, 30])):
                value[chance.randrange(scan, len(value))] = chance.choice(EDGES)
    return damaged(chance, good, bytes(value))


def rare_pngs(chance: random.Random) -> Message:
    """All depths and colour types, interlaced ones too, and damage whose checksums were made right again: behind them
    libpng believes what it reads."""
    good = Message(chance.choice(list(variants.pngs().values())))
    if chance.random() < 0.3:
        return good
    chunks = _chunks(good.value)
    place = chance.randrange(len(chunks) - 1)
    kind, data = chunks[place]
    match chance.randrange(4):
        case 0 if kind == b"IHDR":
            # Only depth, colour type, compression, filter and interlacing: sizes have a kind of their own.
            data = data[:8] + bytes(chance.choice(EDGES) if chance.random() < 0.3 else byte for byte in data[8:])
        case 1 if kind == b"IDAT":
            data = _other_samples(chance, data)
        case 2:
            chunks.insert(place, chunks[chance.randrange(len(chunks))])
        case _:
            changed = bytearray(data)
            for _ in range(chance.choice([1, 4])):
                changed[chance.randrange(8 if kind == b"IHDR" else 0, len(data))] = chance.randrange(256)
            data = bytes(changed)
    chunks[place] = kind, data
    return damaged(chance, good, good.value[:8] + b"".join(png_chunk(*chunk) for chunk in chunks))


def _chunks(value: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(value):
        length, kind = struct.unpack_from(">I4s", value, at)
        found.append((kind, value[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _other_samples(chance: random.Random, data: bytes) -> bytes:
    """Image data that is well compressed and too short, too long, or of filters that there are not."""
    try:
        rows = bytearray(zlib.decompressobj().decompress(data))
    except zlib.error:
        return zlib.compress(b"")
    rows = rows[: chance.choice([0, len(rows) // 2, len(rows)])] + bytes(chance.choice([0, 1, 100_000]))
    for _ in range(min(len(rows), 20)):
        rows[chance.randrange(len(rows))] = chance.choice(EDGES)
    return zlib.compress(bytes(rows))


def rare_tiffs(chance: random.Random) -> Message:
    """All layouts, depths and compressions, and directories of which numbers were changed."""
    good = Message(chance.choice(list(variants.tiffs().values())))
    value = bytearray(good.value)
    kind = chance.randrange(4)
    if kind == 0:
        return good
    order = "<" if value[:2] == b"II" else ">"
    big = good.value[2:4] in {b"+\0", b"\0+"}
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), value, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), value, start)
    first, step = start + (8 if big else 2), 20 if big else 12
    for _ in range(chance.choice([1, 2, 5])):
        entry = first + step * chance.randrange(count)
        if kind == 1:
            # Its value, or where its values are.
            wide = chance.choice([0, 1, 2, 3, 8, 16, 255, 65_535, len(value), 2**31 - 1, 2**32 - 1])
            struct.pack_into(order + "I", value, entry + step - 4, wide)
        elif kind == 2:
            # Its tag, its type, how many values it has.
            place, number = chance.choice([(0, "H"), (2, "H"), (4, "I")])
            tag = chance.choice([*range(17), 254, 258, 262, 266, 274, 277, 284, 317, 320, 322, 330, 338, 339, 65_535])
            struct.pack_into(order + number, value, entry + place, tag)
        else:
            value[chance.randrange(len(value))] = chance.choice(EDGES)
    return damaged(chance, good, bytes(value))


def rare_bmps(chance: random.Random) -> Message:
    """Palettes, bit fields, run lengths, the older header, and numbers of the header that were changed."""
    good = Message(chance.choice(list(variants.bmps().values())))
    value = bytearray(good.value)
    match chance.randrange(4):
        case 0:
            return good
        case 1:
            # Everything but width and height: those have kinds of their own.
            place = chance.choice([2, 10, 14, 26, 28, 30, 34, 46, 50, 54, 58, 62])
            struct.pack_into("<I", value, place, chance.choice([0, 1, 3, 12, 40, 108, 255, 256, 2**31 - 1, 2**32 - 1]))
        case 2:
            # Run lengths: 0 is an escape, behind which stand the end, a jump, or samples as they are.
            start = min(struct.unpack_from("<I", value, 10)[0], len(value) - 2)
            for _ in range(chance.choice([1, 10, 100])):
                place = chance.randrange(start, len(value) - 1)
                value[place : place + 2] = bytes([chance.choice([0, 0, 255]), chance.choice(EDGES)])
        case _:
            value[chance.randrange(len(value))] = chance.choice(EDGES)
    return damaged(chance, good, bytes(value))


def other_formats(chance: random.Random) -> Message:
    """WebP, JPEG 2000, GIF, AVIF and so on, whole or damaged behind their first bytes: OpenCV would decode them."""
    value = bytearray(chance.choice(list(variants.others().values())))
    for _ in range(chance.choice([0, 1, 50])):
        value[chance.randrange(min(12, len(value) - 1), len(value))] = chance.randrange(256)
    told = chance.choice([(), (("content-type", b"image/jpeg"),)])
    return Message(bytes(value), told)


def thin_giants(chance: random.Random) -> Message:
    """One side huge, the other a few pixels: fewer pixels than are allowed, more, or none."""
    sides = [chance.choice([0, 1, 2, 3, 255]), chance.choice([65_535, 2**20, 2**20 + 1, 2**24, 2**31 - 1, 2**32 - 1])]
    chance.shuffle(sides)
    width, height = sides
    match chance.choice(["png", "bmp", "jpeg", "tiff", "raw"]):
        case "png":
            header = png_chunk(b"IHDR", struct.pack(">II", width, height) + b"\x08\0\0\0\0")
            return Message(png_with()[:8] + header + png_with()[33:])
        case "bmp":
            value = bytearray(good_frames()["bmp"].value)
            value[18:26] = struct.pack("<II", width, height)
            return Message(bytes(value))
        case "jpeg":
            value = bytearray(good_frames()["jpeg"].value)
            at = value.index(b"\xff\xc0") + 5
            value[at : at + 4] = struct.pack(">HH", min(height, 65_535), min(width, 65_535))
            return Message(bytes(value))
        case "tiff":
            rows = variants.tiff(variants.picture(), bits=8, more={256: (4, (width,)), 257: (4, (height,))})
            return Message(rows)
        case _:
            told = (("content-type", RAW_GREY.encode()), ("width", b"%d" % width), ("height", b"%d" % height))
            return Message(good_frames()["raw"].value, told)


@cache
def _packed() -> bytes:
    return zlib.compress(bytes(10_000_000), 9)


def profile_flood(chance: random.Random) -> Message:
    """Colour profiles, XMP and EXIF by the megabyte, in whole pieces, in pieces out of order, or packed tight."""
    size = chance.randint(1_000, 60_000)
    pieces = chance.choice([1, 40, 255])
    packed = _packed()

    def profile(number: int) -> bytes:
        return b"ICC_PROFILE\0" + bytes([chance.choice([number, 0, 255]), pieces]) + bytes(size)

    entries = chance.choice([1, 5_000, 65_535])
    exif = (
        b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", entries) + (struct.pack(">HHII", 0x112, 3, 1, 6 << 16)) * 5_000
    )
    extended = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", 2**32 - 1, 2**31)
    floods: tuple[Callable[[], bytes], ...] = (
        lambda: jpeg_with(*[(0xE2, profile(number + 1)) for number in range(pieces)]),
        lambda: jpeg_with(*[(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<x>" * (size // 3))] * pieces),
        lambda: jpeg_with(*[(0xE1, extended + bytes(size))] * pieces),
        lambda: jpeg_with((0xE1, exif[:65_000])),
        lambda: jpeg_with(*[(0xED, b"Photoshop 3.0\0" + b"8BIM" * (size // 4))] * pieces),
        lambda: png_with(png_chunk(b"iCCP", b"p\0\0" + packed)),
        lambda: png_with(*[png_chunk(b"iCCP", b"p\0\0" + packed[:-4])] * chance.choice([1, 2])),
        lambda: png_with(png_chunk(b"eXIf", exif[6:]), *[png_chunk(b"eXIf", bytes(size))] * chance.choice([0, pieces])),
        lambda: png_with(png_chunk(b"iTXt", b"XML:com.adobe.xmp" + b"\0\1\0\0\0" + packed)),
        lambda: png_with(*[png_chunk(b"sPLT", b"p\0\x08" + bytes(6 * size))] * chance.choice([1, 20])),
        lambda: variants.tiff(variants.picture(), bits=8, more={34_675: (4, (0,) * size), 700: (4, (1,) * size)}),
    )
    return Message(chance.choice(floods)())


def header_flood(chance: random.Random) -> Message:
    """Kafka headers by the thousand or by the megabyte, repeated, without values, or with what parses badly."""
    good = chance.choice(list(good_frames().values()))
    names = ["frame-id", "captured-at", "coil-id", "position-mm", "content-type", "crc32c", "width", "height", "x", ""]
    texts: tuple[bytes | None, ...] = (
        None,
        b"",
        b"\xff" * 9,
        b"9" * 100_000,
        b"1e999",
        b"nan",
        b"-0",
        b"9999-12-31T23:59:59.999999-23:59",
        b"0001-01-01T00:00:00+23:59",
        b"2026-02-30T00:00:00Z",
        b"x" * 500_000,
        b"\0",
        "\u202e\U0001f600".encode(),
    )
    count = chance.choice([1, 5, 2_000])
    flood = tuple((chance.choice(names), chance.choice(texts if count < 9 else texts[:3])) for _ in range(count))
    return Message(good.value, chance.choice([good.headers + flood, flood + good.headers]))
