"""The other detectors of the paper's Table 1, with random weights: what they cost on the same inputs.

Each is called as `EndToEndDetector` is, so that all are counted and timed alike.
RetinaNet and Faster R-CNN are torchvision's, with Detectron2's levels; the DETRs are Hugging Face's and need
`pip install '.[peers]'`. Nothing is downloaded. Norms are frozen and outputs are 91, as published.

The last NMS of RetinaNet and Faster R-CNN finds next to nothing to suppress, unlike in trained detectors;
deformable attention is plain PyTorch, not the published CUDA kernel; counters of FLOPs see neither its gather
nor RoIAlign. Cascade R-CNN is missing: MMDetection and Detectron2, which have it, need compiled extensions.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import Bottleneck
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.transforms.v2.functional import to_dtype

from sparse_rcnn.ops import select_detections
from sparse_rcnn.ops.boxes import cxcywh_to_xyxy, whwh

OUTPUTS = 91
IMAGE_MEAN = [0.485, 0.456, 0.406]
IMAGE_STD = [0.229, 0.224, 0.225]

Found = tuple[Tensor, Tensor, Tensor]  # boxes [B, D, 4] xyxy in pixels, scores [B, D], labels [B, D]
Select = Callable[[Tensor, Tensor, Tensor], Found]  # of logits, boxes and image sizes


class KeepSize(GeneralizedRCNNTransform):
    """torchvision's normalisation and padding without its resizing, which the others do not have either."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """Both as they are."""
        return image, target


class ListPeer(nn.Module):
    """A detector of torchvision, which takes images in a list, without padding."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.model.transform = KeepSize(0, 0, IMAGE_MEAN, IMAGE_STD)

    def forward(self, images: Tensor, image_sizes: Tensor) -> Found:
        """Detections; where an image has fewer than another, zeros fill up.

        Args:
            images: `[B, 3, H, W]` RGB, `uint8` 0..255 or floating 0..1, padded right and bottom.
            image_sizes: `[B, 2]` int64, true (height, width) of each image in the batch.
        """
        pairs = zip(to_dtype(images, scale=True), image_sizes.tolist(), strict=True)
        detections = self.model([image[:, :height, :width] for image, (height, width) in pairs])
        columns = ([found[key] for found in detections] for key in ("boxes", "scores", "labels"))
        boxes, scores, labels = (pad_sequence(column, batch_first=True) for column in columns)
        return boxes, scores, labels


class MaskPeer(nn.Module):
    """A DETR of Hugging Face, which takes a mask of what is not padding."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, select: Select) -> None:
        super().__init__()
        self.model = model
        self.select = select
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(3, 1, 1))

    def forward(self, images: Tensor, image_sizes: Tensor) -> Found:
        """Detections; arguments as of `ListPeer`."""
        image_sizes = image_sizes.to(images.device)
        rows = torch.arange(images.shape[2], device=images.device) < image_sizes[:, :1]  # [B, H]
        columns = torch.arange(images.shape[3], device=images.device) < image_sizes[:, 1:]  # [B, W]
        inside = rows[:, :, None] & columns[:, None, :]  # [B, H, W]
        normalized = (to_dtype(images, scale=True) - self.mean) / self.std
        found = self.model(pixel_values=normalized * inside[:, None], pixel_mask=inside)
        boxes = cxcywh_to_xyxy(found.pred_boxes) * whwh(image_sizes)[:, None]
        return self.select(found.logits, boxes, image_sizes)


def select_by_query(logits: Tensor, boxes: Tensor, _: Tensor) -> Found:
    """DETR's detections: the likeliest class of each query; the last output is "no object"."""
    scores, labels = logits.softmax(dim=-1)[..., :-1].max(dim=-1)
    return boxes, scores, labels


def build_trunk(backbone: str, **options: Any) -> nn.Module:
    """ResNet and FPN. Residual blocks start as the identity, as in the DETRs.

    Otherwise the 33 of a ResNet-101 multiply the features until no proposal is left inside of the image,
    and the head of Faster R-CNN has nothing to do.
    """
    trunk: nn.Module = resnet_fpn_backbone(backbone_name=backbone, weights=None, **options)
    for block in trunk.modules():
        if isinstance(block, Bottleneck):
            nn.init.zeros_(block.bn3.weight)
    return trunk


def build_retinanet(backbone: str) -> nn.Module:
    """Five levels, the last two from the ResNet's last, and up to 100 detections, as in Detectron2."""
    trunk = build_trunk(backbone, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(2048, 256))
    return ListPeer(RetinaNet(trunk, OUTPUTS, detections_per_img=100)).eval().requires_grad_(False)


def build_faster_rcnn(backbone: str) -> nn.Module:
    """Five levels, up to 1000 proposals and up to 100 detections."""
    return ListPeer(FasterRCNN(build_trunk(backbone), OUTPUTS)).eval().requires_grad_(False)


def build_detr(name: str, select: Select, **options: Any) -> nn.Module:
    """A DETR of Hugging Face: "Detr" or "DeformableDetr", and options of its configuration.

    Raises:
        ImportError: if transformers or timm, from which it takes its ResNets, is not installed.
    """
    try:
        importlib.import_module("timm")
        library: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise ImportError(f"{error}; the DETRs need transformers and timm: pip install '.[peers]'") from error
    config = getattr(library, f"{name}Config")(num_labels=OUTPUTS, use_pretrained_backbone=False, **options)
    model = getattr(library, f"{name}ForObjectDetection")(config)
    return MaskPeer(model, select).eval().requires_grad_(False)


# By the names of the paper. DC5: the last level has stride 16. Deformable DETR is the one without refinement.
PEERS: dict[str, Callable[[], nn.Module]] = {
    "RetinaNet-R50": partial(build_retinanet, "resnet50"),
    "RetinaNet-R101": partial(build_retinanet, "resnet101"),
    "Faster R-CNN-R50": partial(build_faster_rcnn, "resnet50"),
    "Faster R-CNN-R101": partial(build_faster_rcnn, "resnet101"),
    "DETR-R50": partial(build_detr, "Detr", select_by_query),
    "DETR-R101": partial(build_detr, "Detr", select_by_query, backbone="resnet101"),
    "DETR-DC5-R50": partial(build_detr, "Detr", select_by_query, dilation=True),
    "DETR-DC5-R101": partial(build_detr, "Detr", select_by_query, backbone="resnet101", dilation=True),
    "Deformable DETR-R50": partial(build_detr, "DeformableDetr", select_detections),
}
