import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from sparse_rcnn.data import Batch, Target, Targets, collate


def make_sample(height, width, count, number=0, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(number)
    image = torch.randint(1, 256, (3, height, width), generator=generator)
    image = image.to(dtype) if dtype == torch.uint8 else (image / 255).to(dtype)
    boxes = torch.rand(count, 4, generator=generator) * 50
    labels = torch.randint(0, 9, (count,), generator=generator)
    return image, Target(boxes, labels, number, (2 * height, 2 * width))


@st.composite
def batches(draw):
    dtype = draw(st.sampled_from([torch.uint8, torch.float32]))
    shapes = draw(st.lists(st.tuples(*[st.integers(1, 40)] * 2, st.integers(0, 5)), min_size=1, max_size=5))
    return [make_sample(*shape, number, dtype) for number, shape in enumerate(shapes)]


@given(batches(), st.sampled_from([1, 7, 32]))
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_padding_is_zero(samples, divisor):
    batch = collate(samples, divisor)
    _, channels, height, width = batch.images.shape
    assert channels == 3
    assert (height % divisor, width % divisor) == (0, 0)
    assert height - divisor < max(image.shape[1] for image, _ in samples) <= height
    assert width - divisor < max(image.shape[2] for image, _ in samples) <= width
    assert batch.images.dtype == samples[0][0].dtype
    most = max(len(target.boxes) for _, target in samples)
    assert batch.targets.boxes.shape == (len(samples), most, 4)
    assert batch.targets.labels.shape == batch.targets.valid.shape == (len(samples), most)
    for index, (image, target) in enumerate(samples):
        true_height, true_width = batch.image_sizes[index].tolist()
        assert torch.equal(batch.images[index, :, :true_height, :true_width], image)
        # Pixels are at least 1. So pixels outside of the image would be counted, too.
        assert batch.images[index].count_nonzero() == image.count_nonzero()
        valid = batch.targets.valid[index]
        assert valid.tolist() == [number < len(target.boxes) for number in range(most)]
        assert torch.equal(batch.targets.boxes[index][valid], target.boxes)
        assert torch.equal(batch.targets.labels[index][valid], target.labels)
        assert batch.targets.boxes[index][~valid].count_nonzero() == 0
        assert batch.targets.labels[index][~valid].count_nonzero() == 0
        assert batch.image_ids[index] == target.image_id
        assert batch.original_sizes[index].tolist() == list(target.original_size)


def test_dtypes_and_no_targets():
    batch = collate([make_sample(5, 6, 0), make_sample(7, 3, 0)])
    assert batch.targets.boxes.shape == (2, 0, 4)
    assert batch.images.shape == (2, 3, 32, 32)
    dtypes = [batch.image_sizes, batch.image_ids, batch.original_sizes, batch.targets.labels]
    assert {tensor.dtype for tensor in dtypes} == {torch.int64}
    assert (batch.targets.boxes.dtype, batch.targets.valid.dtype) == (torch.float32, torch.bool)


# Python 3.12 and later warn whenever a process with threads forks, as every DataLoader does on Linux.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_data_loader():
    samples = [make_sample(20 + number, 30, number, number) for number in range(4)]
    loader = DataLoader(samples, batch_size=2, num_workers=1, collate_fn=collate)
    batches = list(loader)
    assert [type(batch) for batch in batches] == [Batch, Batch]
    assert isinstance(batches[0].targets, Targets)
    assert torch.equal(batches[1].image_ids, torch.tensor([2, 3]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinning memory needs an accelerator")
def test_pinning_keeps_the_types():
    batch = pin_memory(collate([make_sample(5, 6, 2)]))
    assert isinstance(batch, Batch)
    assert isinstance(batch.targets, Targets)
    assert batch.images.is_pinned()
    assert batch.targets.boxes.is_pinned()


def test_no_samples():
    with pytest.raises(ValueError, match="at least one sample"):
        collate([])


def test_size_divisor_is_positive():
    with pytest.raises(ValueError, match="size_divisor must be at least 1, got 0"):
        collate([make_sample(5, 6, 1)], 0)


def test_differing_dtypes():
    with pytest.raises(ValueError, match=r"image 1: is torch.float32, but the first image"):
        collate([make_sample(5, 6, 1), make_sample(5, 6, 1, 1, torch.float32)])


def test_boxes_and_labels_of_different_length():
    image, target = make_sample(5, 6, 3, 8)
    for wrong in (target._replace(labels=target.labels[:2]), target._replace(boxes=target.boxes[:, :3])):
        with pytest.raises(ValueError, match=r"image 8: expected boxes \[M, 4\] and labels \[M\]"):
            collate([(image, wrong)])


@pytest.mark.parametrize("shape", [(1, 5, 6), (5, 6), (3, 0, 6)])
def test_images_of_wrong_shape(shape):
    _, target = make_sample(5, 6, 1, 8)
    with pytest.raises(ValueError, match=r"image 8: expected an image \[3, h, w\]"):
        collate([(torch.zeros(shape), target)])


def test_images_of_wrong_dtype():
    _, target = make_sample(5, 6, 1, 8)
    with pytest.raises(ValueError, match=r"image 8: expected uint8 or floating pixels, got torch\.int64"):
        collate([(torch.zeros(3, 5, 6, dtype=torch.int64), target)])


@pytest.mark.parametrize(
    ("counts", "divisor", "expected"),
    [((0, 0), 1, 0), ((3, 5), 1, 5), ((0, 0), 16, 16), ((16, 2), 16, 16), ((17, 2), 16, 32), ((1,), 2, 2)],
)
def test_number_of_targets_is_rounded_up(counts, divisor, expected):
    samples = [make_sample(8, 8, count, number) for number, count in enumerate(counts)]
    targets = collate(samples, target_divisor=divisor).targets
    assert targets.boxes.shape == (len(counts), expected, 4)
    assert targets.valid.sum(dim=1).tolist() == list(counts)
    plain = collate(samples).targets
    assert torch.equal(targets.boxes[targets.valid], plain.boxes[plain.valid])
    assert torch.equal(targets.labels[targets.valid], plain.labels[plain.valid])


def test_a_target_divisor_of_nothing_is_refused():
    with pytest.raises(ValueError, match="target_divisor must be at least 1, got 0"):
        collate([make_sample(8, 8, 1)], target_divisor=0)
