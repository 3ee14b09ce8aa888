"""Pictures of proposals: their boxes on an image, and their movement from stage to stage.

Boxes are xyxy divided by the image's size. Each proposal has the same colour in all stages.
"""

import colorsys
import math
from collections.abc import Iterator

import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from sparse_rcnn.inference.caption_font import caption_font
from sparse_rcnn.ops import clip_boxes, pairwise_iou, rescale_boxes

REST = "#909090"  # the colour of proposals without a caption, visible on white and on most photos
PROPOSALS = "proposals, before stage 1"
GAP = 8  # between panels, in pixels
MOVING_FRAMES, MOVING_MS, RESTING_MS = 5, 80, 1000


def draw_stages(
    photo: Image.Image,
    boxes_norm: Tensor,
    opacity: Tensor,
    captions: list[list[str]],
    stages: list[int],
    threshold: float,
) -> Image.Image:
    """The paper's figure 5: the proposals on white, and the boxes of some stages on the photo, side by side.

    Args:
        photo: the image.
        boxes_norm: `[L+1, N, 4]`, the proposals first.
        opacity: `[L+1, N]`.
        captions: of the N boxes at each of the L+1 times; empty for boxes below the threshold.
        stages: numbers of those to draw, 1 to L.
        threshold: as the panels' titles say it.
    """
    photo = _legible(photo, longest=1024)
    colors = _proposal_colors([captions[stage] for stage in stages])
    blank = Image.new("RGB", photo.size, "white")
    proposals = draw_proposals(blank, boxes_norm[0], opacity[0], colors, captions[0])
    panels = [_with_title(proposals, PROPOSALS)]
    for stage in stages:
        drawn = draw_proposals(photo, boxes_norm[stage], opacity[stage], colors, captions[stage])
        count = sum(caption != "" for caption in captions[stage])
        panels.append(_with_title(drawn, f"stage {stage}: {count} above {threshold:g}"))
    columns = min(4, len(panels))
    width, height = max(panel.width for panel in panels) + GAP, max(panel.height for panel in panels) + GAP
    size = (columns * width + GAP, math.ceil(len(panels) / columns) * height + GAP)
    sheet = Image.new("RGB", size, "white")
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        sheet.paste(panel, (GAP + column * width, GAP + row * height))
    return sheet


def moving_stages(
    photo: Image.Image, boxes_norm: Tensor, opacity: Tensor, captions: list[list[str]]
) -> Iterator[tuple[Image.Image, int]]:
    """Frames and how long each lasts in ms: every stage, and the straight way from one to the next.

    Arguments are those of `draw_stages`.
    """
    photo = _legible(photo, longest=640)
    colors = _proposal_colors(captions)
    for stage in range(len(boxes_norm)):
        for step in range(1, MOVING_FRAMES + 1) if stage > 0 else ():
            way = step / (MOVING_FRAMES + 1)
            boxes, alpha = (torch.lerp(x[stage - 1], x[stage], way) for x in (boxes_norm, opacity))
            moving = draw_proposals(photo, boxes, alpha, colors, [""] * len(colors))
            title = f"stage {stage - 1} > {stage}" if stage > 1 else "proposals > stage 1"
            yield _with_title(moving, title), MOVING_MS
        resting = draw_proposals(photo, boxes_norm[stage], opacity[stage], colors, captions[stage])
        yield _with_title(resting, f"stage {stage}" if stage > 0 else PROPOSALS), RESTING_MS


