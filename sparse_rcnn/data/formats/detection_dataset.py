"""The data set that all readers return: image files and their annotations, as samples and ground truth."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from sparse_rcnn.data.formats.annotations import Annotations, CheckedAnnotations
from sparse_rcnn.data.formats.box_lists import images_from_lists
from sparse_rcnn.data.formats.flat import FlatRows, FlatStrings
from sparse_rcnn.data.formats.image_sizes import files_to_check
from sparse_rcnn.data.formats.lvis_fields import IMAGE_FIELDS, LvisFields
from sparse_rcnn.data.image_file import (
    MAX_PIXELS,
    ExifOrientation,
    check_image_files,
    check_size,
    read_image,
)
from sparse_rcnn.data.target import Target

__all__ = ["DatasetRemark", "DetectionDataset", "Transform"]

# It is called as transform(tv_tensors.Image, {"boxes": tv_tensors.BoundingBoxes, "labels": Tensor}) and
# returns the same pair. Every transform of torchvision.transforms.v2, and a Compose of them, does so.
Transform = Callable[..., Any]


class DatasetRemark(UserWarning):
    """A warning about something in the files of a data set that is unusual but harmless.

    Example:
        >>> import warnings
        >>> warnings.simplefilter("ignore", DatasetRemark)  # do not show them
    """


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
        self.image_sizes: Sequence[tuple[int, int]] = FlatRows(image_sizes)
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
        self._annotations = checked.annotations
        self._is_target = checked.is_target
        self.num_clipped = checked.num_clipped
        self.num_dropped = checked.num_dropped
        self.num_crowd = int(np.count_nonzero(checked.annotations.is_crowd))
        # Annotations are ordered by image: those of image i are the rows _first[i] to _first[i + 1].
        self._first = np.searchsorted(checked.annotations.image_indices, np.arange(len(self.image_paths) + 1))

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
        """As indexing, with another transform than the data set's own."""
        index = range(len(self))[index]  # IndexError past the end, and negative indices as in a list
        path, size = self.image_paths[index], self.image_sizes[index]
        image = read_image(path, exif_orientation=self.exif_orientation, max_pixels=self.max_pixels)
        check_size(path, (image.shape[1], image.shape[2]), size)

        rows = slice(self._first[index], self._first[index + 1])
        targets = self._is_target[rows]
        boxes = torch.from_numpy(self._annotations.boxes[rows][targets])  # [M, 4]
        labels = torch.from_numpy(self._annotations.labels[rows][targets].astype(np.int64))  # [M]
        if transform is not None:
            image, boxes, labels = _apply(transform, image, boxes, labels, path)
        return image, Target(boxes, labels, self.image_ids[index], size)

    @property
    def annotations(self) -> Annotations:
        """All boxes as flat arrays, ordered by image, with crowd regions and boxes without area."""
        return self._annotations

    @property
    def is_target(self) -> np.ndarray:
        """[A] bool: whether an annotation is in the targets."""
        return self._is_target

    @property
    def num_objects(self) -> int:
        """The number of boxes in the targets: all but crowd regions and boxes without area."""
        return int(np.count_nonzero(self._is_target))

    def coco_ground_truth(self) -> dict[str, Any]:
        """The data set in COCO's format, for `evaluate_coco` or pycocotools.

        It has all boxes of the file, not clipped, with crowd regions and boxes without area. So the metrics
        equal those of pycocotools on that file.
        """
        images = [
            {"id": image_id, "file_name": Path(path).name, "height": height, "width": width}
            for image_id, path, (height, width) in zip(
                self.image_ids, self.image_paths, self.image_sizes, strict=True
            )
        ]
        columns = self._annotations
        annotations = [
            {
                "id": annotation_id,
                "image_id": self.image_ids[image],
                "category_id": self.category_ids[label],
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for annotation_id, image, label, box, area, crowd in zip(
                columns.ids.tolist(),
                columns.image_indices.tolist(),
                columns.labels.tolist(),
                columns.written_boxes.tolist(),
                columns.areas.tolist(),
                columns.is_crowd.tolist(),
                strict=True,
            )
        ]
        categories = [
            {"id": category, "name": name}
            for category, name in zip(self.category_ids, self.class_names, strict=True)
        ]
        if self.lvis is not None:
            for image_id, image in zip(self.image_ids, images, strict=True):
                image.update(zip(IMAGE_FIELDS, self.lvis.images[image_id], strict=True))
            for category_id, category in zip(self.category_ids, categories, strict=True):
                category["frequency"] = self.lvis.frequencies[category_id]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

    def check_images(self, *, decode: bool = False) -> None:
        """Opens every image, to find broken files before training starts.

        Args:
            decode: Decode whole images, not only headers. This is slow, but also finds truncated files. A
                correct header is remembered and not read again until its file changes.

        Raises:
            UnreadableImageError: If files cannot be read or have a wrong size. The message names the first of
                them and their number.

        Warns:
            UserWarning: If EXIF turns images without changing their size. It is not known whether their boxes
                were drawn on the upright image.
        """
        options: dict[str, Any] = {"exif_orientation": self.exif_orientation, "max_pixels": self.max_pixels}
        if decode:
            check_image_files(self.image_paths, self.image_sizes, decode=True, **options)
            return
        # Correct headers are not read again, unless they caused a warning.
        unknown, remember = files_to_check(self.image_paths, np.array(list(self.image_sizes)), **options)
        some = unknown.tolist()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            check_image_files(
                [self.image_paths[i] for i in some], [self.image_sizes[i] for i in some], **options
            )
        for warning in said:
            warnings.warn(warning.message, stacklevel=2)
        if some and not said:
            remember()


def _apply(
    transform: Transform, image: Tensor, boxes: Tensor, labels: Tensor, path: str
) -> tuple[Tensor, Tensor, Tensor]:
    canvas = (image.shape[1], image.shape[2])
    wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas)
    transformed = transform(tv_tensors.Image(image), {"boxes": wrapped, "labels": labels})

    complaint = f"{path}: the transform must return (image, {{'boxes', 'labels'}})"
    if not isinstance(transformed, tuple) or len(transformed) != 2 or not isinstance(transformed[1], dict):
        raise ValueError(f"{complaint}, got {type(transformed).__name__}")
    image, objects = transformed
    if not {"boxes", "labels"} <= objects.keys():
        raise ValueError(f"{complaint}, got a dict with {sorted(objects)}")
    boxes, labels = objects["boxes"], objects["labels"]
    if not all(isinstance(part, Tensor) for part in (image, boxes, labels)):
        raise ValueError(
            f"{complaint} as tensors, got {[type(part).__name__ for part in (image, boxes, labels)]}"
        )
    if getattr(boxes, "format", tv_tensors.BoundingBoxFormat.XYXY) != tv_tensors.BoundingBoxFormat.XYXY:
        raise ValueError(f"{complaint} with boxes in format XYXY, got {boxes.format}")  # type: ignore[attr-defined]
    if (
        image.ndim != 3
        or image.shape[0] != 3
        or not (image.dtype == torch.uint8 or image.is_floating_point())
    ):
        raise ValueError(
            f"{complaint} with an image [3, H, W], uint8 or floating, got {tuple(image.shape)} {image.dtype}"
        )
    if boxes.shape != (len(labels), 4) or labels.ndim != 1 or labels.dtype != torch.int64:
        raise ValueError(
            f"{complaint} with boxes [M, 4] and int64 labels [M], "
            f"got {tuple(boxes.shape)} and {tuple(labels.shape)} {labels.dtype}"
        )
    return image.as_subclass(Tensor), boxes.as_subclass(Tensor).float(), labels.as_subclass(Tensor)
