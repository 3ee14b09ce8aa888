"""The training step: precision, memory, and its reports."""

import copy
from typing import Any

import pytest
import torch
import torchvision
from parts.training.training_step import (
    StepOutput,
    TrainingStep,
    compile_step,
    loss_vector,
    matched_iou,
    recompute_backbone,
    recompute_head,
)
from small_model import build_small_model, random_batch
from torch import Tensor, nn

from sparse_rcnn import SparseRCNN
from sparse_rcnn.data import Batch, Targets
from sparse_rcnn.loss import LossWeights, SetLoss, match_proposals, set_prediction_loss
from sparse_rcnn.nn.head import Predictions

NUM_STAGES = 2


def training_batch(counts: tuple[int, ...] = (3, 0, 1)) -> Batch:
    """Images with these numbers of targets, padded with values that no reader writes."""
    generator = torch.Generator().manual_seed(7)
    images, sizes = random_batch(len(counts), 64, 96)
    most = max(counts) + 1
    corner = torch.rand(len(counts), most, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + 1 + torch.rand(len(counts), most, 2, generator=generator) * 25], -1)
    labels = torch.randint(0, 3, (len(counts), most), generator=generator)
    valid = torch.arange(most) < torch.tensor(counts)[:, None]
    boxes = boxes.masked_fill(~valid[..., None], 0)
    return Batch(images, sizes, Targets(boxes, labels, valid), torch.arange(len(counts)), sizes)


def small_model(**changes: Any) -> SparseRCNN:
    return build_small_model(**{"backbone": "resnet10", **changes}).train()


def step_on(step: nn.Module, batch: Batch) -> StepOutput:
    return step(batch.images, batch.image_sizes, *batch.targets, batch.targets.valid.sum())


def losses_and_gradients(step: nn.Module, batch: Batch) -> tuple[StepOutput, dict[str, Tensor]]:
    output = step_on(step, batch)
    output.losses.total.backward()
    gradients = {name: p.grad for name, p in step.named_parameters() if p.grad is not None}
    assert len(gradients) > 50
    return output, gradients


