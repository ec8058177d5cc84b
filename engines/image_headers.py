"""Size and depth of an encoded image, read from its bytes before anything is decoded.

A few hundred bytes can ask a decoder for gigabytes of memory, so what a file claims is read here first: from the bytes
alone, with bounded work, and with :class:`FrameRejectedError` as the only outcome besides a header. Formats: JPEG
(ITU-T T.81), PNG (ISO/IEC 15948), BMP (both header families) and TIFF 6.0 with BigTIFF.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Final, Literal

from engines.errors import FrameRejectedError

ImageFormat = Literal["jpeg", "png", "bmp", "tiff"]

SIGNATURE_BYTES: Final = 8
"""The longest signature of a format."""

MAX_BLOCKS: Final = 4096
"""Segments, chunks or directory entries that are looked at before a file counts as undecodable. A camera's image has a
few dozen; the limit keeps a hostile one from costing more than a few milliseconds."""

MAX_SCANS: Final = 100
"""Scans of a JPEG. Encoders make ten or so of a progressive one, but the format sets no limit, each costs a pass over
the whole picture, and an empty one takes a dozen bytes: a file of a few megabytes would keep a decoder busy for
minutes."""

_JPEG_MARKER: Final = re.compile(rb"\xff([^\x00\xff])")
# Start of frame: C0-CF without C4 (Huffman tables), C8 (reserved) and CC (arithmetic conditioning).
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers that carry no length: TEM, the restart markers and a repeated start of image.
_JPEG_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})

_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}

_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_SAMPLES = 256, 257, 258, 277
_TIFF_STRIPS: Final = ((273, 279), (324, 325))
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 322, 323
_TIFF_COMPRESSION, _TIFF_PHOTOMETRIC, _TIFF_ORIENTATION, _TIFF_PLANES = 259, 262, 274, 284
_TIFF_COMPRESSIONS: Final = frozenset({1, 5, 8, 32773, 32946})
"""None, LZW, Deflate (both numbers) and PackBits: what the decoder knows. Of any other it may make a black picture
without an error, and black counts as clean steel."""
_TIFF_TYPES: Final = {1: "B", 3: "H", 4: "I", 16: "Q", 6: "b", 8: "h", 9: "i", 17: "q"}
"""The integer types of a TIFF field: byte, short, long and BigTIFF's long8, and the same with a sign. A size with a
sign is against the specification, and decoders take it all the same."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says of itself. ``bit_depth`` counts bits per sample; a palette counts as three channels."""

    format: ImageFormat
    width: int
    height: int
    channels: int
    bit_depth: int


