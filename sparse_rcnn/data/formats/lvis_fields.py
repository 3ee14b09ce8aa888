"""What LVIS's annotations have besides COCO's: how often a class is, and what is known of an image.

Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", section 3. Not every class was
looked for in every image: an image has lists of the classes that are surely not in it, and of those of which
not all objects are annotated.
"""

from pathlib import Path
from typing import Any, NamedTuple

from sparse_rcnn.data.formats.coco_fields import is_id, shown

__all__ = ["FREQUENCIES", "IMAGE_FIELDS", "LvisFields", "read_lvis_fields"]

FREQUENCIES = ("r", "c", "f")  # rare, common, frequent: in 1-10, 11-100 and more training images
IMAGE_FIELDS = ("neg_category_ids", "not_exhaustive_category_ids")


class LvisFields(NamedTuple):
    """The fields of LVIS.

    Attributes:
        frequencies: By category id: "r", "c" or "f".
        images: By image id: the ids of the classes that are not in the image, and of those of which not all
            objects are annotated.
    """

    frequencies: dict[int, str]
    images: dict[int, tuple[list[int], list[int]]]


def read_lvis_fields(
    images: dict[int, tuple[Any, Any]], categories: list[dict[str, Any]], file: Path
) -> LvisFields | None:
    """Checks the fields; None if the file is not LVIS's."""
    if not images or not all("frequency" in entry for entry in categories):
        return None
    for entry in categories:
        if entry["frequency"] not in FREQUENCIES:
            raise ValueError(
                f"{file}: category {entry['id']}: field 'frequency' must be one of {', '.join(FREQUENCIES)}, "
                f"got {shown(entry, 'frequency')}"
            )
    for image, fields in images.items():
        for field, ids in zip(IMAGE_FIELDS, fields, strict=True):
            if not isinstance(ids, list) or not all(map(is_id, ids)):
                said = f"field {field!r} must be a list of ids, got {ids!r:.80}"
                raise ValueError(f"{file}: image {image}: {said}")
    return LvisFields({entry["id"]: entry["frequency"] for entry in categories}, images)
