"""Weights & Biases; without a network, with WANDB_MODE=offline."""

from pathlib import Path
from typing import Any

import PIL.Image
import wandb


class WandbLogger:
    """A run of the project "sparse_rcnn". A resumed run goes on there, too.

    Args:
        output: The directory of the run, which keeps the id.
        settings: The options.
    """

    def __init__(self, output: Path, settings: dict[str, Any]) -> None:
        remembered = output / "wandb_id.txt"
        known = remembered.read_text() if remembered.exists() else None
        self._run = wandb.init(
            project="sparse_rcnn",
            name=output.absolute().name,
            dir=output,
            config=settings,
            id=known,
            resume="allow",
        )
        remembered.write_text(self._run.id)

    def numbers(self, values: dict[str, float], iteration: int) -> None:
        """A chart for each name."""
        self._run.log(values, step=iteration)

    def picture(self, name: str, picture: PIL.Image.Image, iteration: int) -> None:
        """A picture with a slider over iterations."""
        self._run.log({name: wandb.Image(picture)}, step=iteration)

    def close(self, failed: bool) -> None:
        """Sends what is left. The status of the run follows from the exit code."""
        self._run.finish(exit_code=int(failed))


open_logger = WandbLogger
