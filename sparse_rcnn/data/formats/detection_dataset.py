"""The data set that all readers return: image files and their annotations, as samples and ground truth."""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sparse_rcnn.data.formats.annotations import Annotations, CheckedAnnotations
from sparse_rcnn.data.formats.box_lists import images_from_lists
from sparse_rcnn.data.formats.flat import FlatRows, FlatStrings
from sparse_rcnn.data.formats.ground_truth import ground_truth_of
from sparse_rcnn.data.formats.image_sizes import check_headers
from sparse_rcnn.data.formats.lvis_fields import LvisFields
from sparse_rcnn.data.formats.shared_arrays import SharedArrays
from sparse_rcnn.data.formats.transform import Transform, apply_transform
from sparse_rcnn.data.image_check import DatasetRemark, check_image_files, read_annotated
from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation
from sparse_rcnn.data.target import Target

__all__ = ["DetectionDataset"]


class DetectionDataset(Dataset[tuple[Tensor, Target]]):
    """Images with boxes: `dataset[i] -> (image [3, H, W] RGB, Target)`.

    Attributes:
        class_names: The K names, by label.
        category_ids: The K category ids of the ground truth and of results, by label.
        image_ids: The id of each image.
        image_sizes: (height, width) of each image file in pixels, as annotated.
        image_paths: The path of each image file.
        num_clipped: The number of boxes that were clipped to their image.
        num_dropped: The number of boxes without width or height. They are not in the targets.
        num_crowd: The number of crowd regions. They are not in the targets, and the evaluation ignores them.
        remarks: Sentences about what is unusual but harmless in the files.
        transform: A transform of torchvision.transforms.v2, or None.
        exif_orientation: "apply" if boxes were drawn on the images as EXIF turns them upright, "ignore" if
            they were drawn on the stored pixels. The annotated size shows a wrong choice, except for images
            that are turned by 180°, mirrored or square. `check_images` names these.
        max_pixels: The largest number of pixels of an image, as for `read_image`.
        format_name: The format of the files, such as "COCO" or "CrowdHuman", if `load_dataset` read them.
        lvis: What LVIS's files have besides (how frequent classes are, and which were looked for), or None.

    Example:
        >>> dataset = DetectionDataset.from_boxes(["photo.jpg"], [[[9, 9, 90, 90]]], [[0]], ["cat", "dog"])
        >>> image, target = dataset[0]
        >>> target.boxes
        tensor([[ 9.,  9., 90., 90.]])
    """

    def __init__(
        self,
        image_paths: Sequence[str],
        image_ids: Sequence[int] | np.ndarray,
        image_sizes: Sequence[tuple[int, int]] | np.ndarray,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        checked: CheckedAnnotations,
        transform: Transform | None = None,
        exif_orientation: ExifOrientation = "apply",
        max_pixels: int = MAX_PIXELS,
        remarks: Sequence[str] = (),
        lvis: LvisFields | None = None,
    ) -> None:
        # Flat arrays: worker processes share their memory.
        self.image_paths: Sequence[str] = (
            image_paths if isinstance(image_paths, FlatStrings) else FlatStrings(image_paths)
        )
        self.image_ids: Sequence[int] = FlatRows(image_ids)
        self.image_sizes = FlatRows(image_sizes)
        self.remarks = list(remarks)
        for remark in self.remarks:
            warnings.warn(remark, DatasetRemark, stacklevel=3)
        self.class_names = list(class_names)
        self.category_ids = list(category_ids)
        self.transform = transform
        self.exif_orientation: ExifOrientation = exif_orientation
        self.max_pixels = max_pixels
        self.lvis = lvis
        self.format_name: str | None = None
        self.num_clipped = checked.num_clipped
        self.num_dropped = checked.num_dropped
        self.num_crowd = int(np.count_nonzero(checked.annotations.is_crowd))
        # Annotations are ordered by image: those of image i are the rows first[i] to first[i + 1].
        first = np.searchsorted(checked.annotations.image_indices, np.arange(len(self.image_paths) + 1))
        self._columns = SharedArrays(*checked.annotations)
        self._rows = SharedArrays(checked.is_target, first)

    @classmethod
    def from_boxes(
        cls,
        images: Sequence[str | Path],
        boxes: Sequence[Any],
        labels: Sequence[Any],
        class_names: Sequence[str],
        transform: Transform | None = None,
        *,
        drop_degenerate: bool = False,
    ) -> "DetectionDataset":
        """A data set from plain lists.

        Args:
            images: Image files. Their headers are read.
            boxes: For each image, [M, 4] xyxy in pixels (lists, an array or a tensor). [] for none.
            labels: For each image, [M] integers 0..K-1 or class names.
            class_names: The K names, by label.
            transform: The transform of the data set.
            drop_degenerate: Leave boxes without width or height out of the targets. Without it, they are an
                error.

        Returns:
            The data set.

        Raises:
            ValueError: If lengths, shapes, labels or boxes are wrong. The message names image and entry.
            UnreadableImageError: If an image cannot be read.

        Example:
            >>> boxes, labels = [[[1, 2, 30, 40]]], [["cat"]]
            >>> DetectionDataset.from_boxes(["photo.jpg"], boxes, labels, ["cat", "dog"]).num_objects
            1
        """
        content = images_from_lists(images, boxes, labels, class_names)
        return DetectionDataset(**content.checked(drop_degenerate), transform=transform)

    def __len__(self) -> int:
        return len(self.image_paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        """Reads one image and its targets.

        Returns:
            The image, [3, H, W] uint8 RGB (or the result of the transform), and its `Target`.

        Raises:
            UnreadableImageError: If the file is unreadable or its size is not the annotated one.
            ValueError: If the transform returned something else than an image, boxes and labels that fit
                each other.
        """
        return self.read(index, self.transform)

    def read(self, index: int, transform: Transform | None) -> tuple[Tensor, Target]:
        """Reads one image and its targets with another transform than that of the data set.

        Args:
            index: The index of the image.
            transform: The transform, or None.

        Returns:
            As `dataset[index]`.

        Raises:
            UnreadableImageError: As `dataset[index]`.
            ValueError: As `dataset[index]`.
        """
        index = range(len(self))[index]  # IndexError past the end, and negative indices as in a list
        path, size = self.image_paths[index], self.image_sizes[index]
        image = read_annotated(path, size, self.exif_orientation, self.max_pixels)

        is_target, first = self._rows.arrays
        rows = slice(first[index], first[index + 1])
        boxes = torch.from_numpy(self.annotations.boxes[rows][is_target[rows]])  # [M, 4]
        labels = torch.from_numpy(self.annotations.labels[rows][is_target[rows]].astype(np.int64))  # [M]
        if transform is not None:
            image, boxes, labels = apply_transform(transform, image, boxes, labels, path)
        return image, Target(boxes, labels, self.image_ids[index], size)

    @property
    def annotations(self) -> Annotations:
        """All boxes as flat arrays, ordered by image, with crowd regions and boxes without area."""
        return Annotations(*self._columns.arrays)

    @property
    def is_target(self) -> np.ndarray:
        """[A] bool: whether an annotation is in the targets."""
        return self._rows.arrays[0]

    @property
    def num_objects(self) -> int:
        """The number of boxes in the targets: all but crowd regions and boxes without area."""
        return int(np.count_nonzero(self.is_target))

    def coco_ground_truth(self) -> dict[str, Any]:
        """The data set in COCO's format, for `evaluate_coco` or pycocotools.

        It has all boxes of the file, not clipped, with crowd regions and boxes without area. So the metrics
        equal those of pycocotools on that file.
        """
        return ground_truth_of(self)

    def check_images(self, *, decode: bool = False) -> None:
        """Opens every image, to find broken files before training starts.

        Args:
            decode: Decode whole images, not only headers. This is slow, but also finds truncated files. A
                correct header is remembered and not read again until its file changes.

        Raises:
            UnreadableImageError: If files cannot be read or have a wrong size. The message names the first of
                them and their number.

        Warns:
            DatasetRemark: If EXIF turns images without changing their size. It is not known whether their
                boxes were drawn on the upright image. Also if annotations have the size of the stored
                pixels: then their images are not turned.
        """
        check = partial(check_image_files, decode=True) if decode else check_headers
        check(
            self.image_paths,
            self.image_sizes,
            exif_orientation=self.exif_orientation,
            max_pixels=self.max_pixels,
        )
