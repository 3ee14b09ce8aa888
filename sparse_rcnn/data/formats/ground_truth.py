"""A data set in COCO's format, as pycocotools takes it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}
