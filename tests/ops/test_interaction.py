import pytest
import torch
from einops import einsum, rearrange, repeat
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import seeds
from torch import nn
from torch.testing import assert_close

from sparse_rcnn.ops import dynamic_interaction

EPS = 1e-5


def make_parameters(channels, inner, bins, seed=0):
    """In the order of the arguments; norms that do something, unlike fresh ones."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "generator_weight": randn(2 * channels * inner, channels),
        "generator_bias": randn(2 * channels * inner),
        "norm1_weight": 1 + 0.3 * randn(inner),
        "norm1_bias": 0.3 * randn(inner),
        "norm2_weight": 1 + 0.3 * randn(channels),
        "norm2_bias": 0.3 * randn(channels),
        "out_weight": randn(channels, bins * channels),
        "out_bias": randn(channels),
        "norm3_weight": 1 + 0.3 * randn(channels),
        "norm3_bias": 0.3 * randn(channels),
    }


def make_inputs(*batch, count=5, channels=4, bins=9, seed=0):
    generator = torch.Generator().manual_seed(seed + 1)
    pro_feats = torch.randn(*batch, count, channels, generator=generator, dtype=torch.float64)
    roi_feats = torch.randn(*batch, count, bins, channels, generator=generator, dtype=torch.float64)
    return pro_feats, roi_feats


def norm(parameters, number, eps):
    weight, bias = parameters[f"norm{number}_weight"], parameters[f"norm{number}_bias"]
    layer = nn.LayerNorm(len(weight), eps=eps, dtype=torch.float64)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return nn.Sequential(layer, nn.ReLU())


def loop_over_proposals(pro_feats, roi_feats, parameters, eps=EPS):
    """One proposal at a time: the paper's pseudocode. pro_feats [N, C], roi_feats [N, P*P, C]."""
    inner, channels = len(parameters["norm1_weight"]), len(parameters["norm2_weight"])
    norm1, norm2, norm3 = (norm(parameters, number, eps) for number in (1, 2, 3))
    results = []
    with torch.no_grad():
        for proposal, roi in zip(pro_feats, roi_feats, strict=True):
            kernels = einsum(parameters["generator_weight"], proposal, "o c, c -> o")
            kernel1, kernel2 = (kernels + parameters["generator_bias"]).chunk(2)
            kernel1 = rearrange(kernel1, "(c d) -> c d", c=channels, d=inner)
            kernel2 = rearrange(kernel2, "(d c) -> d c", c=channels, d=inner)
            x = norm1(einsum(roi, kernel1, "s c, c d -> s d"))
            x = norm2(einsum(x, kernel2, "s d, d c -> s c"))
            x = parameters["out_weight"] @ rearrange(x, "s c -> (s c)") + parameters["out_bias"]
            results.append(norm3(x))
    return torch.stack(results)


