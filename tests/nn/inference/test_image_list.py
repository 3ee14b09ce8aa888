import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparse_rcnn import load_detector
from sparse_rcnn.data import evaluation_transform
from sparse_rcnn.loss import set_prediction_loss
from sparse_rcnn.nn import (
    ImageListDetector,
    ImageSize,
    Predictions,
    build_from_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from sparse_rcnn.ops import select_detections

LOSSES = ["loss_classification", "loss_l1", "loss_giou"]


class Stub(nn.Module):
    """Predicts one box, relative to the image, with one label. It keeps the arguments of its calls."""

    def __init__(self, boxes, labels, num_classes=5):
        super().__init__()
        self.boxes = torch.tensor(boxes).view(-1, 4)
        self.labels = torch.tensor(labels).view(-1)
        self.num_classes = num_classes

    def forward(self, images, image_sizes):
        self.images, self.image_sizes = images, image_sizes
        batch = len(images)
        height, width = image_sizes.unbind(1)
        scale = torch.stack((width, height, width, height), 1).to(self.boxes.dtype)
        boxes = self.boxes[None] * scale[:, None]  # [B, N, 4]
        logits = torch.full((batch, len(self.boxes), self.num_classes), -20.0)
        logits.scatter_(2, self.labels[None, :, None].expand(batch, -1, 1), 20.0)
        # Two stages, as real models have several.
        return Predictions(
            torch.stack((logits, logits)).requires_grad_(), torch.stack((boxes, boxes)).requires_grad_()
        )


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, *size, generator=generator) for size in [(40, 60), (75, 50), (64, 64)]]


@pytest.fixture
def targets():
    return [
        {"boxes": torch.tensor([[5.0, 5, 30, 35], [20, 10, 60, 40]]), "labels": torch.tensor([0, 2])},
        {"boxes": torch.tensor([[0.0, 0, 50, 75]]), "labels": torch.tensor([1])},
        {"boxes": torch.tensor([[1.0, 2, 3, 4]]), "labels": torch.tensor([2])},
    ]


@pytest.fixture
def detector(build_small):
    return ImageListDetector(build_small(), min_size=64, max_size=96)


BOX = [0.1, 0.2, 0.7, 0.9]


@pytest.mark.parametrize("min_size", [32, 47, 64, 333])
@pytest.mark.parametrize("size", [(40, 60), (75, 50), (64, 64), (17, 201), (200, 33)])
def test_boxes_come_back_in_original_pixels(min_size, size):
    detector = ImageListDetector(Stub(BOX, 3), min_size=min_size, max_size=400).eval()
    (result,) = detector([torch.rand(3, *size)])
    expected = torch.tensor(BOX) * torch.tensor([size[1], size[0], size[1], size[0]])
    torch.testing.assert_close(result["boxes"][0], expected, rtol=0, atol=1e-3)
    assert result["labels"][0] == 3
    assert result["scores"][0] > 0.999


def test_batch_of_different_sizes_comes_back_in_original_pixels(images):
    results = ImageListDetector(Stub(BOX, 3), min_size=48, max_size=64, max_detections=1).eval()(images)
    for image, result in zip(images, results, strict=True):
        height, width = image.shape[1:]
        expected = torch.tensor([BOX]) * torch.tensor([width, height, width, height])
        torch.testing.assert_close(result["boxes"], expected, rtol=0, atol=1e-3)
        assert result["labels"].tolist() == [3]


def test_targets_go_in_as_original_pixels(images):
    detector = ImageListDetector(Stub(BOX, 3), min_size=(48, 96), max_size=128).train()
    targets = []
    for image in images:
        height, width = image.shape[1:]
        boxes = torch.tensor([BOX]) * torch.tensor([width, height, width, height])
        targets.append({"boxes": boxes, "labels": torch.tensor([3])})
    losses = detector(images, targets)
    assert all(losses[name].item() == pytest.approx(0, abs=1e-5) for name in LOSSES)
    targets[1]["labels"] += 1
    assert detector(images, targets)["loss_classification"] > 1


def test_batch_holds_resized_images_padded_to_the_divisor(images):
    detector = ImageListDetector(Stub(BOX, 3), min_size=50, max_size=70, size_divisor=16).eval()
    detector(images)
    stub = detector.model
    # 40x60: shortest side 50 -> 50x75, the longest at most 70 -> 47x70. 75x50 -> 70x47.
    assert stub.image_sizes.tolist() == [[47, 70], [70, 47], [50, 50]]
    assert stub.images.shape == (3, 3, 80, 80)
    for image, padded, (height, width) in zip(images, stub.images, stub.image_sizes.tolist(), strict=True):
        expected = F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(padded[:, :height, :width], expected)
        assert (padded[:, height:] == 0).all()
        assert (padded[:, :, width:] == 0).all()


