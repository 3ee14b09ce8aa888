"""The objects that a detector finds in one photo."""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sparse_rcnn.data.evaluation.coco_results import coco_results
from sparse_rcnn.inference.box_crops import crop_boxes
from sparse_rcnn.inference.box_drawing import draw_boxes
from sparse_rcnn.inference.class_matching import labels_of
from sparse_rcnn.inference.found import Found
from sparse_rcnn.inference.photo import Photo
from sparse_rcnn.inference.yolo_lines import yolo_lines
from sparse_rcnn.ops.detections import Detections

__all__ = ["MOST_SHOWN", "Detected"]

MOST_SHOWN = 8  # objects that `repr` shows


class Detected:
    """The D objects that were found in one photo, best first.

    An index gives a `Found`. A slice, a mask [D] or a list of indices gives another `Detected`.

    Attributes:
        boxes: [D, 4] xyxy in pixels of the photo, clipped to it.
        scores: [D] in 0..1, in descending order.
        labels: [D] int64 in 0..K-1.
        class_names: The K names, by label.
        photo: The photo.
        category_ids: The K category ids of the training data, by label, or None.
        below: If nothing reached the threshold, the best object below it. None if there is none, and for
            tiles.

    Example:
        >>> from sparse_rcnn import load_detector
        >>> found = load_detector("mine.pth", "cpu")("photo.jpg", threshold=0.0)
        >>> for box, score, label, name in found[:2]:
        ...     print(name == found.class_names[label], 0 <= score <= 1, len(box))
        True True 4
        True True 4
        >>> found.filter(classes=["dog"]).names.count("cat")
        0
    """

    def __init__(
        self,
        boxes: Tensor,
        scores: Tensor,
        labels: Tensor,
        class_names: Sequence[str],
        photo: Photo,
        category_ids: Sequence[int] | None = None,
    ) -> None:
        self.boxes, self.scores, self.labels = boxes, scores, labels
        self.class_names = class_names
        self.photo = photo
        self.category_ids = category_ids
        self.below: Found | None = None

    @property
    def names(self) -> list[str]:
        """The class name of each object."""
        return [self.class_names[label] for label in self.labels.tolist()]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the photo in pixels."""
        return self.photo.size

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Found]:
        columns = self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), self.names
        for box, score, label, name in zip(*columns, strict=True):
            yield Found(tuple(box), score, label, name)

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Found: ...
    @overload
    def __getitem__(self, index: slice | Tensor | Sequence[int] | Sequence[bool]) -> "Detected": ...
    def __getitem__(self, index: Any) -> "Found | Detected":
        if isinstance(index, str):
            raise ValueError(f"an index must be a number, slice, mask or list, got {index!r}: see filter()")
        if not isinstance(index, slice):
            index = torch.as_tensor(index)
            if index.dim() == 0:  # an integer of whatever type
                start = range(len(self))[int(index)]  # IndexError past the end
                (one,) = self[start : start + 1]
                return one
            index = index.to(torch.int64) if len(index) == 0 and index.dtype != torch.bool else index
        parts = self.boxes[index], self.scores[index], self.labels[index]
        return Detected(*parts, self.class_names, self.photo, self.category_ids)

    def without_pixels(self) -> "Detected":
        """The same objects. The pixels of the photo are left out if they can be read again."""
        photo = self.photo.without_pixels()
        same = Detected(self.boxes, self.scores, self.labels, self.class_names, photo, self.category_ids)
        same.below = self.below
        return same

    def filter(self, classes: Iterable[str | int] | None = None, threshold: float = 0.0) -> "Detected":
        """The objects of some classes and of at least some score.

        Args:
            classes: Names or labels. None keeps all.
            threshold: The lowest score that is kept, 0..1.

        Returns:
            These objects.

        Raises:
            ValueError: If there is no such class, or the threshold is out of bounds.
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in 0..1, got {threshold!r}")
        kept = self.scores >= threshold
        if classes is not None:
            kept &= torch.isin(self.labels, torch.tensor(labels_of(classes, self.class_names)))
        return self[kept]

    def draw(self) -> Image.Image:
        """Draws a frame and a caption for each object. Small photos are enlarged.

        If the photo came from a file in a list or a folder, the file is read again.

        Returns:
            The picture.

        Raises:
            UnreadableImageError: If that file is missing or has changed.
        """
        return draw_boxes(self.photo.pixels(), self.boxes, self.labels, self.class_names, self.scores)

    def to_dict(self) -> dict[str, Any]:
        """The objects as plain data for JSON. Boxes are rounded to 0.01 pixels, scores to four digits."""
        height, width = self.image_size
        detections = [
            {
                "box_xyxy": [round(x, 2) for x in found.box],
                "score": round(found.score, 4),
                "label": found.label,
                "class": found.name,
            }
            for found in self
        ]
        return {"image": self.photo.name, "height": height, "width": width, "detections": detections}

    def save_json(self, path: str | Path) -> None:
        """Writes the result of `to_dict` as JSON.

        Args:
            path: The file. An existing one is overwritten.
        """
        Path(path).write_text(json.dumps(self.to_dict(), indent=2))

    def to_yolo(self) -> str:
        """The objects as YOLO's lines: label, centre x and y, width, height (0..1 of the photo), score."""
        return yolo_lines(self.boxes, self.scores, self.labels, self.image_size)

    def crops(self) -> list[Image.Image]:
        """Cuts the objects out of the photo.

        Returns:
            One picture for each box. It has whole pixels, and at least one.

        Raises:
            UnreadableImageError: If the photo must be read again, and its file is missing or has changed.
        """
        return crop_boxes(self.photo.pixels(), self.boxes)

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """The objects as COCO results.

        Args:
            image_id: The id of the photo in the data set.
            category_ids: The K category ids, by label. The default is those of the checkpoint.

        Returns:
            One dict per object: image_id, category_id, bbox (xywh in pixels) and score.

        Raises:
            ValueError: If no category ids are given or known, or not one for each class.
        """
        ids = self.category_ids if category_ids is None else category_ids
        if ids is None:
            raise ValueError(
                "the detector's file has no category ids: give category_ids, one for each of "
                f"{len(self.class_names)} classes"
            )
        if len(ids) != len(self.class_names):
            raise ValueError(
                f"category_ids must have one id for each of {len(self.class_names)} classes, got {len(ids)}"
            )
        found = Detections(self.boxes[None], self.scores[None], self.labels[None])
        return coco_results(found, [image_id], ids)

    def to_supervision(self) -> Any:
        """The objects as `supervision.Detections`, with names under `data["class_name"]`.

        Raises:
            ImportError: If supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ImportError("to_supervision needs supervision: pip install supervision") from error
        return supervision.Detections(
            xyxy=self.boxes.numpy().reshape(-1, 4),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def __repr__(self) -> str:
        height, width = self.image_size
        objects = [
            f"{name} {score:.2f} ({', '.join(f'{x:.0f}' for x in box)})"
            for box, score, _, name in self[:MOST_SHOWN]
        ]
        more = [f"and {len(self) - MOST_SHOWN} more"] if len(self) > MOST_SHOWN else []
        what = f"{len(self)} object{'s' if len(self) != 1 else ''} in {self.photo.name}, {height} x {width}"
        if self.below is not None:
            what += f"; the best below the threshold: {self.below.name} {self.below.score:.2g}"
        return f"Detected({what}{': ' if len(self) else ''}{', '.join(objects + more)})"

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        stream = io.BytesIO()
        self.draw().save(stream, "PNG")
        return stream.getvalue()
