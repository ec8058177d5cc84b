"""One colour per defect class, the same in overlays, in the report's map and in its legend."""

from __future__ import annotations

from dataclasses import dataclass

# Okabe and Ito's colours ("Color Universal Design", 2008). Of all sets of four without blue, which is too dark on
# steel, the first four are furthest apart for normal, protan, deutan and tritan eyes (CIE76 under Machado 2009).
_CLASS_COLOURS = ("#56B4E9", "#F0E442", "#D55E00", "#CC79A7", "#009E73", "#E69F00", "#0072B2")


@dataclass(frozen=True, slots=True)
class Colour:
    """An sRGB colour, 0-255 a channel."""

    red: int
    green: int
    blue: int

    @property
    def bgr(self) -> tuple[int, int, int]:
        """In OpenCV's order."""
        return self.blue, self.green, self.red

    @property
    def css(self) -> str:
        """As CSS and SVG write it."""
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"

    @property
    def ink(self) -> Colour:
        """Black or white, whichever reads better on this colour (WCAG 2 relative luminance)."""
        linear = [
            value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4
            for value in (self.red / 255, self.green / 255, self.blue / 255)
        ]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        # The two contrasts, (1.05)/(L+0.05) for white and (L+0.05)/0.05 for black, are equal at 0.179.
        return BLACK if luminance > 0.179 else WHITE


BLACK = Colour(0, 0, 0)
WHITE = Colour(255, 255, 255)


def class_colour(class_id: int) -> Colour:
    """The colour of a class, numbered from 1; classes beyond the seventh share colours with earlier ones."""
    text = _CLASS_COLOURS[(class_id - 1) % len(_CLASS_COLOURS)]
    return Colour(int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16))
