"""Every legitimate image becomes the right grey frame, every other one a rejection with the right reason."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engines.errors import FrameRejectedError
from engines.images import RAW_GREY, ImageHeader, ImageLimits, decode, read_header

LIMITS = ImageLimits(min_pixels=64, max_pixels=100_000, max_bytes=300_000)


def picture(height: int = 64, width: int = 160) -> np.ndarray:
    """A smooth picture: its JPEG is close to it."""
    rows, columns = np.mgrid[:height, :width]
    return (128 + 60 * np.sin(columns / 25) + 40 * np.cos(rows / 12)).astype(np.uint8)


def encoded(image: np.ndarray, suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


GREY = picture()
COLOUR = cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGR)
SOUND = {
    "grey jpeg": encoded(GREY, ".jpg"),
    "progressive jpeg": encoded(GREY, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "colour jpeg": encoded(COLOUR, ".jpg"),
    "grey png": encoded(GREY, ".png"),
    "colour png": encoded(COLOUR, ".png"),
    "png with transparency": encoded(cv2.cvtColor(GREY, cv2.COLOR_GRAY2BGRA), ".png"),
    "grey bmp": encoded(GREY, ".bmp"),
    "colour bmp": encoded(COLOUR, ".bmp"),
    "grey tiff": encoded(GREY, ".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 1),
    "compressed tiff": encoded(GREY, ".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 5),
    "colour tiff": encoded(COLOUR, ".tiff"),
    "jpeg with a trailer": encoded(GREY, ".jpg") + bytes(100),
}


def reason(value: bytes, limits: ImageLimits = LIMITS, **options: object) -> str:
    with pytest.raises(FrameRejectedError) as caught:
        decode(value, limits=limits, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value.reason


def detail(value: bytes) -> str:
    with pytest.raises(FrameRejectedError) as caught:
        decode(value, limits=LIMITS)
    return str(caught.value)


@pytest.mark.parametrize("value", SOUND.values(), ids=SOUND.keys())
def test_legitimate_images_become_grey(value: bytes) -> None:
    frame = decode(value, limits=LIMITS)
    assert frame.dtype == np.uint8
    assert frame.shape == (64, 160)
    assert frame.flags.c_contiguous
    assert np.abs(frame.astype(int) - GREY).max() <= 8


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("grey jpeg", ImageHeader("jpeg", 160, 64, 1, 8)),
        ("progressive jpeg", ImageHeader("jpeg", 160, 64, 1, 8)),
        ("colour jpeg", ImageHeader("jpeg", 160, 64, 3, 8)),
        ("grey png", ImageHeader("png", 160, 64, 1, 8)),
        ("png with transparency", ImageHeader("png", 160, 64, 4, 8)),
        ("colour bmp", ImageHeader("bmp", 160, 64, 3, 8)),
        ("grey tiff", ImageHeader("tiff", 160, 64, 1, 8)),
        ("colour tiff", ImageHeader("tiff", 160, 64, 3, 8)),
    ],
)
def test_headers_are_read_before_decoding(name: str, header: ImageHeader) -> None:
    assert read_header(SOUND[name]) == header


def test_an_exif_orientation_is_ignored() -> None:
    plain = SOUND["grey jpeg"]
    tiff = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) + bytes(4)
    exif = b"Exif\0\0" + tiff
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    # The orientation is there: a decoder that obeys it turns the picture.
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_GRAYSCALE).shape == (160, 64)
    np.testing.assert_array_equal(decode(turned, limits=LIMITS), decode(plain, limits=LIMITS))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_samples_of_16_bits_are_scaled_by_their_depth(suffix: str, bits: int) -> None:
    white = 2**bits - 1
    deep = np.linspace(0, white, 64 * 160).reshape(64, 160).astype(np.uint16)
    limits = ImageLimits(min_pixels=64, bit_depth=bits)
    for image in (deep, cv2.merge([deep] * 3)):
        frame = decode(encoded(image, suffix), limits=limits)
        assert frame.dtype == np.uint8
        np.testing.assert_allclose(frame, deep.astype(float) * 255 / white, atol=1.01)
    assert decode(encoded(np.full((64, 160), 65535, np.uint16), suffix), limits=limits).min() == 255
    with pytest.raises(ValueError, match="bit_depth is 17"):
        ImageLimits(bit_depth=17)


def palette_png() -> bytes:
    """A PNG of four bits per pixel that index a palette of greys."""
    indexes = (np.arange(64 * 160).reshape(64, 160) // 160 % 16).astype(np.uint8)
    rows = b"".join(b"\0" + bytes(row[::2] << 4 | row[1::2]) for row in indexes)
    palette = bytes(17 * index for index in range(16) for _ in range(3))
    header = struct.pack(">IIBBBBB", 160, 64, 4, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_a_palette_counts_as_colour() -> None:
    value = palette_png()
    assert read_header(value) == ImageHeader("png", 160, 64, 3, 8)
    frame = decode(value, limits=LIMITS)
    np.testing.assert_array_equal(frame[:, 0], 17 * (np.arange(64) % 16))


def test_the_first_page_of_a_tiff() -> None:
    pages = cv2.imencodemulti(".tiff", [GREY, 255 - GREY])[1].tobytes()
    np.testing.assert_array_equal(decode(pages, limits=LIMITS), GREY)


def test_raw_grey_is_a_view_of_the_value() -> None:
    value = GREY.tobytes()
    frame = decode(value, limits=LIMITS, content_type="Application/X-Gray8; rows=top", width=160, height=64)
    np.testing.assert_array_equal(frame, GREY)
    assert frame.base is not None
    assert reason(value, content_type=RAW_GREY) == "bad-header"
    assert reason(value, content_type=RAW_GREY, width=160) == "bad-header"
    assert reason(value, content_type=RAW_GREY, width=-160, height=-64) == "bad-header"
    assert reason(value, content_type=RAW_GREY, width=160, height=65) == "wrong-size"
    assert reason(value[:9], content_type=RAW_GREY, width=3, height=3) == "wrong-size"
    assert reason(value, content_type=RAW_GREY, width=2**40, height=2**40) == "wrong-size"


def test_any_other_content_type_is_told_by_the_bytes() -> None:
    assert decode(SOUND["grey jpeg"], limits=LIMITS, content_type="image/png").shape == (64, 160)


def bomb() -> bytes:
    """A PNG of 900 megapixels in a few bytes of header."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(500)


