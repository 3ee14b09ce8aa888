"""Evaluates a detector, exports and saves it, and uploads it to a hub."""

import copy
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
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
from sparse_rcnn.nn.inference.end_to_end import EndToEndDetector
from sparse_rcnn.nn.inference.first_stage import fold_first_stage
from sparse_rcnn.nn.inference.norm_folding import fold_norms

__all__ = ["KeptDetector"]


class KeptDetector(ViewDetector):
    """The part of a `Detector` that evaluates, exports, saves and uploads it."""

    @property
    def module(self) -> EndToEndDetector | None:
        """The model in eager PyTorch, folded, in float32. None if the detector is an exported file.

        A detector in bf16 has rounded weights. Those in float32 are read from its checkpoint, each time.

        Raises:
            ValueError: If the checkpoint is read and has changed since then.
        """
        if self._module is None or self.origin is None or self.precision == "fp32":
            return self._module
        model = fold_first_stage(fold_norms(self.origin.read())).to(self.device)
        return EndToEndDetector(model.to(memory_format=torch.channels_last), self._module.max_detections)

    def export(
        self, path: str | Path, format: str | None = None, image: Tensor | None = None
    ) -> list[Difference]:
        """Writes one file that runs without this package, in float32.

            detector.export("mine.onnx")

        Then it reads the file and compares its results with those of the checkpoint, on two batches.

        Args:
            path: The file. Its name ends in .onnx, .torchscript.pt, .pt2 or .aoti.pt2.
            format: "onnx", "torchscript", "pt2" or "aoti". By default, the name of the file gives it.
            image: A photo [3, H, W] uint8 to compare results on. None draws shapes.

        Returns:
            The differences in each batch.

        Raises:
            ValueError: If the detector is an exported file already, the name of the file gives no format, a
                compiler or package is missing, or results differ by more than rounding. With bf16, also if
                the checkpoint has changed.
        """
        module = self.module
        if module is None:
            raise ValueError(f"{self.source}: is an exported file; load its checkpoint")
        metadata = {
            "class_names": self.class_names,
            "shortest_side": self.shortest_side,
            "longest_side": self.longest_side,
            "max_detections": module.max_detections,
        }
        write_exported(path, format or format_of_name(path), module, self.device, metadata)
        return check_exported(module, path, self.device, metadata, image)

    def evaluate(
        self,
        data: DetectionDataset | str | Path,
        split: str = "val",
        *,
        batch_size: int = 1,
        workers: int = 0,
        classes: Sequence[str] | None = None,
    ) -> dict[str, float]:
        """COCO's average precision and recall on a data set. Classes are matched by name.

            detector.evaluate("data/shapes")["AP"]

        Args:
            data: A data set, or a directory or file for `load_dataset`. Images are resized as for photos.
            split: The split of a directory.
            batch_size: Images in a batch.
            workers: Processes that read images.
            classes: The names of the classes to evaluate. The default is all of the data set.

        Returns:
            The metrics by name, as from `evaluate_coco`.

        Raises:
            UnreadableImageError: If an image cannot be read.
            ValueError: If classes do not fit, or something in the data set is wrong.
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
        """Writes a checkpoint with class names, image size and a digest. Its weights are not folded.

        Args:
            path: The file. A name that ends in `.safetensors` gives that format, any other that of
                `torch.save`.

        Raises:
            ValueError: If the detector is an exported file, or its checkpoint has changed since then.
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
        """Writes the folder that `push_to_hub` uploads. `load_detector` reads it, too.

        Args:
            folder: The folder. It is made if there is none.
            repo_id: "owner/name", for the card. The default is the name of the folder.
            metrics: The result of `evaluate`, for the card.
            picture: An example for the card, such as `found.draw()`.

        Raises:
            ValueError: As in `save`.
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
        """Uploads the detector with a card to the Hugging Face hub. `from_pretrained` loads it from there.

        Args:
            repo_id: "owner/name". The repository is made if there is none.
            metrics: The result of `evaluate`, for the card.
            picture: An example for the card, such as `found.draw()`.
            private: Whether a new repository is private.

        Returns:
            The URL of the repository.

        Raises:
            ValueError: As in `save`.
            ImportError: If huggingface_hub or safetensors is not installed.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, repo_id, metrics, picture)
            return upload_folder(repo_id, Path(folder), private)
