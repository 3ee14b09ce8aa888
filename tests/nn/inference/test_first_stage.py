"""Folding the first stage. test_reference_figures.py compares folded models with published figures."""

import copy

import pytest
import torch
from small_model import build_small_model, random_batch
from torch import nn
from torch.testing import assert_close

from sparse_rcnn import SparseRCNN
from sparse_rcnn.nn import EndToEndDetector, fold_first_stage

VARIANTS = {
    "Sparse R-CNN": {},
    "one stage": {"num_stages": 1},
    "no self-attention (Table 5)": {"self_attention": False},
    "box head (Table 3)": {"interaction": "fully_connected"},
    "no feature reuse (Table 4)": {"feature_reuse": False},
}


def build(variant: str):
    return build_small_model(**VARIANTS[variant]).double().eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_predictions_and_the_model_stay(variant):
    model = build(variant)
    before = copy.deepcopy(model.state_dict())
    folded = fold_first_stage(model)
    empty = torch.zeros(0, 3, 64, 96), torch.zeros(0, 2).long()
    with torch.no_grad():
        for inputs in (empty, random_batch(1, 64, 96), random_batch(3, 64, 96)):
            assert_close(folded(*inputs), model(*inputs), rtol=1e-10, atol=1e-10)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def attentions(model):
    """How many stages attend in a forward pass."""
    found = []
    for stage in model.head.stages:
        if stage.attention is not None:
            stage.attention.register_forward_hook(lambda *_: found.append(None))
    model(*random_batch(2, 64, 64))
    return len(found)


def test_the_first_stage_neither_attends_nor_generates():
    model = build("Sparse R-CNN")
    folded = fold_first_stage(model)
    assert (attentions(model), attentions(folded)) == (2, 1)
    gone, new = (a.state_dict().keys() - b.state_dict().keys() for a, b in ((model, folded), (folded, model)))
    parts = {key.removeprefix("head.stages.0.").rpartition(".")[0] for key in gone}
    assert parts == {"attention", "attention.out_proj", "attention_norm", "interaction.generator"}
    assert new == {"head.stages.0.interaction.kernel1", "head.stages.0.interaction.kernel2"}


def test_a_model_that_reuses_no_features_stays_as_it_is():
    model = build("no feature reuse (Table 4)")
    folded = fold_first_stage(model)
    assert folded is not model
    assert folded.state_dict().keys() == model.state_dict().keys()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["Sparse R-CNN", "box head (Table 3)"])
def test_scripts_exports_and_compiles_as_one_graph(variant):
    detector = EndToEndDetector(fold_first_stage(build(variant)).float())
    inputs = random_batch(2, 64, 96)
    with torch.no_grad():
        expected = detector(*inputs)
        assert_close(torch.jit.script(detector)(*inputs), expected)
        assert_close(torch.export.export(detector, inputs).module()(*inputs), expected)
        assert_close(torch.compile(detector, fullgraph=True, backend="aot_eager")(*inputs), expected)


def test_kernels_stay_in_order_in_channels_last_memory():
    folded = fold_first_stage(build("Sparse R-CNN")).to(memory_format=torch.channels_last)
    interaction = folded.head.stages[0].interaction
    assert interaction.kernel1.is_contiguous()
    assert interaction.kernel2.is_contiguous()


def test_what_cannot_be_folded_is_refused():
    with pytest.raises(ValueError, match=r"call model.eval\(\) first"):
        fold_first_stage(build_small_model())
    model = build("Sparse R-CNN")
    other = SparseRCNN(model.backbone, nn.Identity(), model.head).eval()
    with pytest.raises(ValueError, match="Proposals and Head"):
        fold_first_stage(other)
    stage = model.head.stages[0]
    for first, second in ((nn.Identity(), stage), (stage, stage)):
        model.head.stages[0], model.head.stages[1] = first, second
        with pytest.raises(ValueError, match="whose first stage is a Stage of its own"):
            fold_first_stage(model)


def test_autocast_has_no_part_in_the_constants():
    model = build("Sparse R-CNN").float()
    with torch.autocast("cpu", torch.bfloat16):
        folded = fold_first_stage(model)
    assert all(
        torch.equal(a, b) for a, b in zip(folded.buffers(), fold_first_stage(model).buffers(), strict=True)
    )
    assert folded.head.stages[0].interaction.kernel1.dtype == torch.float32