def tiled_bomb() -> bytes:
    """A TIFF of 160x64 pixels in tiles of 65,520 x 65,520."""
    entries = [(256, 160), (257, 64), (258, 8), (277, 1), (322, 65_520), (323, 65_520)]
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + fields + bytes(600)


def tiff_of(*entries: tuple[int, int, int]) -> bytes:
    """A TIFF of one directory with entries (tag, type, number), and zeros behind it."""
    fields = b"".join(struct.pack("<HHII", tag, kind, 1, number) for tag, kind, number in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + fields + bytes(600)


@pytest.mark.parametrize("kind", [4, 9], ids=["unsigned", "signed"])
def test_a_small_size_behind_a_huge_one_does_not_hide_it(kind: int) -> None:
    """The decoder goes by the first entry of a tag and takes numbers with a sign, too."""
    size = ((256, kind, 30_000), (257, kind, 30_000), (256, 4, 160), (257, 4, 64))
    assert read_header(tiff_of(*size)) == ImageHeader("tiff", 30_000, 30_000, 1, 1)
    assert reason(tiff_of(*size)) == "wrong-size"
    tiles = ((256, 4, 160), (257, 4, 64), (322, kind, 65_520), (323, kind, 65_520), (322, 4, 16), (323, 4, 16))
    assert "tiles of 65520x65520" in detail(tiff_of(*tiles))
    # A size that is no whole number (type 5, a fraction) is none, whatever follows.
    assert reason(tiff_of((256, 5, 8), (256, 4, 160), (257, 4, 64))) == "undecodable"


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose first scan is there ``count`` times more."""
    value = SOUND["progressive jpeg"]
    start = value.index(b"\xff\xda")
    end = next(at for at in range(start + 10, len(value)) if value[at] == 0xFF and value[at + 1])
    return value[:-2] + value[start:end] * count + b"\xff\xd9"


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded() -> None:
    """Its bytes are few and its pixels are allowed; what it costs is time."""
    assert decode(many_scans(50), limits=LIMITS).shape == (64, 160)
    assert "100 are allowed" in detail(many_scans(100))
    assert reason(many_scans(100)) == "undecodable"


def test_nothing_is_read_behind_the_end_of_a_png_without_image_data() -> None:
    """The decoder would go on in search of it, and make room for the length of a chunk that is not there."""
    header, end = SOUND["grey png"][:33], SOUND["grey png"][-12:]
    assert "no image data" in detail(header + end + struct.pack(">I4s", 0x0FFFFFFF, b"IDAT"))
    assert "no image data" in detail(header + end + SOUND["grey png"][33:])


def test_reasons() -> None:
    jpeg, png = SOUND["grey jpeg"], SOUND["grey png"]
    assert reason(b"") == "empty"
    assert reason(b"", content_type=RAW_GREY, width=1, height=1) == "empty"
    assert reason(bytes(300_001)) == "too-large"
    assert reason(b"a message that is no image") == "unknown-format"
    assert reason(b"GIF89a" + bytes(100)) == "unknown-format"
    assert reason(bomb()) == "wrong-size"
    assert reason(tiled_bomb()) == "undecodable"
    assert reason(encoded(np.zeros((1, 1), np.uint8), ".png")) == "wrong-size"
    assert reason(jpeg, ImageLimits(max_pixels=64 * 160 - 1)) == "wrong-size"
    assert reason(png[:60] + b"\0\0\0\0" + png[64:]) == "undecodable"
    assert reason(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5000) == "undecodable"
    assert reason(encoded(GREY.astype(np.float32), ".tiff")) == "undecodable"
    tiff = bytearray(SOUND["grey tiff"])
    compression = tiff.rindex(struct.pack("<HHI", 259, 3, 1)) + 8
    tiff[compression : compression + 2] = struct.pack("<H", 34712)
    assert reason(bytes(tiff)) == "undecodable"
    tables = jpeg.index(b"\xff\xc4")
    assert reason(jpeg[: tables + 4] + b"\x99" * 20 + jpeg[tables + 24 :]) == "undecodable"


@pytest.mark.parametrize("value", SOUND.values(), ids=SOUND.keys())
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30)
@example(share=0.99)
@example(share=0.5)
def test_a_missing_end_is_called_truncated(value: bytes, share: float) -> None:
    """Never a picture with its lower part missing: that would count as clean steel."""
    end = int(len(value) * share)
    try:
        frame = decode(value[:end], limits=LIMITS)
    except FrameRejectedError as error:
        said = error.reason
    else:
        # What is missing was no part of the picture: padding or a trailer.
        np.testing.assert_array_equal(frame, decode(value, limits=LIMITS))
        return
    assert said in ({"truncated"} if end > 8 else {"truncated", "empty", "unknown-format"})


@given(value=st.sampled_from(list(SOUND.values())), data=st.data())
@settings(max_examples=200)
def test_hostile_headers_raise_nothing_else(value: bytes, data: st.DataObject) -> None:
    hostile = bytearray(value)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, min(len(hostile), 300) - 1))
        hostile[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    try:
        frame = decode(bytes(hostile), limits=LIMITS)
    except FrameRejectedError:
        return
    assert frame.dtype == np.uint8
    assert LIMITS.min_pixels <= frame.size <= LIMITS.max_pixels


@given(
    st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"II+\0", b""]),
    st.binary(max_size=80),
)
@settings(max_examples=300)
def test_noise_after_a_signature_raises_nothing_else(signature: bytes, noise: bytes) -> None:
    with pytest.raises(FrameRejectedError):
        decode(signature + noise, limits=LIMITS)


def test_opencv_says_nothing_of_its_own(tmp_path: Path) -> None:
    """Standard error is the log: rejected frames must not write into it past the log's format."""
    cut = [value[: len(value) // 2] for value in SOUND.values()]
    # OpenCV has something to say of a BMP that claims 127 planes and of a TIFF with a field of the wrong type.
    bmp, tiff = bytearray(SOUND["colour bmp"]), bytearray(SOUND["compressed tiff"])
    bmp[31] = 127
    samples = tiff.rindex(struct.pack("<HH", 277, 3))
    tiff[samples + 2 : samples + 4] = struct.pack("<H", 12)
    broken = (bytes(bmp), bytes(tiff))
    assert [reason(value) for value in broken] == ["undecodable"] * 2
    files = [*cut, *broken, SOUND["grey png"][:60] + bytes(4) + SOUND["grey png"][64:]]
    for number, value in enumerate(files):
        (tmp_path / str(number)).write_bytes(value)
    program = (
        "import sys, pathlib\n"
        "from engines.images import ImageLimits, decode\n"
        "from engines.errors import FrameRejectedError\n"
        "for path in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    try: decode(path.read_bytes(), limits=ImageLimits())\n"
        "    except FrameRejectedError: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
