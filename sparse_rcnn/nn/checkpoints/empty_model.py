"""The model of a config without values: its names and shapes are what a checkpoint must have."""

from functools import lru_cache

import torch

from sparse_rcnn.nn.build import build_sparse_rcnn
from sparse_rcnn.nn.detector import SparseRCNN
from sparse_rcnn.nn.model_config import ModelConfig

__all__ = ["empty_model"]


@lru_cache(maxsize=8)
def empty_model(config: ModelConfig) -> SparseRCNN:
    """The model of a config on the meta device. All callers share it.

    Args:
        config: The options. They name a backbone of this library.

    Returns:
        The model. Only read it.
    """
    with torch.device("meta"):
        return build_sparse_rcnn(config=config, backbone_weights=None)
