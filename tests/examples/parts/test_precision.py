"""TF32 on a GPU is set for products and convolutions. On other devices it is refused."""

import argparse

import pytest
import torch
from parts.precision import set_precision, use_tf32


def test_a_cpu_is_refused_and_nothing_is_set() -> None:
    with pytest.raises(ValueError, match="is for a GPU of CUDA, not for cpu: give fp32 or bf16"):
        use_tf32(torch.device("cpu"))
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("precision", "of_the_detector", "tf32"), [("tf32", "fp32", True), ("bf16", "bf16", False)]
)
def test_tf32_is_of_the_process_and_the_detector_stays_in_float32(
    precision: str, of_the_detector: str, tf32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # restored after the test
    try:
        found = set_precision(argparse.Namespace(precision=precision), torch.device("cuda"))
        assert found == of_the_detector
        assert torch.backends.cuda.matmul.allow_tf32 is tf32
        assert torch.backends.cudnn.allow_tf32 is tf32
    finally:
        torch.set_float32_matmul_precision("highest")
