"""Raises an error if boxes or scores of a detector are not finite."""

from torch import Tensor

from parts.detector_file import Detect


class NotFiniteError(ValueError):
    """Boxes or scores of a detector are not finite."""


def refuse_not_finite(detect: Detect, checkpoint: str) -> Detect:
    """The detector. It raises `NotFiniteError` if its results are not finite.

    `select_detections` gives a NaN the score 0. So if the best score of an image is exactly 0, it is NaN.
    """

    def checked(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, labels = detect(images, image_sizes)
        if not (boxes.isfinite().all() and scores.isfinite().all() and (scores.amax(1) > 0).all()):
            raise NotFiniteError(
                f"boxes or scores are not finite: the weights in {checkpoint} are damaged or diverged"
            )
        return boxes, scores, labels

    return checked
