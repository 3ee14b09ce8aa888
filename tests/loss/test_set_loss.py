import pytest
import scipy.optimize
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import boxes_of, coordinates, seeds, target_sets
from torch.testing import assert_close

from sparse_rcnn.loss import LossWeights, match_proposals, set_prediction_loss

CLASSES = 3
NOT_FINITE = [float("nan"), float("inf"), -float("inf")]


@st.composite
def cases(draw, max_targets=4, max_count=4):
    """Logits [L, B, N, K], boxes, target boxes, labels, valid, image sizes: the arguments in their order."""
    stages, batch, count = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, max_count))
    targets = draw(target_sets(batch, CLASSES, max_targets))
    total = stages * batch * count
    box = boxes_of(*[coordinates(0, 32)] * 2, *[coordinates(1, 32)] * 2)
    edges = torch.tensor(draw(st.lists(box, min_size=total, max_size=total)), dtype=torch.float64)
    generator = torch.Generator().manual_seed(draw(seeds()))
    logits = torch.randn(stages, batch, count, CLASSES, generator=generator, dtype=torch.float64)
    # Off the grid, where |x| and max have their kinks.
    boxes = edges + 0.01 + 0.02 * torch.rand(edges.shape, generator=generator, dtype=torch.float64)
    sizes = torch.randint(64, 100, (batch, 2), generator=generator)
    return logits, boxes.reshape(stages, batch, count, 4), *targets, sizes


def by_loop(
    logits, boxes, targets, sizes, num_targets, weights=(2.0, 5.0, 2.0), alpha=0.25, gamma=2.0, least=1.0
):
    """The published way: a list of dicts of targets, one-hot classes, one stage and one image at a time.

    Below 1, `least` is the least target of the quality focal loss.

    Returns the weighted (classification, l1, giou), each [L].
    """
    stages = []
    for stage_logits, stage_boxes in zip(logits, boxes, strict=True):
        sums = [torch.zeros((), dtype=torch.float64) for _ in range(3)]
        for image, target in enumerate(targets):
            scores, predicted = stage_logits[image].sigmoid(), stage_boxes[image]
            height, width = sizes[image].tolist()
            scale = torch.tensor([width, height, width, height], dtype=torch.float64)
            p = scores[:, target["labels"]]
            focal = alpha * (1 - p) ** gamma * -torch.log(p + 1e-8)
            focal = focal - (1 - alpha) * p**gamma * -torch.log(1 - p + 1e-8)
            distance = torch.cdist(predicted / scale, target["boxes"] / scale, p=1)
            overlap = torchvision.ops.generalized_box_iou(predicted, target["boxes"])
            cost = weights[0] * focal + weights[1] * distance - weights[2] * overlap
            rows, columns = scipy.optimize.linear_sum_assignment(cost.detach().numpy())
            rows, columns = torch.as_tensor(rows), torch.as_tensor(columns)

            background = torch.full((len(predicted),), CLASSES)
            background[rows] = target["labels"][columns]
            onehot = F.one_hot(background, CLASSES + 1)[:, :CLASSES].double()
            matched, wanted = predicted[rows], target["boxes"][columns]
            if least < 1:
                iou = torchvision.ops.box_iou(matched, wanted).diag().detach().clamp(min=least)
                quality = onehot.clone()
                quality[rows, target["labels"][columns]] = iou
                weight = alpha * onehot + (1 - alpha) * (1 - onehot)
                entropy = -quality * scores.log() - (1 - quality) * torch.log1p(-scores)
                sums[0] = sums[0] + (weight * (quality - scores).abs() ** gamma * entropy).sum()
            else:
                sums[0] = sums[0] + torchvision.ops.sigmoid_focal_loss(
                    stage_logits[image], onehot, alpha, gamma, reduction="sum"
                )
            sums[1] = sums[1] + F.l1_loss(matched / scale, wanted / scale, reduction="sum")
            sums[2] = sums[2] + (1 - torchvision.ops.generalized_box_iou(matched, wanted).diag()).sum()
        stages.append([weight * part / num_targets for weight, part in zip(weights, sums, strict=True)])
    return [torch.stack(part) for part in zip(*stages, strict=True)]


def list_of_dicts(target_boxes, labels, valid):
    images = zip(target_boxes, labels, valid, strict=True)
    return [{"boxes": boxes[real], "labels": label[real]} for boxes, label, real in images]


def make_case(count=5, num_targets=3, stages=2, dtype=torch.float64):
    """Two images. The second has a padded target, if there are targets."""
    generator = torch.Generator().manual_seed(0)

    def boxes(*shape):
        low = torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * 30
        return torch.cat((low, low + 1 + torch.rand(low.shape, generator=generator) * 30), dim=-1).to(dtype)

    logits = torch.randn(stages, 2, count, CLASSES, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, CLASSES, (2, num_targets), generator=generator)
    valid = torch.ones(2, num_targets, dtype=torch.bool)
    valid[1, -1:] = False
    sizes = torch.tensor([[64, 80], [70, 64]])
    return [logits, boxes(stages, 2, count), boxes(2, num_targets), labels, valid, sizes]