def format_of(value: bytes) -> ImageFormat | None:
    """The format that a file's signature, its first eight bytes at most, names; None where it is none of ours."""
    if value.startswith(b"\xff\xd8"):
        return "jpeg"
    if value.startswith(_PNG_SIGNATURE):
        return "png"
    if value.startswith(b"BM"):
        return "bmp"
    if value[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return "tiff"
    return None


def read_header(value: bytes) -> ImageHeader:
    """The header of an encoded image.

    Raises :class:`FrameRejectedError` with ``empty``, ``unknown-format``, ``truncated`` (the file ends inside its
    header) or ``undecodable`` (it contradicts its format), and nothing else whatever the bytes are.
    """
    if not value:
        raise FrameRejectedError("empty", "the record has no value")
    kind = format_of(value)
    try:
        if kind == "jpeg":
            header, _ = _read_jpeg(value)
        elif kind == "png":
            header = _read_png(value)
        elif kind == "bmp":
            header = _read_bmp(value)
        elif kind == "tiff":
            header = _read_tiff(value)
        else:
            start = value[:8].hex(" ")
            raise FrameRejectedError("unknown-format", f"neither JPEG, PNG, BMP nor TIFF; it starts with {start}")
    except struct.error:
        raise FrameRejectedError("truncated", f"the file ends after {len(value)} bytes, inside its header") from None
    if header.width < 1 or header.height < 1:
        size = f"{header.width}x{header.height}"
        raise FrameRejectedError("undecodable", f"the {header.format} header says {size} pixels")
    return header


def check_complete(value: bytes, header: ImageHeader) -> None:
    """Refuse a file whose end is missing, without decoding it.

    ``header`` is :func:`read_header`'s of the same bytes. Raises :class:`FrameRejectedError` with ``truncated``, or
    ``undecodable`` where a PNG's own checksums disagree, it has no image data or too many chunks, or a
    JPEG has too many scans.
    """
    try:
        if header.format == "jpeg":
            complete = _jpeg_ends(value)
        elif header.format == "png":
            complete = _png_ends(value)
        elif header.format == "bmp":
            complete = _bmp_ends(value, header)
        else:
            complete = _tiff_ends(value)
    except struct.error:
        complete = False
    if not complete:
        raise FrameRejectedError(
            "truncated", f"the {header.format} ends after {len(value)} bytes, before its image does"
        )


def without_orientation(value: bytes, header: ImageHeader) -> bytes:
    """The file without what would make a decoder turn its picture; most often the same bytes.

    Only of a TIFF: what an EXIF block says, a decoder can be told to ignore, but not the TIFF's own tag.
    """
    if header.format != "tiff":
        return value
    order, big, entries = _tiff_entries(value)
    upright = struct.pack(order + ("HHQHHI" if big else "HHIHH"), _TIFF_ORIENTATION, 3, 1, 1, *([0, 0] if big else [0]))
    turned = [at for at in entries if struct.unpack_from(order + "H", value, at)[0] == _TIFF_ORIENTATION]
    turned = [at for at in turned if value[at : at + len(upright)] != upright]
    if not turned:
        return value
    changed = bytearray(value)
    for at in turned:
        changed[at : at + len(upright)] = upright
    return bytes(changed)


def _read_jpeg(value: bytes) -> tuple[ImageHeader, int]:
    """The header, and where the segment that holds it ends."""
    position = 2
    for _ in range(MAX_BLOCKS):
        # Decoders skip whatever stands between two segments, so this does too.
        found = _JPEG_MARKER.search(value, position)
        if found is None:
            raise FrameRejectedError("truncated", f"the JPEG ends after {len(value)} bytes, before its frame header")
        marker, position = found[1][0], found.end()
        if marker in _JPEG_BARE:
            continue
        if marker in {0xD9, 0xDA}:
            raise FrameRejectedError("undecodable", "the JPEG has no frame header before its image data")
        (length,) = struct.unpack_from(">H", value, position)
        if marker in _JPEG_FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", value, position + 2)
            return ImageHeader("jpeg", width, height, channels, bits), position + length
        position += max(length, 2)
    raise FrameRejectedError("undecodable", f"no frame header within the JPEG's first {MAX_BLOCKS} segments")


def _jpeg_ends(value: bytes) -> bool:
    # The end marker cannot occur inside entropy-coded data, but it does inside an embedded thumbnail: look after the
    # header. Bytes behind it (padding, a trailer) do no harm.
    _, after = _read_jpeg(value)
    # Nor can the marker of a scan. One within a later segment's data is counted as well, which does no harm either.
    scans = value.count(b"\xff\xda", after)
    if scans > MAX_SCANS:
        raise FrameRejectedError("undecodable", f"the JPEG has {scans} scans, but at most {MAX_SCANS} are allowed")
    return value.rfind(b"\xff\xd9", after) >= 0


def _read_png(value: bytes) -> ImageHeader:
    length, kind, width, height, bits, colour = struct.unpack_from(">I4sIIBB", value, 8)
    if kind != b"IHDR" or length != 13 or colour not in _PNG_CHANNELS:
        raise FrameRejectedError("undecodable", "the PNG does not begin with a valid IHDR chunk")
    return ImageHeader("png", width, height, _PNG_CHANNELS[colour], 8 if colour == 3 else bits)


def _png_ends(value: bytes) -> bool:
    # Checksums are compared here because libpng would write its complaint to standard error, past every log setting.
    position, view, image = len(_PNG_SIGNATURE), memoryview(value), False
    for _ in range(MAX_BLOCKS):
        length, kind = struct.unpack_from(">I4s", value, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", value, end)
        if zlib.crc32(view[position + 4 : end]) != checksum:
            raise FrameRejectedError("undecodable", f"the PNG's checksum of chunk {kind!r} is wrong")
        image = image or kind == b"IDAT"
        if kind == b"IEND":
            if not image:
                # In search of image data OpenCV would read on behind the end, where no checksum was compared, and
                # make room for whatever length stands there: 256 MiB for 53 bytes.
                raise FrameRejectedError("undecodable", "the PNG has no image data")
            return True
        position = end + 4
    raise FrameRejectedError("undecodable", f"the PNG has more than {MAX_BLOCKS} chunks")


def _read_bmp(value: bytes) -> ImageHeader:
    (size,) = struct.unpack_from("<I", value, 14)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", value, 18)
    elif 40 <= size <= 256:
        width, height, _, bits = struct.unpack_from("<iiHH", value, 18)
    else:
        raise FrameRejectedError("undecodable", f"the BMP has an information header of {size} bytes")
    if bits not in {1, 4, 8, 16, 24, 32}:
        raise FrameRejectedError("undecodable", f"the BMP has {bits} bits per pixel")
    # A negative height means rows from the top down. Up to 8 bits index a palette, 16 are 5 or 6 a colour.
    return ImageHeader("bmp", width, abs(height), 4 if bits == 32 else 3, 8)


def _bmp_ends(value: bytes, header: ImageHeader) -> bool:
    (start,) = struct.unpack_from("<I", value, 10)
    (size,) = struct.unpack_from("<I", value, 14)
    if size == 12:
        bits, compression = struct.unpack_from("<H", value, 24)[0], 0
    else:
        bits, compression = struct.unpack_from("<HI", value, 28)
    if compression in {1, 2}:
        # Run-length encoded: its end is two bytes, 0 and 1.
        return value.rfind(b"\x00\x01", start) >= 0
    stride: int = (header.width * bits + 31) // 32 * 4
    end: int = start + stride * header.height
    return len(value) >= end


def _read_tiff(value: bytes) -> ImageHeader:
    fields = _tiff_fields(value)
    width, height = _tiff_number(fields, _TIFF_WIDTH, 0), _tiff_number(fields, _TIFF_HEIGHT, 0)
    channels, bits = _tiff_number(fields, _TIFF_SAMPLES, 1), _tiff_number(fields, _TIFF_BITS, 1)
    if not 1 <= channels <= 4:
        raise FrameRejectedError("undecodable", f"the TIFF has {channels} samples per pixel")
    compression = _tiff_number(fields, _TIFF_COMPRESSION, 1)
    if compression not in _TIFF_COMPRESSIONS:
        raise FrameRejectedError(
            "undecodable", f"the TIFF is compressed by method {compression}, which is not supported"
        )
    _check_deep_tiff(fields, channels, bits)
    # A decoder holds whole tiles in memory, whatever the image's own size.
    tile = _tiff_number(fields, _TIFF_TILE_WIDTH, 0), _tiff_number(fields, _TIFF_TILE_HEIGHT, 0)
    if tile[0] > max(2 * width, 1024) or tile[1] > max(2 * height, 1024):
        raise FrameRejectedError("undecodable", f"the TIFF has tiles of {tile[0]}x{tile[1]} in {width}x{height} pixels")
    return ImageHeader("tiff", width, height, channels, bits)


def _tiff_ends(value: bytes) -> bool:
    fields = _tiff_fields(value)
    for offsets_tag, counts_tag in _TIFF_STRIPS:
        offsets, counts = fields.get(offsets_tag, ()), fields.get(counts_tag, ())
        if any(offset + count > len(value) for offset, count in zip(offsets, counts, strict=False)):
            return False
    return True


def _check_deep_tiff(fields: dict[int, tuple[int, ...]], channels: int, bits: int) -> None:
    """Refuse what a decoder would show wrong without an error: above 8 bits it takes samples as levels of grey, red,
    green and blue that lie side by side, whatever the file says of them."""
    photometric, planes = _tiff_number(fields, _TIFF_PHOTOMETRIC, 1), _tiff_number(fields, _TIFF_PLANES, 1)
    if bits > 8 and photometric not in {1, 2}:
        raise FrameRejectedError(
            "undecodable", f"the TIFF has samples of {bits} bits of photometric kind {photometric}, not 1 or 2"
        )
    if bits > 8 and channels > 1 and planes != 1:
        raise FrameRejectedError("undecodable", f"the TIFF has samples of {bits} bits in planes of their own")


def _tiff_fields(value: bytes) -> dict[int, tuple[int, ...]]:
    """The integer fields of the first directory (the first page), each with at most ``MAX_BLOCKS`` numbers.

    Of a repeated tag the first entry counts, as it does for libtiff: otherwise a small size behind a huge one would
    hide it. An entry that cannot be read has no numbers.
    """
    order, big, entries = _tiff_entries(value)
    head, room = ("HHQ", 8) if big else ("HHI", 4)
    fields: dict[int, tuple[int, ...]] = {}
    for entry in entries:
        tag, kind, numbers = struct.unpack_from(order + head, value, entry)
        if tag in fields:
            continue
        code = _TIFF_TYPES.get(kind)
        if code is None or not numbers:
            fields[tag] = ()
            continue
        at = entry + struct.calcsize(order + head)
        if numbers * struct.calcsize(order + code) > room:
            (at,) = struct.unpack_from(order + ("Q" if big else "I"), value, at)
        fields[tag] = struct.unpack_from(f"{order}{min(numbers, MAX_BLOCKS)}{code}", value, _inside(at, value))
    return fields


def _tiff_entries(value: bytes) -> tuple[str, bool, range]:
    """The byte order as :mod:`struct` writes it, if it is a BigTIFF, and where its first directory's entries are."""
    order = "<" if value[:1] == b"I" else ">"
    big = b"+" in value[2:4]
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), value, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), value, _inside(start, value))
    if count > MAX_BLOCKS:
        raise FrameRejectedError("undecodable", f"the TIFF's directory has {count} entries")
    step = 20 if big else 12
    first = start + (8 if big else 2)
    return order, big, range(first, first + count * step, step)


def _inside(offset: int, value: bytes) -> int:
    """The offset, unless it lies so far outside that :mod:`struct` would refuse the number itself."""
    if offset > len(value):
        raise FrameRejectedError("truncated", f"the TIFF ends after {len(value)} bytes and refers to byte {offset}")
    return offset


def _tiff_number(fields: dict[int, tuple[int, ...]], tag: int, default: int) -> int:
    values = fields.get(tag)
    return values[0] if values else default