def losses_of(predictions: Predictions, batch: Batch) -> SetLoss:
    """In float32, outside of autocast."""
    logits, boxes = (part.float() for part in predictions)
    number = batch.targets.valid.sum()
    return set_prediction_loss(logits, boxes, *batch.targets, batch.image_sizes, number)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_matching_and_losses_are_in_float32_whatever_the_model_is_in(dtype: torch.dtype | None) -> None:
    batch = training_batch()
    step = TrainingStep(small_model())
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        output = step_on(step, batch)
    assert output.predictions.logits.dtype == dtype or (dtype is None)
    assert {part.dtype for part in output.losses} == {torch.float32}
    assert all(part.isfinite().all() for part in output.losses)
    expected = losses_of(output.predictions, batch)
    for mine, theirs in zip(output.losses, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_predictions_come_without_gradient_and_losses_with_one() -> None:
    output = step_on(TrainingStep(small_model()), training_batch())
    assert not any(part.requires_grad for part in output.predictions)
    assert output.losses.total.requires_grad


def test_a_batch_without_targets_has_a_loss_to_learn_from() -> None:
    output, gradients = losses_and_gradients(TrainingStep(small_model()), training_batch((0, 0)))
    assert output.losses.classification.min() > 0
    assert output.losses.l1.tolist() == output.losses.giou.tolist() == [0, 0]
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.parametrize("backbone", ["resnet18", pytest.param("mobilenet_v2", marks=pytest.mark.slow)])
def test_recomputing_gives_the_same_losses_and_gradients(
    precision: torch.dtype | None, backbone: str
) -> None:
    batch = training_batch()
    plain, recomputed = (TrainingStep(small_model(backbone=backbone)) for _ in range(2))
    recompute_head(recomputed.model)
    recompute_backbone(recomputed.model)
    results = []
    for step in (plain, recomputed):
        with torch.autocast("cpu", precision, enabled=precision is not None):
            output = step_on(step, batch)
        output.losses.total.backward()
        results.append((output.losses, {name: p.grad for name, p in step.named_parameters()}))
    (losses, gradients), (same_losses, same_gradients) = results
    for mine, theirs in zip(same_losses, losses, strict=True):
        assert torch.equal(mine, theirs)
    assert same_gradients.keys() == gradients.keys()  # and the names of checkpoints
    for name, gradient in gradients.items():
        assert gradient is not None, name
        torch.testing.assert_close(same_gradients[name], gradient, rtol=1e-6, atol=1e-7)
    assert recomputed.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("again", [False, True])
def test_stages_are_computed_again_in_the_backward_pass(again: bool) -> None:
    model = small_model()
    calls = {"forward": 0, "backward": 0}
    phase = "forward"

    def count(*arguments: Any) -> None:
        calls[phase] += 1

    for stage in model.head.stages:
        stage.interaction.register_forward_hook(count)
    if again:
        recompute_head(model)
    output = step_on(TrainingStep(model), training_batch())
    assert calls == {"forward": NUM_STAGES, "backward": 0}
    phase = "backward"
    output.losses.total.backward()
    assert calls == {"forward": NUM_STAGES, "backward": NUM_STAGES if again else 0}


def test_the_trunk_is_computed_again_in_the_backward_pass() -> None:
    model = small_model()
    calls: list[str] = []
    trunk: Any = model.backbone.trunk
    for name in ("conv1", "layer1.0.conv1", "layer4.0.conv2"):
        trunk.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    recompute_backbone(model)
    output = step_on(TrainingStep(model), training_batch())
    assert calls == ["conv1", "layer1.0.conv1", "layer4.0.conv2"]
    calls.clear()
    output.losses.total.backward()
    assert calls == ["layer4.0.conv2", "layer1.0.conv1"]


def test_a_trunk_whose_norms_would_count_images_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="would count images twice"):
        recompute_backbone(small_model(backbone_norm="batch"))


