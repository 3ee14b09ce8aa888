"""Size of an image after the paper's resizing: a wanted shortest side and a bound on the longest."""

from sparse_rcnn.ops.guards import require_count

__all__ = ["shortest_side_resize"]


def shortest_side_resize(
    height: int, width: int, shortest_side: int, longest_side: int | None = None
) -> tuple[int, int]:
    """New size of an image that keeps its proportions; detectron2's `ResizeShortestEdge`, to the pixel.

    Args:
        height: in pixels.
        width: in pixels.
        shortest_side: wanted length of the shorter side.
        longest_side: upper bound of the longer side, or None; where it binds, the shorter side gets shorter.

    Returns:
        (height, width) in whole pixels, rounded half up. The order of the floating-point operations is
        detectron2's: it decides which way a half goes.

    Raises:
        ValueError: if a length is less than 1.
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
    # At least a pixel: a 1 x 5000 image would otherwise lose its short side.
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))
