"""torchvision's detection interface around Sparse R-CNN: lists of images in, losses or detections out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparse_rcnn.loss.set_loss import set_prediction_loss
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.image_size import ImageSize, as_levels, resize_image
from sparse_rcnn.nn.inference.target_lists import pad_targets
from sparse_rcnn.ops.detections import select_detections
from sparse_rcnn.ops.resize import shortest_side_resize

__all__ = ["PAPER_SIZES", "ImageListDetector"]

PAPER_SIZES = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)


class ImageListDetector(nn.Module):
    """Sparse R-CNN with the interface of torchvision's detectors, for code such as its reference engine.

    The model's labels are 0..K-1, without a background class. If your labels are other numbers, such as
    COCO's category ids or 1..K, give `category_ids`. Targets and detections then both have these numbers.

    Args:
        model: The model.
        min_size: The wanted length of the shorter side in pixels, or several. Of several, training draws one
            per image, and evaluation takes the last. The default is that of the model's checkpoint, or else
            the paper's: 480, 512, ..., 800.
        max_size: The limit of the longer side in pixels. The default is that of the checkpoint, or else 1333.
        max_detections: Detections per image.
        score_threshold: Detections with a lower score are left out. Boxes without area always are.
        size_divisor: Height and width of a batch are padded to a multiple of it.
        category_ids: K different numbers, one for each label, such as `range(1, K + 1)` or the `category_ids`
            of a checkpoint.
        _skip_resize: Training images are already resized, as by torchvision's presets `multiscale` and `lsj`.
            The name is torchvision's.

    Raises:
        ValueError: If a size is less than 1, or a category id comes twice.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_proposals=5, num_stages=1, backbone_weights=None)
        >>> (found,) = ImageListDetector(model, min_size=64).eval()([torch.rand(3, 48, 64)])
        >>> sorted(found)
        ['boxes', 'labels', 'scores']
    """

    category_ids: Tensor

    def __init__(
        self,
        model: SparseRCNN,
        min_size: int | Sequence[int] | None = None,
        max_size: int | None = None,
        max_detections: int = 100,
        score_threshold: float = 0.0,
        size_divisor: int = 32,
        category_ids: Sequence[int] | None = None,
        _skip_resize: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        known: ImageSize | None = getattr(model, "image_size", None)
        if min_size is None:
            min_size = PAPER_SIZES if known is None else known.shortest_side
        if max_size is None:
            max_size = (known or ImageSize()).longest_side
        self.min_sizes = [min_size] if isinstance(min_size, int) else list(min_size)
        self.max_size = max_size
        self.max_detections = max_detections
        self.score_threshold = score_threshold
        self.size_divisor = size_divisor
        if len(self.min_sizes) == 0 or min(*self.min_sizes, max_size, max_detections, size_divisor) < 1:
            raise ValueError("min_size, max_size, max_detections and size_divisor must be at least 1")
        ids = [] if category_ids is None else list(category_ids)
        if len(set(ids)) < len(ids):
            raise ValueError(f"category_ids must be different numbers, got {ids}")
        self.register_buffer("category_ids", torch.tensor(ids, dtype=torch.int64), persistent=False)
        self.skip_resize = _skip_resize

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training mode, detections in evaluation mode.

        Args:
            images: RGB images `[3, H, W]` of any sizes, floating 0..1 or uint8. If the floating values are
                whole levels, as after reading a file, an image is resized as uint8: the scores are then
                equal.
            targets: One dict per image, with `boxes` `[M, 4]` xyxy in pixels of the image and `labels` `[M]`
                int64. Other entries are ignored. Only training mode needs targets.

        Returns:
            In training mode, a dict of scalar losses. Each is summed over the stages and divided by the
            number of targets of this call. Add them up for the total. In evaluation mode, a list with one
            dict per image: `boxes` `[D, 4]` in its pixels, `labels` `[D]` and `scores` `[D]`, best first.

        Raises:
            ValueError: If there are no images, an image or target is malformed, or targets are missing in
                training mode.
        """
        if len(images) == 0:
            raise ValueError("images must hold at least one image")
        for index, image in enumerate(images):
            if image.dim() != 3 or image.shape[0] != 3 or image.shape[1] < 1 or image.shape[2] < 1:
                raise ValueError(f"images[{index}] must be [3, H, W], got {image.shape}")
        original_sizes = torch.tensor([[image.shape[1], image.shape[2]] for image in images])
        batch, image_sizes = self._pad([self._resize(image) for image in images])
        if self.training:
            if targets is None:
                raise ValueError("targets must be given in training mode")
            return self._losses(batch, image_sizes, original_sizes, targets)
        return self._detections(batch, image_sizes, original_sizes)

    def _losses(
        self, batch: Tensor, image_sizes: Tensor, original_sizes: Tensor, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        boxes, labels, valid = pad_targets(targets, original_sizes, image_sizes, self.category_ids)
        device = batch.device
        predictions = self.model(batch, image_sizes)
        num_classes = predictions.logits.shape[-1]
        self._check_category_ids(num_classes)
        wrong = labels[(labels < 0) | (labels >= num_classes)]
        if len(wrong) > 0:
            # Checked here, on the CPU: on a GPU, such a label would be a device-side assertion.
            raise ValueError(
                f"labels must be in 0..{num_classes - 1}, got {int(wrong[0])}: "
                "for other labels, such as 1..K, give category_ids"
            )
        losses = set_prediction_loss(
            predictions.logits,
            predictions.boxes,
            boxes.to(device),
            labels.to(device),
            valid.to(device),
            image_sizes.to(device),
            num_targets=valid.sum(),
        )
        return {
            "loss_classification": losses.classification.sum(),
            "loss_l1": losses.l1.sum(),
            "loss_giou": losses.giou.sum(),
        }

    def _detections(
        self, batch: Tensor, image_sizes: Tensor, original_sizes: Tensor
    ) -> list[dict[str, Tensor]]:
        predictions = self.model(batch, image_sizes)
        self._check_category_ids(predictions.logits.shape[-1])
        detections = select_detections(
            predictions.logits[-1],
            predictions.boxes[-1],
            image_sizes.to(batch.device),
            self.max_detections,
            original_sizes.to(batch.device),
        )
        results: list[dict[str, Tensor]] = []
        for index in range(batch.shape[0]):
            boxes, scores = detections.boxes[index], detections.scores[index]
            labels = detections.labels[index]
            if len(self.category_ids) > 0:
                labels = self.category_ids[labels]
            kept = (scores >= self.score_threshold) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
            results.append({"boxes": boxes[kept], "labels": labels[kept], "scores": scores[kept]})
        return results

    def _check_category_ids(self, num_classes: int) -> None:
        if len(self.category_ids) not in (0, num_classes):
            raise ValueError(
                f"category_ids has {len(self.category_ids)} entries, but the model has {num_classes} classes"
            )

    def _resize(self, image: Tensor) -> Tensor:
        image = as_levels(image)
        if self.training and self.skip_resize:
            return image
        choice = int(torch.randint(len(self.min_sizes), [1])) if self.training else -1
        height, width = shortest_side_resize(
            image.shape[1], image.shape[2], self.min_sizes[choice], self.max_size
        )
        return resize_image(image, height, width)

    def _pad(self, images: list[Tensor]) -> tuple[Tensor, Tensor]:
        image_sizes = torch.tensor([[image.shape[1], image.shape[2]] for image in images])
        height = -(-int(image_sizes[:, 0].max()) // self.size_divisor) * self.size_divisor
        width = -(-int(image_sizes[:, 1].max()) // self.size_divisor) * self.size_divisor
        if any([image.is_floating_point() for image in images]):  # noqa: C419 - TorchScript has no generators
            images = [image if image.is_floating_point() else image.float() / 255 for image in images]
        batch = images[0].new_zeros([len(images), 3, height, width])
        for index, image in enumerate(images):
            batch[index, :, : image.shape[1], : image.shape[2]] = image
        return batch, image_sizes
