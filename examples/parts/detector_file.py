"""A detector in a file, whatever the file: a checkpoint, or what export.py makes of one.

Each becomes one callable, images and their true sizes in, boxes, scores and labels out. Imported by the other
scripts; to serve a detector without this repository, copy the few lines for your format.
"""

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export.passes import move_to_device_pass

from parts.compiling import compile_for_inference
from sparse_rcnn.data import COCO_CLASS_NAMES, Batch, Target, collate, evaluation_transform
from sparse_rcnn.nn import (
    EndToEndDetector,
    build_from_checkpoint,
    fold_first_stage,
    fold_norms,
    load_checkpoint,
)
from sparse_rcnn.ops import Detections, rescale_boxes

METADATA_FILE = "sparse_rcnn.json"  # inside of TorchScript and exported programs
METADATA_KEYS = ("class_names", "shortest_side", "longest_side", "max_detections")

# Images [B, 3, H, W] uint8 and their (height, width) [B, 2] -> boxes [B, D, 4], scores [B, D], labels [B, D].
Detect = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


class Detector(NamedTuple):
    """What finds objects, and what is needed to use it."""

    detect: Detect
    class_names: list[str]
    shortest_side: int  # of the images it was evaluated on, in pixels
    longest_side: int


def choose_device(name: str) -> torch.device:
    """The device of --device, if it is there."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: PyTorch knows no such device") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: PyTorch finds no GPU that it can use")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # for what takes the current one: synchronising, AOTInductor
    return device


def file_format(path: str | Path) -> str:
    """checkpoint, torchscript, pt2, aoti or onnx, told by the file's name and what is in it.

    A checkpoint is read as plain data. The others are programs: run only those that you trust. So a file is
    one of them only if its name says so, too.
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
    if suffix == ".pt2" and not names:
        raise ValueError(f"{path}: cannot be loaded as pt2: not an archive")
    if suffix == ".pt2":
        return "aoti" if any("/data/aotinductor/" in name for name in names) else "pt2"
    if suffix == ".pt" and any("/code/" in name for name in names):
        return "torchscript"
    return "checkpoint"


def load_detector(
    path: str,
    device: torch.device,
    max_detections: int | None = None,
    precision: str = "fp32",
    compiled: bool = False,
) -> Detector:
    """The detector in a file, with its class names and image size.

    Args:
        path: of a checkpoint of this library, detectron2 or mmdetection, or of a file of export.py.
        device: where to run it. What AOTInductor compiled runs where it was compiled for.
        max_detections: per image; 100 unless told. An exported file has no more than it was exported with.
        precision: "fp32" or "bf16", which is for checkpoints only, as is the next.
        compiled: compile when the first batch comes, which takes minutes.

    Returns:
        The detector.

    Raises:
        ValueError: if the file is missing, damaged, not from export.py, has fewer detections, or is exported
            and a precision or compiling is asked for.
    """
    kind = file_format(path)
    if kind == "checkpoint":
        detector = _load_checkpoint(path, device, 100 if max_detections is None else max_detections)
        if compiled:
            detector = detector._replace(detect=compile_for_inference(detector.detect, device, dynamic=True))
        if precision == "bf16":
            detector = detector._replace(detect=_in_bfloat16(detector.detect, device))
        return detector
    if compiled or precision != "fp32":
        raise ValueError(f"{path}: --precision and --compile are for checkpoints, not for exported files")
    readers = {"torchscript": _load_torchscript, "pt2": _load_pt2, "aoti": _load_aoti, "onnx": _load_onnx}
    try:
        detect, metadata = readers[kind](path, device)
    except ImportError:
        raise
    except Exception as error:  # damaged archives fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path}: cannot be loaded as {kind}: {reason}") from error
    missing = [key for key in METADATA_KEYS if key not in metadata]
    if missing:
        raise ValueError(f"{path}: does not say its {', '.join(missing)}; export it with export.py")
    detect = _at_least_64(detect)
    most = metadata["max_detections"]
    if max_detections is not None and max_detections != most:
        if not 1 <= max_detections < most:
            raise ValueError(f"{path}: exported with {most} detections per image, not {max_detections}")
        detect = _keep_best(detect, max_detections)
    return Detector(detect, metadata["class_names"], metadata["shortest_side"], metadata["longest_side"])


