"""The built-in data set of synthetic shapes, written to disk once as a real COCO directory."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from sparse_rcnn.data.formats.coco import CocoDetection
from sparse_rcnn.data.formats.transform import Transform
from sparse_rcnn.data.shapes.shape_drawing import CLASS_NAMES, DRAWING_VERSION, SPLITS, draw_shapes
from sparse_rcnn.ops.argument_checks import whole_number

__all__ = ["JPEG_QUALITY", "NUM_IMAGES", "SETTINGS_FILE", "ShapesDataset"]

NUM_IMAGES = {"train": 4000, "val": 300}
JPEG_QUALITY = 95
SETTINGS_FILE = "shapes.json"


class ShapesDataset(CocoDetection):
    """Textured shapes. They are drawn at the first use, and read from disk like any COCO data set.

    There are six classes. Each has its own outline and its own part of the hue circle.

    Image i depends on (seed, split, i) and the sizes alone. So a smaller data set is the beginning of a
    larger one. The images are drawn in a temporary directory, which is renamed at the end. A killed run
    leaves no half-written data set. If several processes start at once, the first result is used.

    Args:
        root: Directory in COCO's layout. It is made if absent. It has `{split}2017/`, with the images and
            `shapes.json` with the settings, and `annotations/instances_{split}2017.json`.
        split: "train" or "val".
        num_images: The number of images. The default is 4000 for "train" and 300 for "val".
        image_size: The longest side of the images in pixels. Both sides vary from 0.8 to 1.0 of it. COCO's
            large objects (area > 96 x 96) need about 128 or more.
        seed: The seed of the drawings.
        max_objects: The largest number of shapes in an image.
        transform: As for `CocoDetection`.
        allow_missing: As for `CocoDetection`.

    Raises:
        ValueError: If a setting is out of range, or the directory has this split with other settings.

    Example:
        >>> dataset = ShapesDataset("shapes", "val", num_images=2)
        >>> dataset.class_names
        ['circle', 'square', 'triangle', 'star', 'ring', 'cross']
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        num_images: int | None = None,
        image_size: int = 128,
        seed: int = 0,
        max_objects: int = 4,
        transform: Transform | None = None,
        allow_missing: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}")
        settings = {
            "version": DRAWING_VERSION,
            "split": split,
            "num_images": whole_number("num_images", NUM_IMAGES[split] if num_images is None else num_images),
            "image_size": whole_number("image_size", image_size, 48),
            "seed": whole_number("seed", seed, 0),
            "max_objects": whole_number("max_objects", max_objects, 1, 100),
        }
        image_dir = Path(root) / f"{split}2017"
        annotation_file = Path(root) / "annotations" / f"instances_{split}2017.json"
        if not image_dir.exists():
            _write(settings, image_dir, annotation_file)
        _refuse_others(settings, image_dir, annotation_file)
        super().__init__(image_dir, annotation_file, transform, allow_missing=allow_missing)


def _write(settings: dict[str, Any], image_dir: Path, annotation_file: Path) -> None:
    annotation_file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{image_dir.name}-", dir=image_dir.parent) as temporary:
        images_now = Path(temporary) / "images"
        annotations_now = Path(temporary) / "annotations.json"
        images_now.mkdir()
        annotations_now.write_text(json.dumps(_draw(settings, images_now)))
        (images_now / SETTINGS_FILE).write_text(json.dumps(settings, indent=2))
        # The image directory is moved last: if it is there, the data set is complete. If a run is killed
        # before, the next run replaces the annotation file.
        if image_dir.exists():
            return  # another process was first, and its annotations must stay
        os.replace(annotations_now, annotation_file)
        try:
            os.rename(images_now, image_dir)
        except OSError:
            # Another process was first. The caller checks whether its settings are the same.
            if not image_dir.is_dir():
                raise


def _draw(settings: dict[str, Any], directory: Path) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(settings["num_images"]):
        pixels, shapes = draw_shapes(
            settings["seed"], settings["split"], index, settings["image_size"], settings["max_objects"]
        )
        name = f"{index + 1:012d}.jpg"
        Image.fromarray(pixels).save(directory / name, quality=JPEG_QUALITY, subsampling=0)
        height, width, _ = pixels.shape
        images.append({"id": index + 1, "file_name": name, "height": height, "width": width})
        for label, (x1, y1, x2, y2), area in shapes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": area,
                    "iscrowd": 0,
                    "segmentation": [],
                }
            )
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASS_NAMES)]
    return {"info": settings, "images": images, "annotations": annotations, "categories": categories}


def _refuse_others(settings: dict[str, Any], image_dir: Path, annotation_file: Path) -> None:
    try:
        found = json.loads((image_dir / SETTINGS_FILE).read_text())
        # Check both: two processes may start at once with different settings, and one may write the images
        # and the other the annotation file.
        annotated = json.loads(annotation_file.read_text())["info"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{image_dir} exists but is no complete data set of shapes: {error!r}; delete it or give another "
            "directory"
        ) from error
    for where, there in ((image_dir, found), (annotation_file, annotated)):
        if there != settings:
            raise ValueError(
                f"{where} has shapes with the settings {there}, not {settings}; give another directory"
            )
