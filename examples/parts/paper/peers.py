"""The other detectors of the paper's Table 1, with random weights, for their costs on the same inputs.

All detectors are called like `EndToEndDetector`, so they are counted and timed in the same way. RetinaNet and
Faster R-CNN come from torchvision, with Detectron2's levels. The DETRs come from Hugging Face and need
`pip install '.[peers]'`. Nothing is downloaded. Norms are frozen, and there are 91 outputs, as published.

Four differences remain. With random weights, the last NMS of RetinaNet and Faster R-CNN suppresses almost
nothing. Deformable attention is plain PyTorch, not the published CUDA kernel. The counter of FLOPs counts
neither its gather nor RoIAlign. Cascade R-CNN is missing, since MMDetection and Detectron2 need compiled
extensions.
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
    """torchvision's normalisation and padding, without resizing. The other detectors do not resize either."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """Returns both unchanged."""
        return image, target


class ListPeer(nn.Module):
    """A detector of torchvision. It takes a list of images without padding."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.model.transform = KeepSize(0, 0, IMAGE_MEAN, IMAGE_STD)

    def forward(self, images: Tensor, image_sizes: Tensor) -> Found:
        """The detections. If an image has fewer than another, zeros are added.

        Args:
            images: `[B, 3, H, W]` RGB, `uint8` 0..255 or floating 0..1, padded right and bottom.
            image_sizes: `[B, 2]` int64, the true height and width of each image.
        """
        pairs = zip(to_dtype(images, scale=True), image_sizes.tolist(), strict=True)
        detections = self.model([image[:, :height, :width] for image, (height, width) in pairs])
        columns = ([found[key] for found in detections] for key in ("boxes", "scores", "labels"))
        boxes, scores, labels = (pad_sequence(column, batch_first=True) for column in columns)
        return boxes, scores, labels


class MaskPeer(nn.Module):
    """A DETR of Hugging Face. It takes a mask that is true outside of the padding."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, select: Select) -> None:
        super().__init__()
        self.model = model
        self.select = select
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(3, 1, 1))

    def forward(self, images: Tensor, image_sizes: Tensor) -> Found:
        """The detections. The arguments are those of `ListPeer`."""
        image_sizes = image_sizes.to(images.device)
        rows = torch.arange(images.shape[2], device=images.device) < image_sizes[:, :1]  # [B, H]
        columns = torch.arange(images.shape[3], device=images.device) < image_sizes[:, 1:]  # [B, W]
        inside = rows[:, :, None] & columns[:, None, :]  # [B, H, W]
        normalized = (to_dtype(images, scale=True) - self.mean) / self.std
        found = self.model(pixel_values=normalized * inside[:, None], pixel_mask=inside)
        boxes = cxcywh_to_xyxy(found.pred_boxes) * whwh(image_sizes)[:, None]
        return self.select(found.logits, boxes, image_sizes)


def select_by_query(logits: Tensor, boxes: Tensor, _: Tensor) -> Found:
    """DETR's detections: the likeliest class of each query. The last output means "no object"."""
    scores, labels = logits.softmax(dim=-1)[..., :-1].max(dim=-1)
    return boxes, scores, labels


def build_trunk(backbone: str, **options: Any) -> nn.Module:
    """ResNet and FPN. Residual blocks start as the identity, as in the DETRs.

    Without this, the 33 blocks of a ResNet-101 make the features so large that no proposal stays inside the
    image, and the head of Faster R-CNN has no work.
    """
    trunk: nn.Module = resnet_fpn_backbone(backbone_name=backbone, weights=None, **options)
    for block in trunk.modules():
        if isinstance(block, Bottleneck):
            nn.init.zeros_(block.bn3.weight)
    return trunk


def build_retinanet(backbone: str) -> nn.Module:
    """RetinaNet with five levels and up to 100 detections, as in Detectron2.

    The last two levels come from the last level of the ResNet.
    """
    trunk = build_trunk(backbone, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(2048, 256))
    return ListPeer(RetinaNet(trunk, OUTPUTS, detections_per_img=100)).eval().requires_grad_(False)


def build_faster_rcnn(backbone: str) -> nn.Module:
    """Faster R-CNN with five levels, up to 1000 proposals and up to 100 detections."""
    return ListPeer(FasterRCNN(build_trunk(backbone), OUTPUTS)).eval().requires_grad_(False)


def build_detr(name: str, select: Select, **options: Any) -> nn.Module:
    """A DETR of Hugging Face.

    Args:
        name: "Detr" or "DeformableDetr".
        select: A function that selects detections.
        options: Options of its configuration.

    Raises:
        ImportError: If transformers or timm is not installed. timm has the ResNets.
    """
    try:
        importlib.import_module("timm")
        library: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise ImportError(f"{error}; the DETRs need transformers and timm: pip install '.[peers]'") from error
    config = getattr(library, f"{name}Config")(num_labels=OUTPUTS, use_pretrained_backbone=False, **options)
    model = getattr(library, f"{name}ForObjectDetection")(config)
    return MaskPeer(model, select).eval().requires_grad_(False)


# The names are those of the paper. DC5: the last level has stride 16. Deformable DETR has no box refinement.
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
