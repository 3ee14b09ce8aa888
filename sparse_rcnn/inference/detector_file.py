"""Loads a detector from a file: a checkpoint, or an exported file."""

import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparse_rcnn.data.formats.coco_classes import COCO_CATEGORY_IDS, COCO_CLASS_NAMES
from sparse_rcnn.inference.batch import Detect
from sparse_rcnn.inference.compiling import compile_for_inference
from sparse_rcnn.inference.exported_file import file_format, read_exported
from sparse_rcnn.inference.finite import refuse_not_finite
from sparse_rcnn.inference.hub import download_folder
from sparse_rcnn.inference.photo_detector import Detector
from sparse_rcnn.inference.resaving import Origin
from sparse_rcnn.nn.checkpoints.checkpoint import Checkpoint, load_checkpoint
from sparse_rcnn.nn.checkpoints.loading import build_from_checkpoint
from sparse_rcnn.nn.image_size import ImageSize
from sparse_rcnn.nn.inference.end_to_end import EndToEndDetector
from sparse_rcnn.nn.inference.first_stage import fold_first_stage
from sparse_rcnn.nn.inference.norm_folding import fold_norms
from sparse_rcnn.nn.inference.weight_casting import cast_weights
from sparse_rcnn.ops.argument_checks import whole_number

__all__ = ["CheckpointRemark", "Precision", "choose_device", "from_pretrained", "load_detector"]

Precision = Literal["fp32", "bf16"]


class CheckpointRemark(UserWarning):
    """A warning about something in a checkpoint that is unusual but harmless.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("ignore", CheckpointRemark)  # do not show them
    """


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
    """Loads a detector from a file.

    Norms and the first stage are folded, and weights are channels-last. This is faster and changes figures by
    rounding only.

    Args:
        source: A checkpoint of this library, detectron2 or mmdetection (`.pth`, `.safetensors`, or a folder
            of a hub or of a run), or an exported file (`.onnx`, `.pt2`, `.torchscript.pt`). Of a run, its
            `best.pth` is taken.
            Exported files are programs: load only those that you trust.
        device: "cpu", "cuda", "cuda:1" and so on. "auto" takes a GPU if there is one.
        precision: "fp32", or "bf16", which is faster. Then scores differ by up to about 0.01, and weights
            need half the memory. For checkpoints only.
        compile: Compile when the first image comes. This takes minutes. For checkpoints only.
        max_detections: Detections per image (100). An exported file has at most the number with which it was
            exported.
        image_size: (shortest, longest) side in pixels to which images are resized. None takes the file's.
        backbone: The module, if the model was built with a module as its backbone.

    Returns:
        The detector. It raises `NotFiniteError` if its results are not finite.

    Raises:
        ValueError: If the file is missing, damaged or of no known kind, if it gives fewer detections than
            `max_detections`, if a precision or compiling is given for an exported file, or if there is no
            such device.
        ImportError: If the file needs a package that is not installed.

    Warns:
        CheckpointRemark: If something in a checkpoint is unusual, such as a missing digest.

    Example:
        >>> detector = load_detector("mine.pth", device="cpu")
        >>> found = detector("photo.jpg", threshold=0.4)
        >>> found.draw().save("found.png")
    """
    place = choose_device(device)
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
    if max_detections is not None:
        max_detections = whole_number("max_detections", max_detections)
    if not isinstance(image_size, (tuple, list)) or len(image_size) != 2:
        raise ValueError(f"image_size must be (shortest, longest) side of at least 1, got {image_size}")
    sides = [None if side is None else whole_number("image_size", side) for side in image_size]
    if not isinstance(source, (str, Path)):
        raise ValueError(f"source must be the path of a file or folder, got {type(source).__name__}")
    source = Path(source)
    kind = "checkpoint" if source.is_dir() else file_format(source)
    if kind == "checkpoint":
        most = 100 if max_detections is None else max_detections
        detector = _from_checkpoint(source, place, precision, most, backbone)
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
        own = metadata["shortest_side"], metadata["longest_side"]
        detector = Detector(detect, metadata["class_names"], *own, device=place, source=str(source))
    detector.detect = refuse_not_finite(detector.detect, str(source))
    detector.shortest_side = sides[0] or detector.shortest_side
    detector.longest_side = sides[1] or detector.longest_side
    if sides[0] and detector.shortest_side > detector.longest_side:
        raise ValueError(
            f"image_size: the shortest side {detector.shortest_side} is above the limit of the longest, "
            f"{detector.longest_side}; give both (as a command: --size and --max-size)"
        )
    return detector


def from_pretrained(repo_id: str, *, revision: str | None = None, **options: Any) -> Detector:
    """Loads a detector from a repository of the Hugging Face hub.

    Args:
        repo_id: "owner/name".
        revision: Branch, tag or commit. None is the main branch.
        **options: The options of `load_detector`.

    Returns:
        The detector.

    Raises:
        ValueError: As in `load_detector`.
        ImportError: If huggingface_hub or safetensors is not installed.

    Example:
        >>> detector = from_pretrained("owner/name")  # doctest: +SKIP
    """
    return load_detector(download_folder(repo_id, revision), **options)


def choose_device(name: str | torch.device) -> torch.device:
    """Finds a device by its name.

    Args:
        name: A name that PyTorch knows, or "auto": a GPU if there is one, otherwise the CPU.

    Returns:
        The device.

    Raises:
        ValueError: If PyTorch does not know the device or cannot use it.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
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
        torch.cuda.set_device(device)  # synchronising and AOTInductor take the current one
    return device


def _from_checkpoint(
    path: Path, device: torch.device, precision: Precision, max_detections: int, backbone: nn.Module | None
) -> Detector:
    origin = Origin.of(path, backbone)
    checkpoint = load_checkpoint(path)
    for remark in checkpoint.remarks:
        warnings.warn(f"{path}: {remark}", CheckpointRemark, stacklevel=3)
    names, ids = _classes_of(checkpoint)
    try:
        model = build_from_checkpoint(checkpoint, backbone)
    except ValueError as error:  # the backbone that was given does not fit
        raise ValueError(f"{path}: {error}") from error
    image_size = model.image_size or ImageSize()
    del checkpoint
    model = fold_norms(model)
    model = fold_first_stage(model)  # after the first fold, so that at most two models are in memory
    if precision == "bf16":
        model = cast_weights(model, device.type)
    whole = EndToEndDetector(model.to(device).to(memory_format=torch.channels_last), max_detections)
    shortest, longest = image_size
    return Detector(whole, names, shortest, longest, device, ids, str(path), whole, origin, precision)


def _classes_of(checkpoint: Checkpoint) -> tuple[list[str], list[int] | None]:
    """Names and category ids by label. The authors' files have neither: their classes are COCO's."""
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
