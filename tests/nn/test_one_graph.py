"""The whole detector as TorchScript, as one graph of torch.compile and as an exported program."""

import pytest
import torch

from sparse_rcnn.loss import set_prediction_loss

BACKBONES = ["resnet18", "mobilenet_v2"]


@pytest.fixture(params=BACKBONES)
def model(request, build_small):
    return build_small(backbone=request.param, backbone_norm="frozen").eval()


def assert_close(ours, theirs):
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=2e-3)


def test_script(model, batch, tmp_path):
    torch.jit.script(model).save(str(tmp_path / "model.pt"))
    scripted = torch.jit.load(str(tmp_path / "model.pt"))
    assert_close(scripted(*batch), model(*batch))
    images, sizes = batch
    assert_close(scripted(images / 255, sizes), model(images / 255, sizes))


def test_script_takes_other_sizes(build_small):
    model = build_small()
    scripted = torch.jit.script(model)
    for height, width in [(32, 32), (70, 45)]:
        images, sizes = torch.rand(1, 3, height, width), torch.tensor([[height, width]])
        assert_close(scripted(images, sizes), model(images, sizes))


def test_script_backpropagates(build_small, batch):
    model = build_small()
    model(*batch).logits.sum().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    torch.jit.script(model)(*batch).logits.sum().backward()
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        found = dict(model.named_parameters())[name].grad
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-4 * max(scale, 1e-3))


def test_compile_without_graph_breaks(build_small, batch):
    torch.compiler.reset()
    model = build_small().eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert_close(compiled(*batch), model(*batch))


def test_compiled_training_step(build_small, batch):
    torch.compiler.reset()
    model = build_small()
    boxes = torch.tensor([[[5.0, 5, 50, 60], [30, 10, 90, 40]], [[1.0, 2, 60, 40], [0, 0, 0, 0]]])
    labels, valid = torch.tensor([[0, 2], [1, 0]]), torch.tensor([[True, True], [True, False]])

    def loss(images, sizes):
        predictions = model(images, sizes)
        return set_prediction_loss(
            predictions.logits, predictions.boxes, boxes, labels, valid, sizes, torch.tensor(3)
        ).total

    expected = loss(*batch)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")(*batch)
    torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-4)
    compiled.backward()
    assert torch.isfinite(model.proposals.features.grad).all()


def test_export(model, batch):
    program = torch.export.export(model, batch, strict=False)
    with torch.no_grad():
        assert_close(program.module()(*batch), model(*batch))


def test_exported_program_follows_its_inputs(build_small, batch):
    model = build_small().eval()
    module = torch.export.export(model, batch, strict=False).module()
    images, sizes = batch[0].flip(0), batch[1].flip(0)
    with torch.no_grad():
        assert_close(module(images, sizes), model(images, sizes))
