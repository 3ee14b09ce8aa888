import pytest
import torch
from small_model import SMALL

from sparse_rcnn import build_sparse_rcnn
from sparse_rcnn.nn import fold_first_stage, fold_norms

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def assert_equal(ours, theirs):
    assert ours.logits.equal(theirs.logits)
    assert ours.boxes.equal(theirs.boxes)


def assert_close(ours, theirs):
    torch.testing.assert_close(ours.logits, theirs.logits, **CLOSE)
    torch.testing.assert_close(ours.boxes, theirs.boxes, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_proposals": 1},
        {"num_classes": 1},
        {"num_stages": 1},
        {"num_stages": 4},
        {"hidden_dim": 8, "num_heads": 8},
        {"hidden_dim": 20, "num_heads": 1},
        {"dynamic_dim": 1, "feedforward_dim": 1, "pool_size": 1},
        {"backbone": "mobilenet_v2"},
        {"backbone_norm": "frozen"},
        {"backbone_norm": "batch"},
    ],
)
def test_shapes(build_small, batch, changes):
    predictions = build_small(**changes)(*batch)
    stages, count = changes.get("num_stages", 2), changes.get("num_proposals", 6)
    assert predictions.logits.shape == (stages, 2, count, changes.get("num_classes", 3))
    assert predictions.boxes.shape == (stages, 2, count, 4)
    assert torch.isfinite(predictions.logits).all()
    assert torch.isfinite(predictions.boxes).all()


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (100, 64)])
def test_any_size_of_batch_and_image(build_small, size):
    predictions = build_small()(torch.rand(1, 3, *size), torch.tensor([size]))
    assert predictions.logits.shape == (2, 1, 6, 3)


def test_padding_does_not_matter(build_small, batch):
    images, sizes = batch
    noisy = images.clone()
    noisy[1, :, 50:] = 255
    noisy[1, :, :, 70:] = 99
    model = build_small()
    assert_equal(model(noisy, sizes), model(images, sizes))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_padding_that_is_not_finite_does_not_matter(build_small, batch, value):
    images, sizes = batch[0] / 255, batch[1]
    broken = images.clone()
    broken[1, :, 50:] = value
    model = build_small()
    assert_equal(model(broken, sizes), model(images, sizes))


def test_padding_is_zero_after_normalisation(build_small, batch):
    normalized = build_small().normalize(*batch)
    assert (normalized[1, :, 50:] == 0).all()
    assert (normalized[1, :, :, 70:] == 0).all()
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    torch.testing.assert_close(normalized[0], (batch[0][0] - mean) / std)
    torch.testing.assert_close(normalized[1, :, :50, :70], (batch[0][1, :, :50, :70] - mean) / std)


def test_what_is_inside_matters(build_small, batch):
    images, sizes = batch
    changed = images.clone()
    changed[1, :, 49, 69] = 255 - changed[1, :, 49, 69]
    model = build_small()
    assert not model(changed, sizes).logits[:, 1].equal(model(images, sizes).logits[:, 1])


@pytest.mark.parametrize("image", [0, 1])
def test_an_image_alone_equals_the_image_in_a_batch(build_small, batch, image):
    images, sizes = batch
    model = build_small()
    together = model(images, sizes)
    alone = model(images[image, None], sizes[image, None])
    torch.testing.assert_close(alone.logits[:, 0], together.logits[:, image], **CLOSE)
    torch.testing.assert_close(alone.boxes[:, 0], together.boxes[:, image], rtol=1e-4, atol=2e-3)


def test_bytes_equal_floats(build_small, batch):
    images, sizes = batch
    model = build_small()
    assert_close(model(images / 255, sizes), model(images, sizes))


@pytest.mark.parametrize("norm", ["frozen", "group"])
def test_training_equals_evaluation(build_small, batch, norm):
    model = build_small(backbone_norm=norm)
    assert_equal(model.train()(*batch), model.eval()(*batch))


def test_forward_writes_no_state(build_small, batch):
    model = build_small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first = model(*batch)
    assert_equal(model(*batch), first)
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_inputs_stay_as_they_are(build_small, batch):
    images, sizes = batch[0].clone(), batch[1].clone()
    build_small()(*batch)
    assert batch[0].equal(images)
    assert batch[1].equal(sizes)


def test_pixel_statistics_are_no_part_of_a_checkpoint(build_small):
    assert not any("pixel" in key for key in build_small().state_dict())


def test_float64(build_small, batch):
    model = build_small()
    single = model(*batch)
    double = model.double()(*batch)
    assert double.logits.dtype == double.boxes.dtype == torch.float64
    torch.testing.assert_close(double.logits.float(), single.logits, rtol=1e-3, atol=1e-3)


def test_half_precision_keeps_boxes_in_float32(build_small, batch):
    predictions = build_small().bfloat16()(*batch)
    assert predictions.logits.dtype == torch.bfloat16
    assert predictions.boxes.dtype == torch.float32


