"""What the two published implementations compute, as figures (tests/reference, made by their own code).

Weights, images and targets are pure functions of names, so no weight file is needed. The published code
itself moves by 2e-5 in the logits and 4e-4 px in the boxes from run to run and against float64: what
differs by more than 1e-4 and 2e-3 px is another computation, not rounding.

One case needs more care. The pseudo-random weights of `mmdet_r50_100` make box deltas four times as strong
as those of the other cases: boxes grow to 11290 px in an image of 320, where one unit in the last place
of float32 is already 1e-3 px, and every stage pools from boxes that are a little off and so amplifies what
the stage before rounded. In the last stage our float32 model differs from our float64 model by 0.25 px and
4e-4 in the logits, and from the reference by 0.18 px and 2.5e-4. So it is asserted twice:

- every stage alone, from the reference's own boxes: no amplification, and the usual tolerances hold for all
  stages (with 1e-5 of the box's extent where that is more than 2e-3 px; measured: 2e-6);
- all stages in a row: the usual tolerances for the stages whose boxes are of the image's scale, and a bound
  relative to the box's extent for all.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from reference_cases import BOXES, FACTS, LOGITS, Case, Targets, extents, load_case, make_targets
from small_model import REFERENCE
from torch import Tensor

from sparse_rcnn import SparseRCNN
from sparse_rcnn.loss import SetLoss, match_proposals, set_prediction_loss
from sparse_rcnn.nn import Predictions, fold_first_stage, fold_norms, to_detectron2
from sparse_rcnn.ops import clip_boxes, flatten_pyramid, select_detections

# The published sizes take most of the time.
CASES = [pytest.param(name, marks=() if name == "small" else pytest.mark.slow) for name in FACTS]
WITH_TARGETS = [case for case in CASES if FACTS[case.values[0]].target_counts is not None]


class Training(NamedTuple):
    losses: SetLoss
    indices: Tensor
    gradients: dict[str, Tensor]


@pytest.fixture(scope="module", params=CASES)
def case(request) -> Case:
    return load_case(request.param)


@pytest.fixture(scope="module", params=["as built", "folded"])
def model(case, request) -> SparseRCNN:
    """As it trains, and as the examples run it."""
    if request.param == "as built":
        return case.model
    folded = fold_first_stage(fold_norms(case.model.eval())).to(memory_format=torch.channels_last)
    case.model.train()
    return folded


@pytest.fixture(scope="module")
def predictions(case, model) -> Predictions:
    with torch.no_grad():
        return model(case.images, case.image_sizes)


@pytest.fixture(scope="module")
def levels(case, model) -> list[Tensor]:
    with torch.no_grad():
        return model.backbone(model.normalize(case.images, case.image_sizes))


@pytest.fixture(scope="module")
def stage_by_stage(case, levels) -> Predictions:
    """Each stage started from the reference's boxes of the stage before."""
    with torch.no_grad():
        pyramid = flatten_pyramid(levels)
        boxes, features = case.model.proposals(case.image_sizes)
        outputs = []
        for stage, reference_boxes in zip(case.model.head.stages, case.tensor("boxes"), strict=True):
            logits, refined, features = stage(pyramid, boxes, features)
            outputs.append((logits, refined))
            boxes = reference_boxes
    return Predictions(*map(torch.stack, zip(*outputs, strict=True)))


@pytest.fixture(scope="module")
def targets(case) -> Targets:
    return make_targets(case)


@pytest.fixture(scope="module")
def training(case, targets) -> Training:
    predictions = case.model(case.images, case.image_sizes)
    losses = set_prediction_loss(*predictions, *targets, case.image_sizes, num_targets=targets.valid.sum())
    indices = match_proposals(*predictions, *targets, case.image_sizes)
    losses.total.backward()
    gradients = {
        name: parameter.grad for name, parameter in case.model.named_parameters() if parameter.requires_grad
    }
    case.model.zero_grad()
    return Training(losses, indices, gradients)


def largest(differences: Tensor) -> Tensor:
    """The largest difference of each stage."""
    return differences.flatten(1).amax(1)


def test_the_model_has_the_published_size(case):
    count = sum(parameter.numel() for parameter in case.model.parameters())
    assert count == pytest.approx(case.facts.num_parameters, rel=0.01)


