"""A detector that takes photos of any form. Boxes are in pixels of these photos."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from sparse_rcnn.data.formats.counted import counted
from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation, UnreadableImageError, check_orientation
from sparse_rcnn.inference.class_matching import labels_of
from sparse_rcnn.inference.detected import Detected
from sparse_rcnn.inference.kept_detector import KeptDetector
from sparse_rcnn.inference.photo import Photo, ReadOptions
from sparse_rcnn.inference.photos import is_single, is_stream, photos_of
from sparse_rcnn.inference.views import tiles_of
from sparse_rcnn.ops.argument_checks import whole_number

__all__ = ["Detector", "OnUnreadable"]

OnUnreadable = Callable[[UnreadableImageError], None] | None


class Detector(KeptDetector):
    """Finds objects in photos. `load_detector` makes one from a file.

    Args:
        detect: A function of images [B, 3, H, W] uint8 and their true (height, width) [B, 2]. It returns
            boxes [B, D, 4] xyxy in pixels of the batch, scores [B, D] in descending order, and labels [B, D].
        class_names: The K names, by label.
        shortest_side: The shortest side in pixels to which photos are resized.
        longest_side: The limit of the longest side in pixels.
        device: The device of `detect`.
        category_ids: The K category ids of the training data, by label, or None.
        source: The file of the detector, for messages.
        module: The model in eager PyTorch, folded. None if the detector is an exported file.
        origin: The checkpoint. None if the detector is an exported file.
        precision: "fp32", or "bf16" if it computes with cast weights (`sparse_rcnn.nn.cast_weights`).

    Example:
        >>> from sparse_rcnn import load_detector
        >>> detector = load_detector("mine.pth", "cpu")
        >>> detector("photo.jpg", threshold=0.0).image_size
        (480, 640)
        >>> [found.photo.name for found in detector.iterate("*.jpg", batch_size=4)]
        ['photo.jpg']
    """

    def __call__(self, images: Any, threshold: float = 0.3, **options: Any) -> Any:
        """Finds objects in one photo, in several, or in a stream.

        Args:
            images: One photo is a path, a URL (http, https), a PIL image, an array [H, W, 3] uint8 or a
                tensor [3, H, W] (uint8 0..255 or floating 0..1), in RGB. Several photos are a folder, a glob,
                a tensor [B, 3, H, W], or a list of any of these. A stream is an iterator of any of these, a
                video file, or the number of a camera.
            threshold: The lowest score that is kept, 0..1.
            **options: The options of `iterate`.

        Returns:
            One photo gives a `Detected`, or None after `on_unreadable`. Several give a list, without those
            that cannot be read. A stream gives an iterator. Its photos are read when their results are asked
            for.

        Raises:
            UnreadableImageError: If an image cannot be read, and `on_unreadable` is not given.
            ValueError: If there are no images, they have none of these forms, an option is out of bounds, or
                boxes or scores are not finite.
            ImportError: If PyAV is not installed, for a video or a camera.
        """
        results = self.iterate(images, threshold, **options)
        if is_stream(images):
            return results
        if is_single(images):
            return next(results, None)
        # A folder of photos may not fit into memory. To draw one, its file is read again.
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
        """Finds objects in photos, one after the other. At most one batch is in memory.

        Args:
            images: The photos, as in a call. One photo counts as a list of one.
            threshold: The lowest score that is kept, 0..1.
            classes: Names or labels of the classes to keep. None keeps all.
            batch_size: Photos in a batch. They are padded to one size, which changes the scores of the
                smaller ones a little.
            bgr: Whether arrays and tensors are BGR, as OpenCV reads them.
            exif_orientation: "apply" turns photos upright, as EXIF says. "ignore" leaves them as stored.
            max_pixels: The largest number of pixels. A larger photo counts as unreadable.
            on_unreadable: Called with the `UnreadableImageError` of each photo or video that cannot be read.
                It is left out. Without this function, the first error is raised. A photo of a wrong form,
                such as an array of a wrong shape, is always an error.
            tile: The side in pixels of tiles, for small objects in large photos. Each tile and the whole
                photo are resized like a photo. Results of different tiles are merged.
            overlap: The overlap of neighbouring tiles, as a share of their side. It should be as large as the
                objects.
            augment: Take means over three sizes of each photo, each as it is and mirrored. This is six times
                as slow.

        Returns:
            An iterator of `Detected`.

        Raises:
            UnreadableImageError: If an image cannot be read, and `on_unreadable` is not given.
            ValueError: As in a call.
            ImportError: As in a call.
        """
        if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in 0..1, got {threshold!r}")
        batch_size = whole_number("batch_size", batch_size)
        check_orientation(exif_orientation)
        labels = None if classes is None else labels_of(classes, self.class_names)
        if labels == []:
            raise ValueError("classes must be at least one name or label, got []: None keeps all")
        photos = _readable(photos_of(images, ReadOptions(bgr, exif_orientation, max_pixels)), on_unreadable)
        find: Callable[[list[Photo]], list[Detected]] = self._detect
        if tile is not None and augment:
            raise ValueError("tile and augment cannot be used together: give one of them")
        if tile is not None:
            tiles_of(torch.zeros(3, 1, 1), tile, overlap)  # raises an error if an option is out of bounds
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
                real = found[(found.boxes[:, 2:] > found.boxes[:, :2]).all(dim=1)].filter(labels)
                kept = real.filter(threshold=threshold)
                kept.below = real[0] if len(real) > len(kept) == 0 else None
                yield kept

    def __repr__(self) -> str:
        names = ", ".join(self.class_names[:5]) + (", ..." if len(self.class_names) > 5 else "")
        return (
            f"Detector({Path(self.source).name}, {counted(len(self.class_names), 'class', 'classes')} "
            f"({names}), shortest side {self.shortest_side}, longest at most {self.longest_side}, on "
            f"{self.device})"
        )


def _readable(photos: Iterator[Photo | UnreadableImageError], on_unreadable: OnUnreadable) -> Iterator[Photo]:
    for photo in photos:
        if isinstance(photo, Photo):
            yield photo
        elif on_unreadable is None:
            raise photo
        else:
            on_unreadable(photo)
