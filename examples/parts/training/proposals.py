"""Whether a model has proposals for all objects of an image: each matches one object at most."""

import numpy as np

from sparse_rcnn.data import DetectionDataset


def remark_on_proposals(dataset: DetectionDataset, num_proposals: int) -> str:
    """A sentence about images with more objects than proposals; empty if there are none."""
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
        f"only {num_proposals} of its objects are matched: {lost} of {len(images)} objects are not learnt "
        f"from. --num-proposals {counts[most]} would hold them all"
    )
