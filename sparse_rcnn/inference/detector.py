"""A detector that takes photos in whatever form, and gives what it finds in pixels of these photos."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation, UnreadableImageError
from sparse_rcnn.inference.class_matching import labels_of
from sparse_rcnn.inference.detected import Detected
from sparse_rcnn.inference.kept_detector import KeptDetector
from sparse_rcnn.inference.photo import Photo, ReadOptions
from sparse_rcnn.inference.photos import is_single, is_stream, photos_of
from sparse_rcnn.inference.views import tiles_of

__all__ = ["Detector", "OnUnreadable"]

OnUnreadable = Callable[[UnreadableImageError], None] | None


class Detector(KeptDetector):
    """What finds objects in photos, and all that is needed to use it; ``load_detector`` makes one of a file.

        detector = load_detector("runs/mine/best.pth")
        found = detector("photo.jpg", threshold=0.4)
        for found in detector.iterate("photos/", batch_size=4):
            print(found)

    Args:
        detect: Images [B, 3, H, W] uint8 and their true (height, width) [B, 2] in, boxes [B, D, 4] xyxy in
            pixels of the batch, scores [B, D] in descending order and labels [B, D] out.
        class_names: The K names, by label.
        shortest_side: Of the images that it gets, in pixels.
        longest_side: Most that their longer side may have.
        device: Where it is.
        category_ids: Of the data set that it was trained on, by label, if known.
        source: Its file, for messages.
        module: Of a checkpoint: the model that detects, folded, in eager PyTorch.
        origin: Of a checkpoint: its file.
    """

    def __call__(self, images: Any, threshold: float = 0.3, **options: Any) -> Any:
        """What it finds: of one photo a ``Detected``, of several a list, of a stream an iterator.

        Args:
            images: One photo: a path, URL (http, https), PIL image, array [H, W, 3] uint8 or tensor [3, H, W]
                (uint8 0..255 or floating 0..1), RGB. Several: a folder, a glob, a tensor [B, 3, H, W], or a
                list of any of these. A stream: an iterator of any of these, a video file, or the number of a
                camera; its photos are read as results are asked for.
            threshold: Lowest score kept, 0..1.
            **options: As of `iterate`.

        Returns:
            ``Detected``, a list of them, or an iterator of them.

        Raises:
            UnreadableImageError: For an image that cannot be read, unless ``on_unreadable`` is given.
            ValueError: If the images are something else or none, an option is out of bounds, or what it
                computes is not finite.
            ImportError: For a video or camera, if PyAV is not installed.
        """
        results = self.iterate(images, threshold, **options)
        if is_stream(images):
            return results
        if is_single(images):
            return next(results, None)
        # Photos of files are read again where they are drawn: a folder of them may not fit into memory.
        return [found.without_pixels() for found in results]

    def iterate(
        self,
        images: Any,
        threshold: float = 0.3,
        *,
        classes: Iterable[str | int] | None = None,
        batch_size: int = 1,
        bgr: bool = False,
        exif_orientation: ExifOrientation = "apply",
        max_pixels: int = MAX_PIXELS,
        on_unreadable: OnUnreadable = None,
        tile: int | None = None,
        overlap: float = 0.2,
        augment: bool = False,
    ) -> Iterator[Detected]:
        """What it finds in each photo, one after the other; no more than a batch is read ahead.

        Args:
            images: As of a call; one photo is a list of one.
            threshold: Lowest score kept, 0..1.
            classes: Names or labels of those to keep; all unless given.
            batch_size: Photos that are detected in at a time. They are padded to one size, which changes
                the scores of the smaller ones a little.
            bgr: Arrays and tensors are BGR, as OpenCV reads them.
            exif_orientation: "apply" turns photos upright, as EXIF says; "ignore" leaves them as stored.
            max_pixels: The most pixels of a photo; a larger one counts as unreadable.
            on_unreadable: Called with the ``UnreadableImageError`` of each image that cannot be read, which
                is then left out. Without it, the first one is raised.
            tile: Side in pixels of the tiles that large photos are cut into, for small objects; each is
                resized like a photo, and so is the whole. Results are merged across tiles.
            overlap: Of neighbouring tiles, as a share of their side: as large as the objects.
            augment: Takes means over three sizes of each photo, as it is and mirrored: six times as slow.

        Returns:
            An iterator of results.

        Raises:
            ValueError: As of a call.
        """
        if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in 0..1, got {threshold!r}")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
        labels = None if classes is None else labels_of(classes, self.class_names)
        photos = _readable(photos_of(images, ReadOptions(bgr, exif_orientation, max_pixels)), on_unreadable)
        find: Callable[[list[Photo]], list[Detected]] = self._detect
        if tile is not None and augment:
            raise ValueError("tile and augment are one or the other")
        if tile is not None:
            tiles_of(torch.zeros(3, 1, 1), tile, overlap)  # refuses what is out of bounds
            find = partial(self._detect_in_tiles, tile=tile, overlap=overlap, least=threshold)
        elif augment:
            find = self._detect_augmented
        return self._iterate(photos, find, threshold, labels, batch_size)

    def _iterate(
        self,
        photos: Iterator[Photo],
        find: Callable[[list[Photo]], list[Detected]],
        threshold: float,
        labels: list[int] | None,
        batch_size: int,
    ) -> Iterator[Detected]:
        while batch := list(islice(photos, batch_size)):
            for found in find(batch):
                kept = (found.scores >= threshold) & (found.boxes[:, 2:] > found.boxes[:, :2]).all(dim=1)
                yield found[kept] if labels is None else found[kept].filter(labels)

    def __repr__(self) -> str:
        names = ", ".join(self.class_names[:5]) + (", ..." if len(self.class_names) > 5 else "")
        return (
            f"Detector({Path(self.source).name}, {len(self.class_names)} classes ({names}), shortest side "
            f"{self.shortest_side}, longest at most {self.longest_side}, on {self.device})"
        )


def _readable(photos: Iterator[Photo | UnreadableImageError], on_unreadable: OnUnreadable) -> Iterator[Photo]:
    for photo in photos:
        if isinstance(photo, Photo):
            yield photo
        elif on_unreadable is None:
            raise photo
        else:
            on_unreadable(photo)
