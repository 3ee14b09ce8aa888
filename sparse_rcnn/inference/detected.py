"""What a detector finds in one photo."""

import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from sparse_rcnn.data.evaluation.coco_metrics import coco_results
from sparse_rcnn.inference.box_drawing import draw_boxes
from sparse_rcnn.inference.class_matching import labels_of
from sparse_rcnn.inference.photo import Photo
from sparse_rcnn.ops.detections import Detections

__all__ = ["MOST_SHOWN", "Detected", "Found"]

MOST_SHOWN = 8  # objects that repr names


class Found(NamedTuple):
    """One object.

    Attributes:
        box: (x1, y1, x2, y2) in pixels of the photo.
        score: in 0..1.
        label: in 0..K-1.
        name: of its class.
    """

    box: tuple[float, float, float, float]
    score: float
    label: int
    name: str


class Detected:
    """The objects found in one photo, best first: D of them.

        found = detector("photo.jpg")
        for box, score, label, name in found:
            print(name, score, box)
        cats = found.filter(classes=["cat"], threshold=0.5)

    An index gives a `Found`; a slice, a mask [D] or a list of indices another ``Detected``.

    Attributes:
        boxes: [D, 4] xyxy in pixels of the photo, clipped to it.
        scores: [D] in 0..1, in descending order.
        labels: [D] int64 in 0..K-1.
        class_names: The K names, by label.
        category_ids: The K ids of the data set that the detector was trained on, by label, if known.
        photo: What it was found in.
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
        """The same, without the pixels of a photo that can be read again."""
        photo = self.photo.without_pixels()
        return Detected(self.boxes, self.scores, self.labels, self.class_names, photo, self.category_ids)

    def filter(self, classes: Iterable[str | int] | None = None, threshold: float = 0.0) -> "Detected":
        """The objects of some classes and of at least some score.

        Args:
            classes: Names or labels; all unless given.
            threshold: Lowest score kept.

        Raises:
            ValueError: If there is no such class.
        """
        kept = self.scores >= threshold
        if classes is not None:
            kept &= torch.isin(self.labels, torch.tensor(labels_of(classes, self.class_names)))
        return self[kept]

    def draw(self) -> Image.Image:
        """The photo with a frame and a caption per object; small photos are enlarged.

        A photo that came from a file in a list or folder is read again.

        Raises:
            UnreadableImageError: If that file has gone or changed.
        """
        return draw_boxes(self.photo.pixels(), self.boxes, self.labels, self.class_names, self.scores)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON: boxes in hundredths of a pixel, scores with four digits."""
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
        """Writes ``to_dict()`` as JSON.

        Args:
            path: Of the file; an existing one is overwritten.
        """
        Path(path).write_text(json.dumps(self.to_dict(), indent=2))

    def to_yolo(self) -> str:
        """As YOLO's text: per line label, center x, center y, width, height (0..1 of the photo), score."""
        height, width = self.image_size
        lines = [
            f"{label} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} "
            f"{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f} {score:.4f}\n"
            for (x1, y1, x2, y2), score, label, _ in self
        ]
        return "".join(lines)

    def crops(self) -> list[Image.Image]:
        """The part of the photo in each box, in whole pixels and at least one.

        Raises:
            UnreadableImageError: As `draw`.
        """
        pixels = self.photo.pixels()
        height, width = self.image_size
        parts = []
        for x1, y1, x2, y2 in self.boxes.tolist():
            left, top = min(int(x1), width - 1), min(int(y1), height - 1)
            right, bottom = max(left + 1, math.ceil(x2)), max(top + 1, math.ceil(y2))
            part = rearrange(pixels[:, top:bottom, left:right], "c h w -> h w c")
            parts.append(Image.fromarray(part.contiguous().numpy()))
        return parts

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """As COCO results: image_id, category_id, bbox (xywh) and score of each object.

        Args:
            image_id: Of the photo in the data set.
            category_ids: By label; those that the checkpoint carries unless given.

        Raises:
            ValueError: If no category ids are given or known.
        """
        ids = self.category_ids if category_ids is None else category_ids
        if ids is None:
            raise ValueError(
                "the detector's file carries no category ids: give category_ids, one for each of "
                f"{len(self.class_names)} classes"
            )
        found = Detections(self.boxes[None], self.scores[None], self.labels[None])
        return coco_results(found, [image_id], ids)

    def to_supervision(self) -> Any:
        """As ``supervision.Detections``, with names under ``data["class_name"]``.

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
        return f"Detected({what}{': ' if len(self) else ''}{', '.join(objects + more)})"

    def _repr_png_(self) -> bytes:
        """For notebooks."""
        stream = io.BytesIO()
        self.draw().save(stream, "PNG")
        return stream.getvalue()
