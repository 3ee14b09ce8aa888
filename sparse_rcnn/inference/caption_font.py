"""The font of captions. PIL's own has the letters of ASCII only, and class names may have others."""

from collections.abc import Iterable
from functools import lru_cache

from PIL import ImageFont

__all__ = ["FONTS", "Font", "caption_font"]

# PIL looks for these in the folders of the system, on Linux, Windows and macOS.
FONTS = (
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "Hiragino Sans GB.ttc",
    "segoeui.ttf",
)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def caption_font(texts: Iterable[str], size: float) -> Font:
    """The first font that has most letters of some captions.

    Args:
        texts: The captions.
        size: Height of the letters in pixels.

    Returns:
        PIL's own font if it has all letters or no font of the system has more. Letters that are missing are
        drawn as empty boxes.

    Example:
        >>> caption_font(["cat 0.90"], 12).getname()[0]
        'Aileron'
    """
    return _font_of(frozenset("".join(texts)), size)


@lru_cache(maxsize=64)
def _font_of(letters: frozenset[str], size: float) -> Font:
    best = ImageFont.load_default(size)
    least = _num_missing(best, letters)
    for name in FONTS:
        if not least:
            break
        try:
            font = ImageFont.truetype(name, size)
        except OSError:  # this system does not have it
            continue
        if (missing := _num_missing(font, letters)) < least:
            best, least = font, missing
    return best


def _num_missing(font: Font, letters: Iterable[str]) -> int:
    """How many letters look like one that no font has."""
    blank = bytes(font.getmask("\U0010ffff"))
    return sum(not letter.isspace() and bytes(font.getmask(letter)) == blank for letter in letters)
