"""Dynamic instance interaction: each proposal filters its own RoI (paper, section 3.2 and figure 4).

k1, k2 = generator(pro_feats)             C x D and D x C, one pair per proposal
x = relu(norm1(roi_feats @ k1))           P*P x D
x = relu(norm2(x @ k2))                   P*P x C
x = relu(norm3(out(flatten(x))))          C
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn.ops.argument_checks import (
    require_broadcast,
    require_dtype,
    require_floating,
    require_number,
    require_shape,
)

__all__ = ["dynamic_interaction"]


def dynamic_interaction(
    pro_feats: Tensor,
    roi_feats: Tensor,
    generator_weight: Tensor,
    generator_bias: Tensor,
    norm1_weight: Tensor,
    norm1_bias: Tensor,
    norm2_weight: Tensor,
    norm2_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    norm3_weight: Tensor,
    norm3_bias: Tensor,
    eps: float = 1e-5,
) -> Tensor:
    """Applies two 1x1 convolutions to each proposal's RoI. The proposal's feature generates their weights.

    Args:
        pro_feats: `[..., N, C]` proposal features. The batch shares leading dimensions of size 1.
        roi_feats: `[..., N, P*P, C]` pooled features of each proposal's box.
        generator_weight: `[2*C*D, C]` of the linear layer that generates both kernels.
        generator_bias: `[2*C*D]`.
        norm1_weight: `[D]` of the layer norm after the first convolution.
        norm1_bias: `[D]`.
        norm2_weight: `[C]` of the layer norm after the second convolution.
        norm2_bias: `[C]`.
        out_weight: `[C, P*P*C]` of the linear layer on the flattened result.
        out_bias: `[C]`.
        norm3_weight: `[C]` of the layer norm after the linear layer.
        norm3_bias: `[C]`.
        eps: The epsilon of the layer norms.

    Returns:
        `[..., N, C]` object features.

    Raises:
        ValueError: If an argument is not floating point, a shape does not fit, or `eps` is not positive.

    Example:
        >>> C, D, P = 8, 4, 7  # channels, inner channels, side of the RoI
        >>> shapes = [(2*C*D, C), (2*C*D,), (D,), (D,), (C,), (C,), (C, P*P*C), (C,), (C,), (C,)]
        >>> parameters = [torch.randn(shape) for shape in shapes]
        >>> dynamic_interaction(torch.randn(2, 5, C), torch.randn(2, 5, P*P, C), *parameters).shape
        torch.Size([2, 5, 8])
    """
    require_floating("norm1_weight", norm1_weight)
    require_floating("norm2_weight", norm2_weight)
    channels, inner = norm2_weight.numel(), norm1_weight.numel()
    require_floating("pro_feats", pro_feats)
    require_floating("roi_feats", roi_feats)
    if pro_feats.dim() < 2 or roi_feats.dim() < 3 or pro_feats.shape[-2] != roi_feats.shape[-3]:
        raise ValueError(
            "pro_feats must be [..., N, C] and roi_feats [..., N, P*P, C] of one N, "
            f"got {pro_feats.shape} and {roi_feats.shape}"
        )
    if roi_feats.shape[-2] < 1:
        raise ValueError(f"roi_feats must have at least one bin per proposal, got {roi_feats.shape}")
    if pro_feats.shape[-1] != channels or roi_feats.shape[-1] != channels:
        raise ValueError(
            f"pro_feats and roi_feats must have {channels} channels, "
            f"got {pro_feats.shape} and {roi_feats.shape}"
        )
    require_broadcast("pro_feats", pro_feats, "roi_feats", roi_feats[..., 0, :])
    require_floating("out_weight", out_weight)
    if roi_feats.shape[-2] * channels != out_weight.shape[-1]:
        raise ValueError(
            f"roi_feats must have {out_weight.shape[-1] // max(channels, 1)} bins per proposal, "
            f"got {roi_feats.shape}"
        )
    require_shape("generator_weight", generator_weight, [2 * channels * inner, channels])
    require_shape("generator_bias", generator_bias, [2 * channels * inner])
    require_shape("norm1_weight", norm1_weight, [inner])
    require_shape("norm1_bias", norm1_bias, [inner])
    require_shape("norm2_weight", norm2_weight, [channels])
    require_shape("norm2_bias", norm2_bias, [channels])
    require_shape("out_weight", out_weight, [channels, roi_feats.shape[-2] * channels])
    require_shape("out_bias", out_bias, [channels])
    require_shape("norm3_weight", norm3_weight, [channels])
    require_shape("norm3_bias", norm3_bias, [channels])
    require_number("eps", eps, 1e-12)
    for parameter in (
        roi_feats,
        generator_weight,
        generator_bias,
        norm1_weight,
        norm1_bias,
        norm2_weight,
        norm2_bias,
    ):
        require_dtype("every tensor beside pro_feats", parameter, pro_feats)
    for parameter in (out_weight, out_bias, norm3_weight, norm3_bias):
        require_dtype("every tensor beside pro_feats", parameter, pro_feats)
    # One kernel after the other: without gradients, only one of them is in memory at a time.
    weights = generator_weight.split(channels * inner)
    biases = generator_bias.split(channels * inner)
    kernel = F.linear(pro_feats, weights[0], biases[0]).unflatten(-1, (channels, inner))  # [..., N, C, D]
    x = _apply_kernels(roi_feats, kernel, norm1_weight, norm1_bias, eps)  # [..., N, P*P, D]
    kernel = F.linear(pro_feats, weights[1], biases[1]).unflatten(-1, (inner, channels))  # [..., N, D, C]
    x = _apply_kernels(x, kernel, norm2_weight, norm2_bias, eps)  # [..., N, P*P, C]
    x = F.linear(x.flatten(-2), out_weight, out_bias)  # [..., N, C]
    return F.relu(F.layer_norm(x, [channels], norm3_weight, norm3_bias, eps))


def _apply_kernels(
    features: Tensor, kernels: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float
) -> Tensor:
    """A 1x1 convolution per proposal, norm and ReLU: `[..., N, P*P, I]` to `[..., N, P*P, O]`."""
    x = torch.matmul(features, kernels)
    return F.relu(F.layer_norm(x, [kernels.shape[-1]], norm_weight, norm_bias, eps))
