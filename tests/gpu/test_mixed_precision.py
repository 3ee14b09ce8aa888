"""fp16 with a scaler, channels-last memory, and weights that are cast once."""

import torch
from small_model import build_small_model, random_batch
from training_batch import gradients_of, largest_difference, small_step, training_batch

from sparse_rcnn.nn import cast_weights, fold_first_stage, fold_norms


def train(step, batch, dtype, device, iterations=12):
    """Losses of some steps. The scaler skips steps that overflow."""
    parameters = [parameter for parameter in step.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 1e-4, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16, init_scale=16.0)
    losses = []
    for _ in range(iterations):
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            total = step(*batch).losses.total
        scaler.scale(total).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        scaler.step(optimizer)
        scaler.update()
        assert not scaler.is_enabled() or scaler.get_scale() >= 1
        losses.append(total.item())
    return losses


def test_fp16_with_a_scaler(device, record_property):
    batch = training_batch(device)
    exact = train(small_step(device), batch, torch.float32, device)
    # A CPU keeps layer norms in fp16, where the gradients of a RoI outside of the image overflow.
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    half = train(small_step(device), batch, dtype, device)
    worst = max(abs(a - b) / abs(a) for a, b in zip(exact, half, strict=True))
    record_property("largest relative difference of a loss", f"{worst:.1e}")
    assert 0 < worst <= 0.05
    assert exact[-1] < exact[0]
    assert half[-1] < half[0]


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