def assert_same(losses, expected):
    for mine, theirs in zip(losses, expected, strict=True):
        assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


PARAMETERS = [
    ((2.0, 5.0, 2.0), 0.25, 2.0, 1.0),
    ((1.0, 0.5, 3.0), 0.5, 1.0, 1.0),
    ((2.0, 5.0, 2.0), 0.25, 2.0, 0.05),
    ((1.0, 0.5, 3.0), 0.3, 1.0, 0.6),
]


@pytest.mark.parametrize(("weights", "alpha", "gamma", "least"), PARAMETERS)
@given(case=cases(), num_targets=st.floats(1, 20))
def test_against_a_loop(weights, alpha, gamma, least, case, num_targets):
    logits, boxes, *targets, sizes = case
    expected = by_loop(
        logits, boxes, list_of_dicts(*targets), sizes, num_targets, weights, alpha, gamma, least
    )
    normaliser = torch.tensor(num_targets, dtype=torch.float64)
    losses = set_prediction_loss(*case, normaliser, LossWeights(*weights, alpha, gamma, least))
    assert_same(losses[1:], expected)
    assert_close(losses.total, sum(part.sum() for part in expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("least", [1.0, 0.05])
@given(case=cases())
def test_gradients_against_a_loop(least, case):
    logits, boxes, *targets, sizes = case
    inputs = [logits.requires_grad_(), boxes.requires_grad_()]
    expected = by_loop(logits, boxes, list_of_dicts(*targets), sizes, 3.0, least=least)
    expected = torch.autograd.grad(sum(part.sum() for part in expected), inputs, materialize_grads=True)
    total = set_prediction_loss(*case, torch.tensor(3.0), LossWeights(least_quality=least)).total
    assert_same(torch.autograd.grad(total, inputs), expected)


def test_gradients_against_finite_differences():
    logits, boxes, *rest = make_case()

    def losses(logits, boxes):
        return set_prediction_loss(logits, boxes, *rest, torch.tensor(5.0))

    assert torch.autograd.gradcheck(losses, (logits.requires_grad_(), boxes.requires_grad_()))


@pytest.mark.parametrize("num_targets", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_scores_that_learn_the_overlap_are_one_graph(num_targets):
    class Quality(torch.nn.Module):
        def forward(self, case: list[torch.Tensor]) -> torch.Tensor:
            logits, boxes, target_boxes, labels, valid, sizes = case
            weights = LossWeights(2.0, 5.0, 2.0, 0.25, 2.0, 0.05)
            count = torch.tensor(5.0)
            return set_prediction_loss(
                logits, boxes, target_boxes, labels, valid, sizes, count, weights
            ).total

    case = make_case(num_targets=num_targets)
    eager = Quality()(case)
    assert_close(torch.jit.script(Quality())(case), eager)
    assert_close(torch.compile(Quality(), fullgraph=True, backend="eager")(case), eager)


def test_weights_by_default():
    case = [*make_case(), torch.tensor(5.0)]
    weights, *numbers = PARAMETERS[0]
    assert_same(set_prediction_loss(*case), set_prediction_loss(*case, LossWeights(*weights, *numbers)))


def test_total_is_the_sum_of_all_others():
    losses = set_prediction_loss(*make_case(), torch.tensor(5.0))
    assert all(part.shape == (2,) for part in losses[1:])
    assert_close(losses.total, torch.cat(losses[1:]).sum())


def test_perfect_predictions_cost_next_to_nothing():
    _, _, target_boxes, labels, valid, sizes = make_case()
    logits = torch.where(F.one_hot(labels, CLASSES).bool() & valid[..., None], 50.0, -50.0).double()
    losses = set_prediction_loss(logits[None], target_boxes[None], target_boxes, labels, valid, sizes, 5.0)
    assert_close(losses.total.item(), 0.0, rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_targets", [0, 2])
def test_without_a_valid_target_only_the_background_is_learned(num_targets):
    logits, boxes, target_boxes, labels, valid, sizes = make_case(num_targets=num_targets)
    losses = set_prediction_loss(
        logits, boxes.requires_grad_(), target_boxes, labels, torch.zeros_like(valid), sizes, 0.0
    )
    background = torchvision.ops.sigmoid_focal_loss(logits, torch.zeros_like(logits), reduction="none")
    assert_close(losses.classification, 2 * background.sum(dim=(1, 2, 3)))
    assert losses.l1.eq(0).all()
    assert losses.giou.eq(0).all()
    assert torch.autograd.grad(losses.total, boxes)[0].eq(0).all()


def test_more_targets_than_proposals_add_nothing_for_those_left_over():
    logits, boxes, *targets, sizes = make_case(count=2, num_targets=5)
    expected = by_loop(logits, boxes, list_of_dicts(*targets), sizes, 9.0)
    assert_same(set_prediction_loss(logits, boxes, *targets, sizes, torch.tensor(9.0))[1:], expected)


@pytest.mark.parametrize("garbage", [*NOT_FINITE, -5.0, 1e30])
@pytest.mark.parametrize("label", [-1, -100, CLASSES, 10**6])
@pytest.mark.parametrize("place", ["front", "back"])
def test_padding_changes_nothing(garbage, label, place):
    logits, boxes, target_boxes, labels, valid, sizes = make_case()
    expected = set_prediction_loss(*make_case(), torch.tensor(5.0))
    padding = (
        torch.full((2, 2, 4), garbage, dtype=torch.float64),
        torch.full((2, 2), label),
        torch.zeros(2, 2, dtype=torch.bool),
    )
    pairs = zip(padding, (target_boxes, labels, valid), strict=True)
    targets = [torch.cat(pair if place == "front" else pair[::-1], dim=1) for pair in pairs]
    inputs = [logits.requires_grad_(), boxes.requires_grad_()]
    losses = set_prediction_loss(*inputs, *targets, sizes, torch.tensor(5.0))
    assert_same(losses, expected)
    for gradient in torch.autograd.grad(losses.total, inputs):
        assert gradient.isfinite().all()


@given(cases(), seeds())
@settings(max_examples=20)
def test_targets_can_come_in_any_order(case, seed):
    logits, boxes, target_boxes, labels, valid, sizes = case
    order = torch.randperm(valid.shape[1], generator=torch.Generator().manual_seed(seed))
    permuted = [target_boxes[:, order], labels[:, order], valid[:, order]]
    normaliser = torch.tensor(4.0)
    assert_same(
        set_prediction_loss(logits, boxes, *permuted, sizes, normaliser),
        set_prediction_loss(*case, normaliser),
    )


@given(cases(), seeds())
@settings(max_examples=20)
def test_proposals_can_come_in_any_order(case, seed):
    logits, boxes, *rest = case
    order = torch.randperm(logits.shape[2], generator=torch.Generator().manual_seed(seed))
    normaliser = torch.tensor(4.0)
    assert_same(
        set_prediction_loss(logits[:, :, order], boxes[:, :, order], *rest, normaliser),
        set_prediction_loss(*case, normaliser),
    )


def test_stages_are_matched_and_weighed_on_their_own():
    logits, boxes, *rest = make_case(stages=3)
    together = set_prediction_loss(logits, boxes, *rest, torch.tensor(5.0))
    for stage in range(3):
        alone = set_prediction_loss(
            logits[stage : stage + 1], boxes[stage : stage + 1], *rest, torch.tensor(5.0)
        )
        assert_same([part[stage : stage + 1] for part in together[1:]], alone[1:])


@pytest.mark.parametrize("name", ["logits", "boxes"])
@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("matched", [True, False])
@pytest.mark.parametrize("channel", [0, 1])
def test_predictions_that_are_not_finite_make_their_stage_nan(channel, matched, value, name):
    case = make_case()
    case[3].zero_()  # channel 0 is the class of all targets, channel 1 of none
    good = set_prediction_loss(*case, torch.tensor(5.0))
    indices = match_proposals(*case)[0, 0].tolist()
    proposal = indices[0] if matched else next(n for n in range(5) if n not in indices)
    case[0 if name == "logits" else 1][0, 0, proposal, channel] = value
    losses = set_prediction_loss(*case, torch.tensor(5.0))
    first_stage = losses.classification[0] + losses.l1[0] + losses.giou[0]
    assert first_stage.isnan()
    assert losses.total.isnan()
    assert_same([part[1] for part in losses[1:]], [part[1] for part in good[1:]])


@pytest.mark.parametrize("num_targets", [0, 3])
def test_nothing_but_nan_does_not_crash(num_targets):
    logits, boxes, *rest = make_case(num_targets=num_targets)
    losses = set_prediction_loss(logits * float("nan"), boxes * float("nan"), *rest, torch.tensor(5.0))
    assert losses.total.isnan()


@pytest.mark.parametrize("label", [-1, CLASSES, 10**6])
def test_a_label_out_of_range_is_named(label):
    case = make_case()
    case[3][0, 1] = label
    with pytest.raises(ValueError, match=rf"0\.\.{CLASSES - 1}, got {label}$"):
        set_prediction_loss(*case, torch.tensor(5.0))


@pytest.mark.parametrize(
    ("box", "named"),
    [
        ([5, 5, float("nan"), 9], "must be finite"),
        ([5, 5, 4.9, 9], r"x1 <= x2 and y1 <= y2, got \[5.0, 5.0, 4.9"),
        ([5, 5, 9, -9], r"x1 <= x2 and y1 <= y2, got \[5.0, 5.0, 9.0, -9.0"),
    ],
)
def test_a_target_that_is_no_box_is_named(box, named):
    case = make_case()
    case[2][0, 1] = torch.tensor(box)
    with pytest.raises(ValueError, match=named):
        set_prediction_loss(*case, torch.tensor(5.0))
    case[4][0, 1] = False  # padding may hold anything
    set_prediction_loss(*case, torch.tensor(5.0))


@pytest.mark.parametrize("num_targets", [0.0, 0.25, -3.0])
def test_fewer_than_one_target_counts_as_one(num_targets):
    assert_same(
        set_prediction_loss(*make_case(), torch.tensor(num_targets)),
        set_prediction_loss(*make_case(), torch.tensor(1.0)),
    )


@pytest.mark.parametrize(
    "normaliser", [4, 4.0, torch.tensor(4), torch.tensor(4.0), torch.tensor(4.0).double()]
)
def test_the_normaliser_divides_and_may_be_a_number_or_a_tensor(normaliser):
    one = set_prediction_loss(*make_case(), torch.tensor(1.0))
    losses = set_prediction_loss(*make_case(), normaliser)
    assert_same(losses, [part / 4 for part in one])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_is_float32_at_least(dtype):
    logits, boxes, target_boxes, *rest = make_case(dtype=dtype)
    losses = set_prediction_loss(logits, boxes, target_boxes, *rest, 5.0)
    expected = set_prediction_loss(logits.float(), boxes.float(), target_boxes.float(), *rest, 5.0)
    for mine, theirs in zip(losses, expected, strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("position", "shape", "named"),
    [
        (0, (2, 5, 3), "logits must be"),
        (0, (2, 2, 4, 3), "logits must be"),
        (1, (2, 2, 5, 5), "boxes must be"),
        (1, (1, 2, 5, 4), "logits must be"),
        (2, (2, 2, 4), "target_boxes must be"),
        (2, (1, 3, 4), "target_boxes must be"),
        (2, (2, 3, 5), "target_boxes must be"),
        (3, (1, 3), "target_labels"),
        (4, (2, 2), "target_valid"),
        (4, (1, 3), "target_valid"),
        (5, (1, 2), "image_sizes must be"),
        (5, (2, 4), "image_sizes must be"),
    ],
)
def test_shapes_that_do_not_fit_are_named(position, shape, named):
    case = make_case()
    case[position] = torch.zeros(shape, dtype=case[position].dtype)
    with pytest.raises(ValueError, match=named):
        set_prediction_loss(*case, torch.tensor(5.0))


@pytest.mark.parametrize("num_targets", [0, 3])
def test_without_a_proposal_there_is_no_loss(num_targets):
    logits, boxes, *rest = make_case(count=0, num_targets=num_targets)
    losses = set_prediction_loss(logits.requires_grad_(), boxes, *rest, torch.tensor(3.0))
    assert losses.total.item() == 0
    assert [part.tolist() for part in losses[1:]] == [[0, 0]] * 3
    assert torch.autograd.grad(losses.total, logits)[0].shape == logits.shape


def test_neither_alpha_weighs_positives_and_negatives_alike():
    half = set_prediction_loss(*make_case(), torch.tensor(5.0), LossWeights(alpha=0.5))
    neither = set_prediction_loss(*make_case(), torch.tensor(5.0), LossWeights(classification=1.0, alpha=-1))
    assert_same(neither, half)  # weights of 1 and 1 for 2 times 1/2 and 1/2


@pytest.mark.parametrize(
    "weights",
    [
        LossWeights(l1=-1.0),
        LossWeights(gamma=float("nan")),
        LossWeights(alpha=-2.0),
        LossWeights(least_quality=1.5),
        2.0,
    ],
)
def test_weights_that_are_none_are_named(weights):
    with pytest.raises(ValueError, match=r"weights(\.(l1|gamma|alpha|least_quality))? must be"):
        set_prediction_loss(*make_case(), torch.tensor(5.0), weights)


@pytest.mark.parametrize(
    ("position", "dtype", "named"),
    [(3, torch.float32, "give target_labels.long"), (4, torch.uint8, "target_valid must be bool")],
)
def test_types_that_do_not_fit_are_named(position, dtype, named):
    case = make_case()
    case[position] = case[position].to(dtype)
    with pytest.raises(ValueError, match=named):
        set_prediction_loss(*case, torch.tensor(5.0))
