"""All options of a model: each with its default, its bounds and its text.

`build_sparse_rcnn`, checkpoints and the options of the scripts use this list.
"""

import operator
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from reprlib import repr as short
from typing import Any

from sparse_rcnn.nn.backbones.backbone import BACKBONES, NORMS
from sparse_rcnn.nn.proposals import PROPOSAL_INITS
from sparse_rcnn.nn.stage import INTERACTIONS

__all__ = ["OWN_BACKBONE", "PROPOSALS", "ModelConfig"]

PROPOSALS = ("learned", "dense")
# The name of a backbone that was given as a module. No name says how to build it.
OWN_BACKBONE = "module"


def _size(default: int, text: str, at_least: int = 1, at_most: int = 65_536, ablation: bool = False) -> Any:
    bounds = {"at_least": at_least, "at_most": at_most}
    return field(default=default, metadata={"help": text, "ablation": ablation, **bounds})


def _choice(default: str, choices: tuple[str, ...], text: str, ablation: bool = False) -> Any:
    return field(default=default, metadata={"help": text, "ablation": ablation, "choices": choices})


def _switch(default: bool, text: str) -> Any:
    return field(default=default, metadata={"help": text, "ablation": True})


@dataclass(frozen=True)
class ModelConfig:
    """The options of a Sparse R-CNN. The defaults are the paper's (section 4, implementation details)."""

    backbone: str = _choice("resnet50", BACKBONES, f"{', '.join(BACKBONES)}. The paper has no resnet10")
    num_classes: int = _size(80, "K; labels are 0..K-1, there is no background class", at_most=100_000)
    num_proposals: int = _size(
        100, "number of proposals, N. It limits the objects found per image", at_most=100_000
    )
    num_stages: int = _size(6, "number of stages of the head, L", at_most=100)
    hidden_dim: int = _size(256, "channels of features and proposals, C")
    dynamic_dim: int = _size(64, "inner channels of the dynamic interaction, D")
    feedforward_dim: int = _size(
        2048, "inner channels of the feed-forward network. 0: no such network", at_least=0
    )
    num_heads: int = _size(8, "heads of the self-attention. They divide hidden_dim")
    pool_size: int = _size(7, "side of the pooled RoI, P", at_most=256)
    proposals: str = _choice(
        "learned",
        PROPOSALS,
        "learned (section 3.1), or dense: found in the image, better for small data sets",
    )
    proposal_init: str = _choice(
        "image", PROPOSAL_INITS, f"boxes before training: {', '.join(PROPOSAL_INITS)} (Table 6)"
    )
    interaction: str = _choice(
        "dynamic", INTERACTIONS, "dynamic, or fully_connected: two layers on the RoI (Tables 3 to 5)", True
    )
    self_attention: bool = _switch(True, "proposals attend to each other in every stage (Table 5)")
    feature_reuse: bool = _switch(
        True,
        "a stage gets the object features of the previous stage (Table 4). Without it, a dynamic stage gets "
        "the learned features again, and a fully connected stage uses only the RoI",
    )
    fully_connected_dim: int = _size(1024, "inner channels of the fully connected layers", ablation=True)
    classification_layers: int = _size(1, "layers before the class predictor", 0, 100, ablation=True)
    regression_layers: int = _size(3, "layers before the box predictor", 0, 100, ablation=True)
    positional_encoding: bool = _switch(False, "add DETR's sine encoding to the pyramid (Table 10)")
    backbone_norm: str = _choice(
        "frozen",
        NORMS,
        "frozen: batch norms, stem and first residual stage do not train, as in the paper. batch or group: "
        "everything trains, for training from scratch",
    )

    def __post_init__(self) -> None:
        """Raises ValueError for the first option that no model can have."""
        for option in fields(self):
            object.__setattr__(self, option.name, _checked(option, getattr(self, option.name)))
        if self.hidden_dim % self.num_heads != 0:
            raise ValueError(f"num_heads must divide hidden_dim, got {self.num_heads} and {self.hidden_dim}")
        if self.positional_encoding and self.hidden_dim % 4 != 0:
            raise ValueError(
                f"positional_encoding needs a hidden_dim that is a multiple of 4, got {self.hidden_dim}"
            )

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> "ModelConfig":
        """The config from plain data, such as a checkpoint's. Missing options have their defaults.

        Args:
            options: The options by name. `backbone_weights` is ignored, since weights come from the
                checkpoint.

        Returns:
            The config.

        Raises:
            ValueError: If an option is unknown, of a wrong type or out of bounds.
        """
        if not isinstance(options, Mapping):
            raise ValueError(f"config must be a dict of options, got {type(options).__name__}")
        known = [option.name for option in fields(cls)]
        for name in options:
            if name not in known and name != "backbone_weights":
                raise ValueError(f"config has no option {short(name)}; its options are {', '.join(known)}")
        return cls(**{name: value for name, value in options.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """The options as plain data, for files and for `build_sparse_rcnn(**options)`."""
        return asdict(self)


def _checked(option: "Field[Any]", value: Any) -> Any:
    """The value of an option, converted to its type. Raises ValueError if that is not possible."""
    name, metadata = option.name, option.metadata
    if isinstance(option.default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {short(value)}")
        return value
    if "choices" in metadata:
        allowed = (*metadata["choices"], OWN_BACKBONE) if name == "backbone" else metadata["choices"]
        if not isinstance(value, str) or value not in allowed:
            raise ValueError(f"{name} must be one of {metadata['choices']}, got {short(value)}")
        return value
    number: Any = None if isinstance(value, bool) else value
    try:
        size = operator.index(number)
    except TypeError as error:
        raise ValueError(f"{name} must be a whole number, got {short(value)}") from error
    if size < metadata["at_least"]:
        raise ValueError(f"{name} must be at least {metadata['at_least']}, got {size}")
    if size > metadata["at_most"]:
        raise ValueError(f"{name} must be at most {metadata['at_most']}, got {size}")
    return size


# help(ModelConfig) shows the text of each option.
ModelConfig.__doc__ = "\n".join(
    [
        f"{ModelConfig.__doc__}\n\n    Args:",
        *(
            f"        {option.name}: {option.metadata['help']} ({option.default})."
            for option in fields(ModelConfig)
        ),
        "\n    Raises:\n        ValueError: If an option is of a wrong type or out of bounds.\n",
        "    Example:\n        >>> ModelConfig(num_classes=3).num_proposals\n        100\n    ",
    ]
)
