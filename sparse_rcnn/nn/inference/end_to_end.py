"""The detector as it is deployed: images in, detections out, no list, no dict and no NMS."""

from torch import Tensor, nn

from sparse_rcnn.nn.detector import whole_image_sizes
from sparse_rcnn.ops.detections import select_detections
from sparse_rcnn.ops.guards import require_count

__all__ = ["EndToEndDetector"]


class EndToEndDetector(nn.Module):
    """A detector and the choice of its detections as one module, to script, export or compile as one graph.

    Args:
        model: the detector, such as `SparseRCNN`; its last stage counts.
        max_detections: detections per image, D.

    Raises:
        ValueError: if `max_detections` is less than 1.
    """

    def __init__(self, model: nn.Module, max_detections: int = 100) -> None:
        super().__init__()
        require_count("max_detections", max_detections)
        self.model = model
        self.max_detections = max_detections
        self.training = model.training  # of this module only: parts of the model may have modes of their own

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Detections of a batch.

        Args:
            images: `[B, 3, H, W]` RGB, `uint8` 0..255 or floating 0..1, padded right and bottom.
            image_sizes: `[B, 2]` int64, true (height, width) of each image in the batch. None if no
                image is padded.

        Returns:
            boxes `[B, D, 4]` xyxy in pixels of the batch and clipped to the image, scores `[B, D]` in
            descending order, labels `[B, D]` int64. A plain tuple: a named one would need this package
            wherever an exported program is loaded.

        Raises:
            ValueError: as `SparseRCNN.forward`.
        """
        if image_sizes is None:
            image_sizes = whole_image_sizes(images)
        predictions = self.model(images, image_sizes)
        detections = select_detections(
            predictions.logits[-1],
            predictions.boxes[-1],
            image_sizes.to(images.device),
            self.max_detections,
        )
        return detections.boxes, detections.scores, detections.labels
