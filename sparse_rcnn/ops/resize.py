"""Size of an image after the paper's resizing: a wanted shortest side and a bound on the longest."""


def shortest_side_resize(height: int, width: int, shortest_side: int, longest_side: int) -> tuple[int, int]:
    """New size of an image that keeps its proportions; detectron2's ``ResizeShortestEdge``, to the pixel.

    Args:
        height: in pixels.
        width: in pixels.
        shortest_side: wanted length of the shorter side.
        longest_side: upper bound of the longer side; where it binds, the shorter side gets shorter.

    Returns:
        (height, width) in whole pixels, rounded half up.
    """
    scale = shortest_side / min(height, width)
    if height < width:
        new_height, new_width = float(shortest_side), scale * width
    else:
        new_height, new_width = scale * height, float(shortest_side)
    longest = max(new_height, new_width)
    if longest > longest_side:
        scale = longest_side / longest
        new_height, new_width = new_height * scale, new_width * scale
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))
