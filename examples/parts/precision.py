"""--precision of the scripts; tf32: matrix products of float32 on a GPU's tensor cores."""

import argparse

import torch

from sparse_rcnn.inference.detector_file import Precision


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


def set_precision(arguments: argparse.Namespace, device: torch.device) -> Precision:
    """Sets TF32 if --precision asks for it.

    Returns:
        What `load_detector` takes: TF32 is a setting of the process, not of a detector.
    """
    if arguments.precision == "tf32":
        use_tf32(device)
        return "fp32"
    return "bf16" if arguments.precision == "bf16" else "fp32"
