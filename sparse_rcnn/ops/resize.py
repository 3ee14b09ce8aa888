"""The size of an image after the paper's resizing: a wanted shortest side, and a limit for the longest."""

from sparse_rcnn.ops.argument_checks import require_count

__all__ = ["shortest_side_resize"]


def shortest_side_resize(
    height: int, width: int, shortest_side: int, longest_side: int | None = None
) -> tuple[int, int]:
    """The new size of an image, with the same proportions. Equal to detectron2's `ResizeShortestEdge`.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        shortest_side: The wanted length of the shorter side in pixels.
        longest_side: The limit of the longer side in pixels, or None. If the longer side would exceed it, the
            whole image becomes smaller.

    Returns:
        (height, width) in whole pixels, rounded half up. The floating-point operations have detectron2's
        order, since the order decides how a half is rounded.

    Raises:
        ValueError: If a length is less than 1.

    Example:
        >>> shortest_side_resize(480, 640, shortest_side=800, longest_side=1333)
        (800, 1067)
    """
    require_count("height", height)
    require_count("width", width)
    require_count("shortest_side", shortest_side)
    if longest_side is not None:
        require_count("longest_side", longest_side)
    scale = shortest_side / min(height, width)
    if height < width:
        new_height, new_width = float(shortest_side), scale * width
    else:
        new_height, new_width = scale * height, float(shortest_side)
    longest = max(new_height, new_width)
    if longest_side is not None and longest > longest_side:
        scale = longest_side / longest
        new_height, new_width = new_height * scale, new_width * scale
    # At least one pixel: otherwise the short side of a 1 x 5000 image would become 0.
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))
