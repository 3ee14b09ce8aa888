"""The data set in a directory, whichever of the known layouts it has."""

from pathlib import Path
from typing import Any

from sparse_rcnn.data import CocoDetection, VocDetection, find_coco


def load_dataset(
    directory: str,
    split: str,
    transform: Any,
    drop_degenerate: bool = False,
    class_names: list[str] | None = None,
    allow_missing: bool = False,
) -> CocoDetection | VocDetection:
    """The data set in a directory, recognised by its layout; VOC has no list of classes but the one given."""
    if (Path(directory) / "ImageSets").is_dir():
        return VocDetection(
            directory,
            split,
            transform,
            class_names=class_names,
            drop_degenerate=drop_degenerate,
            allow_missing=allow_missing,
        )
    try:
        image_dir, annotation_file = find_coco(directory, split)
    except ValueError as error:
        if not Path(directory).is_dir():
            raise ValueError(f"{directory}: there is no such directory") from error
        raise ValueError(
            f"{error}; nor in VOC's: there is no directory {Path(directory, 'ImageSets')}"
        ) from error
    return CocoDetection(
        image_dir,
        annotation_file,
        transform,
        drop_degenerate=drop_degenerate,
        allow_missing=allow_missing,
    )
