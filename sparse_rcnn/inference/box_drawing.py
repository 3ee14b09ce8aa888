"""Boxes drawn on an image, each with its class and score."""

from collections.abc import Iterator, Sequence

from einops import rearrange
from PIL import Image, ImageDraw
from torch import Tensor

from sparse_rcnn.inference.caption_font import caption_font

__all__ = ["COLORS", "COVERED", "LEGIBLE", "Rectangle", "draw_boxes"]

# Okabe and Ito's palette without black: the colours differ from each other and from most photos.
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
LEGIBLE = 480  # pixels: smaller images are enlarged
COVERED = 0.25  # of the picture at most: where captions cover more, nobody sees the objects
Rectangle = tuple[float, float, float, float]


def draw_boxes(
    image: Tensor,
    boxes: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    scores: Tensor | None = None,
) -> Image.Image:
    """Draws a frame and a caption for each box.

    The box with the highest score is on top. If possible, a caption covers no caption of a higher score.
    Captions cover at most a quarter of the picture: of many boxes, only those with the highest scores have
    one. Frames have a dark rim, so that they are visible on any background.

    Args:
        image: [3, H, W] uint8.
        boxes: [D, 4] xyxy in pixels of the image.
        labels: [D] int64.
        class_names: The K names, by label.
        scores: [D]. None: captions have no score, and the first box is on top.

    Returns:
        The picture. Images below 480 px are enlarged, so that captions are legible.

    Example:
        >>> image, boxes = torch.zeros(3, 240, 320, dtype=torch.uint8), torch.tensor([[9.0, 9.0, 90.0, 90.0]])
        >>> draw_boxes(image, boxes, torch.tensor([0]), ["cat"]).size
        (640, 480)
    """
    picture = Image.fromarray(rearrange(image, "c h w -> h w c").numpy())
    zoom = max(1, round(LEGIBLE / max(picture.size)))
    picture = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.LANCZOS)
    side = min(max(picture.size), 3 * min(picture.size))  # captions must fit into strips, too
    font = caption_font(class_names, max(12, side // 50))
    width = max(2, side // 200)
    draw = ImageDraw.Draw(picture)
    order = list(range(len(boxes))) if scores is None else scores.argsort(descending=True).tolist()
    corners = (boxes * zoom).tolist()
    captions: list[tuple[Rectangle, str, str]] = []
    room = COVERED * picture.width * picture.height
    for index in order:
        label = int(labels[index])
        text = class_names[label] if scores is None else f"{class_names[label]} {float(scores[index]):.2f}"
        _, _, right, bottom = draw.textbbox((0, 0), text, font=font)
        room -= (right + 4) * (bottom + 4)
        if captions and room < 0:
            break
        taken = [place for place, *_ in captions]
        place = _free_place(corners[index], (right + 4, bottom + 4), picture.size, taken)
        captions.append((place, text, COLORS[label % len(COLORS)]))
    for index in reversed(order):
        _frame(draw, corners[index], COLORS[int(labels[index]) % len(COLORS)], width)
    for place, text, color in reversed(captions):
        draw.rectangle(place, fill=color)
        draw.text((place[0] + 2, place[1] + 1), text, fill=_readable_on(color), font=font)
    return picture


def _frame(draw: ImageDraw.ImageDraw, box: Sequence[float], color: str, width: int) -> None:
    x1, y1, x2, y2 = box
    draw.rectangle((x1 - 1, y1 - 1, max(x1, x2) + 1, max(y1, y2) + 1), outline="black", width=width + 2)
    draw.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=color, width=width)


def _free_place(
    box: Sequence[float], size: tuple[float, float], limits: tuple[int, int], taken: list[Rectangle]
) -> Rectangle:
    """The place at a box, inside the picture, that covers the least of the places that are taken."""
    width, height = size
    best, least = None, float("inf")
    for x, y in _places(box, width, height):
        x = min(max(x, 0), max(limits[0] - 1 - width, 0))
        y = min(max(y, 0), max(limits[1] - 1 - height, 0))
        place = (x, y, x + width, y + height)
        covered = sum(_common_area(place, other) for other in taken)
        if covered < least:
            best, least = place, covered
        if covered == 0:
            break
    assert best is not None  # there is always a place
    return best


def _places(box: Sequence[float], width: float, height: float) -> Iterator[tuple[float, float]]:
    """Upper left corners of captions: first above, inside and below the box, then along its sides."""
    x1, y1, x2, y2 = box
    for y in (y1 - height, y1, y2, y2 - height):
        yield from ((x1, y), (x2 - width, y))
    for step in range(1, 21):
        for y in (y1 + step * height, y1 - (step + 1) * height):
            yield from ((x1, y), (x2 - width, y))


def _common_area(a: Rectangle, b: Rectangle) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return (width + 1) * (height + 1) if width >= 0 and height >= 0 else 0.0


def _readable_on(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "white"
