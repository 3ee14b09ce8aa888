"""Images of 16 bits per channel: their upper 8 bits are read."""

import re
from typing import Any

import numpy as np
from PIL import ExifTags, Image

__all__ = ["SCALE", "has_16_bits", "refuse_unused_bits", "upper_bits"]

SCALE = (
    "scale all images alike, where MOST is their largest value: "
    "cv2.imwrite(new, (cv2.imread(old, cv2.IMREAD_UNCHANGED) * (255 / MOST)).astype('uint8'))"
)
_SIGNED_FORMATS = ("FITS", "MCIDAS")  # their 16 bits may have a sign, which Pillow does not read
# Pillow's names for 16 bits per channel. It takes the upper 8 bits of colours. It scales other depths.
_UPPER_BYTES = re.compile(r";16[BLN](?!S)|SGI16")
_UNUSED_BITS = 64  # below 64 of 256: two of 16 bits are never used, and the picture is four times too dark


def has_16_bits(image: Image.Image) -> bool:
    """Whether an image, or the file that has just been opened, has 16 bits per channel, of 0..65535."""
    if image.format in _SIGNED_FORMATS:
        return False
    if image.mode.startswith("I;16"):
        return True
    return _UPPER_BYTES.search(repr(getattr(image, "tile", ""))) is not None


def upper_bits(image: Image.Image, source: Image.Image) -> Image.Image:
    """The upper 8 bits of grey values of 16 bits.

    Args:
        image: The grey image, upright.
        source: The same image as it was opened, with its tags.

    Returns:
        A grey image of 8 bits.
    """
    upper = (np.asarray(image) >> 8).astype(np.uint8)
    # Pillow turns the values of a TIFF file in which 0 is white for 8 bits, but not for 16.
    is_negative = getattr(source, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0
    return Image.fromarray(255 - upper if is_negative else upper)


def refuse_unused_bits(pixels: np.ndarray[Any, Any]) -> None:
    """Raises ValueError if the upper bits of 16 are never used. `pixels` has the upper 8 of them."""
    if pixels.max() < _UNUSED_BITS:
        raise ValueError(
            "it has 16 bits per channel, but its values use 14 or less, so the image would be nearly black; "
            + SCALE
        )