def test_image_of_the_right_size_is_not_changed():
    detector = ImageListDetector(Stub(BOX, 3), min_size=64, max_size=96).eval()
    image = torch.rand(3, 64, 96)
    detector([image])
    assert detector.model.images[0].equal(image)


def test_evaluation_resizes_to_the_last_size():
    detector = ImageListDetector(Stub(BOX, 3), min_size=(32, 64, 96), max_size=500).eval()
    for _ in range(5):
        detector([torch.rand(3, 40, 60)])
        assert detector.model.image_sizes.tolist() == [[96, 144]]


def test_training_draws_a_size_for_every_image():
    torch.manual_seed(0)
    detector = ImageListDetector(Stub(BOX, 3), min_size=(32, 64, 96), max_size=500).train()
    target = {"boxes": torch.tensor([[1.0, 2, 30, 40]]), "labels": torch.tensor([1])}
    detector([torch.rand(3, 40, 40)] * 50, [target] * 50)
    assert set(detector.model.image_sizes[:, 0].tolist()) == {32, 64, 96}


def test_bytes_equal_floats():
    detector = ImageListDetector(Stub(BOX, 3), min_size=64, max_size=96).eval()
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    detector([image])
    from_bytes = detector.model.images
    detector([image / 255])
    torch.testing.assert_close(from_bytes, detector.model.images)


def test_results_are_best_first_and_at_most_so_many(detector, images):
    results = ImageListDetector(detector.model, 64, 96, max_detections=4).eval()(images)
    assert len(results) == 3
    for result in results:
        assert set(result) == {"boxes", "labels", "scores"}
        assert result["boxes"].shape == (4, 4)
        assert result["labels"].shape == result["scores"].shape == (4,)
        assert result["labels"].dtype == torch.int64
        assert (result["scores"].diff() <= 0).all()


def test_boxes_lie_within_their_images():
    detector = ImageListDetector(Stub([-0.5, -0.1, 1.5, 1.1], 0), 64, 96).eval()
    (result,) = detector([torch.rand(3, 40, 60)])
    torch.testing.assert_close(result["boxes"][0], torch.tensor([0.0, 0, 60, 40]))


def test_score_threshold(detector, images):
    everything = detector.eval()(images)
    threshold = everything[0]["scores"].median().item()
    strict = ImageListDetector(detector.model, 64, 96, score_threshold=threshold).eval()(images)
    for kept, full in zip(strict, everything, strict=True):
        count = int((full["scores"] >= threshold).sum())
        assert len(kept["scores"]) == count
        for name in kept:
            assert kept[name].equal(full[name][:count])
    assert 0 < len(strict[0]["scores"]) < len(everything[0]["scores"])


def test_no_detection_above_the_threshold(detector, images):
    results = ImageListDetector(detector.model, 64, 96, score_threshold=1.1).eval()(images)
    assert all(result["boxes"].shape == (0, 4) and result["labels"].shape == (0,) for result in results)


def test_training_gives_finite_losses_that_backpropagate(detector, images, targets):
    losses = detector.train()(images, targets)
    assert list(losses) == LOSSES
    assert all(loss.shape == () and torch.isfinite(loss) and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    gradients = [parameter.grad for parameter in detector.parameters() if parameter.grad is not None]
    assert len(gradients) > 50
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_loop_as_in_torchvisions_reference_engine(detector, images, targets):
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-3, momentum=0.9)
    targets = [
        {**target, "image_id": index, "iscrowd": torch.zeros(1)} for index, target in enumerate(targets)
    ]
    detector.train()
    values = []
    for _ in range(4):
        loss_dict = detector(tuple(images), tuple(targets))
        losses = sum(loss for loss in loss_dict.values())
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()
        values.append(losses.item())
    assert values[-1] < values[0]
    detector.eval()
    with torch.inference_mode():
        outputs = detector(tuple(images))
    assert len(outputs) == 3
    assert not any(value.requires_grad for output in outputs for value in output.values())


def test_evaluation_ignores_targets(detector, images, targets):
    plain, with_targets = detector.eval()(images), detector(images, targets)
    assert all(a["boxes"].equal(b["boxes"]) for a, b in zip(plain, with_targets, strict=True))


EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


@pytest.mark.parametrize("empty", [[0], [1, 2], [0, 1, 2]])
def test_images_without_targets(detector, images, targets, empty):
    for index in empty:
        targets[index] = EMPTY
    losses = detector.train()(images, targets)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_classification"] > 0
    assert (losses["loss_l1"] == 0) == (len(empty) == 3)
    assert (losses["loss_giou"] == 0) == (len(empty) == 3)
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters() if p.grad is not None)


