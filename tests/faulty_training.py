"""train.py with faults: run in its place, with the same arguments and the faults in the environment:

NAN_IMAGES=3,7   these images (by id) have no finite pixel
KILL_AT=1:8      process 1 dies of SIGKILL when it begins its 8th step, unless torchrun started it again
TERM_AT=1:8      process 1 and its readers get a SIGTERM at that time; under torchrun only
FILE_LIMIT=9     no file may have more bytes

It draws next to nothing at the end: pictures take as long as the steps of a tiny run.
"""

import os
import resource
import runpy
import signal
import sys
from pathlib import Path

import torch
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def draw_nothing() -> None:
    from parts.training import evaluation, run_log

    evaluation.draw_predictions = lambda *_: {"one": Image.new("RGB", (64, 64))}
    evaluation.Evaluation.write_report = lambda *_: None
    run_log.RunLog.plot = lambda *_: None


def spoil_images() -> None:
    from parts.training import readable_samples

    ids = {int(number) for number in os.environ["NAN_IMAGES"].split(",")}
    collate = readable_samples.collate_readable

    def spoiled(samples, target_divisor):
        batch, problems = collate(samples, target_divisor)
        images = batch.images.float() / 255
        for index, number in enumerate(batch.image_ids.tolist()):
            if number in ids:
                images[index] = torch.nan
        return batch._replace(images=images), problems

    readable_samples.collate_readable = spoiled


def signal_at(where: str, number: int) -> None:
    from parts.training import training_state

    rank, count = map(int, where.split(":"))
    if rank != int(os.environ.get("RANK", 0)) or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0:
        return
    begin = training_state.TrainingState.begin
    begun = 0

    def begin_and_signal(state):
        nonlocal begun
        begun += 1
        if begun == count:
            os.kill(os.getpid() if number == signal.SIGKILL else -os.getpgrp(), number)
        begin(state)

    training_state.TrainingState.begin = begin_and_signal


if __name__ == "__main__":
    sys.path.insert(0, str(EXAMPLES))
    draw_nothing()
    if "NAN_IMAGES" in os.environ:
        spoil_images()
    if "FILE_LIMIT" in os.environ:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["FILE_LIMIT"]),) * 2)
    for name, number in (("KILL_AT", signal.SIGKILL), ("TERM_AT", signal.SIGTERM)):
        if name in os.environ:
            signal_at(os.environ[name], number)
    runpy.run_path(str(EXAMPLES / "train.py"), run_name="__main__")