@pytest.mark.parametrize("case", WITH_TARGETS, indirect=True)  # the other case has no such figures
@pytest.mark.parametrize("level", [2, 3, 4, 5])
def test_pyramid_statistics(case, levels, level):
    values = levels[level - 2].flatten(2)
    torch.testing.assert_close(values.mean(2), case.tensor(f"p{level}.mean"), rtol=0, atol=1e-5)
    torch.testing.assert_close(values.std(2), case.tensor(f"p{level}.std"), rtol=0, atol=1e-5)


def test_logits_of_each_stage_alone(case, stage_by_stage):
    differences = largest((stage_by_stage.logits - case.tensor("logits")).abs())
    assert (differences <= LOGITS).all(), differences


def test_boxes_of_each_stage_alone(case, stage_by_stage):
    expected = case.tensor("boxes")
    differences = (stage_by_stage.boxes - expected).abs().amax(-1)
    excess = differences / (1e-5 * extents(expected)).clamp(min=BOXES)
    assert (excess <= 1).all(), largest(excess)


def test_logits_of_all_stages_in_a_row(case, predictions):
    differences = (predictions.logits - case.tensor("logits")).abs()
    sane = case.facts.stages_of_image_scale
    assert (differences[:sane] <= LOGITS).all(), largest(differences)
    # Amplified rounding is rare and small: a different computation would be neither.
    most = differences.flatten(1).sort(dim=1).values[:, : int(0.99 * differences[0].numel())]
    assert (most <= LOGITS).all(), largest(most)
    assert (differences <= 20 * LOGITS).all(), largest(differences)


def test_boxes_of_all_stages_in_a_row(case, predictions):
    expected = case.tensor("boxes")
    differences = (predictions.boxes - expected).abs().amax(-1)
    sane = case.facts.stages_of_image_scale
    assert (differences[:sane] <= BOXES).all(), largest(differences)
    relative = differences / extents(expected).clamp(min=1.0)
    assert relative.flatten(1).quantile(0.9, dim=1).max() <= 5e-5, relative.flatten(1).quantile(0.9, dim=1)
    assert (relative <= 1e-3).all(), largest(relative)


@pytest.mark.parametrize("image", [0, 1])
def test_detections(case, predictions, image):
    scores = case.tensor(f"detections{image}.scores")
    count = len(scores)
    found = select_detections(predictions.logits[-1], predictions.boxes[-1], case.image_sizes, count)
    torch.testing.assert_close(found.scores[image], scores, rtol=0, atol=case.facts.score_tolerance)
    # If the scores of two neighbours are closer than the tolerance, rounding decides their order.
    ranked = case.tensor("logits")[-1, image].sigmoid().flatten().topk(count + 1).values
    gaps = ranked[:-1] - ranked[1:] > max(1e-5, case.facts.score_tolerance / 3)
    settled = gaps & torch.cat((torch.tensor([True]), gaps[:-1]))
    assert settled.sum() > 0.6 * count
    expected_labels = case.tensor(f"detections{image}.labels")
    assert found.labels[image][settled].tolist() == expected_labels[settled].tolist()
    # The reference's boxes are not clipped to the image, ours are.
    expected = clip_boxes(case.tensor(f"detections{image}.boxes")[None], case.image_sizes[image][None])[0]
    tolerance = BOXES if case.facts.stages_of_image_scale == len(predictions.boxes) else 0.5
    torch.testing.assert_close(found.boxes[image][settled], expected[settled], rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", WITH_TARGETS, indirect=True)
@pytest.mark.parametrize("image", [0, 1])
def test_targets_are_the_references(case, targets, image):
    count = case.facts.target_counts[image]
    assert targets.boxes[image, :count].equal(case.tensor(f"target{image}.boxes"))
    assert targets.labels[image, :count].equal(case.tensor(f"target{image}.labels"))


@pytest.mark.parametrize("case", WITH_TARGETS, indirect=True)
@pytest.mark.parametrize(
    ("name", "their_name"), [("classification", "loss_ce"), ("l1", "loss_bbox"), ("giou", "loss_giou")]
)
def test_losses(case, training, name, their_name):
    losses = getattr(training.losses, name).detach().numpy()
    earlier = [case.figures[f"loss.{their_name}_{stage}"] for stage in range(len(losses) - 1)]
    np.testing.assert_allclose(losses, [*earlier, case.figures[f"loss.{their_name}"]], rtol=1e-5)


@pytest.mark.parametrize("case", WITH_TARGETS, indirect=True)
def test_total_loss(case, training):
    assert training.losses.total.item() == pytest.approx(float(case.figures["loss.total"]), rel=1e-5)


@pytest.mark.parametrize("case", WITH_TARGETS, indirect=True)
def test_assignments(case, training, targets):
    expected = torch.full_like(training.indices, -1)  # [L, B, M]
    for stage, image in np.ndindex(*expected.shape[:2]):
        target = case.tensor(f"match.stage{stage}.image{image}.target")
        expected[stage, image, target] = case.tensor(f"match.stage{stage}.image{image}.proposal")
    assert training.indices.tolist() == expected.tolist()
    assert (training.indices >= 0).equal(targets.valid.expand_as(expected))


@pytest.mark.parametrize("case", WITH_TARGETS, indirect=True)
def test_total_gradient_norm(case, training):
    norm = torch.stack([gradient.norm() for gradient in training.gradients.values()]).norm().item()
    assert norm == pytest.approx(float(case.figures["grad.total_norm"]), rel=1e-3)


@pytest.mark.parametrize("case", WITH_TARGETS, indirect=True)
def test_gradient_norm_of_every_parameter(case, training):
    # The conversion of checkpoints gives gradients their published names. Others have placeholders.
    theirs = to_detectron2({**case.model.state_dict(), **training.gradients})
    is_gradient = {id(gradient) for gradient in training.gradients.values()}
    norms = {key: value.norm().item() for key, value in theirs.items() if id(value) in is_gradient}
    names, values = case.figures["grad.names"].tolist(), case.figures["grad.norms"].tolist()
    expected = dict(zip(names, values, strict=True))
    assert norms.keys() == expected.keys()
    negligible = 1e-9 * float(case.figures["grad.total_norm"])
    assert norms == pytest.approx(expected, rel=1e-3, abs=negligible)


def run_trajectory(dtype: torch.dtype, steps: int) -> np.ndarray:
    case = load_case("small")
    model = case.model.to(dtype)
    boxes, labels, valid = make_targets(case)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=1e-4)
    trajectory = []
    for _ in range(steps):
        predictions = model(case.images, case.image_sizes)
        losses = set_prediction_loss(
            *predictions, boxes.to(dtype), labels, valid, case.image_sizes, num_targets=valid.sum()
        )
        optimizer.zero_grad()
        losses.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        trajectory.append((losses.total.item(), norm.item()))
    return np.array(trajectory)


