"""Pictures of proposals: their boxes on an image, their movement, and their final places.

Boxes are xyxy divided by the image's size. Each proposal has the same colour in all stages.
"""

import colorsys
import math
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from sparse_rcnn.ops import clip_boxes, pairwise_iou, rescale_boxes, xyxy_to_cxcywh

matplotlib.use("Agg")

KINDS = {"small": "#2CA02C", "large, horizontal": "#D62728", "large, vertical": "#1F77B4"}  # DETR, figure 7
REST = "#909090"  # the colour of proposals without a caption, visible on white and on most photos
LEARNED = "learned proposal boxes"
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
    """The paper's figure 5: the learned boxes on white, and those of some stages on the photo, side by side.

    Args:
        photo: the image.
        boxes_norm: `[L+1, N, 4]`, the learned ones first.
        opacity: `[L+1, N]`.
        captions: of the N boxes at each of the L+1 times; empty for boxes below the threshold.
        stages: numbers of those to draw, 1 to L.
        threshold: as the panels' titles say it.
    """
    photo = _legible(photo, longest=1024)
    colors = _proposal_colors([captions[stage] for stage in stages])
    blank = Image.new("RGB", photo.size, "white")
    learned = draw_proposals(blank, boxes_norm[0], opacity[0], colors, captions[0])
    panels = [_with_title(learned, LEARNED)]
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
            title = f"stage {stage - 1} > {stage}" if stage > 1 else "learned > stage 1"
            yield _with_title(moving, title), MOVING_MS
        resting = draw_proposals(photo, boxes_norm[stage], opacity[stage], colors, captions[stage])
        yield _with_title(resting, f"stage {stage}" if stage > 0 else LEARNED), RESTING_MS


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
    font = ImageFont.load_default(max(13, max(picture.size) // 45))
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


def plot_drift(path: Path, iou: Tensor, scores: Tensor) -> None:
    """IoU of each stage's boxes with those before it, and scores: `[L, N]` each, means over images."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    stages = list(range(1, len(iou) + 1))
    titles = ("IoU with the box of the stage before\n(of stage 1: with the learned box)", "best score")
    for axes, values, title in zip(panels, (iou, scores), titles, strict=True):
        lines = axes.plot(stages, values.numpy(), ".-", color="#56B4E9", linewidth=0.8, alpha=0.5)
        lines[0].set_label(f"each of {iou.shape[1]} proposals, mean over images")
        mean = values.mean(1).numpy()
        axes.plot(stages, mean, "o-", color="black", linewidth=3, label="mean over proposals")
        axes.set(xlabel="stage", xticks=stages, ylim=(0, 1), title=title)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def plot_places(
    path: Path,
    learned_norm: Tensor,
    boxes_norm: list[Tensor],
    kinds: list[Tensor],
    order: list[int],
    caption: str,
) -> None:
    """The final places of proposals, one panel for each, as figure 7 of DETR (Carion et al. 2020).

    Args:
        path: where to.
        learned_norm: `[N, 4]`.
        boxes_norm: of each of the N proposals, `[D, 4]`.
        kinds: of each of the N proposals, `[D]` indices into `KINDS`.
        order: proposals to show.
        caption: above all.
    """
    from matplotlib import pyplot

    columns = min(5, len(order))
    rows = math.ceil(len(order) / columns)
    inches = (max(7, 2.2 * columns), 2.4 * rows + 1.2)
    figure, panels = pyplot.subplots(rows, columns, figsize=inches, layout="constrained", squeeze=False)
    for axes in panels.flat[len(order) :]:
        axes.axis("off")
    for axes, proposal in zip(panels.flat, order, strict=False):
        x1, y1, x2, y2 = clip_boxes(learned_norm[None, proposal, None], torch.ones(1, 2))[0, 0].tolist()
        outline = pyplot.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, linestyle="--", linewidth=1.5)
        axes.add_patch(outline)
        centers = xyxy_to_cxcywh(boxes_norm[proposal])  # [D, 4]
        for kind, color in enumerate(KINDS.values()):
            x, y, _, _ = centers[kinds[proposal] == kind].unbind(1)
            size = 9 if len(centers) < 300 else 3
            axes.scatter(x.numpy(), y.numpy(), s=size, color=color, alpha=0.6, linewidths=0)
        axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], aspect="equal")
        axes.set_title(f"proposal {proposal}: {len(centers)} boxes", fontsize=9)
    handles = [
        pyplot.Line2D([], [], linestyle="", marker="o", color=color, label=kind)
        for kind, color in KINDS.items()
    ]
    handles.append(pyplot.Line2D([], [], linestyle="--", color="black", label="learned box"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle(caption, fontsize=10)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


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
    right, bottom = font.getbbox(LEARNED)[2:]  # the widest, with letters that reach down
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
