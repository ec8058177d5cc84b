"""Whole files of the formats' rarer kinds, which all show :func:`tests.hostile.messages.picture`, or nearly.

A decoder that does not understand one of them must say so: a picture of something else would be inspected, and mostly
found clean.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.hostile.messages import HEIGHT, WIDTH, encoded, picture, png_chunk

Samples = NDArray[Any]
"""Samples of a picture: ``[height, width]`` or ``[height, width, channels]``, unsigned, signed or floating."""

ADAM7: Final = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, and the steps of each pass of an interlaced PNG (ISO/IEC 15948, 8.2)."""

LARGEST: Final = {bits: 2**bits - 1 for bits in (1, 2, 4, 8, 10, 12, 14, 16, 32)}

ASCENDING: Final = bytes(level for level in range(256) for _ in range(3))
"""A palette of 256 greys."""


def coarse(bits: int) -> Samples:
    """The picture in samples of this many bits, ``[height, width]``."""
    return np.asarray(np.round(picture().astype(np.float64) * LARGEST[bits] / 255)).astype(
        np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    )


def coloured(bits: int, alpha: bool) -> Samples:
    """The picture as grey colour, ``[height, width, 3 or 4]``."""
    grey = coarse(bits)
    opaque = [np.full_like(grey, LARGEST[bits])] if alpha else []
    return np.dstack([grey, grey, grey, *opaque])


def packed(samples: Samples, bits: int) -> list[bytes]:
    """Rows of samples, the first in the highest bits, each row padded to a whole byte."""
    flat = samples.reshape(len(samples), -1)
    if bits in {8, 16, 32}:
        return [row.astype(f">u{bits // 8}").tobytes() for row in flat]
    planes = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return [np.packbits(row.astype(np.uint8)).tobytes() for row in planes]


