"""Trackio, which keeps its runs on this machine and shows them with ``trackio show``."""

from pathlib import Path
from typing import Any

import PIL.Image
import trackio


class TrackioLogger:
    """A run of the project "sparse_rcnn". A run of the same name goes on.

    Args:
        output: The directory of the run, whose name it has.
        settings: The options.
    """

    def __init__(self, output: Path, settings: dict[str, Any]) -> None:
        self._run = trackio.init(
            project="sparse_rcnn", name=output.absolute().name, config=settings, resume="allow", embed=False
        )

    def numbers(self, values: dict[str, float], iteration: int) -> None:
        """A chart for each name."""
        self._run.log(values, step=iteration)

    def picture(self, name: str, picture: PIL.Image.Image, iteration: int) -> None:
        """A picture of an iteration."""
        self._run.log({name: trackio.Image(picture)}, step=iteration)

    def close(self, failed: bool) -> None:
        """Writes what is left. Trackio's runs have no status that a program sets."""
        self._run.finish()


open_logger = TrackioLogger
