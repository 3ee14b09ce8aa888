"""Trunks and feature pyramids: images in, levels of equal width out."""

from sparse_rcnn.nn.backbones.backbone import Backbone

__all__ = [
    "Backbone",
]