def test_more_targets_than_proposals(detector, images, targets):
    boxes = torch.tensor([[1.0, 2, 30, 40]]).repeat(20, 1)
    targets[0] = {"boxes": boxes, "labels": torch.zeros(20, dtype=torch.int64)}
    assert all(torch.isfinite(loss) for loss in detector.train()(images, targets).values())


def test_inputs_stay_as_they_are(detector, images, targets):
    image_copies = [image.clone() for image in images]
    target_copies = [{key: value.clone() for key, value in target.items()} for target in targets]
    detector.train()(images, targets)
    detector.eval()(images)
    assert all(a.equal(b) for a, b in zip(images, image_copies, strict=True))
    for target, copy in zip(targets, target_copies, strict=True):
        assert target.keys() == copy.keys()
        assert all(target[key].equal(copy[key]) for key in copy)


def by_hand(images):
    """40x60 -> 64x96, 75x50 -> 96x64 and 64x64 as it is, in one batch of 96x96."""
    sizes = [(64, 96), (96, 64), (64, 64)]
    batch = torch.zeros(3, 3, 96, 96)
    for index, (image, (height, width)) in enumerate(zip(images, sizes, strict=True)):
        resized = F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)
        batch[index, :, :height, :width] = resized[0]
    return batch, torch.tensor(sizes)


def test_detections_equal_preprocessing_by_hand(detector, images):
    batch, sizes = by_hand(images)
    predictions = detector.model(batch, sizes)
    originals = torch.tensor([image.shape[1:] for image in images])
    expected = select_detections(predictions.logits[-1], predictions.boxes[-1], sizes, 100, originals)
    for index, result in enumerate(detector.eval()(images)):
        torch.testing.assert_close(result["boxes"], expected.boxes[index])
        torch.testing.assert_close(result["scores"], expected.scores[index])
        assert result["labels"].equal(expected.labels[index])


def test_losses_equal_preprocessing_by_hand(detector, images, targets):
    batch, sizes = by_hand(images)
    boxes, labels = torch.zeros(3, 2, 4), torch.zeros(3, 2, dtype=torch.int64)
    valid = torch.tensor([[True, True], [True, False], [True, False]])
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        count, (height, width) = len(target["labels"]), sizes[index].tolist()
        scale = torch.tensor([width / image.shape[2], height / image.shape[1]]).repeat(2)
        boxes[index, :count] = target["boxes"] * scale
        labels[index, :count] = target["labels"]
    predictions = detector.model(batch, sizes)
    losses = set_prediction_loss(*predictions, boxes, labels, valid, sizes, num_targets=torch.tensor(4))
    expected = [losses.classification.sum(), losses.l1.sum(), losses.giou.sum()]
    found = detector.train()(images, targets)
    torch.testing.assert_close([found[name] for name in LOSSES], expected, rtol=1e-4, atol=1e-5)


def test_no_images(detector):
    with pytest.raises(ValueError, match="at least one image"):
        detector.eval()([])


@pytest.mark.parametrize(
    "shape", [(1, 40, 60), (40, 60), (4, 40, 60), (40, 60, 3), (3, 0, 60), (1, 3, 40, 60)]
)
def test_malformed_image_is_named(detector, images, shape):
    with pytest.raises(ValueError, match=r"images\[1\] must be \[3, H, W\]"):
        detector.eval()([images[0], torch.rand(shape)])


def test_training_needs_targets(detector, images):
    with pytest.raises(ValueError, match="targets must be given"):
        detector.train()(images)


def test_a_target_for_every_image(detector, images, targets):
    with pytest.raises(ValueError, match="2 for 3 images"):
        detector.train()(images, targets[:2])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "'boxes' and 'labels'"),
        ({"boxes": torch.zeros(0, 4)}, "'boxes' and 'labels'"),
        ({"boxes": torch.ones(1, 5), "labels": torch.ones(1, dtype=torch.int64)}, r"boxes \[M, 4\]"),
        ({"boxes": torch.ones(4), "labels": torch.ones(1, dtype=torch.int64)}, r"boxes \[M, 4\]"),
        ({"boxes": torch.ones(2, 4), "labels": torch.ones(1, dtype=torch.int64)}, r"labels \[M\]"),
        ({"boxes": torch.ones(1, 4), "labels": torch.ones(1, 1, dtype=torch.int64)}, r"labels \[M\]"),
    ],
)
def test_malformed_target_is_named(detector, images, targets, target, message):
    targets[1] = target
    with pytest.raises(ValueError, match=rf"targets\[1\].*{message}"):
        detector.train()(images, targets)


