import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from torch.testing import assert_close

from sparse_rcnn.loss import sigmoid_focal_loss
from sparse_rcnn.loss.focal import quality_focal_terms

ALPHAS, GAMMAS = st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0])


def make_pair(seed, scale=5.0, shape=(3, 4)):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    return logits, torch.rand(shape, generator=generator) < 0.5


@given(seeds(), ALPHAS, GAMMAS)
def test_torchvision_agrees(seed, alpha, gamma):
    logits, targets = make_pair(seed)
    expected = torchvision.ops.sigmoid_focal_loss(logits, targets.double(), alpha, gamma)
    assert_close(sigmoid_focal_loss(logits, targets, alpha, gamma), expected, rtol=1e-10, atol=1e-12)


@given(seeds(), ALPHAS, GAMMAS)
def test_against_the_equation(seed, alpha, gamma):
    logits, targets = make_pair(seed)
    losses = sigmoid_focal_loss(logits, targets, alpha, gamma)
    triples = zip(logits.flatten(), targets.flatten(), losses.flatten(), strict=True)
    for logit, target, loss in triples:
        p = 1 / (1 + math.exp(-logit))
        p_t, alpha_t = (p, alpha) if target else (1 - p, 1 - alpha)
        assert loss.item() == pytest.approx(
            -alpha_t * (1 - p_t) ** gamma * math.log(p_t), rel=1e-8, abs=1e-12
        )


@given(seeds(), ALPHAS | st.just(-1.0), GAMMAS)
def test_where_the_quality_is_0_or_1_it_is_the_focal_loss(seed, alpha, gamma):
    logits, targets = make_pair(seed)
    expected = sigmoid_focal_loss(logits, targets, alpha, gamma)
    assert_close(quality_focal_terms(logits, targets.double(), alpha, gamma), expected, rtol=1e-12, atol=0)


def test_alpha_weighs_positives_by_default():
    # At p = 1/2: 0.25 * 1/4 * ln 2 and 0.75 * 1/4 * ln 2.
    losses = sigmoid_focal_loss(torch.zeros(2, dtype=torch.float64), torch.tensor([1, 0]))
    assert losses.tolist() == pytest.approx([math.log(2) / 16, 3 * math.log(2) / 16])


@given(seeds(), ALPHAS)
def test_gamma_zero_is_weighted_cross_entropy(seed, alpha):
    logits, targets = make_pair(seed)
    weight = torch.where(targets, alpha, 1 - alpha).double()
    expected = F.binary_cross_entropy_with_logits(logits, targets.double(), weight, reduction="none")
    assert_close(sigmoid_focal_loss(logits, targets, alpha, 0.0), expected)


@given(seeds(), ALPHAS, GAMMAS)
def test_swapping_the_classes_swaps_alpha(seed, alpha, gamma):
    logits, targets = make_pair(seed)
    swapped = sigmoid_focal_loss(-logits, ~targets, 1 - alpha, gamma)
    assert_close(swapped, sigmoid_focal_loss(logits, targets, alpha, gamma), rtol=1e-10, atol=1e-14)


@given(seeds())
def test_never_negative_and_falling_with_the_true_probability(seed):
    logits, targets = make_pair(seed)
    losses = sigmoid_focal_loss(logits, targets)
    assert (losses >= 0).all()
    better = torch.where(targets, logits + 0.1, logits - 0.1)
    assert (sigmoid_focal_loss(better, targets) < losses).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certainty_costs_nothing_and_error_costs_its_logit(dtype):
    logits = torch.tensor([100.0, -100.0, -100.0, 100.0], dtype=dtype)
    losses = sigmoid_focal_loss(logits, torch.tensor([1, 0, 1, 0]))
    assert losses.tolist() == pytest.approx([0, 0, 25, 75], abs=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_have_finite_losses_and_gradients(dtype, gamma):
    logits = torch.tensor([1e4, -1e4, 90.0, -90.0, 1e30, -1e30], dtype=dtype).repeat(2).requires_grad_()
    targets = torch.tensor([1] * 6 + [0] * 6)
    losses = sigmoid_focal_loss(logits, targets, 0.25, gamma)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("target", [0, 1])
def test_nan_stays_nan(target):
    assert sigmoid_focal_loss(torch.tensor([float("nan")]), torch.tensor([target])).isnan().all()


@given(seeds(), ALPHAS, st.sampled_from([1.0, 2.0, 3.0]))
def test_gradients_against_finite_differences(seed, alpha, gamma):
    logits, targets = make_pair(seed, scale=2.0, shape=(5,))
    assert torch.autograd.gradcheck(
        lambda logits: sigmoid_focal_loss(logits, targets, alpha, gamma), logits.requires_grad_()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_is_float32_at_least(dtype):
    logits = torch.tensor([0.3, -6.0, 9.0]).to(dtype)
    targets = torch.tensor([1.0, 0.0, 1.0]).to(dtype)
    losses = sigmoid_focal_loss(logits, targets)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, sigmoid_focal_loss(logits.float(), targets.float()))


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 2, 3)])
def test_shapes_that_differ_are_named(shape):
    with pytest.raises(ValueError, match="one shape"):
        sigmoid_focal_loss(torch.zeros(2, 3), torch.zeros(shape))


def test_alpha_of_minus_one_weighs_neither_as_in_torchvision():
    logits, targets = make_pair(0)
    expected = torchvision.ops.sigmoid_focal_loss(logits, targets.to(logits), alpha=-1, gamma=2.0)
    assert_close(sigmoid_focal_loss(logits, targets, alpha=-1), expected)


@pytest.mark.parametrize(
    ("named", "value"),
    [("alpha", -0.5), ("alpha", 1.5), ("alpha", math.nan), ("gamma", -1.0), ("gamma", math.inf)],
)
def test_numbers_out_of_range_are_named(named, value):
    with pytest.raises(ValueError, match=f"^{named} must be in"):
        sigmoid_focal_loss(torch.zeros(2), torch.zeros(2), **{named: value})


def test_an_empty_tensor_is_no_number():
    with pytest.raises(ValueError, match=r"^alpha must be a number, got Tensor"):
        sigmoid_focal_loss(torch.zeros(2), torch.zeros(2), alpha=torch.zeros(0))
