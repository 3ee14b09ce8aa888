"""Compares the results of an exported file with those of its model."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from sparse_rcnn.data.shapes.shape_drawing import draw_shapes
from sparse_rcnn.inference.batch import Detect, batch_of
from sparse_rcnn.inference.exported_file import read_exported
from sparse_rcnn.nn.image_size import resize_image
from sparse_rcnn.ops.resize import shortest_side_resize

__all__ = [
    "BOX_TOLERANCE",
    "SCORE_TOLERANCE",
    "Difference",
    "batches_of",
    "check_exported",
    "largest_differences",
]

SCORE_TOLERANCE = 1e-4
BOX_TOLERANCE = 1e-2  # pixels


def largest_differences(expected: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> tuple[float, float, int]:
    """The largest differences between two results.

    Two detections of nearly equal score may have exchanged their places. Their boxes and labels are not
    compared.

    Args:
        expected: Boxes [B, D, 4], scores [B, D] and labels [B, D].
        found: The same of the other result.

    Returns:
        The largest difference of scores, the largest difference of boxes in pixels, and the number of boxes
        that are not compared.

    Raises:
        ValueError: If the numbers of detections differ, compared labels differ, or a result is not finite.
    """
    boxes, scores, labels = (part.cpu() for part in expected)
    found_boxes, found_scores, found_labels = (part.cpu() for part in found)
    if scores.shape != found_scores.shape:
        raise ValueError(f"{tuple(found_scores.shape)} detections instead of {tuple(scores.shape)}")
    if not (found_scores.isfinite().all() and found_boxes.isfinite().all()):
        raise ValueError("detections are not finite")
    score = (scores - found_scores).abs().max().item()
    gap = (scores[:, :-1] - scores[:, 1:]) > 2 * score  # [B, D-1]
    nothing = torch.ones_like(scores[:, :1], dtype=torch.bool)
    # The last one may be another detection: the next one of nearly equal score is not in the list.
    clear = torch.cat((nothing, gap), dim=1) & torch.cat((gap, ~nothing), dim=1)  # [B, D]
    if not torch.equal(labels[clear], found_labels[clear]):
        raise ValueError("labels differ from the checkpoint's where their scores are apart")
    box = (boxes - found_boxes)[clear].abs()
    return score, box.max().item() if box.numel() else 0.0, int((~clear).sum())


def batches_of(photo: Tensor, shortest_side: int, longest_side: int) -> list[tuple[Tensor, Tensor]]:
    """Two batches: the photo in its usual size, and two smaller images of different sizes."""
    image = _resized(photo, shortest_side, longest_side)
    small = _resized(photo, max(64, shortest_side // 2), longest_side)
    # A part of the photo, mirrored. It is narrower, so the batch has padding.
    narrow = small[..., : max(40, small.shape[-1] * 2 // 3)].flip(-1)
    batches = []
    for images in ([image], [small, narrow]):
        batch = batch_of(images, [(photo.shape[1], photo.shape[2])] * len(images))
        batches.append((batch.images, batch.image_sizes))
    return batches


class Difference(NamedTuple):
    """The differences between two results of one batch.

    Attributes:
        batch: (B, H, W) of the images.
        score: The largest difference of scores.
        box: The largest difference of boxes in pixels.
        num_tied: The number of boxes that are not compared, since their scores are equal within rounding.
    """

    batch: tuple[int, int, int]
    score: float
    box: float
    num_tied: int


def check_exported(
    model: Detect, path: str | Path, device: torch.device, metadata: dict[str, Any], photo: Tensor | None
) -> list[Difference]:
    """Reads an exported file and compares it with its model, on batches of one and of two images.

    Args:
        model: The model that was exported.
        path: The file.
        device: The device of the model.
        metadata: The metadata with which it was exported.
        photo: [3, H, W] uint8. None draws shapes.

    Returns:
        The differences in each batch.

    Raises:
        ValueError: If scores or boxes differ by more than rounding, or labels differ.
    """
    exported, _ = read_exported(path, device)
    if photo is None:
        drawn, _ = draw_shapes(0, "val", 0, 640, 20)
        photo = rearrange(torch.from_numpy(drawn), "h w c -> c h w")
    found = []
    in_tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False  # TF32 rounds to 10 bits: it would differ, not the file
    try:
        for images, sizes in batches_of(photo, metadata["shortest_side"], metadata["longest_side"]):
            inputs = images.to(device), sizes.to(device)
            with torch.inference_mode():
                parts = largest_differences(model(*inputs), exported(*inputs))
            found.append(Difference((len(images), images.shape[2], images.shape[3]), *parts))
    except ValueError as error:
        raise ValueError(f"{path}: does not find what its checkpoint finds: {error}") from error
    finally:
        torch.backends.cudnn.allow_tf32 = in_tf32
    score, box = max(part.score for part in found), max(part.box for part in found)
    if not (score <= SCORE_TOLERANCE and box <= BOX_TOLERANCE):
        raise ValueError(
            f"{path}: differs from the checkpoint by {score:.1e} in a score and {box:.1e} px in a box; "
            f"{SCORE_TOLERANCE} and {BOX_TOLERANCE} px are accepted"
        )
    return found


def _resized(photo: Tensor, shortest_side: int, longest_side: int) -> Tensor:
    height, width = shortest_side_resize(photo.shape[1], photo.shape[2], shortest_side, longest_side)
    return resize_image(photo, height, width)