def batch_of(images: list[Tensor], original_sizes: list[tuple[int, int]]) -> Batch:
    """Images ``[3, H, W]`` without targets as one batch."""
    boxes, labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    sizes = zip(images, original_sizes, strict=True)
    return collate([(image, Target(boxes, labels, index, size)) for index, (image, size) in enumerate(sizes)])


def detect_batch(detect: Detect, batch: Batch, device: torch.device) -> Detections:
    """Detections of a batch on the CPU, boxes in pixels of the image files."""
    with torch.inference_mode():
        images = batch.images.to(device, non_blocking=True)
        boxes, scores, labels = detect(images, batch.image_sizes.to(device, non_blocking=True))
    boxes = rescale_boxes(boxes.cpu(), batch.image_sizes, batch.original_sizes)
    return Detections(boxes, scores.cpu(), labels.cpu())


def detect_image(
    detector: Detector, image: Tensor, device: torch.device, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, scores and labels of one image ``[3, H, W]`` uint8 in its own pixels, best first."""
    resized = evaluation_transform(detector.shortest_side, detector.longest_side)(image)
    batch = batch_of([resized], [(image.shape[1], image.shape[2])])
    boxes, scores, labels = (part[0] for part in detect_batch(detector.detect, batch, device))
    kept = (scores >= threshold) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return boxes[kept], scores[kept], labels[kept]


def _at_least_64(detect: Detect) -> Detect:
    """Exported programs take more than 32 px a side; a narrower strip gets some padding more."""

    def padded(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        bottom, right = (64 - side if side <= 32 else 0 for side in images.shape[2:])
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom))
        return detect(images, image_sizes)

    return padded


def _in_bfloat16(detect: Detect, device: torch.device) -> Detect:
    def cast(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16):
            return detect(images, image_sizes)

    return cast


def _keep_best(detect: Detect, count: int) -> Detect:
    def best(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, labels = detect(images, image_sizes)
        return boxes[:, :count], scores[:, :count], labels[:, :count]

    return best


def _load_checkpoint(path: str, device: torch.device, max_detections: int) -> Detector:
    checkpoint = load_checkpoint(path)
    for remark in checkpoint.remarks:
        print(f"{path}: {remark}", file=sys.stderr)
    num_classes, image_size = checkpoint.config.num_classes, checkpoint.image_size
    class_names = checkpoint.class_names
    if class_names is None and checkpoint.layout != "sparse_rcnn" and num_classes == 80:
        class_names = list(COCO_CLASS_NAMES)  # the authors' files carry no names, and are COCO's
    if class_names is None:
        class_names = [f"class {label}" for label in range(num_classes)]
    try:
        model = build_from_checkpoint(checkpoint)
    except ValueError as error:  # a backbone of its user's own
        raise ValueError(f"{path}: {error}") from error
    del checkpoint
    # Faster, and in float32 no other figures: BENCHMARKS.md.
    model = fold_norms(model)
    model = fold_first_stage(model)  # one after the other, so that no more than two are in memory
    detect = EndToEndDetector(model.to(device).to(memory_format=torch.channels_last), max_detections)
    return Detector(detect, class_names, *image_size)


def _load_torchscript(path: str, device: torch.device) -> tuple[Detect, dict[str, Any]]:
    extra = {METADATA_FILE: ""}
    module = torch.jit.load(path, map_location=device, _extra_files=extra)
    return module, json.loads(extra[METADATA_FILE] or "{}")


def _load_pt2(path: str, device: torch.device) -> tuple[Detect, dict[str, Any]]:
    extra = {METADATA_FILE: ""}
    program = torch.export.load(path, extra_files=extra)
    program = move_to_device_pass(program, device)  # tensors made inside of the graph, too
    return program.module(), json.loads(extra[METADATA_FILE] or "{}")


def _load_aoti(path: str, device: torch.device) -> tuple[Detect, dict[str, Any]]:
    package = torch._inductor.aoti_load_package(path)
    metadata = package.loader.get_metadata()  # strings to strings
    if metadata.get("AOTI_DEVICE_KEY", device.type) != device.type:
        raise ValueError(f"compiled for {metadata['AOTI_DEVICE_KEY']}, not for {device.type}: see --device")
    return package, json.loads(metadata.get(METADATA_FILE, "{}"))


def _load_onnx(path: str, device: torch.device) -> tuple[Detect, dict[str, Any]]:
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
