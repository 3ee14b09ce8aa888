"""torch.compile of a detector for images of all sizes and for batches of any number."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparse_rcnn.nn.detector import whole_image_sizes

__all__ = ["MOST_GRAPHS", "compile_detector"]

# PyTorch allows 8 and then raises. For single images on a CPU, it chooses each convolution's code by whether
# the input has more than 20480 numbers: each combination of choices is a graph of its own.
MOST_GRAPHS = 64


def compile_detector(
    detector: nn.Module | Callable[[Tensor, Tensor], Any], **options: Any
) -> Callable[..., Any]:
    """`torch.compile(detector, fullgraph=True, dynamic=True)` that holds for images that come in any order.

    It tells the compiler that equal sizes are no rule, and lets it keep 64 graphs. One is for batches, and
    one for single images (a size of 1 broadcasts). On a CPU, batches of 16 and more have a third, and
    single images below about 320 px a side take several: the more their sizes differ, the more. Images of
    `uint8` and of floating point have graphs of their own.

        detect = compile_detector(EndToEndDetector(model.eval()))
        with torch.no_grad():
            boxes, scores, labels = detect(images, image_sizes)

    Args:
        detector: `SparseRCNN`, `EndToEndDetector`, or a function of the same two arguments.
        options: of `torch.compile`, such as `backend`.

    Returns:
        A function of images `[B, 3, H, W]` and image sizes `[B, 2]` (or None: no padding) with the
        detector's result.
    """
    compiled = torch.compile(detector, fullgraph=True, dynamic=True, **options)

    def run(images: Tensor, image_sizes: Tensor | None = None) -> Any:
        sizes = whole_image_sizes(images) if image_sizes is None else image_sizes
        for tensor, dimensions in ((images, (0, 2, 3)), (sizes, (0,))):
            for dimension in dimensions:
                torch._dynamo.maybe_mark_dynamic(tensor, dimension)
        with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS):
            return compiled(images, sizes)

    return run
