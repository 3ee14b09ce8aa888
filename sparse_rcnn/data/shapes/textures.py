"""Random textures, of which backgrounds and shapes are drawn."""

import numpy as np
from PIL import Image

__all__ = ["TEXTURES", "draw_texture"]

TEXTURES = ("stripes", "checker", "noise", "gradient")


def draw_texture(
    random: np.random.Generator,
    height: int,
    width: int,
    colour: np.ndarray,
    amplitude: float,
    period: tuple[float, float],
) -> np.ndarray:
    """Draws a texture of two tones around a colour.

    Args:
        random: The generator of the image.
        height: Height in pixels.
        width: Width in pixels.
        colour: [3] in 0..1.
        amplitude: The largest difference between the tones.
        period: The least and the largest period of the pattern in pixels.

    Returns:
        [height, width, 3] float32. Values may exceed 0..1.
    """
    kind = TEXTURES[int(random.integers(len(TEXTURES)))]
    angle, phase = random.uniform(0, np.pi), random.uniform(0, 1, 2)
    scale = random.uniform(*period)
    across, down = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    if kind == "noise":
        cells = random.random((int(height / scale * 2) + 2, int(width / scale * 2) + 2), dtype=np.float32)
        mix = np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BILINEAR))
    else:
        along = (np.float32(np.cos(angle)) * across + np.float32(np.sin(angle)) * down) / np.float32(scale)
        if kind == "gradient":
            mix = (along - along.min()) / (along.max() - along.min() + np.float32(1e-6))
        elif kind == "stripes":
            mix = ((along + phase[0]) % 1 < 0.5).astype(np.float32)
        else:
            beside = (np.float32(-np.sin(angle)) * across + np.float32(np.cos(angle)) * down) / np.float32(
                scale
            )
            mix = (((along + phase[0]) % 1 < 0.5) ^ ((beside + phase[1]) % 1 < 0.5)).astype(np.float32)
    direction = random.standard_normal(3)
    tone = (amplitude * random.uniform(0.5, 1) * direction / np.linalg.norm(direction)).astype(np.float32)
    return colour.astype(np.float32) + (mix[:, :, None] - np.float32(0.5)) * tone
