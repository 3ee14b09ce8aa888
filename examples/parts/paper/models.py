"""The paper's models as options of train.py, and the scales at which they can be trained.

The options of a model are the paper's. Options that are not given are those of Sparse R-CNN itself: the
recipe of train.py. A scale changes more options, the same ones for all models.
"""

from typing import Any, NamedTuple

# The head of Faster R-CNN: two fully connected layers on the RoI, then class and box. In Faster R-CNN, both
# layers have the same width. Here, the second one is as wide as a proposal's feature, so that the next stage
# can reuse it.
FASTER_RCNN_HEAD: dict[str, Any] = {
    "interaction": "fully_connected",
    "self_attention": False,
    "feature_reuse": False,
    "feedforward_dim": 0,
    "classification_layers": 0,
    "regression_layers": 0,
}
PAPER_ITERATIONS = 270_000  # 36 epochs of COCO. Other scales keep the ratio for models with fewer
MODELS: dict[str, dict[str, Any]] = {
    "sparse-rcnn": {},
    "sparse-rcnn-r101": {"backbone": "resnet101"},
    "sparse-rcnn-300": {"num_proposals": 300, "crop": True},
    "sparse-rcnn-r101-300": {"backbone": "resnet101", "num_proposals": 300, "crop": True},
    # Tables 3 to 5, from Faster R-CNN to Sparse R-CNN.
    "learned-boxes": {**FASTER_RCNN_HEAD, "num_stages": 1},
    "cascade": FASTER_RCNN_HEAD,
    "iterative": {**FASTER_RCNN_HEAD, "feature_reuse": True},
    # Proposals attend to each other. The result is concatenated: its only way to the predictions.
    "self-attention": {**FASTER_RCNN_HEAD, "feature_reuse": True, "self_attention": True},
    # Not in the paper: the dynamic head without its interaction.
    "no-interaction": {"interaction": "fully_connected"},
    "init-center": {"proposal_init": "center"},
    "init-grid": {"proposal_init": "grid"},
    "init-random": {"proposal_init": "random"},
    "proposals-300": {"num_proposals": 300},
    "proposals-500": {"num_proposals": 500},
    "stages-1": {"num_stages": 1},
    "stages-2": {"num_stages": 2},
    "stages-3": {"num_stages": 3},
    "stages-12": {"num_stages": 12},
    "positional-encoding": {"positional_encoding": True},
    # Not in the paper: proposals from the image, as in DDQ R-CNN (Zhang et al. 2023). 12 epochs are a third.
    "dense-300": {"proposals": "dense", "num_stages": 2, "num_proposals": 300},
    "dense-300-12-epochs": {
        **{"proposals": "dense", "num_stages": 2, "num_proposals": 300},
        "iterations": PAPER_ITERATIONS // 3,
    },
    "sparse-rcnn-12-epochs": {"iterations": PAPER_ITERATIONS // 3},
}


class Scale(NamedTuple):
    """The options and sizes that all models of a scale share."""

    text: str
    options: dict[str, Any]  # options of train.py that are not its defaults
    proposals: float  # number of proposals for each proposal of the paper
    backbones: dict[str, str]  # by backbone of the paper
    size: tuple[int, int]  # height and width of the image for the costs


SCALES = {
    "paper": Scale(
        "the paper's recipe", {"recipe": "coco", "drop_degenerate_boxes": True}, 1, {}, (800, 1216)
    ),
    "shapes": Scale(
        "the built-in shapes of 128 px",
        {
            "backbone": "resnet10",
            "proposals": "learned",
            "num_proposals": 100,
            "num_stages": 6,
            "proposal_init": "image",
            "class_targets": "one",
            "ema": 0.0,
            "iterations": 900,
            "eval_interval": 0,
            "shapes_images": 2000,
            "shapes_dir": "data/shapes-2000",  # not where train.py keeps its 4000
        },
        0.12,
        {"resnet50": "resnet10", "resnet101": "resnet18"},
        (128, 128),
    ),
    "photos": Scale(
        "photos of about 200 px, a MobileNetV2",
        {
            "recipe": "coco",  # all models alike
            "backbone": "mobilenet_v2",
            "backbone_norm": "batch",  # frozen norms are slow to adapt in so few steps
            "drop_degenerate_boxes": True,
            "num_proposals": 100,
            "hidden_dim": 64,
            "dynamic_dim": 16,
            "feedforward_dim": 256,
            "fully_connected_dim": 256,
            "batch_size": 4,
            "iterations": 600,
            "schedule": "cosine",
            "learning_rate": 5e-4,
            "sizes": [160, 192, 224],
            "max_size": 320,
            "eval_size": 192,
            "eval_batch_size": 4,
            "eval_interval": 0,
            "workers": 1,
        },
        0.4,
        {"resnet101": "mobilenet_v2", "resnet50": "mobilenet_v2"},
        (192, 256),
    ),
}


def find_model(name: str) -> dict[str, Any]:
    """The options of a model.

    Raises:
        ValueError: If no model has that name.
    """
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}, but {', '.join(MODELS)}")
    return MODELS[name]


def options_of(name: str, scale: Scale, data: str | None) -> dict[str, Any]:
    """The options of train.py for a model at a scale."""
    options = {**scale.options, **find_model(name)}
    if "num_proposals" in options:
        options["num_proposals"] = max(1, round(options["num_proposals"] * scale.proposals))
    if "iterations" in (model := find_model(name)):
        whole = scale.options.get("iterations", PAPER_ITERATIONS)
        options["iterations"] = model["iterations"] * whole // PAPER_ITERATIONS
    if "backbone" in options:
        options["backbone"] = scale.backbones.get(options["backbone"], options["backbone"])
    if data is None:
        options.pop("crop", None)  # the built-in shapes are not cropped
    else:
        options["data"] = data
    return options


def arguments_of(options: dict[str, Any]) -> list[str]:
    """The options as words of a command line."""
    words: list[str] = []
    for key, value in options.items():
        name = key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *map(str, values)]
    return words
