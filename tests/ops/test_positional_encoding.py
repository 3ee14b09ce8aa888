import math

import pytest
import torch
from torch.testing import assert_close

from sparse_rcnn.ops import add_positional_encoding


def encoding_of(batch, channels, shapes, sizes):
    levels = [torch.zeros(batch, channels, *shape) for shape in shapes]
    return add_positional_encoding(levels, torch.tensor(sizes))


def test_equals_a_loop():
    sizes = [[32, 40], [27, 17]]
    channels, shapes = 8, [(8, 10), (4, 5)]
    for index, level in enumerate(encoding_of(2, channels, shapes, sizes)):
        for image, (height, width) in enumerate(sizes):
            for row in range(shapes[index][0]):
                for column in range(shapes[index][1]):
                    expected = []
                    for cell, side in ((row, height), (column, width)):
                        position = (cell + 0.5) * 4 * 2**index / side
                        for i in range(channels // 4):
                            angle = 2 * math.pi * position / 10000 ** (i / (channels // 4))
                            expected += [math.sin(angle), math.cos(angle)]
                    assert_close(level[image, :, row, column], torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_is_added():
    generator = torch.Generator().manual_seed(0)
    level = torch.randn(1, 4, 3, 5, generator=generator, dtype=torch.float64)
    (result,) = add_positional_encoding([level], torch.tensor([[12, 20]]))
    (encoding,) = encoding_of(1, 4, [(3, 5)], [[12, 20]])
    assert result.dtype == torch.float64
    assert_close(result - level, encoding.double(), rtol=1e-6, atol=1e-6)


def test_every_cell_has_its_own():
    (encoding,) = encoding_of(1, 16, [(6, 9)], [[24, 36]])
    cells = encoding.flatten(2)[0].T  # [H*W, C]
    distances = torch.cdist(cells, cells) + torch.eye(len(cells))
    assert distances.min() > 0.01


def test_levels_agree_on_positions():
    # A cell of the second level lies in the middle of four of the first: sines of the mean of their angles.
    fine, coarse = encoding_of(1, 4, [(64, 64), (32, 32)], [[256, 256]])
    assert_close(fine[..., ::2, ::2], coarse, rtol=0, atol=0.05)
    assert_close(fine[..., 1::2, 1::2], coarse, rtol=0, atol=0.05)


def test_padding_does_not_move_the_image():
    (alone,) = encoding_of(1, 8, [(4, 4)], [[16, 16]])
    (padded,) = encoding_of(1, 8, [(6, 9)], [[16, 16]])
    assert_close(padded[..., :4, :4], alone)


def test_channels_must_be_a_multiple_of_4():
    with pytest.raises(ValueError, match="multiple of 4 channels, got 6"):
        encoding_of(1, 6, [(2, 2)], [[8, 8]])
