"""Two runs of a training step are equal: to the last bit with deterministic algorithms, else nearly."""

import warnings

import torch
from training_batch import gradients_of, largest_difference, small_step, training_batch


def two_runs(step, batch):
    return gradients_of(step, batch), gradients_of(step, batch)


def test_as_it_is(device, record_property):
    first, second = two_runs(small_step(device), training_batch(device))
    differing = [name for name, gradient in first.items() if not torch.equal(gradient, second[name])]
    record_property("gradients that differ", f"{len(differing)} of {len(first)}")
    worst = largest_difference(first, second)
    record_property("largest relative difference", f"{worst:.1e}")
    assert worst <= 1e-4


def test_with_deterministic_algorithms(device, record_property):
    step, batch = small_step(device), training_batch(device)
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            gradients_of(step, batch)
        record_property("not deterministic", "; ".join({str(one.message)[:80] for one in seen}) or "nothing")
        torch.use_deterministic_algorithms(True)
        first, second = two_runs(step, batch)
    finally:
        torch.use_deterministic_algorithms(False)
    assert [name for name, gradient in first.items() if not torch.equal(gradient, second[name])] == []
