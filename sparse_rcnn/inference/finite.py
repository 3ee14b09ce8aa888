"""Raises an error if boxes or scores of a detector are not finite."""

from torch import Tensor

from sparse_rcnn.inference.batch import Detect

__all__ = ["NotFiniteError", "refuse_not_finite"]


class NotFiniteError(ValueError):
    """Boxes or scores of a detector are not finite."""


def refuse_not_finite(detect: Detect, checkpoint: str) -> Detect:
    """The detector. It raises `NotFiniteError` if its results are not finite.

    A NaN scores 0, so that it outranks nothing (``select_detections``): a score of exactly 0 at the top of an
    image is one.

    Args:
        detect: As for `detect_batch`.
        checkpoint: Its file, for the message.
    """

    def checked(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, labels = detect(images, image_sizes)
        if not (boxes.isfinite().all() and scores.isfinite().all() and (scores.amax(1) > 0).all()):
            raise NotFiniteError(
                f"boxes or scores are not finite: the weights in {checkpoint} are damaged or diverged"
            )
        return boxes, scores, labels

    return checked