# Twenty steps of AdamW. Its first steps are nearly the sign of the gradient, so a gradient that rounding
# moves across zero moves a weight by the full learning rate, and one ReLU that flips changes gradients by
# 2e-4: the trajectory is chaotic. Losses of our float64 run differ from the reference by 2e-7, 6e-6, 4e-5
# and 4e-4 at steps 2 to 5; our float32 run by up to 9e-5, 6e-4 and 3e-3 at steps 2 to 4, depending on the
# instruction set and the number of threads. Then float32, float64 and the reference all part ways, by about
# 1 %. Until then the agreement is that of rounding: another learning rate or clipping is seen at step 1.


@pytest.fixture(scope="module")
def reference_trajectory() -> np.ndarray:
    with np.load(REFERENCE / "small.npz") as file:
        return file["trajectory"]


@pytest.fixture(scope="module")
def float32_trajectory() -> np.ndarray:
    return run_trajectory(torch.float32, 20)


@pytest.fixture(scope="module")
def float64_trajectory() -> np.ndarray:
    return run_trajectory(torch.float64, 6)


@pytest.mark.slow
def test_float64_trajectory_of_the_loss(float64_trajectory, reference_trajectory):
    losses = float64_trajectory[:, 0]
    np.testing.assert_allclose(losses[:4], reference_trajectory[:4, 0], rtol=3e-5)
    np.testing.assert_allclose(losses, reference_trajectory[:6, 0], rtol=1e-3)


@pytest.mark.slow
def test_float64_trajectory_of_the_gradient_norm(float64_trajectory, reference_trajectory):
    np.testing.assert_allclose(float64_trajectory[:4, 1], reference_trajectory[:4, 1], rtol=1e-3)


@pytest.mark.slow
def test_float32_trajectory_of_the_loss(float32_trajectory, reference_trajectory):
    losses, expected = float32_trajectory[:, 0], reference_trajectory[:, 0]
    np.testing.assert_allclose(losses[:3], expected[:3], rtol=5e-4)
    np.testing.assert_allclose(losses[:4], expected[:4], rtol=2e-3)
    np.testing.assert_allclose(losses, expected, rtol=0.05)
