"""What a logger does, and which there are."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any, Protocol

import PIL.Image

# By the name of the option --logger, which is also that of the package: the module here.
LOGGERS = {"wandb": "wandb_logger", "mlflow": "mlflow_logger", "trackio": "trackio_logger"}


class Logger(Protocol):
    """Takes the figures and pictures of a run. Names have groups: "train/loss", "val/AP/cat"."""

    def numbers(self, values: dict[str, float], iteration: int) -> None:
        """Takes the values of an iteration, by name. Some may be NaN."""

    def picture(self, name: str, picture: PIL.Image.Image, iteration: int) -> None:
        """Takes a picture of an iteration."""

    def close(self, failed: bool) -> None:
        """Writes what is left, and ends the run; `failed` if it ends with an error."""


def missing_packages(names: list[str]) -> list[str]:
    """Which of the loggers are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def open_logger(name: str, output: Path, settings: dict[str, Any]) -> Logger:
    """Starts a run there, or goes on with that of the same output directory.

    Args:
        name: Of `LOGGERS`.
        output: The directory of the run. Its name is that of the run there.
        settings: The options of the run.
    """
    module = importlib.import_module(f"parts.training.loggers.{LOGGERS[name]}")
    logger: Logger = module.open_logger(output, settings)
    return logger