def test_recomputing_keeps_less_of_the_head_between_forward_and_backward() -> None:
    kept = {}
    for again in (False, True):
        model = small_model()
        if again:
            recompute_head(model)
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        levels = [torch.rand(2, 16, 32 // 2**i, 32 // 2**i, requires_grad=True) for i in range(4)]
        boxes = torch.tensor([[10.0, 10, 80, 90]]).expand(2, 6, 4).contiguous()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model.head(levels, boxes, torch.rand(1, 6, 16, requires_grad=True))
        kept[again] = sum(sizes.values())
    assert kept[True] < 0.2 * kept[False]


def test_evaluation_is_the_same_after_recomputing_was_asked_for() -> None:
    model = small_model().eval()
    other = copy.deepcopy(model)
    recompute_head(other)
    batch = training_batch()
    with torch.inference_mode():
        expected, found = (network(batch.images, batch.image_sizes) for network in (model, other))
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.boxes, expected.boxes)


@pytest.mark.slow
def test_recomputing_compiles_into_one_graph_with_the_same_losses_and_gradients() -> None:
    # All else of compiled training is tested in tests/examples/test_examples.py.
    torch._dynamo.reset()
    eager, compiled = (TrainingStep(small_model(num_stages=1)) for _ in range(2))
    recompute_head(compiled.model)
    recompute_backbone(compiled.model)
    compile_step(compiled, "aot_eager")
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    batch = training_batch()
    losses, gradients = losses_and_gradients(eager, batch)
    same_losses, same_gradients = losses_and_gradients(compiled, batch)
    for mine, theirs in zip(same_losses.losses, losses.losses, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
    assert same_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        # The order of sums differs: by a few roundings in deep layers.
        torch.testing.assert_close(same_gradients[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_matched_iou_is_that_of_a_loop_over_images_and_stages() -> None:
    generator = torch.Generator().manual_seed(2)
    batch = training_batch((3, 0, 1, 9))  # more targets than proposals, and none
    count, num_proposals = 4, 6
    logits = torch.randn(NUM_STAGES, count, num_proposals, 3, generator=generator)
    corner = torch.rand(NUM_STAGES, count, num_proposals, 2, generator=generator) * 30
    side = 5 + torch.rand(NUM_STAGES, count, num_proposals, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + side], -1)
    expected = torch.zeros(NUM_STAGES, dtype=torch.float64)
    for stage in range(NUM_STAGES):
        for image, number in enumerate((3, 0, 1, 9)):
            one = [part[image : image + 1, :number] for part in batch.targets]
            own = (logits[stage, image : image + 1], boxes[stage, image : image + 1])
            indices = match_proposals(*own, *one, batch.image_sizes[image : image + 1])[0].tolist()
            assert sum(index >= 0 for index in indices) == min(number, num_proposals)
            for target, proposal in zip(batch.targets.boxes[image], indices, strict=False):
                if proposal >= 0:
                    pair = boxes[stage, image, proposal][None], target[None]
                    expected[stage] += torchvision.ops.box_iou(*pair).double().item()
    found = matched_iou(Predictions(logits, boxes), batch)
    assert found.shape == (NUM_STAGES + 1,)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[:-1].double(), expected, rtol=1e-5, atol=1e-5)
    assert expected.min() > 0.5
    assert found[-1] == 3 + 0 + 1 + 9
    rounded = matched_iou(Predictions(logits.bfloat16(), boxes.bfloat16()), batch)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, found, rtol=0.1, atol=0.1)


def test_perfect_boxes_have_an_iou_of_one_and_no_targets_none() -> None:
    batch = training_batch((2, 2))
    boxes = batch.targets.boxes.flip(1).expand(NUM_STAGES, -1, -1, -1)
    logits = torch.zeros(*boxes.shape[:-1], 3)
    assert matched_iou(Predictions(logits, boxes), batch).tolist() == pytest.approx([4, 4, 4])
    empty = training_batch((0, 0))
    assert matched_iou(Predictions(logits[:, :, :1], boxes[:, :, :1]), empty).tolist() == [0, 0, 0]
    none = empty._replace(targets=Targets(*(part[:, :0] for part in empty.targets)))
    assert matched_iou(Predictions(logits, boxes), none).tolist() == [0, 0, 0]


def test_matched_iou_is_that_of_the_losses_own_matching() -> None:
    """Proposal 0 has the target's box and proposal 1 its class: the weights decide which is matched."""
    batch = training_batch((1,))
    exact = batch.targets.boxes[0, 0]
    boxes = torch.stack((exact, exact + 40))[None, None]
    logits = torch.full((1, 1, 2, 3), -4.0)
    logits[0, 0, 1] = 4.0
    predictions = Predictions(logits, boxes)
    assert matched_iou(predictions, batch, LossWeights(0.0, 5.0, 2.0))[0] == 1
    assert matched_iou(predictions, batch, LossWeights(2.0, 0.0, 0.0))[0] < 1


def test_the_vector_of_losses_has_the_total_first_then_each_kind_by_stage() -> None:
    parts = [torch.tensor(21.0, requires_grad=True), *torch.arange(1.0, 7.0).view(3, 2)]
    vector = loss_vector(SetLoss(*parts))
    assert vector.tolist() == [21, 1, 2, 3, 4, 5, 6]
    assert not vector.requires_grad
    losses = step_on(TrainingStep(small_model()), training_batch()).losses
    vector = loss_vector(losses)
    assert vector.shape == (1 + 3 * NUM_STAGES,)
    assert vector[1:].sum().item() == pytest.approx(vector[0].item(), rel=1e-5)
    assert torch.equal(vector[3:5], losses.l1)
