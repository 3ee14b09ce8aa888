"""torch.func and activation checkpointing on the functions and on the whole detector."""

import copy

import pytest
import torch
from small_model import build_small_model, random_batch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

from sparse_rcnn.loss import match_proposals, set_prediction_loss
from sparse_rcnn.ops import dynamic_interaction, flatten_pyramid, pairwise_giou, pyramid_roi_align

IMAGES, SIZES = random_batch(2, 64, 96)
BOXES = torch.tensor([[[5.0, 5, 50, 60], [30, 10, 90, 40]], [[1.0, 2, 60, 40], [0, 0, 0, 0]]])
LABELS, VALID = torch.tensor([[0, 2], [1, 0]]), torch.tensor([[True, True], [True, False]])
# PyTorch's own notice: embedding_bag, and attention on a CPU, have no batching rule.
SLOW_VMAP = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


def small():
    return build_small_model(backbone="resnet10", backbone_norm="frozen")


def loss_of(model, parameters):
    predictions = functional_call(model, parameters, (IMAGES, SIZES))
    return set_prediction_loss(
        predictions.logits, predictions.boxes, BOXES, LABELS, VALID, SIZES, torch.tensor(3.0)
    ).total


def test_functional_call_with_other_parameters():
    model, other = small(), small()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.01)
    found = functional_call(model, dict(other.named_parameters()), (IMAGES, SIZES))
    torch.testing.assert_close(found.logits, other(IMAGES, SIZES).logits)
    assert not torch.allclose(found.logits, model(IMAGES, SIZES).logits)


def test_grad_of_the_loss_equals_backward():
    model = small()
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    found = grad(lambda p: loss_of(model, p))(parameters)
    loss_of(model, {}).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5)


@SLOW_VMAP
def test_vmap_over_seeds_of_the_whole_detector():
    models = [small() for _ in range(2)]
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0])

    def run(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        predictions = functional_call(skeleton, (parameters, buffers), (IMAGES, SIZES))
        losses = set_prediction_loss(
            predictions.logits, predictions.boxes, BOXES, LABELS, VALID, SIZES, torch.tensor(3.0)
        )
        return predictions.logits, losses.total

    logits, totals = vmap(run)(parameters, buffers)
    for index, model in enumerate(models):
        torch.testing.assert_close(logits[index], model(IMAGES, SIZES).logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(totals[index], loss_of(model, {}), rtol=1e-4, atol=1e-4)


def test_vmap_of_matching_over_predictions():
    logits, boxes = torch.randn(4, 2, 6, 3), 40 * torch.rand(4, 2, 6, 4)
    boxes[..., 2:] += boxes[..., :2]

    def match(logits: Tensor, boxes: Tensor) -> Tensor:
        return match_proposals(logits, boxes, BOXES, LABELS, VALID, SIZES)

    assert torch.equal(vmap(match)(logits, boxes), match(logits, boxes))


@SLOW_VMAP
def test_vmap_over_targets():
    logits, boxes = torch.randn(2, 2, 6, 3), torch.rand(2, 2, 6, 4)
    targets = torch.stack((BOXES, BOXES + 9))
    found = vmap(lambda a, b, c: match_proposals(a, b, c, LABELS, VALID, SIZES))(logits, boxes, targets)
    for mine, *own in zip(found, logits, boxes, targets, strict=True):
        assert torch.equal(mine, match_proposals(*own, LABELS, VALID, SIZES))


@SLOW_VMAP
def test_values_are_not_looked_at_where_there_are_none():
    """The loss of each image's own gradient, and a fake model: value checks stop neither."""
    logits, boxes = torch.randn(2, 1, 1, 6, 3), torch.rand(2, 1, 1, 6, 4)

    def loss(logits, boxes, targets, labels, valid, sizes):
        one = (targets[None], labels[None], valid[None], sizes[None])
        return set_prediction_loss(logits, boxes, *one, torch.tensor(1.0)).total

    own = (logits, boxes, BOXES, LABELS, VALID, SIZES)
    found = vmap(grad(loss))(*own)
    for mine, *each in zip(found, *own, strict=True):
        torch.testing.assert_close(mine, grad(loss)(*each))
    model = small()
    with FakeTensorMode(allow_non_fake_inputs=True):
        images, sizes = torch.rand(2, 3, 64, 96), torch.tensor([[64, 96], [50, 70]])
        predictions = model(images, sizes)
        assert set_prediction_loss(
            *predictions, torch.rand(2, 2, 4), LABELS, VALID, sizes, torch.tensor(3.0)
        ).l1.shape == (2,)


def test_vmap_of_box_arithmetic_and_grad_of_each_box():
    boxes, others = BOXES[0], BOXES[0] + 3
    expected = torch.stack(
        [pairwise_giou(box[None], other[None])[0, 0] for box, other in zip(boxes, others, strict=True)]
    )

    def giou(box: Tensor, other: Tensor) -> Tensor:
        return pairwise_giou(box[None], other[None])[0, 0]

    torch.testing.assert_close(vmap(giou)(boxes, others), expected)
    assert torch.isfinite(vmap(grad(giou))(boxes, others)).all()


def test_checkpointing_gives_the_same_gradients():
    generator = torch.Generator().manual_seed(0)
    channels, inner, side = 8, 4, 3

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    levels = [randn(1, channels, 16 // 2**level, 16 // 2**level) for level in range(4)]
    boxes = torch.tensor([[[4.0, 4, 40, 50], [10, 10, 30, 30]]])
    weights = [
        *(randn(2 * channels * inner, channels), randn(2 * channels * inner), randn(inner), randn(inner)),
        *(randn(channels), randn(channels), randn(channels, side * side * channels), randn(channels)),
        *(randn(channels), randn(channels)),
    ]
    proposals = randn(1, 2, channels)

    def run(*inputs: Tensor) -> Tensor:
        pooled = pyramid_roi_align(flatten_pyramid(list(inputs[:4])), boxes, side)
        return dynamic_interaction(inputs[4], pooled, *inputs[5:])

    inputs = (*levels, proposals, *weights)
    expected = torch.autograd.grad(run(*inputs).square().sum(), inputs)
    found = torch.autograd.grad(checkpoint(run, *inputs, use_reentrant=False).square().sum(), inputs)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_checkpointing_of_every_stage():
    model = small()
    loss_of(model, {}).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for stage in model.head.stages:
        forward = stage.forward
        stage.forward = lambda *inputs, forward=forward: checkpoint(forward, *inputs, use_reentrant=False)
    loss_of(model, {}).backward()
    for name, gradient in expected.items():
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, gradient)
