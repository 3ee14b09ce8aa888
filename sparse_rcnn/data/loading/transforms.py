"""The paper's augmentation, as transforms of torchvision.transforms.v2.

Flip, then for the 300-proposal recipe half of the time a crop of a smaller version, then the shortest side
to one of several lengths (paper section 4.1 and the published data set mapper). All randomness is torch's, so
seeding torch in a worker seeds these.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from sparse_rcnn.ops.argument_checks import whole_number
from sparse_rcnn.ops.resize import shortest_side_resize

__all__ = [
    "CROP_RANGE",
    "CROP_SOURCE_SIZES",
    "EMPTY",
    "TRAINING_SIZES",
    "RandomCropRange",
    "ResizeShortestEdge",
    "evaluation_transform",
    "training_transform",
    "without_empty_boxes",
]

TRAINING_SIZES = tuple(range(480, 801, 32))
CROP_SOURCE_SIZES = (400, 500, 600)
CROP_RANGE = (384, 600)
EMPTY = 1e-5  # a side shorter than this many pixels counts as none, as published


class ResizeShortestEdge(v2.Transform):
    """Resizes the shortest side to one of several lengths and the longest to a maximum, keeping the aspect.

    scale = min(size / min(h, w), max_size / max(h, w)), sides rounded half up (detectron2's rule).

    Args:
        sizes: Length of the shortest side in pixels, or several to draw one from at each call.
        max_size: Greatest length of the longest side in pixels; None for no limit.

    Raises:
        ValueError: If there is no size or one is not positive.

    Example:
        >>> ResizeShortestEdge(800, max_size=1333)(torch.zeros(3, 480, 640)).shape
        torch.Size([3, 800, 1067])
    """

    def __init__(self, sizes: int | Sequence[int], max_size: int | None = None) -> None:
        super().__init__()
        several = list(sizes) if isinstance(sizes, Iterable) and np.ndim(sizes) else [sizes]
        self.sizes = tuple(whole_number("sizes", size) for size in several)
        self.max_size = None if max_size is None else whole_number("max_size", max_size)
        if not self.sizes:
            raise ValueError("sizes must be at least one size, got none")

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws the size."""
        height, width = v2.query_size(flat_inputs)
        # A single size draws no number: evaluation leaves the generator as it was.
        size = self.sizes[0] if len(self.sizes) == 1 else self.sizes[_uniform(0, len(self.sizes) - 1)]
        return {"size": shortest_side_resize(height, width, size, self.max_size)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resizes an image or its boxes."""
        size = list(params["size"])
        return v2.functional.resize(inpt, size, interpolation=v2.InterpolationMode.BILINEAR, antialias=True)


class RandomCropRange(v2.Transform):
    """Crops a window whose sides are drawn from a range, clips boxes to it and drops those left empty.

    Height uniform in min(h, low)..min(h, high), width alike, position uniform (detectron2's
    "absolute_range"). Boxes and what belongs to them (such as labels) must share a dict.

    Args:
        sides: (low, high) of both sides in pixels.

    Raises:
        ValueError: Unless 1 <= low <= high.

    Example:
        >>> RandomCropRange((384, 384))(torch.zeros(3, 480, 640)).shape
        torch.Size([3, 384, 384])
    """

    def __init__(self, sides: tuple[int, int] = CROP_RANGE) -> None:
        super().__init__()
        self.low, self.high = (whole_number("sides", side) for side in sides)
        if not 1 <= self.low <= self.high:
            raise ValueError(f"sides must be (low, high) with 1 <= low <= high, got {sides}")

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws the window."""
        image_height, image_width = v2.query_size(flat_inputs)
        height = _uniform(min(image_height, self.low), min(image_height, self.high))
        width = _uniform(min(image_width, self.low), min(image_width, self.high))
        top, left = _uniform(0, image_height - height), _uniform(0, image_width - width)
        return {"top": top, "left": left, "height": height, "width": width}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crops an image or its boxes."""
        cropped = v2.functional.crop(inpt, **params)
        return _clipped(cropped) if isinstance(cropped, tv_tensors.BoundingBoxes) else cropped

    def forward(self, *inputs: Any) -> Any:
        """Crops everything, then drops empty boxes together with what belongs to them."""
        return without_empty_boxes(super().forward(*inputs))


def training_transform(
    min_sizes: int | Sequence[int] = TRAINING_SIZES,
    max_size: int | None = 1333,
    crop: bool = False,
    vertical_flip: bool = False,
) -> v2.Compose:
    """The augmentation of the paper: horizontal flip, and the shortest side 480, 512, ... or 800.

    Args:
        min_sizes: Lengths of the shortest side to draw from, in pixels.
        max_size: Greatest length of the longest side in pixels.
        crop: Also the random crop of the 300-proposal recipe, half of the time.
        vertical_flip: Also a vertical flip, half of the time. The paper has none. It doubles the data if
            images have no upper side, such as those of microscopes and satellites.

    Returns:
        A transform of (image, {"boxes", "labels"}).

    Example:
        >>> training_transform(800)(torch.zeros(3, 480, 640)).shape
        torch.Size([3, 800, 1067])
    """
    steps: list[v2.Transform] = [v2.RandomHorizontalFlip(0.5)]
    if vertical_flip:
        steps.append(v2.RandomVerticalFlip(0.5))
    if crop:
        steps.append(
            v2.RandomApply([ResizeShortestEdge(CROP_SOURCE_SIZES), RandomCropRange(CROP_RANGE)], p=0.5)
        )
    steps.append(ResizeShortestEdge(min_sizes, max_size))
    return v2.Compose(steps)


def evaluation_transform(size: int = 800, max_size: int | None = 1333) -> v2.Transform:
    """The resizing of the paper's evaluation: shortest side 800, longest at most 1333 pixels.

    Args:
        size: Length of the shortest side in pixels.
        max_size: Greatest length of the longest side in pixels. None for no limit.

    Returns:
        A transform of (image, {"boxes", "labels"}).

    Example:
        >>> evaluation_transform()(torch.zeros(3, 480, 640)).shape
        torch.Size([3, 800, 1067])
    """
    return ResizeShortestEdge(size, max_size)


def _uniform(low: int, high: int) -> int:
    """An integer from low to high, both included, from torch's generator."""
    return int(torch.randint(low, high + 1, ()))


def _clipped(boxes: tv_tensors.BoundingBoxes) -> tv_tensors.BoundingBoxes:
    # Not by crop's own clamping: since torchvision 0.23, an attribute of the boxes decides whether it clamps.
    height, width = boxes.canvas_size
    xyxy = v2.functional.convert_bounding_box_format(boxes, new_format=tv_tensors.BoundingBoxFormat.XYXY)
    limits = xyxy.new_tensor([width, height, width, height])
    inside = tv_tensors.wrap(torch.minimum(xyxy.as_subclass(torch.Tensor).clamp(min=0), limits), like=xyxy)
    return v2.functional.convert_bounding_box_format(inside, new_format=boxes.format)


def without_empty_boxes(sample: Any) -> Any:
    """The sample without boxes that have no area, and without what belongs to them, such as labels."""
    if isinstance(sample, (tuple, list)):
        return type(sample)(without_empty_boxes(part) for part in sample)
    if not isinstance(sample, dict):
        return sample
    found = [value for value in sample.values() if isinstance(value, tv_tensors.BoundingBoxes)]
    if len(found) != 1:
        return sample
    boxes = found[0]
    xyxy = v2.functional.convert_bounding_box_format(boxes, new_format=tv_tensors.BoundingBoxFormat.XYXY)
    sides = (xyxy[:, 2:] - xyxy[:, :2]).as_subclass(torch.Tensor)
    kept = (sides > EMPTY).all(dim=1)  # [M]
    return {
        key: tv_tensors.wrap(value[kept], like=value) if _is_per_box(value, len(boxes)) else value
        for key, value in sample.items()
    }


def _is_per_box(value: Any, num_boxes: int) -> bool:
    if isinstance(value, (tv_tensors.Image, tv_tensors.Video)):
        return False
    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == num_boxes
