"""What becomes of a detector: its figures on a data set, files of it, and a place on the hub."""

import copy
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from sparse_rcnn.data.evaluation.coco_metrics import evaluate_coco
from sparse_rcnn.data.formats.detection_dataset import DetectionDataset
from sparse_rcnn.data.formats.load import load_dataset
from sparse_rcnn.inference.class_matching import category_ids_of
from sparse_rcnn.inference.evaluating import detect_dataset
from sparse_rcnn.inference.export import format_of_name, write_exported
from sparse_rcnn.inference.export_check import Difference, check_exported
from sparse_rcnn.inference.hub import MODEL_FILE, complete_folder, upload_folder
from sparse_rcnn.inference.resaving import resave
from sparse_rcnn.inference.view_detector import ViewDetector
from sparse_rcnn.nn.image_size import ImageSize

__all__ = ["KeptDetector"]


class KeptDetector(ViewDetector):
    """The part of a `Detector` that is measured, exported, saved and uploaded."""

    def export(
        self, path: str | Path, format: str | None = None, image: Tensor | None = None
    ) -> list[Difference]:
        """Writes one file that runs without this package: ``examples/export.py`` says which runs where.

        The file is read again, and finds the same, or it is an error.

            detector.export("mine.onnx")

        Args:
            path: Of the file, which ends in .onnx, .torchscript.pt, .pt2 or .aoti.pt2.
            format: "onnx", "torchscript", "pt2" or "aoti"; told by the ending unless given.
            image: A photo [3, H, W] uint8 to compare results on; one of drawn shapes unless given.

        Returns:
            By how much what the file finds differs from what the checkpoint finds, for two batches.

        Raises:
            ValueError: If the detector is not of a checkpoint, the ending says no format, a compiler or
                package is missing, or the file finds something else.
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
        return check_exported(self.module, path, self.device, metadata, image)

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
