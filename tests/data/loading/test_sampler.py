import math
from collections import Counter
from itertools import islice

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparse_rcnn.data import Draw, TrainingSampler

LANDSCAPE, PORTRAIT, SQUARE = (30, 40), (40, 30), (30, 30)
LARGEST_SEED = 2**31 - 1

many = settings(max_examples=6 * settings.default.max_examples)
image_sizes = st.lists(st.sampled_from([LANDSCAPE, PORTRAIT, SQUARE]), min_size=1, max_size=30)
seeds = st.integers(0, LARGEST_SEED)


@st.composite
def recipes(draw):
    """Batches of several epochs, epochs of several batches, and parts that cut through groups."""
    world_size, accumulation, group_size = (draw(st.integers(1, most)) for most in (4, 3, 4))
    smallest = math.lcm(world_size * accumulation, group_size)
    return {
        "batch_size": smallest * draw(st.integers(1, 3)),
        "seed": draw(seeds),
        "world_size": world_size,
        "accumulation": accumulation,
        "group_size": group_size,
    }


def batches(count, sizes, **recipe):
    return list(islice(TrainingSampler(sizes, **recipe), count))


def whole_steps(count, sizes, **recipe):
    """The batches of one process that takes a step at once."""
    return batches(count, sizes, **{**recipe, "world_size": 1, "accumulation": 1})


def parts_of_steps(count, sizes, **recipe):
    """For each step all its batches: those of all processes at one time, then those of the next time."""
    parts = recipe["accumulation"]
    ranks = [batches(count * parts, sizes, **recipe, rank=rank) for rank in range(recipe["world_size"])]
    return [[rank[step * parts + part] for part in range(parts) for rank in ranks] for step in range(count)]


def stream_of(count, sizes, seed):
    """The first draws when none waits for another."""
    return [draw for (draw,) in batches(count, sizes, batch_size=1, group_size=1, seed=seed)]


def is_landscape(sizes, draw):
    height, width = sizes[draw.image_index]
    return width > height  # as published: a square image counts as portrait


def groups_as_published(stream, sizes, group_size):
    """What detectron2's AspectRatioGroupedDataset makes of a stream.

    Each orientation's images, cut every `group_size`, and all in the order in which their last image comes.
    """
    groups = []
    for landscape in (False, True):
        places = [place for place, draw in enumerate(stream) if is_landscape(sizes, draw) == landscape]
        whole = len(places) // group_size * group_size
        groups += [places[first : first + group_size] for first in range(0, whole, group_size)]
    return [[stream[place] for place in group] for group in sorted(groups, key=lambda group: group[-1])]


@many
@given(image_sizes, recipes())
def test_a_step_has_the_same_images_however_many_share_it(sizes, recipe):
    wholes, shared = whole_steps(6, sizes, **recipe), parts_of_steps(6, sizes, **recipe)
    share = recipe["batch_size"] // (recipe["world_size"] * recipe["accumulation"])
    for whole, parts in zip(wholes, shared, strict=True):
        assert len(whole) == recipe["batch_size"]
        assert [len(part) for part in parts] == [share] * (recipe["world_size"] * recipe["accumulation"])
        assert Counter(draw for part in parts for draw in part) == Counter(whole)


@many
@given(image_sizes, recipes())
def test_at_most_one_batch_of_a_step_has_both_orientations(sizes, recipe):
    for parts in parts_of_steps(6, sizes, **recipe):
        orientations = [is_landscape(sizes, draw) for part in parts for draw in part]
        assert orientations == sorted(orientations, reverse=True)  # landscape images first
        assert sum(len({is_landscape(sizes, draw) for draw in part}) == 2 for part in parts) <= 1


@given(image_sizes, seeds)
def test_every_published_device_has_one_orientation(sizes, seed):
    for parts in parts_of_steps(5, sizes, batch_size=16, seed=seed, world_size=8, accumulation=1):
        assert [len(part) for part in parts] == [2] * 8
        assert all(len({is_landscape(sizes, draw) for draw in part}) == 1 for part in parts)


@many
@given(image_sizes, recipes())
def test_every_epoch_has_every_image_once(sizes, recipe):
    count = 4 * len(sizes) // recipe["batch_size"] + 4
    times = Counter(draw for step in whole_steps(count, sizes, **recipe) for draw in step)
    assert set(times.values()) == {1}
    last = max(draw.epoch for draw in times)
    assert last >= 3
    # Only images that still wait for others of their orientation are missing from the complete epochs.
    over = {Draw(index, epoch) for index in range(len(sizes)) for epoch in range(last)}
    waiting = over - times.keys()
    assert len(waiting) < recipe["group_size"]
    assert len({is_landscape(sizes, draw) for draw in waiting}) <= 1
    assert {draw for draw in times if draw.epoch < last} <= over


@given(image_sizes, seeds)
def test_without_groups_epoch_comes_after_epoch(sizes, seed):
    stream = stream_of(3 * len(sizes), sizes, seed)
    for epoch in range(3):
        draws = stream[epoch * len(sizes) : (epoch + 1) * len(sizes)]
        assert sorted(draws) == [Draw(index, epoch) for index in range(len(sizes))]


