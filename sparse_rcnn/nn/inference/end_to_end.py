"""The detector for deployment: images in, detections out, without lists, dicts or NMS."""

from torch import Tensor, nn

from sparse_rcnn.nn.detector import whole_image_sizes
from sparse_rcnn.ops.argument_checks import require_count
from sparse_rcnn.ops.detections import select_detections

__all__ = ["EndToEndDetector"]


class EndToEndDetector(nn.Module):
    """A model and the choice of its detections in one module. It scripts, exports and compiles as one graph.

    Args:
        model: The model, such as `SparseRCNN`. Its last stage gives the detections.
        max_detections: Detections per image, D.

    Raises:
        ValueError: If `max_detections` is less than 1.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_proposals=5, num_stages=1, backbone_weights=None)
        >>> boxes, scores, labels = EndToEndDetector(model.eval())(torch.zeros(1, 3, 64, 64))
        >>> boxes.shape
        torch.Size([1, 100, 4])
    """

    def __init__(self, model: nn.Module, max_detections: int = 100) -> None:
        super().__init__()
        require_count("max_detections", max_detections)
        self.model = model
        self.max_detections = max_detections
        self.training = model.training  # set on this module only: parts of the model may have other modes

    def forward(self, images: Tensor, image_sizes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Detections of a batch.

        Args:
            images: `[B, 3, H, W]` RGB, `uint8` 0..255 or floating 0..1, padded right and bottom.
            image_sizes: `[B, 2]` int64, true (height, width) of each image in the batch. None if no
                image is padded.

        Returns:
            Boxes `[B, D, 4]` xyxy in pixels of the batch and clipped to the image, scores `[B, D]` in
            descending order, and labels `[B, D]` int64. This is a plain tuple: to load an exported program
            with a named tuple, one would need this package.

        Raises:
            ValueError: As in `SparseRCNN.forward`.
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