@given(st.integers(1, 6), st.integers(2, 6), st.integers(2, 5), st.sampled_from([1, 4, 9]), seeds())
@settings(max_examples=25)
def test_against_a_loop_over_proposals(count, channels, inner, bins, seed):
    parameters = make_parameters(channels, inner, bins, seed)
    pro_feats, roi_feats = make_inputs(count=count, channels=channels, bins=bins, seed=seed)
    result = dynamic_interaction(pro_feats, roi_feats, **parameters)
    assert_close(result, loop_over_proposals(pro_feats, roi_feats, parameters), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch", [(), (2,), (3, 2)])
def test_leading_dimensions_are_a_batch(batch):
    parameters = make_parameters(4, 3, 9)
    pro_feats, roi_feats = make_inputs(*batch)
    result = dynamic_interaction(pro_feats, roi_feats, **parameters)
    assert result.shape == (*batch, 5, 4)
    flat = loop_over_proposals(pro_feats.reshape(-1, 4), roi_feats.reshape(-1, 9, 4), parameters)
    assert_close(result.reshape(-1, 4), flat, rtol=1e-9, atol=1e-9)


def test_proposals_can_be_shared_by_the_batch():
    parameters = make_parameters(4, 3, 9)
    pro_feats, _ = make_inputs(1)
    _, roi_feats = make_inputs(3)
    shared = dynamic_interaction(pro_feats, roi_feats, **parameters)
    every = dynamic_interaction(repeat(pro_feats, "1 n c -> b n c", b=3), roi_feats, **parameters)
    assert_close(shared, every, rtol=1e-12, atol=1e-12)


@given(seeds())
@settings(max_examples=10)
def test_proposals_can_come_in_any_order(seed):
    parameters = make_parameters(4, 3, 9, seed)
    pro_feats, roi_feats = make_inputs(2, count=6, seed=seed)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    permuted = dynamic_interaction(pro_feats[:, order], roi_feats[:, order], **parameters)
    assert_close(
        permuted, dynamic_interaction(pro_feats, roi_feats, **parameters)[:, order], rtol=0, atol=1e-9
    )


def test_a_proposal_sees_its_own_roi_only():
    parameters = make_parameters(4, 3, 9)
    pro_feats, roi_feats = make_inputs()
    before = dynamic_interaction(pro_feats, roi_feats, **parameters)
    roi_feats[2] += 1
    changed = (dynamic_interaction(pro_feats, roi_feats, **parameters) - before).abs().amax(dim=-1) > 1e-9
    assert changed.tolist() == [False, False, True, False, False]


def test_the_result_is_rectified():
    result = dynamic_interaction(*make_inputs(8), **make_parameters(4, 3, 9))
    assert (result >= 0).all()
    assert (result > 0).any()
    assert (result == 0).any()


def test_eps_reaches_every_norm():
    # So large that each norm shows it.
    parameters, (pro_feats, roi_feats) = make_parameters(4, 3, 9), make_inputs()
    result = dynamic_interaction(pro_feats, roi_feats, **parameters, eps=3.0)
    expected = loop_over_proposals(pro_feats, roi_feats, parameters, eps=3.0)
    assert_close(result, expected, rtol=1e-9, atol=1e-9)


def test_no_proposals():
    assert dynamic_interaction(*make_inputs(2, count=0), **make_parameters(4, 3, 9)).shape == (2, 0, 4)


@pytest.mark.parametrize(
    ("pro_shape", "roi_shape", "named"),
    [
        ((5, 3), (5, 9, 4), "4 channels"),
        ((5, 4), (5, 9, 3), "4 channels"),
        ((5, 4), (5, 16, 4), "9 bins"),
        ((5, 4), (5, 1, 4), "9 bins"),
    ],
)
def test_inputs_that_do_not_fit_are_named(pro_shape, roi_shape, named):
    with pytest.raises(ValueError, match=named):
        dynamic_interaction(torch.zeros(pro_shape), torch.zeros(roi_shape), **make_parameters(4, 3, 9))


@pytest.mark.parametrize("shape", [(2 * 4 * 3 + 4, 4), (4 * 3, 4), (2 * 4 * 3, 5)])
def test_a_generator_that_does_not_fit_is_named(shape):
    parameters = make_parameters(4, 3, 9)
    parameters["generator_weight"] = torch.zeros(shape, dtype=torch.float64)
    parameters["generator_bias"] = torch.zeros(shape[0], dtype=torch.float64)
    with pytest.raises(ValueError, match="generator"):
        dynamic_interaction(*make_inputs(), **parameters)


@pytest.mark.parametrize("count", [2, 4])
def test_proposals_and_rois_of_different_number_are_named(count):
    pro_feats, _ = make_inputs(2, count=5)
    _, roi_feats = make_inputs(2, count=count)
    with pytest.raises(ValueError, match="pro_feats"):
        dynamic_interaction(pro_feats, roi_feats, **make_parameters(4, 3, 9))


@pytest.mark.parametrize("seed", range(3))
def test_gradients_against_finite_differences(seed):
    parameters = make_parameters(3, 2, 4, seed)
    tensors = [*make_inputs(count=2, channels=3, bins=4, seed=seed), *parameters.values()]
    assert torch.autograd.gradcheck(dynamic_interaction, [tensor.requires_grad_() for tensor in tensors])
