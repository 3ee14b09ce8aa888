"""--precision tf32: matrix products of float32 on a GPU's tensor cores."""

import torch


def use_tf32(device: torch.device) -> None:
    """Lets float32 products and convolutions round their inputs to 10 bits of mantissa, in the whole process.

    PyTorch's own setting for a GPU is TF32 in convolutions and full float32 in matrix products.

    Raises:
        ValueError: if the device is no GPU of CUDA.
    """
    if device.type != "cuda":
        raise ValueError(f"--precision tf32 is for a GPU of CUDA, not for {device.type}: give fp32 or bf16")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
