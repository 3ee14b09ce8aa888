"""Reads exported detectors: TorchScript, pt2, AOTInductor and ONNX.

To use a detector without this package, copy the few lines for your format.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn.inference.batch import Detect

__all__ = ["METADATA_FILE", "METADATA_KEYS", "file_format", "read_exported"]

METADATA_FILE = "sparse_rcnn.json"  # in TorchScript files and exported programs
METADATA_KEYS = ("class_names", "shortest_side", "longest_side", "max_detections")


def file_format(path: str | Path) -> str:
    """Finds the format of a file by its name and its content.

    A checkpoint is read as plain data. All other formats are programs: run only those that you trust. A file
    counts as a program only if its name also says so.

    Args:
        path: The file.

    Returns:
        "checkpoint", "torchscript", "pt2", "aoti" or "onnx".

    Raises:
        ValueError: If there is no such file, or it is a damaged archive.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("mine.onnx").write_bytes(b"")
        >>> file_format("mine.onnx")
        'onnx'
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    suffix = Path(path).suffix
    if suffix == ".onnx":
        return "onnx"
    names: list[str] = []
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as file:
                names = file.namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise ValueError(f"{path}: a damaged archive: {error}") from error
    if suffix == ".pt2" and any("/data/aotinductor/" in name for name in names):
        return "aoti"
    if suffix == ".pt2":
        if not any(name.endswith("/archive_format") for name in names):
            raise ValueError(f"{path}: cannot be loaded as pt2: not an archive of torch.export")
        return "pt2"
    if suffix == ".pt" and any("/code/" in name for name in names):
        return "torchscript"
    return "checkpoint"


def read_exported(
    path: str | Path, device: torch.device, max_detections: int | None = None
) -> tuple[Detect, dict[str, Any]]:
    """Reads an exported file.

    Args:
        path: The file.
        device: The device to run it on. A file of AOTInductor runs only on the kind of device for which it
            was compiled.
        max_detections: Detections per image. The default, and the limit, is the number with which it was
            exported.

    Returns:
        The detector, and the file's metadata: class names, image size and number of detections.

    Raises:
        ValueError: If the file is damaged, has no metadata of this library, or gives fewer detections than
            asked for.
        ImportError: If it is an ONNX file and onnxruntime is not installed.
    """
    kind = file_format(path)
    readers = {"torchscript": _read_torchscript, "pt2": _read_pt2, "aoti": _read_aoti, "onnx": _read_onnx}
    try:
        detect, metadata = readers[kind](str(path), device)
    except ImportError:
        raise
    except Exception as error:  # damaged archives raise errors of all kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path}: cannot be loaded as {kind}: {reason}") from error
    missing = [key for key in METADATA_KEYS if key not in metadata]
    if missing:
        raise ValueError(f"{path}: does not say its {', '.join(missing)}; export it with examples/export.py")
    detect = _at_least_64(detect)
    most = metadata["max_detections"]
    if max_detections is not None and max_detections != most:
        if not 1 <= max_detections < most:
            raise ValueError(f"{path}: exported with {most} detections per image, not {max_detections}")
        detect = _keep_best(detect, max_detections)
    return detect, metadata


def _at_least_64(detect: Detect) -> Detect:
    """Pads narrow images: exported programs need sides of more than 32 px."""

    def padded(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        bottom, right = (64 - side if side <= 32 else 0 for side in images.shape[2:])
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom))
        return detect(images, image_sizes)

    return padded


def _keep_best(detect: Detect, count: int) -> Detect:
    def best(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, labels = detect(images, image_sizes)
        return boxes[:, :count], scores[:, :count], labels[:, :count]

    return best


def _read_torchscript(path: str, device: torch.device) -> tuple[Detect, dict[str, Any]]:
    extra = {METADATA_FILE: ""}
    module = torch.jit.load(path, map_location=device, _extra_files=extra)
    return module, json.loads(extra[METADATA_FILE] or "{}")


def _read_pt2(path: str, device: torch.device) -> tuple[Detect, dict[str, Any]]:
    from torch.export.passes import move_to_device_pass  # this import takes seconds

    extra = {METADATA_FILE: ""}
    program = torch.export.load(path, extra_files=extra)
    program = move_to_device_pass(program, device)  # also tensors that the graph makes
    return program.module(), json.loads(extra[METADATA_FILE] or "{}")


def _read_aoti(path: str, device: torch.device) -> tuple[Detect, dict[str, Any]]:
    package = torch._inductor.aoti_load_package(path)
    metadata = package.loader.get_metadata()  # strings to strings
    if metadata.get("AOTI_DEVICE_KEY", device.type) != device.type:
        raise ValueError(f"compiled for {metadata['AOTI_DEVICE_KEY']}, not for {device.type}: see --device")
    return package, json.loads(metadata.get(METADATA_FILE, "{}"))


def _read_onnx(path: str, device: torch.device) -> tuple[Detect, dict[str, Any]]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"{path}: needs onnxruntime: pip install onnxruntime") from error
    providers = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    session = onnxruntime.InferenceSession(path, providers=providers)

    def detect(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inputs = {"images": images.cpu().numpy(), "image_sizes": image_sizes.cpu().numpy()}
        boxes, scores, labels = (torch.from_numpy(np.asarray(x)) for x in session.run(None, inputs))
        return boxes, scores, labels

    properties = session.get_modelmeta().custom_metadata_map
    return detect, {key: json.loads(properties[key]) for key in METADATA_KEYS if key in properties}
