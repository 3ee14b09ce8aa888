"""From the last stage's predictions to detections: the best scores, without NMS (paper, section 3.2).

As in the published inference, all N*K sigmoid scores of an image form one list. The best of them win.
"""

from typing import NamedTuple

from torch import Tensor

from sparse_rcnn.ops.argument_checks import require_boxes, require_count, require_real, require_sizes
from sparse_rcnn.ops.boxes import at_least_float32, clip_boxes, rescale_boxes

__all__ = ["Detections", "select_detections"]


class Detections(NamedTuple):
    """Detections of a batch, best first.

    Attributes:
        boxes: `[B, D, 4]` xyxy in pixels.
        scores: `[B, D]` in [0, 1].
        labels: `[B, D]` int64 in 0..K-1.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def select_detections(
    logits: Tensor,
    boxes: Tensor,
    image_sizes: Tensor,
    max_detections: int = 100,
    original_sizes: Tensor | None = None,
) -> Detections:
    """The best of all N*K scores of each image, with their boxes.

    Args:
        logits: `[B, N, K]` of one stage, usually the last.
        boxes: `[B, N, 4]` xyxy in pixels of the padded batch.
        image_sizes: `[B, 2]` true (height, width) of each image in the batch. Boxes are clipped to it.
        max_detections: The number of detections, D. If N*K is less, D is N*K.
        original_sizes: `[B, 2]` (height, width) before resizing. If given, boxes are in its pixels.

    Returns:
        The detections, best first. A NaN logit has score 0.

    Raises:
        ValueError: If the shapes do not fit, a size is not positive, or `max_detections` is less than 1.

    Example:
        >>> logits, boxes = torch.tensor([[[2.0, -1.0], [0.0, 3.0]]]), torch.tensor([[[0.0, 0, 9, 9]] * 2])
        >>> select_detections(logits, boxes, torch.tensor([[8, 8]]), max_detections=2).labels
        tensor([[1, 0]])
    """
    require_real("logits", logits)
    require_boxes("boxes", boxes)
    require_sizes("image_sizes", image_sizes)
    if original_sizes is not None:
        require_sizes("original_sizes", original_sizes)
    if logits.dim() != 3 or boxes.shape != (logits.shape[0], logits.shape[1], 4):
        raise ValueError(
            f"logits must be [B, N, K] and boxes [B, N, 4], got {logits.shape} and {boxes.shape}"
        )
    if list(image_sizes.shape) != [logits.shape[0], 2]:
        raise ValueError(f"image_sizes must be [{logits.shape[0]}, 2], got {image_sizes.shape}")
    if original_sizes is not None and list(original_sizes.shape) != [logits.shape[0], 2]:
        raise ValueError(f"original_sizes must be [{logits.shape[0]}, 2], got {original_sizes.shape}")
    require_count("max_detections", max_detections)
    require_count("the number of classes in logits", logits.shape[2])
    num_proposals, num_classes = logits.shape[1], logits.shape[2]
    scores = at_least_float32(logits).sigmoid().nan_to_num(0.0).flatten(1)  # [B, N*K]
    scores, index = scores.topk(min(max_detections, num_proposals * num_classes), dim=1)  # [B, D]
    proposal = (index // num_classes)[..., None].expand(-1, -1, 4)  # [B, D, 4]
    boxes = clip_boxes(at_least_float32(boxes).gather(1, proposal), image_sizes)
    if original_sizes is not None:
        boxes = rescale_boxes(boxes, image_sizes, original_sizes)
    return Detections(boxes, scores, index % num_classes)