@pytest.mark.parametrize(
    "box",
    [
        [5.0, 5, 5, 9],
        [5.0, 5, 9, 5],
        [9.0, 5, 5, 9],
        [float("nan"), 5, 9, 9],
        [0.0, 0, float("inf"), 9],
    ],
)
def test_bad_box_is_named(detector, images, targets, box):
    targets[0]["boxes"][1] = torch.tensor(box)
    with pytest.raises(ValueError, match=r"targets\[0\]\['boxes'\]\[1\]"):
        detector.train()(images, targets)


@pytest.mark.parametrize("label", [-1, 3])
def test_label_out_of_range_is_named(detector, images, targets, label):
    targets[1]["labels"][0] = label
    with pytest.raises(ValueError, match=f"0..2, got {label}"):
        detector.train()(images, targets)


@pytest.mark.parametrize(
    "arguments",
    [{"min_size": 0}, {"min_size": ()}, {"max_size": 0}, {"max_detections": 0}, {"size_divisor": 0}],
)
def test_bad_arguments(build_small, arguments):
    with pytest.raises(ValueError, match="at least 1"):
        ImageListDetector(build_small(), **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_scripted(build_small, images, training):
    detector = ImageListDetector(build_small(), min_size=(64, 80), max_size=96).train(training)
    scripted = torch.jit.script(detector)
    boxes = torch.tensor([[3.0, 4, 30, 35]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1])},
        {"boxes": boxes[:0], "labels": torch.tensor([1])[:0]},
        {"boxes": boxes, "labels": torch.tensor([2])},
    ]
    torch.manual_seed(0)
    expected = detector(images, targets if training else None)
    torch.manual_seed(0)
    found = scripted(images, targets if training else None)
    if training:
        assert list(found) == list(expected) == LOSSES
        torch.testing.assert_close(found, expected)
        with pytest.raises(torch.jit.Error, match="targets must be given"):
            scripted(images, None)
    else:
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_checkpoint_is_detected_in_its_own_size_and_as_the_scripts_do(build_small, tmp_path):
    """Images in uint8 and in floating point give the same scores, here and in detect.py."""
    save_checkpoint(tmp_path / "own.pth", build_small(), image_size=ImageSize(64, 80))
    image = torch.randint(0, 256, (3, 90, 160), dtype=torch.uint8)
    found = load_detector(tmp_path / "own.pth", max_detections=9)(image, threshold=0.0)
    boxes, scores = found.boxes, found.scores
    model = build_from_checkpoint(load_checkpoint(tmp_path / "own.pth"))
    detector = ImageListDetector(model, max_detections=9).eval()
    assert (detector.min_sizes, detector.max_size) == ([64], 80)
    with torch.no_grad():
        (from_bytes,), (from_floats,) = detector([image]), detector([image / 255])
        resized = evaluation_transform(64, 80)(image)
        sizes = torch.tensor([resized.shape[1:]])
        padded = F.pad(resized, (0, -resized.shape[2] % 32, 0, -resized.shape[1] % 32))
        expected = model(padded[None], sizes).logits[-1].sigmoid()
    assert from_bytes["scores"].equal(from_floats["scores"])
    assert from_bytes["boxes"].equal(from_floats["boxes"])
    assert from_bytes["scores"][0] == expected.max()
    # Norms are folded there, and stage 1: no more than rounding.
    torch.testing.assert_close(from_bytes["scores"], scores, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(from_bytes["boxes"], boxes, rtol=1e-4, atol=1e-3)


def test_torchvisions_presets_that_resize_themselves(images, targets):
    detector = ImageListDetector(Stub(BOX, 3), min_size=32, max_size=500, _skip_resize=True)
    detector.train()(images, targets)
    assert detector.model.image_sizes.tolist() == [list(image.shape[1:]) for image in images]
    detector.eval()(images)
    assert detector.model.image_sizes.tolist() == [[32, 48], [48, 32], [32, 32]]


def test_category_ids_come_back_as_they_went_in(images, targets):
    plain = ImageListDetector(Stub(BOX, 3), 64, 96).train()
    detector = ImageListDetector(Stub(BOX, 3), 64, 96, category_ids=[1, 2, 3, 90, 5]).train()
    named = [{**target, "labels": target["labels"] + 1} for target in targets]
    assert detector(images, named) == plain(images, targets)
    assert detector.eval()(images)[0]["labels"][0] == 90
    assert list(detector.state_dict()) == list(plain.state_dict())
    named[1]["labels"][0] = 4
    with pytest.raises(ValueError, match=r"targets\[1\]\['labels'\] has 4, which is no category id"):
        detector.train()(images, named)
    with pytest.raises(ValueError, match="category_ids has 2 entries, but the model has 5 classes"):
        ImageListDetector(Stub(BOX, 3), 64, 96, category_ids=[1, 2]).eval()(images)
    with pytest.raises(ValueError, match="category_ids must be different"):
        ImageListDetector(Stub(BOX, 3), category_ids=[1, 1, 2, 3, 4])
