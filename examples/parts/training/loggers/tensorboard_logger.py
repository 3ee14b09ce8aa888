"""TensorBoard, which train.py always writes to."""

from pathlib import Path

import numpy as np
import PIL.Image
from torch.utils.tensorboard import SummaryWriter


class TensorBoardLogger:
    """Writes TensorBoard's files into a directory.

    Args:
        output: The directory.
        start: Later entries of a run that died are hidden.
    """

    def __init__(self, output: Path, start: int) -> None:
        self._writer = SummaryWriter(str(output), purge_step=start + 1)

    def numbers(self, values: dict[str, float], iteration: int) -> None:
        """A curve for each name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)

    def picture(self, name: str, picture: PIL.Image.Image, iteration: int) -> None:
        """A picture with a slider over iterations."""
        self._writer.add_image(name, np.asarray(picture), iteration, dataformats="HWC")

    def close(self, failed: bool) -> None:
        """Writes what is left."""
        self._writer.close()
