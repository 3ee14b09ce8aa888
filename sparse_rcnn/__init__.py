"""Sparse R-CNN as a functional, pure-tensor PyTorch library: one graph from image to detections."""

from sparse_rcnn.inference.detector_file import load_detector
from sparse_rcnn.nn.build import build_sparse_rcnn
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.version import __version__

__all__ = ["SparseRCNN", "__version__", "build_sparse_rcnn", "load_detector"]
