"""Digests of the data of a run. They show whether a resumed run has the data with which it began."""

import hashlib
import os

import numpy as np

from sparse_rcnn.data import DetectionDataset


def data_digests(datasets: dict[str, DetectionDataset]) -> dict[str, str]:
    """For each split, a digest of the names of its images, and one of its boxes.

    The contents of the image files do not count. Data may be moved: a name counts from the folder on that all
    images of the split share.

    Args:
        datasets: By the name of the split.

    Returns:
        The start of each SHA-256, by "train images", "train boxes" and so on.
    """
    digests = {}
    for name, dataset in datasets.items():
        paths = list(dataset.image_paths)
        # Not commonpath: it refuses a mix of absolute and relative paths.
        shared = os.path.commonprefix([min(paths, default=""), max(paths, default="")])  # noqa: RUF071
        start = len(os.path.dirname(shared))
        images, boxes = hashlib.sha256(), hashlib.sha256()
        for path in paths:
            images.update(path[start:].replace(os.sep, "/").encode("utf-8", "surrogatepass") + b"\n")
        for column in (*dataset.annotations[1:], dataset.is_target, dataset.image_sizes.array):  # without ids
            boxes.update(np.ascontiguousarray(column).reshape(-1).view(np.uint8).data)
        digests[f"{name} images"], digests[f"{name} boxes"] = images.hexdigest()[:16], boxes.hexdigest()[:16]
    return digests
