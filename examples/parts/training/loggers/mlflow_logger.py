"""MLflow; the runs lie where MLFLOW_TRACKING_URI says."""

import math
import re
import time
from pathlib import Path
from typing import Any

import mlflow
import PIL.Image

LONGEST = 500  # characters of a parameter
MOST_AT_ONCE = 1000  # metrics
NOT_IN_NAMES = re.compile(r"[^\w\-. /]", re.ASCII)


class MlflowLogger:
    """A run of the experiment "sparse_rcnn". A resumed run goes on there, too.

    Args:
        output: The directory of the run, which keeps the id.
        settings: The options.
    """

    def __init__(self, output: Path, settings: dict[str, Any]) -> None:
        self._client = mlflow.MlflowClient()
        remembered = output / "mlflow_id.txt"
        if remembered.exists():
            self._id = remembered.read_text()
            self._client.update_run(self._id, status="RUNNING")
            return
        experiment = self._client.get_experiment_by_name("sparse_rcnn")
        number = experiment.experiment_id if experiment else self._client.create_experiment("sparse_rcnn")
        self._id = self._client.create_run(number, run_name=output.absolute().name).info.run_id
        remembered.write_text(self._id)
        for name, value in settings.items():
            self._client.log_param(self._id, name, str(value)[:LONGEST])

    def numbers(self, values: dict[str, float], iteration: int) -> None:
        """A chart for each name. MLflow takes no NaN."""
        now = int(1000 * time.time())
        metrics = [
            mlflow.entities.Metric(_name(name), value, now, iteration)
            for name, value in values.items()
            if math.isfinite(value)
        ]
        for first in range(0, len(metrics), MOST_AT_ONCE):
            self._client.log_batch(self._id, metrics[first : first + MOST_AT_ONCE])

    def picture(self, name: str, picture: PIL.Image.Image, iteration: int) -> None:
        """A file among the artifacts of the run."""
        self._client.log_image(self._id, picture, f"{name}/{iteration:08d}.png")

    def close(self, failed: bool) -> None:
        """Marks the run as finished or failed."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


def _name(name: str) -> str:
    """A name that MLflow takes: val/AP/a&b is val/AP.a_b, for val/AP cannot be a metric and a folder."""
    group, _, rest = name.partition("/")
    return f"{group}/{NOT_IN_NAMES.sub('_', rest.replace('/', '.'))}"


open_logger = MlflowLogger
