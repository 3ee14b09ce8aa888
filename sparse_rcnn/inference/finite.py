"""Raises an error if boxes or scores of a detector are not finite."""

from torch import Tensor

from sparse_rcnn.inference.batch import Detect

__all__ = ["NotFiniteError", "refuse_not_finite"]


class NotFiniteError(ValueError):
    """Boxes or scores of a detector are not finite.

    Example:
        >>> issubclass(NotFiniteError, ValueError)
        True
    """


def refuse_not_finite(detect: Detect, checkpoint: str) -> Detect:
    """Makes a detector raise an error if its results are not finite.

    `select_detections` gives a NaN the score 0, so that it is the last. If the best score of an image is
    exactly 0, it was a NaN.

    Args:
        detect: The detector, as for `detect_batch`.
        checkpoint: Its file, for the message.

    Returns:
        The detector with that check.

    Raises:
        NotFiniteError: By the detector that is returned.

    Example:
        >>> import torch
        >>> def detect(images, sizes):
        ...     return torch.zeros(1, 1, 4), torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.int64)
        >>> refuse_not_finite(detect, "mine.pth")(torch.zeros(1, 3, 32, 32), torch.tensor([[32, 32]]))
        Traceback (most recent call last):
        sparse_rcnn.inference.finite.NotFiniteError: boxes or scores are not finite: ...
    """

    def checked(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, labels = detect(images, image_sizes)
        if not (boxes.isfinite().all() and scores.isfinite().all() and (scores.amax(1) > 0).all()):
            raise NotFiniteError(
                f"boxes or scores are not finite: the weights in {checkpoint} are damaged or diverged"
            )
        return boxes, scores, labels

    return checked
