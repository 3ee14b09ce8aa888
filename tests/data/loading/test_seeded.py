import random
import re
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from sparse_rcnn.data import (
    Draw,
    SeededDataset,
    ShapesDataset,
    TrainingSampler,
    UnreadableImageError,
    collate,
    training_transform,
)
from sparse_rcnn.data.loading.seeded import seeded_by

NUM_IMAGES = 10

draws = st.builds(Draw, st.integers(0, NUM_IMAGES - 1), st.integers(0, 100))
three_numbers = st.tuples(*[st.integers(0, 2**31 - 1)] * 3)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shapes")
    ShapesDataset(directory, num_images=NUM_IMAGES, image_size=64)
    return directory


def open_shapes(root, transform=None):
    return ShapesDataset(root, num_images=NUM_IMAGES, image_size=64, transform=transform)


def augmented(root):
    return open_shapes(root, training_transform(range(32, 97, 4), 120))


def from_all_three(count=2):
    """Numbers of both kinds of distribution, a row of each generator: normal ones are made in pairs."""
    return torch.tensor(
        [
            [draw() for _ in range(count) for draw in (random.random, lambda: random.gauss(0, 1))],
            [draw() for _ in range(count) for draw in (np.random.random, np.random.normal)],
            [draw(()).item() for _ in range(count) for draw in (torch.rand, torch.randn)],
        ],
        dtype=torch.float64,
    )


def numbers_for_pixels(image, objects):
    return from_all_three().reshape(3, 1, -1), objects


def states():
    name, keys, *rest = np.random.get_state()
    return random.getstate(), (name, keys.tolist(), *rest), torch.get_rng_state().tolist()


def start_anywhere(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    from_all_three(1)  # one normal number of a pair is left


def assert_same_sample(first, second):
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1].boxes, second[1].boxes)
    assert torch.equal(first[1].labels, second[1].labels)
    assert first[1][2:] == second[1][2:]


def first_batches(data, num_workers, count=6, start=0):
    torch.manual_seed(num_workers)  # which the workers' own seeds depend on
    sampler = TrainingSampler(data.image_sizes, batch_size=4, start=start)
    loader = DataLoader(
        SeededDataset(data), batch_sampler=sampler, num_workers=num_workers, collate_fn=collate
    )
    return list(islice(loader, count))


def assert_same_batches(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in zip([*one[:2], *one.targets], [*other[:2], *other.targets], strict=True):
            assert mine.dtype == theirs.dtype
            assert torch.equal(mine, theirs)
        assert torch.equal(one.image_ids, other.image_ids)
        assert torch.equal(one.original_sizes, other.original_sizes)


@given(st.lists(draws, min_size=1, max_size=8), st.integers(0, 1000))
def test_the_same_draw_is_the_same_sample_whatever_came_before(root, order, state):
    seeded = SeededDataset(augmented(root))
    expected = {draw: seeded[draw] for draw in sorted(set(order))}
    start_anywhere(state)
    for draw in order:
        assert_same_sample(seeded[draw], expected[draw])


@given(draws, draws)
def test_all_three_generators_repeat_and_differ_between_draws(root, first, second):
    seeded = SeededDataset(open_shapes(root, numbers_for_pixels))
    start_anywhere(0)
    one, other = seeded[first][0], seeded[second][0]
    start_anywhere(1)
    assert torch.equal(seeded[first][0], one)
    assert torch.equal(seeded[second][0], other)
    assert (one == other).all() == (first == second)
    assert (one == other).any() == (first == second)


def test_another_seed_is_another_augmentation(root):
    data = open_shapes(root, numbers_for_pixels)
    found = torch.stack([SeededDataset(data, seed)[Draw(3, 5)][0] for seed in (0, 1, 2, 2**31 - 1)])
    for number in found.flatten(1).T:
        assert len(number.unique()) == 4
    assert torch.equal(SeededDataset(data, 2)[Draw(3, 5)][0], found[2])


def test_augmentation_varies_between_epochs(root):
    seeded = SeededDataset(augmented(root))
    samples = [seeded[Draw(4, epoch)] for epoch in range(30)]
    assert {target.image_id for _, target in samples} == {5}
    heights = {image.shape[1] for image, _ in samples}
    assert len(heights) > 8  # of 17 sizes
    image = open_shapes(root)[4][0].float()
    mirrored = 0
    for other, _ in samples:
        resized = torch.nn.functional.interpolate(other[None].float(), image.shape[1:], mode="bilinear")[0]
        mirrored += bool((resized - image.flip(-1)).abs().mean() < (resized - image).abs().mean())
    assert 5 < mirrored < 25


@given(three_numbers, three_numbers)
def test_each_combination_has_a_seed_of_its_own(first, second):
    assume(first != second)
    found = []
    for numbers in (first, second, second):
        with seeded_by(*numbers):
            found.append(from_all_three())
    assert not (found[0] == found[1]).any()
    assert torch.equal(found[1], found[2])


@given(st.permutations([0, 1, 2]), st.permutations([0, 1, 2]))
def test_seed_epoch_and_index_are_no_interchangeable_numbers(root, first, second):
    data = open_shapes(root, numbers_for_pixels)
    one, other = (SeededDataset(data, seed)[Draw(*draw)][0] for seed, *draw in (first, second))
    assert (one == other).any() == (first == second)


# Python 3.12 and later warn whenever a process with threads forks, as every DataLoader does on Linux.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create 2 worker processes:UserWarning"
)  # for one core
@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(root, num_workers):
    data = augmented(root)
    expected = first_batches(data, 0)
    assert len({batch.images.shape for batch in expected}) > 1
    assert_same_batches(first_batches(data, num_workers), expected)