def png_file(samples: Samples, *, bits: int, colour: int, interlaced: bool = False, chunks: bytes = b"") -> bytes:
    """A PNG; ``chunks`` go before the image data."""
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = [
        b"\0" + row
        for top, left, down, right in passes
        if samples[top::down, left::right].size
        for row in packed(samples[top::down, left::right], bits)
    ]
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    data = zlib.compress(b"".join(rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + chunks
        + png_chunk(b"IDAT", data[:99])
        + png_chunk(b"IDAT", data[99:])
        + png_chunk(b"IEND", b"")
    )


def tiff(
    samples: Samples,
    *,
    bits: int,
    photometric: int = 1,
    compression: int = 1,
    pack: Callable[[bytes], bytes] = bytes,
    order: str = "<",
    big: bool = False,
    tile: tuple[int, int] | None = None,
    planar: bool = False,
    more: Mapping[int, tuple[int, tuple[int, ...]]] | None = None,
) -> bytes:
    """A TIFF of one page. ``tile`` is width and height; ``more`` are further entries, tag to type and numbers."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    planes = [samples[..., number] for number in range(channels)] if planar else [samples]
    blocks: list[Samples] = []
    for plane in planes:
        if tile is None:
            blocks += [plane[top : top + 16] for top in range(0, height, 16)]
            continue
        across, down = tile
        edges = ((0, -height % down), (0, -width % across)) + ((0, 0),) * (plane.ndim - 2)
        padded = np.pad(plane, edges, mode="edge")
        blocks += [
            padded[top : top + down, left : left + across]
            for top in range(0, height, down)
            for left in range(0, width, across)
        ]
    data = [pack(_in_order(block, bits, order)) for block in blocks]
    place = 16 if big else 8
    offsets = [place + sum(map(len, data[:number])) for number in range(len(data))]
    sizes = [len(part) for part in data]
    fields: dict[int, tuple[int, tuple[int, ...]]] = {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, (bits,) * channels),
        259: (3, (compression,)),
        262: (3, (photometric,)),
        277: (3, (channels,)),
        284: (3, (2 if planar else 1,)),
    }
    if tile is None:
        fields |= {273: (4, tuple(offsets)), 278: (4, (16,)), 279: (4, tuple(sizes))}
    else:
        fields |= {322: (4, (tile[0],)), 323: (4, (tile[1],)), 324: (4, tuple(offsets)), 325: (4, tuple(sizes))}
    return _with_directory(b"".join(data), fields | dict(more or {}), order, big)


def _in_order(block: Samples, bits: int, order: str) -> bytes:
    if bits not in {8, 16, 32, 64}:
        return b"".join(packed(block, bits))
    kind = "f" if block.dtype.kind == "f" else "u"
    return block.astype(f"{order}{kind}{bits // 8}").tobytes()


def _with_directory(body: bytes, fields: Mapping[int, tuple[int, tuple[int, ...]]], order: str, big: bool) -> bytes:
    """The file: its header, ``body``, and a directory whose long entries lie behind it."""
    number, room, step = ("Q", 8, 20) if big else ("I", 4, 12)
    start = (16 if big else 8) + len(body)
    behind = start + (8 if big else 2) + step * len(fields) + room
    entries, values = b"", b""
    for tag, (kind, numbers) in sorted(fields.items()):
        value = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(value) > room:
            at, values = behind + len(values), values + value
            value = struct.pack(order + number, at)
        entries += struct.pack(f"{order}HH{number}", tag, kind, len(numbers)) + value.ljust(room, b"\0")
    first = b"II" if order == "<" else b"MM"
    version = struct.pack(order + "HHHQ", 43, 8, 0, start) if big else struct.pack(order + "HI", 42, start)
    count = struct.pack(order + ("Q" if big else "H"), len(fields))
    return first + version + body + count + entries + bytes(room) + values


def packbits(data: bytes) -> bytes:
    """PackBits without runs: every 128 bytes behind their number."""
    parts = (data[at : at + 128] for at in range(0, len(data), 128))
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def bmp(
    rows: bytes, *, bits: int, compression: int = 0, palette: bytes = b"", masks: bytes = b"", height: int = HEIGHT
) -> bytes:
    """A BMP with the 40-byte information header; ``rows`` is the image data as it lies in the file."""
    start = 14 + 40 + len(masks) + len(palette)
    header = struct.pack(
        "<IiiHHIIiiII", 40, WIDTH, height, 1, bits, compression, len(rows), 2835, 2835, len(palette) // 4, 0
    )
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + masks + palette + rows


def _bmp_palette(bits: int) -> bytes:
    levels = np.round(np.arange(2**bits) * 255 / LARGEST[bits]).astype(np.uint8)
    return b"".join(bytes([level, level, level, 0]) for level in levels)


def _run_lengths(samples: Samples, bits: int) -> bytes:
    """Rows from the bottom up, each sample a run of one, or for 4 bits each pair a run of two (MS-WMF 3.1.6)."""
    encoded_rows = []
    for row in samples[::-1]:
        if bits == 8:
            runs = b"".join(bytes([1, value]) for value in row)
        else:
            runs = b"".join(bytes([2, int(left) << 4 | int(right)]) for left, right in row.reshape(-1, 2))
        encoded_rows.append(runs + b"\0\0")
    return b"".join(encoded_rows) + b"\0\1"


@cache
def jpegs() -> Mapping[str, bytes]:
    """JPEGs: samplings, restarts, progressive colour, tables of their own."""
    colour: Any = coloured(8, alpha=False)
    samplings = {411: 0x411111, 420: 0x221111, 422: 0x211111, 440: 0x121111, 444: 0x111111}
    files = {
        f"sampling {name}": encoded(".jpg", cv2.IMWRITE_JPEG_SAMPLING_FACTOR, value, image=colour)
        for name, value in samplings.items()
    }
    return files | {
        "restarts": encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
        "own tables": encoded(".jpg", cv2.IMWRITE_JPEG_OPTIMIZE, 1),
        "CMYK": _cmyk_jpeg(),
        "progressive colour": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1, image=colour),
    }


def _cmyk_jpeg() -> bytes:
    """Four components with a scan for each, as Adobe writes them: no ink is 255, so black alone has the picture."""
    plain, white = encoded(".jpg"), encoded(".jpg", image=np.full((HEIGHT, WIDTH), 255, np.uint16).astype(np.uint8))
    at, scan = plain.index(b"\xff\xc0"), plain.index(b"\xff\xda")
    (length,) = struct.unpack_from(">H", plain, at + 2)
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 20, 8, HEIGHT, WIDTH, 4)
    frame += b"".join(bytes([number, 0x11, 0]) for number in range(1, 5))
    adobe = b"\xff\xee\0\x0eAdobe\0\x64" + bytes(5)
    scans = b""
    for number in range(1, 5):
        source = plain if number == 4 else white
        data = source[source.index(b"\xff\xda") + 10 : -2]
        scans += b"\xff\xda\0\x08\x01" + bytes([number, 0, 0, 63, 0]) + data
    return plain[:2] + adobe + plain[2:at] + frame + plain[at + 2 + length : scan] + scans + b"\xff\xd9"


@cache
def pngs() -> Mapping[str, bytes]:
    """PNGs: every depth and colour type, each also interlaced."""
    files = {}
    for interlaced in (False, True):
        how = " interlaced" if interlaced else ""
        for bits in (1, 2, 4, 8, 16):
            files[f"grey {bits}{how}"] = png_file(coarse(bits), bits=bits, colour=0, interlaced=interlaced)
        for bits in (8, 16):
            grey = coarse(bits)
            with_alpha = np.dstack([grey, np.full_like(grey, LARGEST[bits])])
            files[f"grey and alpha {bits}{how}"] = png_file(with_alpha, bits=bits, colour=4, interlaced=interlaced)
            files[f"RGB {bits}{how}"] = png_file(
                coloured(bits, alpha=False), bits=bits, colour=2, interlaced=interlaced
            )
            files[f"RGBA {bits}{how}"] = png_file(
                coloured(bits, alpha=True), bits=bits, colour=6, interlaced=interlaced
            )
        for bits in (1, 4, 8):
            levels = np.round(np.arange(2**bits) * 255 / LARGEST[bits]).astype(np.uint8)
            palette = png_chunk(b"PLTE", bytes(level for level in levels for _ in range(3)))
            files[f"palette {bits}{how}"] = png_file(
                coarse(bits), bits=bits, colour=3, interlaced=interlaced, chunks=palette
            )
        opaque = png_chunk(b"PLTE", ASCENDING) + png_chunk(b"tRNS", b"\xff" * 256)
        files[f"palette with alpha{how}"] = png_file(picture(), bits=8, colour=3, interlaced=interlaced, chunks=opaque)
    return files


@cache
def tiffs() -> Mapping[str, bytes]:
    """TIFFs: depths, byte orders, layouts, compressions, orientations, and samples that are no levels of 8 bits."""
    grey = picture()
    files = {
        f"grey {bits}{order}": tiff(coarse(bits), bits=bits, order=order)
        for bits in (1, 2, 4, 8, 10, 12, 14, 16, 32)
        for order in ("<", ">")
    }
    files |= {
        f"white is 0, {bits}": tiff(LARGEST[bits] - coarse(bits), bits=bits, photometric=0)
        for bits in (1, 4, 8, 12, 16)
    }
    for bits in (8, 12, 16):
        for planar in (False, True):
            how = f"{bits}{' planar' if planar else ''}"
            files[f"RGB {how}"] = tiff(coloured(bits, alpha=False), bits=bits, photometric=2, planar=planar)
            files[f"RGBA {how}"] = tiff(
                coloured(bits, alpha=True), bits=bits, photometric=2, planar=planar, more={338: (3, (2,))}
            )
    ramp = tuple(level * 257 for level in range(256)) * 3
    files |= {
        "big": tiff(grey, bits=8, big=True),
        "big >": tiff(grey, bits=8, big=True, order=">"),
        "tiles": tiff(grey, bits=8, tile=(48, 32)),
        "tiles 16": tiff(coarse(16), bits=16, tile=(48, 32)),
        "palette": tiff(grey, bits=8, photometric=3, more={320: (3, ramp)}),
        "float 32": tiff(grey.astype(np.float32) / 255, bits=32, more={339: (3, (3,))}),
        "float 64": tiff(grey.astype(np.float64) / 255, bits=64, more={339: (3, (3,))}),
        "signed 8": tiff(grey ^ 0x80, bits=8, more={339: (3, (2,))}),
        "signed 16": tiff(coarse(16) ^ 0x8000, bits=16, more={339: (3, (2,))}),
        "deflate": tiff(grey, bits=8, compression=8, pack=zlib.compress),
        "old deflate": tiff(grey, bits=8, compression=32946, pack=zlib.compress),
        "PackBits": tiff(grey, bits=8, compression=32773, pack=packbits),
        "predictor": tiff(_differences(grey), bits=8, compression=8, pack=zlib.compress, more={317: (3, (2,))}),
        "CMYK": tiff(np.dstack([grey * 0, grey * 0, grey * 0, 255 - grey]), bits=8, photometric=5),
        "low bits first 8": tiff(_mirrored(picture()), bits=8, more={266: (3, (2,))}),
        "low bits first 16": tiff(_mirrored(coarse(16)), bits=16, more={266: (3, (2,))}),
        "Lab 16": tiff(coloured(16, alpha=False), bits=16, photometric=8),
    }
    files |= {f"orientation {turn}": tiff(grey, bits=8, more={274: (3, (turn,))}) for turn in range(1, 9)}
    files |= {
        f"orientation 6, {how}": tiff(coarse(16), bits=16, order=how[0], big=len(how) > 1, more={274: (3, (6,))})
        for how in ("<", ">", "< big", "> big")
    }
    compressions = {"CCITT RLE": 2, "CCITT 3": 3, "CCITT 4": 4, "old JPEG": 6, "JPEG": 7, "NeXT": 32766, "JBIG": 34661}
    compressions |= {"JPEG 2000": 34712, "LZMA": 34925, "zstd": 50000, "WebP": 50001, "LERC": 34887}
    files |= {name: tiff(grey, bits=8, compression=number) for name, number in compressions.items()}
    written = {"LZW": 5, "deflate by OpenCV": 8, "PackBits by OpenCV": 32773}
    return files | {name: encoded(".tiff", cv2.IMWRITE_TIFF_COMPRESSION, number) for name, number in written.items()}


def _differences(grey: Samples) -> Samples:
    before = np.concatenate([np.zeros((HEIGHT, 1), np.uint8), grey[:, :-1]], axis=1)
    return np.asarray(grey - before)


def _mirrored(samples: Samples) -> Samples:
    """Samples with the bits of each of their bytes in reverse."""
    bits = np.unpackbits(np.ascontiguousarray(samples).view(np.uint8)).reshape(-1, 8)
    return np.packbits(bits[:, ::-1]).view(samples.dtype).reshape(samples.shape)


@cache
def bmps() -> Mapping[str, bytes]:
    """BMPs: depths, palettes, bit fields, run lengths, both directions, and the older information header."""
    upside_down = picture()[::-1]
    files = {}
    for bits in (1, 4, 8):
        rows = b"".join(packed(coarse(bits)[::-1], bits))
        files[f"palette {bits}"] = bmp(rows, bits=bits, palette=_bmp_palette(bits))
    for bits in (4, 8):
        files[f"run lengths {bits}"] = bmp(
            _run_lengths(coarse(bits), bits), bits=bits, compression=1 if bits == 8 else 2, palette=_bmp_palette(bits)
        )
    five = (upside_down >> 3).astype(np.uint16)
    six = (upside_down >> 2).astype(np.uint16)
    four = np.dstack([upside_down] * 3 + [np.full_like(upside_down, 255)])
    core = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24)
    return files | {
        "555": bmp((five << 10 | five << 5 | five).astype("<u2").tobytes(), bits=16),
        "565": bmp(
            (five << 11 | six << 5 | five).astype("<u2").tobytes(),
            bits=16,
            compression=3,
            masks=struct.pack("<III", 0xF800, 0x07E0, 0x001F),
        ),
        "32": bmp(four.tobytes(), bits=32),
        "32 with masks": bmp(four.tobytes(), bits=32, compression=3, masks=struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)),
        "from the top": bmp(np.dstack([picture()] * 3).tobytes(), bits=24, height=-HEIGHT),
        "old header": b"BM"
        + struct.pack("<IHHI", 26 + upside_down.size * 3, 0, 0, 26)
        + core
        + np.dstack([upside_down] * 3).tobytes(),
    }


@cache
def others() -> Mapping[str, bytes]:
    """What OpenCV would decode and a camera of ours does not send."""
    colour: Any = coloured(8, alpha=False)
    floats: Any = colour.astype(np.float32) / 255
    files = {suffix: encoded(suffix, image=colour) for suffix in (".webp", ".jp2", ".gif", ".ppm", ".pam", ".sr")}
    files |= {suffix: encoded(suffix, image=floats) for suffix in (".hdr", ".pfm")}
    return files | {
        "lossless .webp": encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 101, image=colour),
        ".avif": b"\0\0\0\x20ftypavif" + bytes(500),
        "JPEG XL": b"\xff\x0a" + bytes(500),
        "JPEG 2000 code stream": b"\xff\x4f\xff\x51" + bytes(500),
        "OpenEXR": b"\x76\x2f\x31\x01" + bytes(500),
        "zip": b"PK\x03\x04" + bytes(500),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='160' height='64'/>",
    }


def all_variants() -> Mapping[str, bytes]:
    """Every file of the four formats, by format and name."""
    sets = {"jpeg": jpegs(), "png": pngs(), "tiff": tiffs(), "bmp": bmps()}
    return {f"{kind} {name}": value for kind, files in sets.items() for name, value in files.items()}
