"""The defaults of train.py: the paper's recipe, and that of the built-in shapes."""

from typing import Any

from sparse_rcnn.nn import ModelConfig

# Options of the model with the paper's defaults. The number of classes follows from the data.
MODEL_OPTIONS = {name: value for name, value in ModelConfig().to_dict().items() if name != "num_classes"}
# The paper's recipe (section 4), used with --data ...
PAPER: dict[str, Any] = {
    "output": "runs/coco",
    **MODEL_OPTIONS,
    "backbone_weights": "imagenet",
    "drop_degenerate_boxes": False,
    "vertical_flip": False,
    "augmentation": "light",
    "ema": 0.0,
    "batch_size": 16,
    "iterations": 270_000,
    "schedule": "step",
    "learning_rate": 2.5e-5,
    "backbone_multiplier": 1.0,
    "class_targets": "one",
    "warmup": 1000,
    "precision": "fp32",
    "sizes": list(range(480, 801, 32)),
    "max_size": 1333,
    "eval_size": 800,
    "eval_batch_size": 1,
    "eval_interval": 7500,
    "workers": 4,
}
# ... and without --data: a small model, trained from scratch, with proposals from the image.
SHAPES: dict[str, Any] = {
    **PAPER,
    "output": "runs/shapes",
    "backbone": "resnet10",
    "backbone_norm": "batch",
    "backbone_weights": "none",
    "proposals": "dense",
    "num_proposals": 20,
    "num_stages": 1,
    "class_targets": "iou",
    "ema": 0.993,  # a longer average is behind after so few steps
    "hidden_dim": 64,
    "dynamic_dim": 16,
    "feedforward_dim": 256,
    "proposal_init": "grid",
    "fully_connected_dim": 256,
    "batch_size": 8,
    "iterations": 1200,
    "schedule": "cosine",
    "learning_rate": 8e-4,
    "warmup": 100,
    "sizes": [128],
    "max_size": 128,
    "eval_size": 128,
    "eval_batch_size": 8,
    "eval_interval": 600,
    "workers": 1,
}
RECIPE_BATCH = 16  # the batch size of --scale-learning-rate
RECIPE_GROUP = 2  # images of one orientation that stay together, as on each of the paper's 8 devices
MAX_UNREADABLE = 100
