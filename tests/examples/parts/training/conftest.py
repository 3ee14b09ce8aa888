"""What all tests of training share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parts.training.loggers.tensorboard_logger import TensorBoardLogger


@pytest.fixture(autouse=True)
def end_of_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """TensorBoard's threads end before the folder of the test is removed."""
    opened: list[TensorBoardLogger] = []
    begin = TensorBoardLogger.__init__

    def remember(self: TensorBoardLogger, *arguments: Any) -> None:
        begin(self, *arguments)
        opened.append(self)

    monkeypatch.setattr(TensorBoardLogger, "__init__", remember)
    yield
    for logger in opened:
        logger._writer.close()
