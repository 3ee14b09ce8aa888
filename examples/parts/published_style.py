"""Sparse R-CNN in the style of the published code, with this library's weights. benchmark.py measures both.

The results are the same. The computation follows the authors' and mmdetection's repositories:

- Images are normalised one by one.
- Frozen batch norms follow their convolutions.
- Proposals are repeated for each image.
- RoIs are pooled level by level, with indices that depend on the data.
- Attention also returns its weights.
- The loss goes through stages and images one by one. It takes the diagonal of all pairs of boxes.

Do not use it for other purposes: it is slower and not one graph.
"""

from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou, roi_align, sigmoid_focal_loss

from sparse_rcnn import SparseRCNN
from sparse_rcnn.ops import apply_deltas, assign_levels, cxcywh_to_xyxy

STRIDES = (4, 8, 16, 32)


class PublishedStyle(nn.Module):
    """The detector around the parameters of a `SparseRCNN`.

    Args:
        model: The model. Its parameters are used, not copied. Its backbone is a ResNet of bottlenecks with
            frozen norms.
    """

    def __init__(self, model: SparseRCNN) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Logits `[B, N, K]` and boxes `[B, N, 4]` of every stage, for images `[3, h, w]` in 0..255."""
        normalized = [(image.float() - self.model.pixel_mean) / self.model.pixel_std for image in images]
        height, width = (-(-max(image.shape[side] for image in images) // 32) * 32 for side in (1, 2))
        batch = torch.zeros(len(images), 3, height, width, device=normalized[0].device)
        for index, image in enumerate(normalized):
            batch[index, :, : image.shape[1], : image.shape[2]] = image
        features = backbone_features(self.model.backbone, batch)
        sizes = torch.tensor([[i.shape[2], i.shape[1], i.shape[2], i.shape[1]] for i in images])
        sizes = sizes.to(batch.device)
        boxes = cxcywh_to_xyxy(self.model.proposals.boxes_norm_cxcywh)
        boxes = boxes[None] * sizes[:, None, :].float()
        proposals = self.model.proposals.features[None].repeat(len(images), 1, 1)
        results = []
        for stage in self.model.head.stages:
            logits, boxes, proposals = run_stage(stage, features, boxes, proposals)
            results.append((logits, boxes))
            boxes = boxes.detach()
        return results


def frozen_norm(norm: Any, x: Tensor) -> Tensor:
    """detectron2's layer: two operations if gradients are needed, otherwise PyTorch's batch norm."""
    if x.requires_grad:
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = norm.bias - norm.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )


def run_bottleneck(block: Any, x: Tensor) -> Tensor:
    out = F.relu_(frozen_norm(block.bn1, block.conv1(x)))
    out = F.relu_(frozen_norm(block.bn2, block.conv2(out)))
    out = frozen_norm(block.bn3, block.conv3(out))
    if block.downsample is not None:
        x = frozen_norm(block.downsample[1], block.downsample[0](x))
    return F.relu_(out + x)


def backbone_features(backbone: Any, x: Tensor) -> list[Tensor]:
    """ResNet and feature pyramid, finest level first."""
    trunk, fpn = backbone.trunk, backbone.fpn
    x = F.max_pool2d(F.relu_(frozen_norm(trunk.bn1, trunk.conv1(x))), kernel_size=3, stride=2, padding=1)
    levels = []
    for layer in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
        for block in layer:
            x = run_bottleneck(block, x)
        levels.append(x)
    top = fpn.inner_blocks[3](levels[3])
    features = [fpn.layer_blocks[3](top)]
    for index in (2, 1, 0):
        top = fpn.inner_blocks[index](levels[index]) + F.interpolate(top, scale_factor=2.0, mode="nearest")
        features.insert(0, fpn.layer_blocks[index](top))
    return features


def pool_levels(features: list[Tensor], boxes: Tensor, pool_size: int) -> Tensor:
    """Pooled features `[B*N, C, P, P]`. Each level pools the boxes of all images that belong to it."""
    image = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)
    rois = torch.cat((image.repeat_interleave(boxes.shape[1])[:, None], boxes.flatten(0, 1)), dim=1)
    levels = assign_levels(rois[:, 1:], len(features))
    pooled = features[0].new_zeros(len(rois), features[0].shape[1], pool_size, pool_size)
    for level, (feature, stride) in enumerate(zip(features, STRIDES, strict=True)):
        here = (levels == level).nonzero()[:, 0]
        pooled.index_put_((here,), roi_align(feature, rois[here], pool_size, 1 / stride, 2, aligned=True))
    return pooled


def run_stage(
    stage: Any, features: list[Tensor], boxes: Tensor, proposals: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    batch, count, channels = proposals.shape
    pooled = pool_levels(features, boxes.detach(), stage.pool_size)
    pooled = pooled.view(batch * count, channels, -1).permute(2, 0, 1)  # [P*P, B*N, C]
    x = proposals.permute(1, 0, 2)  # [N, B, C]
    attention = stage.attention
    attended = F.multi_head_attention_forward(
        x,
        x,
        x,
        channels,
        attention.num_heads,
        attention.in_proj_weight,
        attention.in_proj_bias,
        None,
        None,
        False,
        0.0,
        attention.out_proj.weight,
        attention.out_proj.bias,
        training=False,
        need_weights=True,
    )[0]
    x = stage.attention_norm(x + attended)
    x = x.permute(1, 0, 2).reshape(1, batch * count, channels)

    interaction = stage.interaction
    inner = interaction.norm1.normalized_shape[0]
    parameters = interaction.generator(x).permute(1, 0, 2)  # [B*N, 1, 2*C*D]
    kernel1 = parameters[:, :, : channels * inner].view(-1, channels, inner)
    kernel2 = parameters[:, :, channels * inner :].view(-1, inner, channels)
    y = pooled.permute(1, 0, 2)
    y = F.relu(interaction.norm1(torch.bmm(y, kernel1)))
    y = F.relu(interaction.norm2(torch.bmm(y, kernel2)))
    y = F.relu(interaction.norm3(interaction.out(y.flatten(1))))

    x = stage.interaction_norm(x + y)
    x = stage.feedforward_norm(x + stage.feedforward2(F.relu(stage.feedforward1(x))))
    flat = x.transpose(0, 1).reshape(batch * count, -1)
    logits = stage.class_logits(stage.classification_tower(flat.clone()))
    deltas = stage.box_deltas(stage.regression_tower(flat.clone()))
    boxes = apply_deltas(deltas, boxes.view(-1, 4)).view(batch, count, 4)
    return logits.view(batch, count, -1), boxes, x.view(batch, count, channels)


def match_one_by_one(
    logits: Tensor, boxes: Tensor, targets: list[tuple[Tensor, Tensor]], sizes: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """One stage: costs of all proposals with all targets of the batch, then image by image on the host."""
    batch, count = logits.shape[:2]
    with torch.no_grad():
        probability = logits.flatten(0, 1).sigmoid()
        target_boxes = torch.cat([boxes for boxes, _ in targets])
        labels = torch.cat([labels for _, labels in targets])
        negative = 0.75 * probability**2 * -(1 - probability + 1e-8).log()
        positive = 0.25 * (1 - probability) ** 2 * -(probability + 1e-8).log()
        classification = positive[:, labels] - negative[:, labels]
        scale = sizes[:, None, :].expand(-1, count, -1).flatten(0, 1)
        target_scale = torch.cat([s.expand(len(b), 4) for s, (b, _) in zip(sizes, targets, strict=True)])
        l1 = torch.cdist(boxes.flatten(0, 1) / scale, target_boxes / target_scale, p=1)
        giou = generalized_box_iou(boxes.flatten(0, 1), target_boxes)
        cost = (2 * classification + 5 * l1 - 2 * giou).view(batch, count, -1).cpu()
    counts = [len(labels) for _, labels in targets]
    matches = []
    for index, part in enumerate(cost.split(counts, dim=2)):
        rows, columns = linear_sum_assignment(part[index])
        matches.append((torch.as_tensor(rows), torch.as_tensor(columns)))
    return matches


def published_loss(
    results: list[tuple[Tensor, Tensor]], targets: list[tuple[Tensor, Tensor]], sizes: Tensor
) -> Tensor:
    """The weighted sum of all stages' losses.

    Args:
        results: The result of `PublishedStyle`.
        targets: Boxes `[M, 4]` (xyxy in pixels) and labels `[M]` of each image. The batch has at least one.
        sizes: `[B, 4]`, width, height, width and height of each image.
    """
    num_targets = max(sum(len(labels) for _, labels in targets), 1)
    total = torch.zeros((), device=sizes.device)
    for logits, boxes in results:
        matches = match_one_by_one(logits, boxes, targets, sizes)
        image = torch.cat([torch.full_like(rows, index) for index, (rows, _) in enumerate(matches)])
        proposal = torch.cat([rows for rows, _ in matches])
        labels = torch.cat([t[1][columns] for t, (_, columns) in zip(targets, matches, strict=True)])
        target_boxes = torch.cat([t[0][columns] for t, (_, columns) in zip(targets, matches, strict=True)])
        one_hot = torch.zeros_like(logits)
        one_hot[image, proposal, labels] = 1
        focal = sigmoid_focal_loss(logits, one_hot, reduction="sum")
        found = boxes[image, proposal]
        l1 = F.l1_loss(found / sizes[image], target_boxes / sizes[image], reduction="sum")
        giou = (1 - torch.diag(generalized_box_iou(found, target_boxes))).sum()
        total = total + (2 * focal + 5 * l1 + 2 * giou) / num_targets
    return total
