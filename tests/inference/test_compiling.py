"""Weights become constants of a graph compiled for inference. Nothing else changes."""

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from sparse_rcnn.inference import compile_for_inference

CPU = torch.device("cpu")


def settings() -> tuple[bool, str]:
    return torch._inductor.config.freezing, torch.backends.mkldnn.matmul.fp32_precision


def packed_products() -> int:
    return counters["inductor"]["mkldnn_linear_weight_pack_matcher_count"]


@pytest.fixture
def model() -> nn.Sequential:
    torch.compiler.reset()
    counters.clear()
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32)).eval()


@pytest.mark.slow
def test_weights_are_packed_constants_of_every_graph(model: nn.Sequential) -> None:
    before = settings()

    def detect(images: Tensor, image_sizes: Tensor) -> Tensor:
        return model(images.mean((1, 3)) + image_sizes[:, :1])

    compiled = compile_for_inference(detect, CPU, dynamic=True)
    # A single image needs another graph. A square batch does not.
    inputs = [
        (torch.randn(rows, 3, 64, width), torch.ones(rows, 2)) for rows, width in ((64, 64), (1, 9), (7, 30))
    ]
    with torch.inference_mode():
        expected = [detect(*x) for x in inputs]
        for x, y in zip(inputs, expected, strict=True):
            torch.testing.assert_close(compiled(*x), y)
            assert settings() == before
        graphs = counters["stats"]["unique_graphs"]
        assert graphs == 2
        if torch.backends.mkldnn.is_available():
            assert packed_products() == 2 * graphs
        model[0].weight.data.zero_()
        for x, y in zip(inputs, expected, strict=True):
            torch.testing.assert_close(compiled(*x), y)
        assert counters["stats"]["unique_graphs"] == graphs


def test_settings_return_after_an_error(model: nn.Sequential) -> None:
    before = settings()

    def fail(x: Tensor) -> Tensor:
        return model(x).reshape(3, 5)

    with torch.no_grad(), pytest.raises(RuntimeError):
        compile_for_inference(fail, CPU, dynamic=False)(torch.zeros(2, 64))
    assert settings() == before


def test_precision_returns_after_an_error_of_the_compiler(
    model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = settings(), []

    def fail(*arguments: object) -> None:
        seen.append(settings())
        raise RuntimeError("no compiler")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", fail)
    with torch.no_grad(), pytest.raises(Exception, match="no compiler"):
        compile_for_inference(model, CPU, dynamic=False)(torch.zeros(2, 64))
    assert seen == [(True, "tf32")]
    assert settings() == before
