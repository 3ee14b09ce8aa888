"""Trunks and feature pyramids: images in, levels with equal numbers of channels out."""

from sparse_rcnn.nn.backbones.backbone import Backbone
from sparse_rcnn.nn.backbones.contract import PyramidBackbone

__all__ = [
    "Backbone",
    "PyramidBackbone",
]
