"""Detects objects in photos, as a whole, in tiles, or in several sizes and mirrored."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_rcnn.inference.batch import Detect, batch_of, detect_batch
from sparse_rcnn.inference.detected import Detected
from sparse_rcnn.inference.finite import NotFiniteError
from sparse_rcnn.inference.merging import merge_augmented, merge_tiles
from sparse_rcnn.inference.photo import Photo
from sparse_rcnn.inference.resaving import Origin
from sparse_rcnn.inference.views import View, augmented, tiles_of
from sparse_rcnn.nn.image_size import as_levels, resize_image
from sparse_rcnn.nn.inference.end_to_end import EndToEndDetector
from sparse_rcnn.ops.argument_checks import whole_number
from sparse_rcnn.ops.detections import Detections
from sparse_rcnn.ops.resize import shortest_side_resize

__all__ = ["LEAST_COUNTED", "ViewDetector"]

LEAST_COUNTED = 0.01  # means over views leave out detections of a lower score


class ViewDetector:
    """The part of a `Detector` that finds objects in photos in memory. `Detector` has the arguments."""

    def __init__(
        self,
        detect: Detect,
        class_names: Sequence[str],
        shortest_side: int = 800,
        longest_side: int = 1333,
        device: str | torch.device = "cpu",
        category_ids: Sequence[int] | None = None,
        source: str = "the detector",
        module: EndToEndDetector | None = None,
        origin: Origin | None = None,
        precision: str = "fp32",
    ) -> None:
        self.detect = detect
        self.class_names = list(class_names)
        self.shortest_side = whole_number("shortest_side", shortest_side)
        self.longest_side = whole_number("longest_side", longest_side)
        self.device = torch.device(device)
        self.category_ids = (
            None if category_ids is None else [whole_number("category_ids", one, 0) for one in category_ids]
        )
        self.source = source
        self._module = module
        self.origin = origin
        self.precision = precision

    def _detect(self, photos: list[Photo]) -> list[Detected]:
        """All detections of each photo."""
        found = self._detect_views([View(photo.shown()) for photo in photos], photos)
        return [self._detected(photo, *parts) for photo, *parts in zip(photos, *found, strict=True)]

    def _detect_in_tiles(
        self, photos: list[Photo], tile: int, overlap: float, least: float
    ) -> list[Detected]:
        """Merged detections of each photo and its tiles. A batch has as many tiles as there are photos."""
        results = []
        for photo in photos:
            views = tiles_of(photo.shown(), tile, overlap)
            boxes, scores, labels, numbers = self._in_photo(views, photo, len(photos), least)
            cut = torch.cat(
                [view.cuts(boxes[numbers == number], photo.size) for number, view in enumerate(views)]
            )
            results.append(self._detected(photo, *merge_tiles(boxes, scores, labels, numbers, cut)))
        return results

    def _detect_augmented(self, photos: list[Photo]) -> list[Detected]:
        results = []
        for photo in photos:
            views = augmented(photo.shown())
            parts = self._in_photo(views, photo, len(photos), LEAST_COUNTED)
            results.append(self._detected(photo, *merge_augmented(*parts, num_views=len(views))))
        return results

    def _in_photo(
        self, views: list[View], photo: Photo, batch_size: int, least: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detections in all views that score at least `least`: boxes, scores, labels, numbers of views."""
        rows = []
        for start in range(0, len(views), batch_size):
            part = views[start : start + batch_size]
            found = self._detect_views(part, [photo] * len(part))
            for number, (view, boxes, scores, labels) in enumerate(zip(part, *found, strict=True), start):
                kept = (scores >= least) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
                numbers = torch.full((int(kept.sum()),), number)
                rows.append((view.to_photo(boxes[kept]), scores[kept], labels[kept], numbers))
        boxes, scores, labels, numbers = (torch.cat(column) for column in zip(*rows, strict=True))
        return boxes, scores, labels, numbers

    def _detect_views(self, views: list[View], photos: list[Photo]) -> Detections:
        """Detections in pixels of each view."""
        images = [self._resized(view) for view in views]
        if any(image.is_floating_point() for image in images):
            images = [image.float() if image.is_floating_point() else image.float() / 255 for image in images]
        batch = batch_of(images, [(view.image.shape[1], view.image.shape[2]) for view in views])
        try:
            return detect_batch(self.detect, batch, self.device)
        except NotFiniteError as error:
            names = ", ".join(dict.fromkeys(photo.name for photo in photos))
            raise NotFiniteError(f"{names}: {error}") from error

    def _resized(self, view: View) -> Tensor:
        sides = (max(1, round(side * view.scale)) for side in (self.shortest_side, self.longest_side))
        height, width = shortest_side_resize(view.image.shape[1], view.image.shape[2], *sides)
        return resize_image(as_levels(view.image), height, width)

    def _detected(self, photo: Photo, boxes: Tensor, scores: Tensor, labels: Tensor) -> Detected:
        return Detected(boxes, scores, labels, self.class_names, photo, self.category_ids)
