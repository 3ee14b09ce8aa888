"""A detector whose figures are not finite: an error, and not a picture without objects."""

from torch import Tensor

from parts.detector_file import Detect


class NotFiniteError(ValueError):
    """What a detector computes is not finite."""


def refuse_not_finite(detect: Detect, checkpoint: str) -> Detect:
    """The detector, which raises `NotFiniteError` in the place of results that are not finite.

    A NaN scores 0, so that it outranks nothing (`select_detections`): a score of exactly 0 at the top of an
    image is one.
    """

    def checked(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, labels = detect(images, image_sizes)
        if not (boxes.isfinite().all() and scores.isfinite().all() and (scores.amax(1) > 0).all()):
            raise NotFiniteError(
                f"boxes or scores are not finite: the weights in {checkpoint} are damaged or diverged"
            )
        return boxes, scores, labels

    return checked
