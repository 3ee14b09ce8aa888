"""Weights become constants of what is compiled for inference, and nothing else changes."""

import pytest
import torch
from compiling import compile_for_inference, weights_as_constants
from torch import nn
from torch._dynamo.utils import counters

CPU = torch.device("cpu")


def settings() -> tuple[bool, str]:
    return torch._inductor.config.freezing, torch.backends.mkldnn.matmul.fp32_precision


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_weights_are_constants_and_it_compiles_once(mode) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32)).eval()
    before = settings()
    compiled = compile_for_inference(model, CPU, dynamic=True)
    counters.clear()
    torch.compiler.reset()
    with mode():
        for rows in (5, 7, 9):
            x = torch.randn(rows, 64)
            torch.testing.assert_close(compiled(x), model(x))
            assert settings() == before
        assert counters["stats"]["unique_graphs"] == 1
        expected = model(x)
        model[0].weight.data.zero_()
        torch.testing.assert_close(compiled(x), expected)


def test_settings_return_after_an_error() -> None:
    before = settings()
    seen = []

    def fail() -> None:
        with weights_as_constants():
            seen.append(settings())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [(True, "tf32")]
    assert settings() == before
