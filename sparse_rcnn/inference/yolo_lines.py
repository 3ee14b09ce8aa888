"""Detections as the lines of YOLO's label files."""

from torch import Tensor

__all__ = ["yolo_lines"]


def yolo_lines(boxes: Tensor, scores: Tensor, labels: Tensor, image_size: tuple[int, int]) -> str:
    """A line for each object: label, centre x and y, width, height (0..1 of the photo), score.

    Args:
        boxes: [D, 4] xyxy in pixels of the photo.
        scores: [D] in 0..1.
        labels: [D] int64.
        image_size: (height, width) of the photo in pixels.

    Returns:
        D lines.

    Example:
        >>> from torch import tensor
        >>> print(yolo_lines(tensor([[0, 0, 4, 2.0]]), tensor([0.5]), tensor([3]), (8, 8)), end="")
        3 0.250000 0.125000 0.500000 0.250000 0.5000
    """
    height, width = image_size
    return "".join(
        f"{label} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} "
        f"{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f} {score:.4f}\n"
        for (x1, y1, x2, y2), score, label in zip(
            boxes.tolist(), scores.tolist(), labels.tolist(), strict=True
        )
    )
