"""A detector in a file, whatever the file: a checkpoint, or what was exported of one."""

import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparse_rcnn.data.formats.coco_classes import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from sparse_rcnn.inference.batch import Detect
from sparse_rcnn.inference.compiling import compile_for_inference
from sparse_rcnn.inference.detector import Detector
from sparse_rcnn.inference.exported_file import file_format, read_exported
from sparse_rcnn.inference.finite import refuse_not_finite
from sparse_rcnn.inference.hub import download_folder
from sparse_rcnn.inference.resaving import Origin
from sparse_rcnn.nn.checkpoints.checkpoint import Checkpoint, load_checkpoint
from sparse_rcnn.nn.checkpoints.loading import build_from_checkpoint
from sparse_rcnn.nn.image_size import ImageSize
from sparse_rcnn.nn.inference.end_to_end import EndToEndDetector
from sparse_rcnn.nn.inference.first_stage import fold_first_stage
from sparse_rcnn.nn.inference.norm_folding import fold_norms

__all__ = ["CheckpointRemark", "Precision", "choose_device", "from_pretrained", "load_detector"]

Precision = Literal["fp32", "bf16"]


class CheckpointRemark(UserWarning):
    """What is odd about a checkpoint, and no error."""


def load_detector(
    source: str | Path,
    device: str | torch.device = "auto",
    precision: Precision = "fp32",
    compile: bool = False,
    *,
    max_detections: int | None = None,
    image_size: tuple[int | None, int | None] = (None, None),
    backbone: nn.Module | None = None,
) -> Detector:
    """The detector in a file, ready for photos.

    Norms and first stage are folded, and weights are channels-last: faster, and in float32 no other figures.

        detector = load_detector("runs/mine/best.pth")
        found = detector("photo.jpg", threshold=0.4)
        found.draw().save("found.png")

    Args:
        source: A checkpoint of this library, detectron2 or mmdetection (``.pth``, ``.safetensors``; of a
            folder, ``model.safetensors`` or the ``best.pth`` of a run), or what was exported of one
            (``.onnx``, ``.pt2``, ``.torchscript.pt``). Exported files are programs: load only those that you
            trust.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.
        precision: "fp32", or "bf16": faster, and scores differ by up to about 0.01. For checkpoints only, as
            is the next.
        compile: Compile when the first image comes, which takes minutes.
        max_detections: Per image; 100 unless given. An exported file has no more than it was exported with.
        image_size: (shortest, longest) side in pixels that images are resized to; None takes the file's.
        backbone: The module, where the model was built with one of its user's own.

    Returns:
        The detector.

    Raises:
        ValueError: If the file is missing, damaged or of no known kind, has fewer detections, is exported and
            a precision or compiling is asked for; if there is no such device. The detector raises
            ``NotFiniteError``, one of these, for results that are not finite.
        ImportError: If the file needs a package that is not installed.

    Warns:
        CheckpointRemark: For what is odd about a checkpoint, such as a file without a digest.
    """
    place = choose_device(device)
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
    for side in image_size:
        if side is not None and side < 1:
            raise ValueError(f"image_size must be (shortest, longest) side of at least 1, got {image_size}")
    if not isinstance(source, (str, Path)):
        raise ValueError(f"source must be the path of a file or folder, got {type(source).__name__}")
    source = Path(source)
    kind = "checkpoint" if source.is_dir() else file_format(source)
    if kind == "checkpoint":
        most = 100 if max_detections is None else max_detections
        detector = _from_checkpoint(source, place, most, backbone)
        if compile:
            detector.detect = compile_for_inference(detector.detect, place, dynamic=True)
        if precision == "bf16":
            detector.detect = _in_bfloat16(detector.detect, place)
    else:
        if compile or precision != "fp32" or backbone is not None:
            raise ValueError(
                f"{source}: precision, compile and backbone are for checkpoints, not for exported files"
            )
        detect, metadata = read_exported(source, place, max_detections)
        sides = metadata["shortest_side"], metadata["longest_side"]
        detector = Detector(detect, metadata["class_names"], *sides, device=place, source=str(source))
    detector.detect = refuse_not_finite(detector.detect, str(source))
    detector.shortest_side = image_size[0] or detector.shortest_side
    detector.longest_side = image_size[1] or detector.longest_side
    return detector


def from_pretrained(repo_id: str, *, revision: str | None = None, **options: Any) -> Detector:
    """The detector in a repository of the Hugging Face hub.

        detector = from_pretrained("owner/name")

    Args:
        repo_id: "owner/name".
        revision: Branch, tag or commit; the main branch unless given.
        **options: As of `load_detector`.

    Returns:
        The detector.

    Raises:
        ValueError: As `load_detector`.
        ImportError: If huggingface_hub or safetensors is not installed.
    """
    return load_detector(download_folder(repo_id, revision), **options)


def choose_device(name: str | torch.device) -> torch.device:
    """The device of that name, if it is there; "auto" is a GPU if there is one.

    Args:
        name: As PyTorch names it, or "auto".

    Raises:
        ValueError: If PyTorch does not know or cannot use it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name}: PyTorch knows no such device") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name}: PyTorch finds no GPU that it can use")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # for what takes the current one: synchronising, AOTInductor
    return device


def _from_checkpoint(
    path: Path, device: torch.device, max_detections: int, backbone: nn.Module | None
) -> Detector:
    origin = Origin.of(path, backbone)
    checkpoint = load_checkpoint(path)
    for remark in checkpoint.remarks:
        warnings.warn(f"{path}: {remark}", CheckpointRemark, stacklevel=3)
    names, ids = _classes_of(checkpoint)
    try:
        model = build_from_checkpoint(checkpoint, backbone)
    except ValueError as error:  # a backbone of its user's own
        raise ValueError(f"{path}: {error}") from error
    image_size = model.image_size or ImageSize()
    del checkpoint
    model = fold_norms(model)
    model = fold_first_stage(model)  # one after the other, so that no more than two are in memory
    whole = EndToEndDetector(model.to(device).to(memory_format=torch.channels_last), max_detections)
    shortest, longest = image_size
    return Detector(whole, names, shortest, longest, device, ids, str(path), whole, origin)


def _classes_of(checkpoint: Checkpoint) -> tuple[list[str], list[int] | None]:
    """Names and category ids by label. The authors' files carry neither, and are COCO's."""
    names, ids = checkpoint.class_names, checkpoint.category_ids
    num_classes = checkpoint.config.num_classes
    if names is None and checkpoint.layout != "sparse_rcnn" and num_classes == 80:
        names = list(COCO_CLASS_NAMES)
    if ids is None and names == list(COCO_CLASS_NAMES):
        ids = list(COCO_CATEGORY_IDS)
    return names or [f"class {label}" for label in range(num_classes)], ids


def _in_bfloat16(detect: Detect, device: torch.device) -> Detect:
    def cast(images: Tensor, image_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16):
            return detect(images, image_sizes)

    return cast
