"""The result of every reader: images, classes and objects. They are not checked yet."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sparse_rcnn.data.formats.annotations import Objects, check_annotations
from sparse_rcnn.data.formats.flat import FlatStrings
from sparse_rcnn.data.formats.lvis_fields import LvisFields
from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation

__all__ = ["AnnotatedImages", "ReadOptions", "make_objects"]


class AnnotatedImages(NamedTuple):
    """The images of one split and their objects.

    Attributes:
        paths: The path of each image file.
        ids: [I] int64, the id of each image, each once.
        sizes: [I, 2] int64, (height, width) in pixels.
        class_names: The K names, by label.
        category_ids: The K ids of the classes in the file, by label.
        objects: All boxes.
        describe: From an index into the objects to "file: entry: field value", for messages.
        remarks: What is odd and harmless, one sentence each.
        lvis: What LVIS's files have besides, by id. None for other files.
    """

    paths: Sequence[str]
    ids: np.ndarray
    sizes: np.ndarray
    class_names: list[str]
    category_ids: list[int]
    objects: Objects
    describe: Callable[[int], str]
    remarks: list[str]
    lvis: LvisFields | None = None

    def checked(self, drop_degenerate: bool) -> dict[str, Any]:
        """The arguments of `DetectionDataset`, boxes clipped and checked.

        Raises:
            ValueError: As `check_annotations`.
        """
        return {
            "image_paths": self.paths,
            "image_ids": self.ids,
            "image_sizes": self.sizes,
            "class_names": self.class_names,
            "category_ids": self.category_ids,
            "checked": check_annotations(
                self.objects, self.sizes, self.describe, drop_degenerate=drop_degenerate
            ),
            "remarks": self.remarks,
            "lvis": self.lvis,
        }

    def with_objects(self, rows: np.ndarray) -> "AnnotatedImages":
        """The same images with some of the objects.

        Args:
            rows: Their indices, or [A] bool.
        """
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        objects = Objects(*(column[rows] for column in self.objects))
        return self._replace(objects=objects, describe=lambda index: self.describe(int(rows[index])))

    def with_images(self, chosen: np.ndarray) -> "AnnotatedImages":
        """Some of the images, with their objects.

        Args:
            chosen: Their indices, ascending.
        """
        position = np.full(len(self.paths), -1, dtype=np.int32)
        position[chosen] = np.arange(len(chosen), dtype=np.int32)
        part = self.with_objects(position[self.objects.image_indices] >= 0)
        objects = part.objects._replace(image_indices=position[part.objects.image_indices])
        return part._replace(
            paths=FlatStrings(self.paths[index] for index in chosen.tolist()),
            ids=self.ids[chosen],
            sizes=self.sizes[chosen],
            objects=objects,
        )


class ReadOptions(NamedTuple):
    """How a reader reads.

    Attributes:
        images: Folder of the images, where it is not the one that the layout says.
        allow_missing: Keep images whose files are not there.
        leave_out_broken: Leave out images whose file or annotation is missing or broken, with a remark,
            instead of refusing the data set.
        count_from: VOC: the number of the first pixel, 0 or 1; None looks at the coordinates.
        exif_orientation: As of `read_image`, where sizes are read from headers.
        max_pixels: As of `read_image`, there.
    """

    images: str | None = None
    allow_missing: bool = False
    leave_out_broken: bool = False
    count_from: int | None = None
    exif_orientation: ExifOrientation = "apply"
    max_pixels: int = MAX_PIXELS


def make_objects(
    image_indices: Sequence[int],
    labels: Sequence[int],
    boxes: Any,
    is_crowd: Sequence[bool],
) -> Objects:
    """Objects of formats without ids and areas: numbered from 1, with the areas of their boxes.

    Args:
        image_indices: [A] of each object.
        labels: [A] of each object.
        boxes: [A, 4] xywh in pixels.
        is_crowd: [A] of each object.
    """
    written = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore", over="ignore"):  # check_annotations refuses them by name
        areas = written[:, 2] * written[:, 3]
    return Objects(
        ids=np.arange(1, len(written) + 1),
        image_indices=np.array(image_indices, dtype=np.int32),
        labels=np.array(labels, dtype=np.int32),
        boxes=written,
        areas=areas,
        is_crowd=np.array(is_crowd, dtype=bool),
    )
