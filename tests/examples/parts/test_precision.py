"""TF32 on a GPU is set for products and convolutions. On other devices it is refused."""

import pytest
import torch
from parts.precision import use_tf32


def test_a_cpu_is_refused_and_nothing_is_set() -> None:
    with pytest.raises(ValueError, match="is for a GPU of CUDA, not for cpu: give fp32 or bf16"):
        use_tf32(torch.device("cpu"))
    assert torch.get_float32_matmul_precision() == "highest"


def test_products_and_convolutions_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # restored after the test
    try:
        use_tf32(torch.device("cuda"))
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