def draw_proposals(
    picture: Image.Image, boxes_norm: Tensor, opacity: Tensor, colors: list[str], captions: list[str]
) -> Image.Image:
    """The picture with a frame per proposal.

    Args:
        picture: what is drawn on a copy of.
        boxes_norm: `[N, 4]`; clipped to the picture, and left out where nothing remains.
        opacity: `[N]` of the frames, 0 to 1.
        colors: of the N frames.
        captions: of the N frames, opaque; empty for none.
    """
    picture = picture.copy()
    size, unit = torch.tensor([[picture.height, picture.width]]), torch.ones(1, 2)
    boxes = rescale_boxes(clip_boxes(boxes_norm[None], unit), unit, size)[0]  # [N, 4]
    font = caption_font(captions, max(13, max(picture.size) // 45))
    width = max(3, max(picture.size) // 240)
    draw = ImageDraw.Draw(picture, "RGBA")  # blends what it draws
    visible = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    order = [index for index in opacity.argsort(stable=True).tolist() if visible[index]]
    order.sort(key=lambda index: colors[index] != REST)  # grey ones below, and thin
    for index in order:
        x1, y1, x2, y2 = boxes[index].tolist()
        frame = (x1, y1, max(x1, min(x2, picture.width - 1)), max(y1, min(y2, picture.height - 1)))
        alpha = f"{round(255 * float(opacity[index])):02x}"
        thickness = 2 if colors[index] == REST else width
        draw.rectangle(frame, outline=colors[index] + alpha, width=thickness)
    taken = torch.zeros(0, 4)
    for index in reversed(order):
        if captions[index]:
            right, bottom = draw.textbbox((3, 2), captions[index], font=font)[2:]
            place = _caption_place(boxes[index], right + 3, bottom + 3, taken, size)
            taken = torch.cat([taken, place[None]])
            draw.rectangle(place.tolist(), fill=colors[index])
            red, green, blue = ImageColor.getrgb(colors[index])[:3]
            text = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 120 else "white"
            draw.text((float(place[0]) + 3, float(place[1]) + 2), captions[index], text, font)
    return picture


def _legible(picture: Image.Image, longest: int) -> Image.Image:
    """The picture enlarged by a whole factor if it is below 480 px, or reduced to a longest side."""
    side = max(picture.size)
    zoom = max(1, round(480 / side)) if side <= longest else longest / side
    size = (max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _proposal_colors(captions: list[list[str]]) -> list[str]:
    """A colour for each proposal that has a caption in any stage, and grey for the others."""
    colors, rank = [], 0
    for mine in zip(*captions, strict=True):
        # Steps of the golden section around the hue circle: colours stay different for any number.
        rgb = colorsys.hls_to_rgb((0.05 + rank * 0.618034) % 1, 0.6, 0.95)
        colors.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb) if any(mine) else REST)
        rank += any(mine)
    return colors


def _with_title(picture: Image.Image, title: str) -> Image.Image:
    """The picture below a line of text, and as wide as any title needs: frames must be of one size."""
    font = ImageFont.load_default(max(16, max(picture.size) // 28))
    length = font.getlength(title)
    right, bottom = font.getbbox(PROPOSALS)[2:]  # the widest, with letters that reach down
    width, height = math.ceil(max(picture.width, length, right)), math.ceil(bottom) + 2 * GAP
    left = (width - picture.width) // 2
    panel = Image.new("RGB", (width, picture.height + height), "white")
    panel.paste(picture, (left, height))
    draw = ImageDraw.Draw(panel)
    draw.rectangle((left, height, left + picture.width - 1, panel.height - 1), outline=REST)  # of a white one
    draw.text(((width - length) / 2, GAP), title, fill="black", font=font)
    return panel


def _caption_place(box: Tensor, width: float, height: float, taken: Tensor, size: Tensor) -> Tensor:
    """`[4]` at a corner of the box inside the picture: off other captions if possible, first above it."""
    x1, y1, x2, y2 = box.tolist()
    corners = [(x, y) for y in (y1 - height, y1, y2 - height, y2) for x in (x1, x2 - width)]
    places = torch.tensor([(x, y, x + width, y + height) for x, y in corners])  # [8, 4]
    limit = torch.stack([size[0, 1] - 1 - width, size[0, 0] - 1 - height]).clamp(min=0)
    inside = places[:, :2].clamp(min=0).minimum(limit)
    places = torch.cat([inside, inside + torch.tensor([width, height])], dim=1)
    return places[pairwise_iou(places, taken).sum(dim=1).argmin()]
