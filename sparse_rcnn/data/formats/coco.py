"""COCO's detection annotations: one JSON file with images, categories and annotations."""

import os
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn.data.formats.coco_reader import read_coco
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.image_names import refuse_missing
from sparse_rcnn.data.formats.transform import Transform
from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation

__all__ = ["CocoDetection", "find_coco"]


class CocoDetection(DetectionDataset):
    """A COCO annotation file and its images. Samples and attributes are those of `DetectionDataset`.

    The annotations are checked at once, without opening images. Images without annotations are kept. The
    categories become labels in the order of their ids.

    Args:
        image_dir: The directory of the images. Each `file_name` is relative to it.
        annotation_file: COCO JSON with "images", "annotations" and "categories". Segmentations are ignored.
        transform: A transform of torchvision.transforms.v2, called with (image, {"boxes", "labels"}).
        drop_degenerate: Leave boxes without width or height out of the targets and count them. Without it,
            they are an error. The published train2017 has a few. The ground truth keeps them, as in
            pycocotools.
        allow_missing: Keep images whose files are missing. Reading one raises `UnreadableImageError`.
        exif_orientation: "apply" if boxes were drawn on upright images, "ignore" if they were drawn on the
            stored pixels. See `DetectionDataset`.
        max_pixels: The largest number of pixels of an image, as for `read_image`.

    Raises:
        ValueError: If the JSON is malformed, a field is missing or has a wrong type, a category or an image
            is unknown, an id comes twice, a box is impossible, an image file is missing, or there are no
            images. The message names the file, the annotation and the field.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> _ = ShapesDataset("shapes", "val", num_images=2)  # writes files in COCO's layout
        >>> len(CocoDetection("shapes/val2017", "shapes/annotations/instances_val2017.json"))
        2
    """

    def __init__(
        self,
        image_dir: str | Path,
        annotation_file: str | Path,
        transform: Transform | None = None,
        *,
        drop_degenerate: bool = False,
        allow_missing: bool = False,
        exif_orientation: ExifOrientation = "apply",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        file = Path(annotation_file)

        def locate(names: Sequence[str]) -> tuple[list[str], list[str]]:
            if not Path(image_dir).is_dir():
                raise ValueError(f"{image_dir}: there is no such directory of images")
            if not allow_missing:
                refuse_missing(Path(image_dir), names, file)
            return [os.path.join(image_dir, name) for name in names], []

        content, _ = read_coco(file, locate)
        super().__init__(
            **content.checked(drop_degenerate),
            transform=transform,
            exif_orientation=exif_orientation,
            max_pixels=max_pixels,
        )


def find_coco(directory: str | Path, split: str) -> tuple[Path, Path]:
    """Finds a split in COCO's standard layout.

    Args:
        directory: The directory with `annotations/instances_{split}2017.json` and the images in
            `{split}2017/`.
        split: "train" or "val".

    Returns:
        The image directory and the annotation file: the arguments of `CocoDetection`.

    Raises:
        ValueError: If one of them is missing. The message names it.

    Example:
        >>> from sparse_rcnn.data import ShapesDataset
        >>> _ = ShapesDataset("shapes", "val", num_images=2)  # writes files in COCO's layout
        >>> find_coco("shapes", "val")[0].name
        'val2017'
    """
    image_dir = Path(directory) / f"{split}2017"
    annotation_file = Path(directory) / "annotations" / f"instances_{split}2017.json"
    if not annotation_file.is_file():
        raise ValueError(f"{directory} is not in COCO's layout: there is no file {annotation_file}")
    if not image_dir.is_dir():
        raise ValueError(f"{directory} is not in COCO's layout: there is no directory {image_dir}")
    return image_dir, annotation_file
