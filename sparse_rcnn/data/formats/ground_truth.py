"""A data set in COCO's format, as pycocotools takes it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_rcnn.data.formats.lvis_fields import IMAGE_FIELDS

if TYPE_CHECKING:
    from sparse_rcnn.data.formats.detection_dataset import DetectionDataset

__all__ = ["ground_truth_of"]


def ground_truth_of(dataset: "DetectionDataset") -> dict[str, Any]:
    """All boxes of a data set, as `DetectionDataset.coco_ground_truth` describes."""
    images = [
        {"id": image_id, "file_name": Path(path).name, "height": height, "width": width}
        for image_id, path, (height, width) in zip(
            dataset.image_ids, dataset.image_paths, dataset.image_sizes, strict=True
        )
    ]
    columns = dataset.annotations
    annotations = [
        {
            "id": annotation_id,
            "image_id": dataset.image_ids[image],
            "category_id": dataset.category_ids[label],
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for annotation_id, image, label, box, area, crowd in zip(
            columns.ids.tolist(),
            columns.image_indices.tolist(),
            columns.labels.tolist(),
            columns.written_boxes.tolist(),
            columns.areas.tolist(),
            columns.is_crowd.tolist(),
            strict=True,
        )
    ]
    categories = [
        {"id": category, "name": name}
        for category, name in zip(dataset.category_ids, dataset.class_names, strict=True)
    ]
    if dataset.lvis is not None:
        for image_id, image in zip(dataset.image_ids, images, strict=True):
            image.update(zip(IMAGE_FIELDS, dataset.lvis.images[image_id], strict=True))
        for category_id, category in zip(dataset.category_ids, categories, strict=True):
            category["frequency"] = dataset.lvis.frequencies[category_id]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}
