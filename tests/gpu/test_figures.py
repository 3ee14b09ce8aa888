"""The published figures on the device: in float32, with TF32 products, and in bf16.

Each case as it trains and as it is deployed, folded. Stages start from the reference's boxes of the stage
before: otherwise each would amplify what the one before rounded. On a CPU, bf16 differs by up to 0.066 in a
logit (0.011 in the mean) and 0.023 of a box's extent; TF32 has two bits more.
"""

import contextlib
import copy
from typing import NamedTuple

import pytest
import torch
from reference_cases import BOXES, FACTS, LOGITS, extents, load_case, make_targets

from sparse_rcnn.loss import match_proposals, set_prediction_loss
from sparse_rcnn.nn import cast_weights, fold_first_stage, fold_norms, to_detectron2
from sparse_rcnn.ops import flatten_pyramid


class Tolerance(NamedTuple):
    logit: float  # the largest difference
    mean_logit: float
    box: float  # the largest difference, relative to the box's extent


TOLERANCES = {
    "float32": Tolerance(LOGITS, 1e-5, 1e-5),
    "tf32": Tolerance(3e-2, 4e-3, 1e-2),
    "bf16": Tolerance(0.15, 0.03, 0.06),
}


@pytest.fixture(scope="module", params=list(FACTS))
def case(request, device):
    if device.type == "cpu" and request.param != "small":
        pytest.skip("tests/nn/test_reference_figures.py has it on a CPU")
    case = load_case(request.param)
    case.model.to(device)
    return case


@contextlib.contextmanager
def arithmetic(precision, device):
    """The switches of a precision."""
    if precision == "tf32":
        torch.backends.cudnn.allow_tf32 = True  # back to full float32 after each test, as conftest.py has it
        torch.set_float32_matmul_precision("high")
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield


def stage_by_stage(case, model, device):
    """Logits and boxes of each stage, from the reference's boxes of the stage before."""
    sizes = case.image_sizes.to(device)
    pyramid = flatten_pyramid(model.backbone(model.normalize(case.images.to(device), sizes)))
    boxes, features = case.model.proposals(sizes)
    outputs = []
    for stage, reference in zip(case.model.head.stages, case.tensor("boxes").to(device), strict=True):
        logits, refined, features = stage(pyramid, boxes, features)
        outputs.append((logits.float(), refined.float()))
        boxes = reference
    return [torch.stack(part) for part in zip(*outputs, strict=True)]


@pytest.mark.parametrize("folded", [False, True], ids=["as built", "folded"])
@pytest.mark.parametrize("precision", list(TOLERANCES))
def test_every_stage(case, precision, folded, device, record_property):
    if precision == "tf32" and device.type == "cpu":
        pytest.skip("a CPU has no TF32")
    model = case.model
    if folded:
        model = fold_first_stage(fold_norms(case.model.eval())).to(memory_format=torch.channels_last)
        if precision == "bf16":
            model = cast_weights(model, device.type)
        case.model.train()
    with torch.no_grad(), arithmetic(precision, device):
        logits, boxes = stage_by_stage(case, model, device)
    difference = (logits - case.tensor("logits").to(device)).abs()
    expected = case.tensor("boxes").to(device)
    off = (boxes - expected).abs().amax(-1)
    tolerance = TOLERANCES[precision]
    figures = {
        "largest of a logit": difference.max().item(),
        "mean of a logit": difference.mean().item(),
        "largest of a box's extent": (off / extents(expected).clamp(min=1)).max().item(),
    }
    for name, value in figures.items():
        record_property(name, f"{value:.1e}")
    assert figures["largest of a logit"] <= tolerance.logit
    assert figures["mean of a logit"] <= tolerance.mean_logit
    assert (off <= (tolerance.box * extents(expected)).clamp(min=BOXES)).all(), figures
    if precision == "bf16":  # it was bf16
        assert figures["mean of a logit"] > 1e-4


def test_stages_in_a_row(case, device, record_property):
    with torch.no_grad():
        found = case.model(case.images.to(device), case.image_sizes.to(device))
    sane = case.facts.stages_of_image_scale
    logits = (found.logits.cpu() - case.tensor("logits"))[:sane].abs().max().item()
    boxes = (found.boxes.cpu() - case.tensor("boxes"))[:sane].abs().max().item()
    record_property("largest of a logit", f"{logits:.1e}")
    record_property("largest of a box, px", f"{boxes:.1e}")
    assert logits <= 3 * LOGITS
    assert boxes <= 3 * BOXES


def training_of(model, case, targets, device):
    """Losses, indices and gradients, with the model and its inputs on the device."""
    sizes = case.image_sizes.to(device)
    model.zero_grad()
    predictions = model(case.images.to(device), sizes)
    targets = [part.to(device) for part in targets]
    losses = set_prediction_loss(*predictions, *targets, sizes, num_targets=targets[2].sum())
    indices = match_proposals(*predictions, *targets, sizes)
    losses.total.backward()
    return losses, indices, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_losses_matches_and_gradients(case, device, record_property):
    if case.facts.target_counts is None:
        pytest.skip("the reference has no losses of this case")
    targets = make_targets(case)
    losses, indices, gradients = training_of(case.model, case, targets, device)
    assert losses.total.item() == pytest.approx(float(case.figures["loss.total"]), rel=1e-5)
    for stage in range(len(indices)):
        for image in range(2):
            target = case.tensor(f"match.stage{stage}.image{image}.target")
            proposal = case.tensor(f"match.stage{stage}.image{image}.proposal")
            assert indices[stage, image].cpu()[target].tolist() == proposal.tolist()
    theirs = to_detectron2({**case.model.state_dict(), **gradients})
    total = float(case.figures["grad.total_norm"])
    worst = 0.0
    for name, norm in zip(case.figures["grad.names"], case.figures["grad.norms"], strict=True):
        worst = max(worst, abs(theirs[str(name)].norm().item() - norm) / max(norm, 1e-4 * total))
    record_property("largest relative difference of a gradient's norm", f"{worst:.1e}")
    assert worst <= 2e-3


def test_gradients_are_those_of_float64_on_a_cpu(case, device, record_property):
    if case.name != "small":
        pytest.skip("one case shows it")
    targets = make_targets(case)
    exact = copy.deepcopy(case.model).to("cpu", torch.float64)
    cpu = torch.device("cpu")
    in_float64 = (targets.boxes.double(), targets.labels, targets.valid)
    expected_losses, _, expected = training_of(exact, case, in_float64, cpu)
    losses, _, found = training_of(case.model, case, targets, device)
    for mine, theirs in zip(losses, expected_losses, strict=True):
        torch.testing.assert_close(mine.cpu(), theirs.float(), rtol=1e-4, atol=1e-5)
    assert found.keys() == expected.keys()
    total = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    worst = max(
        ((found[name].cpu() - gradient).norm() / gradient.norm().clamp(min=1e-3 * total)).item()
        for name, gradient in expected.items()
    )
    record_property("largest relative difference of a gradient", f"{worst:.1e}")
    assert worst <= 2e-3
