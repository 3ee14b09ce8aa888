"""The host waits for the GPU once in a training step, for the matching, and never in inference."""

import collections
import contextlib
import warnings

import torch
from small_model import build_small_model, random_batch
from training_batch import small_step, training_batch

from sparse_rcnn.nn import EndToEndDetector, fold_first_stage, fold_norms


@contextlib.contextmanager
def waits():
    """Counts the waits inside, by their place in the code."""
    torch.cuda.synchronize()
    found = collections.Counter()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in seen:
        if "called a synchronizing" in str(warning.message):
            found[f"{warning.filename.rpartition('/')[2]}:{warning.lineno}"] += 1


def test_the_counter_sees_a_wait(gpu):
    with waits() as found:
        torch.ones(3, device=gpu).sum().item()
    assert sum(found.values()) == 1


def test_one_in_a_training_step(gpu):
    step, batch = small_step(gpu), training_batch(gpu)
    parameters = [parameter for parameter in step.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 1e-4, fused=True)

    def run():
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            total = step(*batch).losses.total
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    for _ in range(2):
        run()
    with waits() as found:
        run()
    assert sum(found.values()) == 1, dict(found)


def test_none_in_inference(gpu):
    model = fold_first_stage(
        fold_norms(build_small_model(backbone="resnet10", backbone_norm="frozen").eval())
    )
    detector = EndToEndDetector(model).to(gpu)
    batch = [part.to(gpu) for part in random_batch(2, 64, 96)]
    with torch.no_grad():
        detector(*batch)
        with waits() as found:
            detector(*batch)
    assert not found, dict(found)
