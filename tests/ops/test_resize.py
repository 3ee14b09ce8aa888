import pytest

from sparse_rcnn.ops import shortest_side_resize


@pytest.mark.parametrize(
    ("height", "width", "shortest", "longest", "expected"),
    [
        (480, 640, 800, 1333, (800, 1067)),  # 1066.67 rounds up
        (640, 480, 800, 1333, (1067, 800)),
        (500, 500, 800, 1333, (800, 800)),
        (400, 1000, 800, 1333, (533, 1333)),  # the longest side binds
        (800, 1200, 400, 1333, (400, 600)),  # down
        (4, 6, 3, 100, (3, 5)),  # 4.5 rounds up, where Python's round would go down
        (1, 5000, 800, 1333, (1, 1333)),  # never thinner than a pixel
    ],
)
def test_by_hand(height, width, shortest, longest, expected):
    assert shortest_side_resize(height, width, shortest, longest) == expected
