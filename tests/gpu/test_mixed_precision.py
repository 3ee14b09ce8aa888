"""fp16 with a scaler, channels-last memory, and weights that are cast once."""

import torch
from small_model import build_small_model, random_batch
from training_batch import gradients_of, largest_difference, small_step, training_batch

from sparse_rcnn.nn import cast_weights, fold_first_stage, fold_norms


def train(step, batch, dtype, device, iterations=12):
    """Losses of some steps, and how many of them were taken. The scaler skips steps that overflow."""
    parameters = [parameter for parameter in step.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 1e-4, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16, init_scale=1.0)
    losses, taken = [], 0
    for _ in range(iterations):
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            total = step(*batch).losses.total
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        taken += scaler.get_scale() >= scale
        losses.append(total.item())
    return losses, taken


def test_fp16_with_a_scaler(device, record_property):
    batch = training_batch(device)
    exact, _ = train(small_step(device), batch, torch.float32, device)
    half, taken = train(small_step(device), batch, torch.float16, device)
    differences = [abs(a - b) / abs(a) for a, b in zip(exact, half, strict=True)]
    record_property("relative difference of the first loss", f"{differences[0]:.1e}")
    record_property("largest relative difference of a loss", f"{max(differences):.1e}")
    record_property("steps without overflow", f"{taken} of {len(half)}")
    # Only the first loss has equal weights. Rounding moves the others more and more: a match changes.
    assert 0 < differences[0] <= 0.01
    assert max(differences) <= 0.3
    assert exact[-1] < exact[0]
    assert half[-1] < half[0]
    assert taken >= 8


def test_channels_last(device):
    batch = training_batch(device)
    expected = gradients_of(small_step(device), batch)
    step = small_step(device).to(memory_format=torch.channels_last)
    assert step.model.backbone.trunk.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert largest_difference(gradients_of(step, batch), expected) <= 1e-3


def test_weights_that_are_cast_once(device):
    """The results are those of autocast, which casts in every call."""
    model = fold_first_stage(fold_norms(build_small_model(backbone_norm="frozen").eval())).to(device)
    batch = [part.to(device) for part in random_batch(2, 64, 96)]
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        expected, found = model(*batch), cast_weights(model, device.type)(*batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