def test_batches_do_not_depend_on_where_training_started(root):
    data = augmented(root)
    assert_same_batches(first_batches(data, 0, 2, start=4), first_batches(data, 0)[4:])


def test_generators_are_left_as_they_were(root):
    seeded = SeededDataset(open_shapes(root, numbers_for_pixels))
    start_anywhere(7)
    before = states()
    found = seeded[Draw(0, 0)]
    assert states() == before
    numbers = from_all_three()
    assert states() != before
    assert not (numbers == found[0].reshape(3, -1)).any()


def test_generators_are_left_as_they_were_by_what_fails(root):
    def fail(image, objects):
        from_all_three()
        raise RuntimeError("no such transform")

    seeded = SeededDataset(open_shapes(root, fail))
    start_anywhere(8)
    before = states()
    with pytest.raises(RuntimeError, match="no such transform"):
        seeded[Draw(0, 0)]
    assert states() == before
    with pytest.raises(IndexError):
        seeded[Draw(NUM_IMAGES, 0)]
    assert states() == before


@pytest.mark.parametrize("numbers", [(-1,), (0, -1), (3, -2, 5)])
def test_seeds_are_not_negative(numbers):
    start_anywhere(9)
    before = states()
    with pytest.raises(ValueError, match="seeds must be at least 0, got"), seeded_by(*numbers):
        pytest.fail("the block must not be entered")
    assert states() == before


@pytest.mark.parametrize(
    ("seed", "draw", "got"),
    [
        (-1, Draw(0, 0), r"\(-1, 0, 0\)"),
        (0, Draw(-1, 0), r"\(0, 0, -1\)"),
        (0, Draw(0, -1), r"\(0, -1, 0\)"),
    ],
)
def test_numbers_of_a_draw_are_not_negative(root, seed, draw, got):
    with pytest.raises(ValueError, match=f"seeds must be at least 0, got {got}"):
        SeededDataset(open_shapes(root), seed)[draw]


def test_it_is_as_long_as_what_it_reads_from(root):
    assert len(SeededDataset(open_shapes(root))) == NUM_IMAGES


def test_without_a_transform_every_epoch_is_the_file(root):
    data = open_shapes(root)
    for epoch in (0, 9):
        assert_same_sample(SeededDataset(data)[Draw(2, epoch)], data[2])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_images_are_named(tmp_path, num_workers):
    data = ShapesDataset(tmp_path, num_images=2, image_size=48)
    seeded = SeededDataset(data)
    path = tmp_path / "train2017" / "000000000002.jpg"
    loader = DataLoader(seeded, batch_sampler=[[Draw(1, 0)]], num_workers=num_workers, collate_fn=collate)
    assert next(iter(loader)).image_ids.tolist() == [2]

    path.write_bytes(b"no image")
    complaint = f"{re.escape(str(path))}: cannot be read as an image"
    start_anywhere(10)
    before = states()
    with pytest.raises(UnreadableImageError, match=complaint):
        seeded[Draw(1, 0)]
    assert states() == before
    with pytest.raises(UnreadableImageError, match=complaint):
        next(iter(loader))
    seeded[Draw(0, 0)]

    Image.new("RGB", (20, 10)).save(path)
    with pytest.raises(UnreadableImageError, match=f"{re.escape(str(path))}: the image is 10 x 20"):
        next(iter(loader))


def test_a_fault_of_the_transform_is_no_unreadable_image(root):
    with pytest.raises(ValueError, match="the transform must return") as caught:
        SeededDataset(open_shapes(root, lambda image, objects: image))[Draw(0, 0)]
    assert not isinstance(caught.value, UnreadableImageError)
