"""Draws boxes on an image, each with its class and score."""

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

# Colours that are easy to distinguish on most photos (Okabe & Ito's palette without black).
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


def draw_boxes(
    image: Tensor, boxes: Tensor, labels: Tensor, class_names: list[str], scores: Tensor | None = None
) -> Image.Image:
    """The image with a frame and a caption per box. Images below 480 px are enlarged."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    zoom = max(1, round(480 / max(picture.size)))
    picture = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.LANCZOS)
    size = max(picture.size)
    font = ImageFont.load_default(max(12, size // 50))
    width = max(2, size // 200)
    draw = ImageDraw.Draw(picture)
    # Small boxes last, so that no caption of a large one hides them.
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for index in areas.argsort(descending=True).tolist():
        x1, y1, x2, y2 = (boxes[index] * zoom).tolist()
        label = int(labels[index])
        color = COLORS[label % len(COLORS)]
        draw.rectangle((x1, y1, x2, y2), outline=color, width=width)
        caption = class_names[label] if scores is None else f"{class_names[label]} {float(scores[index]):.2f}"
        _, _, right, bottom = draw.textbbox((0, 0), caption, font=font)
        # Above the box, or inside it where the image ends.
        x = min(max(x1, 0), max(picture.width - right - 4, 0))
        y = y1 - bottom - 4 if y1 > bottom + 4 else y1
        draw.rectangle((x, y, x + right + 4, y + bottom + 4), fill=color)
        draw.text((x + 2, y + 1), caption, fill="black", font=font)
    return picture