def test_every_unfrozen_parameter_learns(build_small, batch):
    model = build_small(backbone_norm="frozen")
    predictions = model(*batch)
    (predictions.logits.square().sum() + predictions.boxes.square().mean()).backward()
    for name, parameter in model.named_parameters():
        if name.startswith(tuple(f"backbone.fpn.layer_blocks.{level}." for level in (1, 2, 3))):
            continue  # boxes of images this small pool from the finest level only
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize(
    "shape", [(2, 1, 64, 96), (2, 4, 64, 96), (3, 64, 96), (2, 64, 96, 3), (1, 2, 3, 64, 96)]
)
def test_images_of_another_shape(build_small, shape):
    with pytest.raises(ValueError, match="images must be"):
        build_small()(torch.zeros(shape), torch.tensor([[64, 96], [64, 96]]))


@pytest.mark.parametrize("sizes", [[64, 96], [[64, 96]], [[64, 96, 3]] * 2, [[64, 96]] * 3, []])
def test_image_sizes_of_another_shape(build_small, sizes):
    with pytest.raises(ValueError, match="image_sizes must be"):
        build_small()(torch.zeros(2, 3, 64, 96), torch.tensor(sizes))


@pytest.mark.parametrize("size", [[65, 96], [64, 97], [96, 64], [0, 96], [64, 0], [-1, 5]])
def test_image_sizes_that_do_not_fit_are_named(build_small, size):
    with pytest.raises(ValueError, match=r"image_sizes\[1\]") as caught:
        build_small()(torch.zeros(2, 3, 64, 96), torch.tensor([[64, 96], size]))
    assert str(size) in str(caught.value)
    assert "64, 96" in str(caught.value)


def test_floating_images_of_0_to_255_are_refused(build_small):
    model, sizes = build_small(), torch.tensor([[64, 90], [64, 90]])
    images = torch.rand(2, 3, 64, 96)
    images[1] *= 255
    with pytest.raises(ValueError, match=r"must be 0..1, but images\[1\] looks like 0..255"):
        model(images, sizes)
    images[1] /= 255
    images[..., 90:] = 255  # padding does not matter
    images[0, 0, 0, 0] = 1.5  # values that resizing may add are accepted
    model(images, sizes)


def on_meta():
    with torch.device("meta"):
        return build_sparse_rcnn(**SMALL)


def test_built_on_the_meta_device_and_loaded(build_small, batch):
    """The recipe of FSDP2: pixel statistics are in no state dict, and no memory may be read as them."""
    model = build_small()
    emptied, assigned = on_meta().to_empty(device="cpu"), on_meta()
    emptied.load_state_dict(model.state_dict())
    assigned.load_state_dict(model.state_dict(), assign=True)
    assert_equal(emptied(*batch), model(*batch))
    assert_equal(assigned(*batch), model(*batch))
    again = model.to_empty(device="cpu")
    assert again.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])


def test_never_loaded_from_the_meta_device(batch):
    with pytest.raises(ValueError, match=r"on the meta device.*to_empty"):
        on_meta()(*batch)


def test_shapes_on_the_meta_device(build_small, batch):
    """They show memory and shapes without data."""
    expected, model = build_small()(*batch), on_meta()
    inputs = [part.to("meta") for part in batch]
    for detector in (model, fold_first_stage(fold_norms(model.eval()))):
        for found, of_values in zip(detector(*inputs), expected, strict=True):
            assert (found.device.type, found.shape, found.dtype) == ("meta", of_values.shape, of_values.dtype)
    model(*inputs).logits.sum().backward()
    assert model.backbone.trunk.conv1.weight.grad.is_meta


@pytest.mark.parametrize(
    ("pixels", "looks"),
    [
        (lambda image: (image - 0.45) / 0.225, "already normalised"),
        (lambda image: 2 * image - 1, "already normalised"),
        (lambda image: image * float("nan"), "not finite"),
        (lambda image: (image * 4095).long(), "more than 8 bits"),
    ],
)
def test_images_that_are_none_are_refused(build_small, pixels, looks):
    model, sizes = build_small().eval(), torch.tensor([[64, 96], [64, 90]])
    images = torch.rand(2, 3, 64, 96)
    images[1, ..., 90:] = 0
    with pytest.raises(ValueError, match=rf"images\[1\] looks like .*{looks}"):
        model(torch.stack((images[0].to(pixels(images).dtype) * 0, pixels(images)[1])), sizes)


def test_images_that_are_not_finite_reach_the_loss_of_a_trainer(build_small):
    model, images = build_small().train(), torch.full((1, 3, 64, 96), float("nan"))
    assert not model(images, torch.tensor([[64, 96]])).logits.isfinite().all()


def test_without_image_sizes_all_of_an_image_counts(build_small, batch):
    model, images = build_small(), batch[0]
    assert_equal(model(images), model(images, torch.tensor([[64, 96]] * 2)))
    averaged = torch.optim.swa_utils.AveragedModel(build_small(backbone_norm="batch"))
    before = averaged.module.backbone.trunk.bn1.running_mean.clone()
    torch.optim.swa_utils.update_bn([images], averaged)
    assert not averaged.module.backbone.trunk.bn1.running_mean.equal(before)
