"""--precision tf32: matrix products of float32 on a GPU's tensor cores."""

import torch


def use_tf32(device: torch.device) -> None:
    """Sets TF32 for the whole process: inputs of products and convolutions have 10 bits of mantissa.

    PyTorch's default on a GPU is TF32 in convolutions and full float32 in matrix products.

    Raises:
        ValueError: If the device is not a GPU with CUDA.
    """
    if device.type != "cuda":
        raise ValueError(f"--precision tf32 is for a GPU of CUDA, not for {device.type}: give fp32 or bf16")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
