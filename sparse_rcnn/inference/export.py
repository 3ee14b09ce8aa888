"""Exports a detector to one file that runs without this package: image in, detections out, no NMS.

In all formats, inputs are `images` [B, 3, H, W] uint8 RGB, padded right and bottom, and `image_sizes` [B, 2]
int64 (height, width). B is any number, H and W are any numbers above 32. Outputs are boxes [B, D, 4] xyxy in
pixels of the batch, scores [B, D] and labels [B, D].
"""

import importlib.util
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparse_rcnn.inference.exported_file import METADATA_FILE

__all__ = ["ANY_SIDE", "SUFFIXES", "format_of_name", "write_exported"]

SUFFIXES = {"torchscript": ".torchscript.pt", "pt2": ".pt2", "onnx": ".onnx", "aoti": ".aoti.pt2"}
# Whether the sides of images in exported programs need not be multiples of 32.
ANY_SIDE = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 12)


def format_of_name(path: str | Path) -> str:
    """Finds the format by the name of a file.

    Args:
        path: The file. Its name ends in .onnx, .torchscript.pt (or .pt), .aoti.pt2 or .pt2.

    Returns:
        "onnx", "torchscript", "aoti" or "pt2".

    Raises:
        ValueError: If the name ends in something else.
    """
    name = Path(path).name
    for format in ("aoti", "torchscript", "pt2", "onnx"):
        if name.endswith(SUFFIXES[format]) or (format == "torchscript" and name.endswith(".pt")):
            return format
    raise ValueError(f"{path}: the name must end in {', '.join(SUFFIXES.values())}")


def write_exported(
    path: str | Path, format: str, model: nn.Module, device: torch.device, metadata: dict[str, Any]
) -> None:
    """Writes a model in a format.

    Args:
        path: The file.
        format: "torchscript", "pt2", "onnx" or "aoti".
        model: A module from images and their sizes to detections, in evaluation mode.
        device: The device of the model.
        metadata: What the file holds besides, as JSON: class_names, shortest_side, longest_side,
            max_detections.

    Raises:
        ValueError: If the format is unknown, or a compiler or package is missing.
    """
    if format not in _WRITERS:
        raise ValueError(f"format must be one of {', '.join(_WRITERS)}, got {format!r}")
    if not Path(path).absolute().parent.is_dir():
        raise ValueError(f"{path}: there is no such directory")
    _WRITERS[format](model, device, Path(path), metadata)


def _with_free_sizes(export: Callable[..., Any], model: nn.Module, device: torch.device) -> Any:
    """Exports the model as one graph. Batch, height and width of the images may vary."""
    batch = torch.export.Dim("batch", min=1)
    # Images up to 32 px have one cell on the coarsest level. PyTorch would need another graph for them.
    height, width = torch.export.Dim("height", min=33), torch.export.Dim("width", min=33)
    images = torch.zeros(2, 3, 128, 160, dtype=torch.uint8, device=device)
    inputs = (images, torch.tensor([[128, 160], [128, 160]], device=device))
    shapes = {"images": {0: batch, 2: height, 3: width}, "image_sizes": {0: batch}}
    try:
        return export(model, inputs, dynamic_shapes=shapes)
    except (torch._dynamo.exc.UserError, torch.onnx.OnnxExporterError):
        if ANY_SIDE:
            raise
        # PyTorch 2.11: sides must be multiples of 32. `collate` pads to such sides.
        shapes["images"][2] = 32 * torch.export.Dim("rows", min=2)
        shapes["images"][3] = 32 * torch.export.Dim("columns", min=2)
        return export(model, inputs, dynamic_shapes=shapes)


def _write_torchscript(model: nn.Module, device: torch.device, path: Path, metadata: dict[str, Any]) -> None:
    torch.jit.script(model).save(str(path), _extra_files={METADATA_FILE: json.dumps(metadata)})


def _write_pt2(model: nn.Module, device: torch.device, path: Path, metadata: dict[str, Any]) -> None:
    program = _with_free_sizes(torch.export.export, model, device)
    with warnings.catch_warnings():
        # Of channels-last weights, which are whole, and lie on the CPU or are copied to it.
        warnings.filterwarnings("ignore", "No complete tensor found")
        torch.export.save(program, path, extra_files={METADATA_FILE: json.dumps(metadata)})


def _write_aoti(model: nn.Module, device: torch.device, path: Path, metadata: dict[str, Any]) -> None:
    program = _with_free_sizes(torch.export.export, model, device)
    options = {"aot_inductor.metadata": {METADATA_FILE: json.dumps(metadata)}, "freezing": True}
    try:
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    except Exception as error:
        if "InvalidCxxCompiler" not in str(error):
            raise
        raise ValueError("format aoti needs a C++ compiler: install g++, or name one in CXX") from error


def _write_onnx(model: nn.Module, device: torch.device, path: Path, metadata: dict[str, Any]) -> None:
    if importlib.util.find_spec("onnxscript") is None or importlib.util.find_spec("onnxruntime") is None:
        raise ValueError("onnx needs onnx, onnxscript and onnxruntime: pip install 'sparse_rcnn[export]'")
    # The model and not an exported program: pyramid_roi_align has a form of its own for ONNX.
    export = partial(
        torch.onnx.export,
        dynamo=True,
        opset_version=20,
        input_names=["images", "image_sizes"],
        output_names=["boxes", "scores", "labels"],
        verbose=False,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # both inputs have one batch
        program = _with_free_sizes(export, model, device)
    assert program is not None  # of torch.onnx.export with dynamo=True
    if any(node.op_type == "Loop" for node in program.model.graph):
        raise ValueError("format onnx: PyTorch fell back to an export that makes RoIAlign a loop")
    program.model.metadata_props.update({key: json.dumps(value) for key, value in metadata.items()})
    program.save(path)


_WRITERS: dict[str, Callable[[nn.Module, torch.device, Path, dict[str, Any]], None]] = {
    "torchscript": _write_torchscript,
    "pt2": _write_pt2,
    "onnx": _write_onnx,
    "aoti": _write_aoti,
}
