"""Proposals from the image: which positions are chosen, and that gradients reach all that is learned."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_model import build_small_model, random_batch
from torch.testing import assert_close

from sparse_rcnn.loss import dense_prediction_loss, set_prediction_loss
from sparse_rcnn.nn import DenseProposals, fold_first_stage
from sparse_rcnn.nn.dense_proposals import DensePredictions
from sparse_rcnn.nn.position_grid import score_peaks

HEAD = DenseProposals(6, 16, 3).eval()


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**16), st.booleans())
def test_peaks_are_distinct_and_none_is_below_a_neighbour(height, width, seed, ties):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(2, height, width, generator=generator)
    scores = (scores * 3).round() if ties else scores
    peaks = score_peaks(scores)
    for image in range(2):
        cells = peaks[image].nonzero().tolist()
        assert cells
        for y, x in cells:
            around = (slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
            assert scores[image][around].max() == scores[image, y, x]
            assert peaks[image][around].sum() == 1


def predictions(scores, peaks=None):
    """One image with as many positions as scores, each with a box and a feature that say which it is."""
    count = len(scores)
    index = torch.arange(count, dtype=torch.float32)
    return DensePredictions(
        torch.tensor(scores).logit()[None, :, None],
        torch.stack((index, index, index + 1, index + 1), dim=1)[None],
        torch.stack((index + 0.5, torch.full_like(index, 0.5)), dim=1),
        torch.zeros(1, count, 32),
        torch.ones(1, count, dtype=torch.bool) if peaks is None else torch.tensor([peaks]),
    )


def test_best_peaks_then_other_positions_then_the_padding():
    scores = [0.3, 0.9, 0.2, 0.5, 0.8, 0.99, 0.98]
    dense = predictions(scores, [True, True, False, False, True, True, False])
    boxes, _ = HEAD.choose(dense, torch.tensor([[64, 5]]))  # the middles of the last two are in the padding
    assert boxes[0, :, 1].tolist() == [1, 4, 0, 2, 3, 5]  # y1 is not clipped


def test_fewer_positions_than_proposals():
    boxes, features = HEAD.choose(predictions([0.3, 0.9]), torch.tensor([[40, 60]]))
    assert boxes[0].tolist() == [[1, 1, 2, 2], [0, 0, 1, 1], *[[0, 0, 60, 40]] * 4]
    assert features.isfinite().all()


@given(st.permutations(range(3)))
def test_permuted_images_permute_the_proposals(order):
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(3, 16, 32 // 2**i, 32 // 2**i, generator=generator) for i in range(4)]
    sizes = torch.tensor([[128, 128], [100, 90], [64, 128]])
    expected = HEAD(sizes, levels)
    found = HEAD(sizes[list(order)], [level[list(order)] for level in levels])
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine, theirs[list(order)])


def test_boxes_are_in_the_image_and_what_is_in_the_padding_changes_nothing():
    model = build_small_model(proposals="dense").eval()
    images, sizes = random_batch(2, 96, 128)
    levels = model.pyramid(images, sizes)
    boxes, _ = model.proposals(sizes, levels)
    assert (boxes >= 0).all()
    assert (boxes[..., 2:] <= sizes.flip(1)[:, None]).all()


def test_all_parameters_learn_and_the_predictions_are_those_of_forward():
    model = build_small_model(proposals="dense", backbone_norm="group").train()
    images, sizes = random_batch(2, 96, 128)
    predictions, dense = model.forward_dense(images, sizes)
    assert_close(predictions, model(images, sizes))
    boxes = torch.tensor([[8.0, 8, 60, 60], [20, 10, 90, 80]]).expand(2, -1, -1)
    labels, valid = torch.tensor([[0, 2], [1, 1]]), torch.ones(2, 2, dtype=torch.bool)
    number = torch.tensor(4)
    losses = set_prediction_loss(*predictions, boxes, labels, valid, sizes, number)
    dense_losses = dense_prediction_loss(*dense[:3], boxes, labels, valid, number)
    (losses.total + dense_losses.total).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_first_boxes_are_the_proposals():
    model = build_small_model(proposals="dense").eval()
    images, sizes = random_batch(1, 96, 128)
    proposals, _ = model.proposals(sizes, model.pyramid(images, sizes))
    for boxes in model(images, sizes).boxes:
        assert_close(boxes, proposals, atol=1e-3, rtol=0)


def test_learned_proposals_have_no_dense_predictions():
    with pytest.raises(ValueError, match='proposals="dense"'):
        build_small_model().forward_dense(*random_batch(1, 64, 64))


def test_folding_keeps_the_figures():
    model = build_small_model(proposals="dense").eval()
    batch = random_batch(1, 64, 96)
    assert_close(fold_first_stage(model)(*batch), model(*batch))


@pytest.mark.parametrize("options", [{"num_proposals": 0}, {"levels": ()}, {"layers": 0}])
def test_numbers_too_small_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DenseProposals(**{"num_proposals": 5, "hidden_dim": 8, "num_classes": 2, **options})


def test_an_unknown_kind_of_proposals_is_named():
    with pytest.raises(ValueError, match="'sparse'"):
        build_small_model(proposals="sparse")
