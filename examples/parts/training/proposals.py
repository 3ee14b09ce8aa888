"""Checks whether a model has enough proposals. A proposal matches at most one object of an image."""

import numpy as np

from sparse_rcnn.data import DetectionDataset


def remark_on_proposals(dataset: DetectionDataset, num_proposals: int) -> str:
    """A sentence about images with more objects than proposals. Empty if there are none."""
    images = dataset.annotations.image_indices[dataset.is_target]
    counts = np.bincount(images, minlength=len(dataset))
    crowded = counts > num_proposals
    if not crowded.any():
        return ""
    most = int(counts.argmax())
    lost = int((counts - num_proposals)[crowded].sum())
    return (
        f"{int(crowded.sum())} of {len(dataset)} training images have more objects than the {num_proposals} "
        f"proposals, up to {counts[most]} ({dataset.image_paths[most]}). In each step with such an image, "
        f"only {num_proposals} of its objects are matched: {lost} of {len(images)} objects are never "
        f"matched. --num-proposals {counts[most]} is enough for all"
    )
