"""A detector that takes photos in whatever form, and gives what it finds in pixels of these photos."""

import copy
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sparse_rcnn.data.evaluation.coco_metrics import evaluate_coco
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.load import load_dataset
from sparse_rcnn.data.image_file import MAX_PIXELS, ExifOrientation, UnreadableImageError
from sparse_rcnn.inference.batch import Detect, batch_of, detect_batch
from sparse_rcnn.inference.class_matching import category_ids_of
from sparse_rcnn.inference.detected import Detected, labels_of
from sparse_rcnn.inference.evaluating import detect_dataset
from sparse_rcnn.inference.export import format_of_name, write_exported
from sparse_rcnn.inference.finite import NotFiniteError
from sparse_rcnn.inference.hub import MODEL_FILE, complete_folder, upload_folder
from sparse_rcnn.inference.merging import merge_augmented, merge_tiles
from sparse_rcnn.inference.photos import Photo, ReadOptions, is_single, is_stream, photos_of
from sparse_rcnn.inference.resaving import Origin, resave
from sparse_rcnn.inference.views import View, augmented, tiles_of
from sparse_rcnn.nn.image_size import ImageSize, as_levels, resize_image
from sparse_rcnn.nn.inference.end_to_end import EndToEndDetector
from sparse_rcnn.ops.detections import Detections
from sparse_rcnn.ops.resize import shortest_side_resize

__all__ = ["LEAST_COUNTED", "Detector", "OnUnreadable"]

LEAST_COUNTED = 0.01  # score of a detection that counts in means over views
OnUnreadable = Callable[[UnreadableImageError], None] | None


class Detector:
    """What finds objects in photos, and all that is needed to use it; ``load_detector`` makes one of a file.

        detector = load_detector("runs/mine/checkpoint.pth")
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
    ) -> None:
        self.detect = detect
        self.class_names = list(class_names)
        self.shortest_side = shortest_side
        self.longest_side = longest_side
        self.device = torch.device(device)
        self.category_ids = None if category_ids is None else list(category_ids)
        self.source = source
        self.module = module
        self.origin = origin

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
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in 0..1, got {threshold}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
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

    def _detect(self, photos: list[Photo]) -> list[Detected]:
        """All detections of each photo."""
        found = self._detect_views([View(photo.shown()) for photo in photos], photos)
        return [self._detected(photo, *parts) for photo, *parts in zip(photos, *found, strict=True)]

    def _detect_in_tiles(
        self, photos: list[Photo], tile: int, overlap: float, least: float
    ) -> list[Detected]:
        """Of each photo and its tiles, a batch of as many tiles as photos at a time."""
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
        """Boxes, scores, labels and numbers of the views of all detections of at least some score."""
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

    def export(self, path: str | Path, format: str | None = None) -> None:
        """Writes one file that runs without this package: ``examples/export.py`` says which runs where.

            detector.export("mine.onnx")

        Args:
            path: Of the file, which ends in .onnx, .torchscript.pt, .pt2 or .aoti.pt2.
            format: "onnx", "torchscript", "pt2" or "aoti"; told by the ending unless given.

        Raises:
            ValueError: If the detector is not of a checkpoint, the ending says no format, or a compiler or
                package is missing.
        """
        if self.module is None:
            raise ValueError(f"{self.source}: is exported already; load the checkpoint that it was made of")
        metadata = {
            "class_names": self.class_names,
            "shortest_side": self.shortest_side,
            "longest_side": self.longest_side,
            "max_detections": self.module.max_detections,
        }
        write_exported(path, format or format_of_name(path), self.module, self.device, metadata)

    def evaluate(
        self,
        data: DetectionDataset | str | Path,
        split: str = "val",
        *,
        batch_size: int = 1,
        workers: int = 0,
        classes: Sequence[str] | None = None,
    ) -> dict[str, float]:
        """COCO's average precision and recall on a data set; classes are matched by name.

            detector.evaluate("data/shapes")["AP"]

        Args:
            data: A data set, or what ``load_dataset`` takes. Its images are resized as this detector wants
                them.
            split: Of a directory.
            batch_size: Images that are detected in at a time.
            workers: Processes that read images.
            classes: Those to evaluate; all of the data set unless given.

        Returns:
            As ``evaluate_coco``.

        Raises:
            UnreadableImageError: For the first image that cannot be read.
            ValueError: If the classes do not fit, or the data set is not in order.
            ImportError: If pycocotools is not installed.
        """
        from sparse_rcnn.data.loading.transforms import evaluation_transform  # imports torchvision

        if isinstance(data, DetectionDataset):
            dataset = copy.copy(data)
        else:
            dataset = load_dataset(data, split, drop_degenerate=True)
        dataset.transform = evaluation_transform(self.shortest_side, self.longest_side)
        ids = category_ids_of(self.class_names, dataset, classes)
        results = detect_dataset(self.detect, dataset, self.device, batch_size, workers, category_ids=ids)
        chosen = [category for category in ids if category is not None]
        return evaluate_coco(dataset, results, category_ids=chosen)

    def save(self, path: str | Path) -> None:
        """Writes its checkpoint, with class names, image size and a digest; not the folded weights.

        Args:
            path: ``.safetensors`` for that format, which needs the package; any other for ``torch.save``'s.

        Raises:
            ValueError: If it is not of a checkpoint, or that file has changed since it was loaded.
            ImportError: If safetensors is needed and not installed.
        """
        if self.origin is None:
            raise ValueError(f"{self.source}: only a detector of a checkpoint can be saved")
        size = ImageSize(self.shortest_side, self.longest_side)
        resave(self.origin, path, self.class_names, self.category_ids, size)

    def save_pretrained(
        self,
        folder: str | Path,
        repo_id: str | None = None,
        metrics: Mapping[str, float] | None = None,
        picture: Image.Image | None = None,
    ) -> None:
        """Writes the folder that `push_to_hub` uploads; ``load_detector`` takes it, too.

        Args:
            folder: Made if absent.
            repo_id: "owner/name", for the card; the folder's name unless given.
            metrics: As of `evaluate`, for the card.
            picture: For the card, such as ``found.draw()``.

        Raises:
            ValueError: As `save`.
            ImportError: If safetensors is not installed.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.save(folder / MODEL_FILE)
        complete_folder(folder, repo_id or folder.name, metrics, picture)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        picture: Image.Image | None = None,
        private: bool = False,
    ) -> str:
        """Uploads it with a card to the Hugging Face hub; ``from_pretrained`` loads it from there.

        Args:
            repo_id: "owner/name"; made if it is not there.
            metrics: As of `evaluate`, for the card.
            picture: For the card, such as ``found.draw()``.
            private: Of a new repository.

        Returns:
            Its URL.

        Raises:
            ValueError: As `save`.
            ImportError: If huggingface_hub or safetensors is not installed.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, repo_id, metrics, picture)
            return upload_folder(repo_id, Path(folder), private)

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
