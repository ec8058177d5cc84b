from __future__ import annotations

import re

import numpy as np
import pytest

from engines import image_headers, images
from engines.errors import FrameRejectedError
from tests.hostile.messages import DECODE, Message
from tests.hostile.variants import LARGEST, all_variants, coarse, others

UNSUPPORTED = {
    "tiff": r"(grey|white is 0,) (2|4|32)\b.*|white is 0, (12|16)|(RGB|RGBA) (12|16) planar|float .*|signed .*|tiles"
    r"|Lab 16|CCITT .*|old JPEG|JPEG|NeXT|JBIG|JPEG 2000|LZMA|zstd|WebP|LERC",
}
"""What is refused though it is whole, by format."""

MEAN_ERROR = 4
"""Grey levels; five bits a colour lose 3.5, a JPEG less."""


def supported(name: str) -> bool:
    kind, _, rest = name.partition(" ")
    return not re.fullmatch(UNSUPPORTED.get(kind, "-"), rest)


def shown(name: str) -> np.ndarray:
    """The picture in as many grey levels as the variant has."""
    few = re.search(r"(?:grey|palette|is 0,|lengths) ([124])\b", name)
    bits = int(few[1]) if few else 8
    return coarse(bits).astype(float) * 255 / LARGEST[bits]


@pytest.mark.parametrize("name", all_variants())
def test_a_rare_kind_of_a_format_shows_its_picture_or_is_refused(name: str) -> None:
    message = Message(all_variants()[name])
    if not supported(name):
        with pytest.raises(FrameRejectedError) as refused:
            DECODE(message.frame())
        assert refused.value.reason == "undecodable"
        return
    image = DECODE(message.frame())
    assert image.shape == shown(name).shape
    assert float(np.abs(image - shown(name)).mean()) < MEAN_ERROR


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_samples_that_a_tiff_packs_have_the_depth_that_it_says(bits: int) -> None:
    """OpenCV brings them to 16 bits: the depth of data in 16-bit containers is not theirs."""
    image = images.decode(all_variants()[f"tiff grey {bits}<"], limits=images.ImageLimits(bit_depth=12))
    assert float(np.abs(image - shown("")).max()) <= 1


@pytest.mark.parametrize("name", others())
def test_other_formats_are_not_even_tried(name: str) -> None:
    with pytest.raises(FrameRejectedError) as refused:
        DECODE(Message(others()[name]).frame())
    assert refused.value.reason == "unknown-format"


def test_a_file_without_an_orientation_is_not_copied() -> None:
    for name in ("tiff deflate", "tiff orientation 1", "png grey 8"):
        value = all_variants()[name]
        assert image_headers.without_orientation(value, image_headers.read_header(value)) is value
