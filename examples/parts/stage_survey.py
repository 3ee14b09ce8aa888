"""What stages do with proposals over a data set: how far they move boxes, and where boxes end."""

import math
from pathlib import Path
from typing import NamedTuple, cast

import matplotlib
import torch
from torch import Tensor

from parts.progress import progress
from sparse_rcnn import SparseRCNN
from sparse_rcnn.data import DetectionDataset, UnreadableImageError, evaluation_transform
from sparse_rcnn.inference import Detector, NotFiniteError, batch_of
from sparse_rcnn.nn import EndToEndDetector
from sparse_rcnn.ops import box_area, clip_boxes, paired_iou, rescale_boxes, xyxy_to_cxcywh

matplotlib.use("Agg")

KINDS = {"small": "#2CA02C", "large, horizontal": "#D62728", "large, vertical": "#1F77B4"}  # DETR, figure 7
SMALL_AREA = 0.05  # of the image: boxes below are small, whatever their shape
UNIT = torch.ones(1, 2)  # the size of an image that boxes_norm refer to


class Refinement(NamedTuple):
    """The boxes of an image, the proposals first, and the best class of each at every stage."""

    boxes_norm: Tensor  # [L+1, N, 4] xyxy divided by the image's size, not clipped
    scores: Tensor  # [L, N]
    labels: Tensor  # [L, N]


class Survey(NamedTuple):
    """Means over images, and the boxes of the last stage with a score above the threshold."""

    iou: Tensor  # [L, N] of each stage's box with that of the stage before
    scores: Tensor  # [L, N]
    learned_norm: Tensor  # [N, 4]
    boxes_norm: list[Tensor]  # of each of N proposals [D, 4], clipped
    kinds: list[Tensor]  # of each of N proposals [D], indices into KINDS
    unreadable: list[str]  # what is wrong with images that are left out


def model_of(detector: Detector) -> SparseRCNN:
    """The model of a detector that was loaded from a checkpoint."""
    return cast(SparseRCNN, cast(EndToEndDetector, detector.module).model)


def refine(detector: Detector, image: Tensor, device: torch.device) -> Refinement:
    """What all stages make of an image ``[3, H, W]`` uint8, on the CPU."""
    model = model_of(detector)
    resized = evaluation_transform(detector.shortest_side, detector.longest_side)(image)
    batch = batch_of([resized], [(image.shape[1], image.shape[2])])
    with torch.inference_mode():
        sizes = batch.image_sizes.to(device)
        levels = model.pyramid(batch.images.to(device), sizes)
        proposals, features = model.proposals(sizes, levels)
        logits, boxes = model.head(levels, proposals, features)
    boxes = torch.cat([proposals[None], boxes]).cpu()  # [L+1, 1, N, 4]
    if not (boxes.isfinite().all() and logits.isfinite().all()):
        raise NotFiniteError("boxes or scores are not finite: its weights are damaged or diverged")
    scores, labels = logits[:, 0].float().sigmoid().cpu().max(dim=-1)  # [L, N]
    return Refinement(rescale_boxes(boxes, batch.image_sizes, UNIT)[:, 0], scores, labels)


def survey(
    detector: Detector, dataset: DetectionDataset, num_images: int, device: torch.device, threshold: float
) -> Survey:
    """Drift and places of proposals over the first images. Keeps sums, and boxes above the threshold."""
    iou = scores = torch.zeros(())
    learned, ends, unreadable = torch.zeros(0, 4), [], []
    for index in progress(range(num_images), unit="image"):
        try:
            image, _ = dataset[index]
        except UnreadableImageError as error:
            unreadable.append(str(error))
            continue
        try:
            boxes, found, _ = refine(detector, image, device)
        except NotFiniteError as error:
            raise NotFiniteError(f"{dataset.image_paths[index]}: {error}") from error
        iou = iou + paired_iou(boxes[1:], boxes[:-1]).double()  # [L, N]
        scores = scores + found.double()  # [L, N]
        learned, last = boxes[0], clip_boxes(boxes[-1:], UNIT)
        pixels = rescale_boxes(last, UNIT, torch.tensor([image.shape[1:]]))[0]
        width, height = (pixels[:, 2:] - pixels[:, :2]).unbind(1)  # [N]
        kinds = torch.where(box_area(last[0]) < SMALL_AREA, 0, torch.where(width >= height, 1, 2))
        kept = (found[-1] >= threshold) & (width > 0) & (height > 0)
        ends.append((kept.nonzero()[:, 0], last[0, kept], kinds[kept]))
    if not ends:
        raise UnreadableImageError(f"none of the images can be read; the first: {unreadable[0]}")
    iou, scores = iou / len(ends), scores / len(ends)
    proposals, boxes, kinds = (torch.cat(column) for column in zip(*ends, strict=True))
    mine = [proposals == proposal for proposal in range(len(learned))]
    boxes_of, kinds_of = [boxes[these] for these in mine], [kinds[these] for these in mine]
    return Survey(iou, scores, learned, boxes_of, kinds_of, unreadable)


def numbers_of(found: Survey) -> dict[str, object]:
    """A survey as plain data for JSON: per stage and proposal, and per proposal."""
    columns = zip(found.learned_norm, found.boxes_norm, found.kinds, strict=True)
    return {
        "mean_iou_with_stage_before": found.iou.mean(1).tolist(),
        "mean_score": found.scores.mean(1).tolist(),
        "iou_with_stage_before": found.iou.tolist(),
        "score": found.scores.tolist(),
        "proposals": [
            {
                "learned_box_norm": learned.tolist(),
                "count": len(boxes),
                **{kind: int((kinds == index).sum()) for index, kind in enumerate(KINDS)},
                "boxes_norm": [[round(x, 4) for x in box] for box in boxes.tolist()],
            }
            for learned, boxes, kinds in columns
        ],
    }


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