@many
@given(image_sizes, recipes())
def test_groups_are_the_published_ones(sizes, recipe):
    count, group_size = 5, recipe["group_size"]
    per_step = recipe["batch_size"] // group_size
    # Fewer than group_size images of each orientation wait when the last group is complete.
    stream = stream_of(count * recipe["batch_size"] + 2 * group_size, sizes, recipe["seed"])
    groups = groups_as_published(stream, sizes, group_size)
    found = whole_steps(count, sizes, **recipe)
    for step, draws in enumerate(found):
        expected = groups[step * per_step : (step + 1) * per_step]
        landscape = [draw for group in expected for draw in group if is_landscape(sizes, draw)]
        portrait = [draw for group in expected for draw in group if not is_landscape(sizes, draw)]
        assert draws == landscape + portrait
        assert len(draws) == recipe["batch_size"]


def test_by_hand():
    # Only the last of three images is landscape. It waits for itself in the next epoch.
    sizes = [PORTRAIT, SQUARE, LANDSCAPE]
    steps = batches(3, sizes, batch_size=2)
    assert [sorted(step) for step in steps if is_landscape(sizes, step[0])] == [[Draw(2, 0), Draw(2, 1)]]
    portrait = [sorted(step) for step in steps if not is_landscape(sizes, step[0])]
    assert portrait == [[Draw(0, 0), Draw(1, 0)], [Draw(0, 1), Draw(1, 1)]]


@many
@given(image_sizes, recipes(), st.integers(0, 12), st.data())
def test_starting_later_leaves_out_the_steps_before(sizes, recipe, start, data):
    recipe["rank"] = data.draw(st.integers(0, recipe["world_size"] - 1))
    before, count = start * recipe["accumulation"], 3 * recipe["accumulation"]
    later = batches(count, sizes, **recipe, start=start)
    assert later == batches(before + count, sizes, **recipe)[before:]


@given(seeds, seeds)
@example(0, 2)
@example(1, LARGEST_SEED)
def test_another_seed_is_another_order(first, second):
    sizes = [LANDSCAPE] * 40
    one, other = (batches(10, sizes, batch_size=4, seed=seed) for seed in (first, second))
    assert (one == other) == (first == second)


def test_every_epoch_of_every_seed_has_an_order_of_its_own():
    orders = set()
    for seed in (0, 1, 2, 3, 2**16, LARGEST_SEED):
        stream = [draw.image_index for draw in stream_of(4 * 40, [LANDSCAPE] * 40, seed)]
        orders |= {tuple(stream[first : first + 40]) for first in range(0, 160, 40)}
    assert len(orders) == 6 * 4


def test_the_order_depends_on_no_global_generator():
    sampler = TrainingSampler([LANDSCAPE, PORTRAIT] * 20, batch_size=4)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(list(islice(sampler, 30)))  # the second time from the beginning again
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]


def test_fewer_images_than_a_batch():
    assert batches(2, [SQUARE], batch_size=4) == [
        [Draw(0, 0), Draw(0, 1), Draw(0, 2), Draw(0, 3)],
        [Draw(0, 4), Draw(0, 5), Draw(0, 6), Draw(0, 7)],
    ]
    (step,) = batches(1, [PORTRAIT, PORTRAIT, PORTRAIT], batch_size=8, seed=3)
    assert len(set(step)) == 8
    assert Counter(draw.epoch for draw in step) == {0: 3, 1: 3, 2: 2}


@settings(max_examples=10)
@given(st.integers(1, 6))
def test_one_orientation_waits_for_nothing(count):
    sizes = [PORTRAIT, SQUARE] * 3
    steps = batches(count, sizes, batch_size=6, group_size=3)
    assert [{draw.epoch for draw in step} for step in steps] == [{epoch} for epoch in range(count)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_sizes": []}, "image_sizes must have at least one image, got none"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"world_size": 0}, "world_size must be at least 1, got 0"),
        ({"accumulation": 0}, "accumulation must be at least 1, got 0"),
        ({"group_size": 0}, "group_size must be at least 1, got 0"),
        ({"group_size": -2}, "group_size must be at least 1, got -2"),
        ({"rank": -1}, r"rank must be in 0\.\.0, got -1"),
        ({"rank": 1}, r"rank must be in 0\.\.0, got 1"),
        ({"rank": 2, "world_size": 2}, r"rank must be in 0\.\.1, got 2"),
        ({"start": -1}, "start must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"world_size": 3}, "a batch of 8 images cannot be shared by 3 processes in 1 parts each"),
        (
            {"world_size": 4, "accumulation": 4},
            "a batch of 8 images cannot be shared by 4 processes in 4 parts each",
        ),
        ({"group_size": 3}, "batch_size must be a multiple of group_size, got 8 and 3"),
        ({"group_size": 16}, "batch_size must be a multiple of group_size, got 8 and 16"),
    ],
)
def test_what_cannot_be_is_refused_at_once(wrong, message):
    right = {"image_sizes": [LANDSCAPE, PORTRAIT], "batch_size": 8}
    TrainingSampler(**right)
    with pytest.raises(ValueError, match=message):
        TrainingSampler(**{**right, **wrong})
