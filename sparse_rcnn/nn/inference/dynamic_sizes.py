"""torch.compile of a detector, for images of all sizes and batches of all sizes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparse_rcnn.nn.detector import whole_image_sizes

__all__ = ["MOST_GRAPHS", "compile_detector"]

# PyTorch allows 8 graphs, and raises an error at the 9th. For single images on a CPU, the code of each
# convolution depends on whether the input has more than 20480 numbers. Each combination needs a graph.
MOST_GRAPHS = 64


def compile_detector(
    detector: nn.Module | Callable[[Tensor, Tensor], Any], **options: Any
) -> Callable[..., Any]:
    """`torch.compile(detector, fullgraph=True, dynamic=True)`, for images of different sizes in any order.

    If two sizes are equal in the first call, the compiler assumes that they are always equal. This function
    tells it that they are not, and lets it keep 64 graphs. One graph is for batches, and one for
    single images. On a CPU, batches of 16 and more need a third graph, and single images with sides below
    about 320 px need several. `uint8` images and floating images need different graphs.

    Args:
        detector: `SparseRCNN`, `EndToEndDetector`, or a function of the same two arguments.
        options: Options of `torch.compile`, such as `backend`.

    Returns:
        A function of images `[B, 3, H, W]` and image sizes `[B, 2]` (None: no padding). It returns the
        result of the detector.

    Example:
        >>> from sparse_rcnn import build_sparse_rcnn
        >>> model = build_sparse_rcnn("resnet10", num_proposals=5, num_stages=1, backbone_weights=None)
        >>> detect = compile_detector(model.eval(), backend="eager")
        >>> detect(torch.zeros(1, 3, 64, 64)).boxes.shape
        torch.Size([1, 1, 5, 4])
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
