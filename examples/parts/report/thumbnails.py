"""Small copies of the photos, which lie beside the page. It loads those that are seen."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torchvision.transforms.v2.functional import to_pil_image

from sparse_rcnn.data import DetectionDataset, UnreadableImageError

SIDE = 480  # pixels of the longest side
FOLDER = "photos"


def refuse_own_photos(dataset: DetectionDataset, directory: Path) -> None:
    """Small copies must not replace the photos.

    Raises:
        ValueError: If images of the data set lie where the copies go.
    """
    folder = (directory / FOLDER).resolve()
    if any(Path(path).resolve() == folder for path in {Path(image).parent for image in dataset.image_paths}):
        raise ValueError(f"{folder}: has photos of the data set, and the report writes its own there")


def write_thumbnails(dataset: DetectionDataset, indices: Sequence[int], directory: Path) -> list[str]:
    """Writes photos/000000.jpg and so on, in the order of `indices`; returns what could not be read."""
    refuse_own_photos(dataset, directory)
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)

    def write(place: int) -> str:
        try:
            image, _ = dataset.read(indices[place], None)
        except UnreadableImageError as error:
            return str(error)
        picture = to_pil_image(image)
        picture.thumbnail((SIDE, SIDE))
        path = folder / f"{place:06d}.jpg"
        path.unlink(missing_ok=True)  # an older one may be a link to a photo
        picture.save(path, quality=80)
        return ""

    with ThreadPoolExecutor() as threads:
        return [problem for problem in threads.map(write, range(len(indices))) if problem]
