"""The recipe for small data, and the options that override it."""

from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from parts.training import recipe
from parts.training.arguments import parse_arguments
from parts.training.defaults import PAPER
from parts.training.recipe import (
    choose_batch,
    choose_flip,
    choose_number,
    choose_precision,
    choose_rate,
    choose_reading,
    choose_sizes,
)

from sparse_rcnn.data import ShapesDataset


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO directory of eight training images."""
    directory = tmp_path_factory.mktemp("recipe") / "shapes"
    ShapesDataset(directory, "train", 8)
    ShapesDataset(directory, "val", 2)
    return directory


def parse(data: Path, *options: str) -> Namespace:
    words = ["--data", str(data), "--backbone-weights", "none", "--device", "cpu", *options]
    return parse_arguments(None, words, look=True)


def dataset_of(boxes: list[list[list[float]]], size: tuple[int, int]) -> Any:
    """As much of a data set as a recipe looks at: boxes by image."""
    images = [index for index, group in enumerate(boxes) for _ in group]
    flat = np.array([box for group in boxes for box in group], dtype=np.float32)
    return SimpleNamespace(
        annotations=SimpleNamespace(boxes=flat, image_indices=np.array(images)),
        is_target=np.ones(len(flat), dtype=bool),
        image_sizes=[size] * len(boxes),
        __len__=None,
    )


class Boxes(list):
    """Images of one size, each a list of boxes."""

    num_objects: int

    def __init__(self, boxes: list[list[list[float]]], size: tuple[int, int]) -> None:
        super().__init__(boxes)
        vars(self).update(vars(dataset_of(boxes, size)))


def test_small_data_get_the_recipe_and_every_option_has_a_reason(shapes: Path) -> None:
    arguments = parse(shapes)
    found = (arguments.recipe, arguments.proposals, arguments.num_stages, arguments.ema, arguments.iterations)
    assert found == ("small", "dense", 1, 0.9998, recipe.STEPS)
    assert (arguments.backbone, arguments.backbone_norm) == ("resnet18", "group")
    rows = arguments.table.splitlines()[1:]
    assert all(len(row.split(maxsplit=2)) == 3 for row in rows)
    assert "given" in next(row for row in rows if "--backbone-weights " in row)


def test_learned_proposals_get_more_stages(shapes: Path) -> None:
    assert parse(shapes, "--proposals", "learned").num_stages == 4


def test_what_is_given_and_what_is_large_have_their_own(
    shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parse(shapes, "--num-stages", "3", "--no-vertical-flip").num_stages == 3
    assert parse(shapes, "--epochs", "10").iterations == 20
    assert parse(shapes, "--recipe", "coco", "--epochs", "10").iterations == 5
    monkeypatch.setattr(recipe, "SMALL", 8)
    arguments = parse(shapes)
    assert (arguments.recipe, arguments.num_proposals) == ("coco", PAPER["num_proposals"])
    assert parse(shapes, "--recipe", "small").recipe == "small"


def test_crowdhuman_has_500_proposals(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "SMALL", 1)
    crowds = shared_dir / "cases" / "layouts" / "crowdhuman"
    arguments = parse(crowds, "--epochs", "1")
    assert (arguments.recipe, arguments.num_proposals, arguments.num_stages) == ("coco", 500, 6)
    assert parse(crowds, "--epochs", "1", "--num-proposals", "7").num_proposals == 7


def test_proposals_have_room_for_the_most_objects() -> None:
    box = [0.0, 0, 9, 9]
    assert choose_number(Boxes([[box]] * 3, (64, 64))).value == 60
    assert choose_number(Boxes([[box] * 51, [box]], (64, 64))).value == 110
    # One unusual image of many gets no spare ones: they would make each step slower.
    number, reason = choose_number(Boxes([[box] * 300, *[[box] * 5] * 200], (64, 64)))
    assert (number, "at most 5: with room; at least one has 300" in reason) == (300, True)
    number, reason = choose_number(Boxes([[box] * 501], (64, 64)))
    assert (number, reason) == (500, "an image has up to 501 objects: more than 500 would take too long")


def test_a_step_has_enough_objects() -> None:
    box = [0.0, 0, 9, 9]
    few, many = Boxes([[box]] * 4, (64, 64)), Boxes([[box] * 5] * 4, (64, 64))
    few.num_objects, many.num_objects = 4, 20
    found = [
        choose_batch(few, "cpu").value,
        choose_batch(many, "cpu").value,
        choose_batch(many, "cuda").value,
    ]
    assert found == [4, 2, 4]


def test_the_rate_is_low_where_proposals_may_be_learned() -> None:
    found = [choose_rate(*options).value for options in ((None, None), ("learned", None), (None, "a.pth"))]
    assert found == [5e-4, 2.5e-4, 2.5e-4]


@pytest.mark.parametrize(("seconds", "expected"), [((1.0, 0.5), "bf16"), ((1.0, 0.9), "fp32")])
def test_bfloat16_is_taken_where_it_saves_time(
    monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, float], expected: str
) -> None:
    times = dict(zip((torch.float32, torch.bfloat16), seconds, strict=True))
    monkeypatch.setattr(recipe, "_seconds_of_a_layer", times.get)
    assert choose_precision("cpu", 10).value == expected
    assert choose_precision("cpu", 9).value == "fp32"
    monkeypatch.undo()
    assert choose_precision("cpu", 10).value in ("fp32", "bf16")  # and it can be measured


@pytest.mark.parametrize(
    ("size", "side", "device", "expected"),
    [
        ((480, 640), 100, "cpu", 320),  # large objects: no more pixels than that
        ((480, 640), 12, "cuda", 480),  # small ones: all that the images have, on a GPU ...
        ((480, 640), 12, "cpu", 320),  # ... and fast enough on a CPU
        ((2000, 3000), 60, "cuda", 544),  # 16 px a side
        ((128, 128), 30, "cpu", 128),
        ((3000, 4000), 51, "cpu", 480),  # tiny ones: 8 px a side ...
        ((3000, 4000), 12, "cpu", 640),  # ... as far as it goes
        ((3000, 4000), 12, "cuda", 1280),
        ((80, 100), 5, "cpu", 256),  # small images are enlarged: 16 px a side ...
        ((300, 400), 5, "cpu", 320),  # ... as far as it goes
        ((300, 400), 5, "cuda", 480),  # and further on a GPU: 8 px a side
        ((80, 100), 50, "cuda", 96),  # large objects: not needed
    ],
)
def test_sizes_follow_from_objects_images_and_device(
    size: tuple[int, int], side: float, device: str, expected: int
) -> None:
    found = choose_sizes(Boxes([[[0.0, 0, side, side]]] * 3, size), device, None)
    assert found["eval_size"].value == expected
    assert found["sizes"].value[-1] >= expected > found["sizes"].value[0]
    assert ("cut the photos into tiles" in found["eval_size"].reason) == (side == 12 and size[0] == 3000)


@pytest.mark.parametrize(
    ("size", "side", "given", "words"),
    [
        ((480, 640), 100, (), "small objects then have 67 px in place of 100 in the median image"),
        ((80, 100), 5, (), "enlarged: small objects then have 16 px in place of 5 in"),
        (
            (300, 400),
            5,
            (),
            "enlarged: small objects then have 5 px in place of 5 in the median image, whose shortest side "
            "is 300, which is few: try a larger --eval-size; at most 320 on this device",
        ),
        ((100, 4000), 50, (), "small objects then have 16 px in place of 50"),  # --max-size 1280
        (
            (100, 4000),
            20,
            (),
            "have 6 px in place of 20 in the median image, whose shortest side is 100, which",
        ),
        ((80, 100), 5, (64,), "small objects then have 4 px in place of 5"),
        ((480, 640), 100, (480, 320), "small objects then have 50 px in place of 100"),
    ],
)
def test_the_reason_says_how_large_small_objects_are_for_the_model(
    size: tuple[int, int], side: float, given: tuple[int, ...], words: str
) -> None:
    reason = choose_sizes(Boxes([[[0.0, 0, side, side]]] * 3, size), "cpu", *given)["eval_size"].reason
    assert words in reason
    assert reason.startswith("enlarged") == words.startswith("enlarged")
    assert ("cut the photos into tiles" in reason) == ((size, side) == ((100, 4000), 20))


def test_small_images_come_in_several_sizes_too() -> None:
    found = choose_sizes(Boxes([[[0.0, 0, 30, 30]]] * 3, (100, 100)), "cpu", None)
    assert (found["eval_size"].value, found["sizes"].value) == (96, [64, 80, 88, 96, 104])


@pytest.mark.parametrize(
    ("size", "clock", "expected"),
    [((480, 640), "wall", 1), ((3000, 4000), "wall", 4), ((3000, 4000), "cpu", 0)],
)
def test_large_images_have_more_readers(size: tuple[int, int], clock: str, expected: int) -> None:
    found = choose_reading(Boxes([[[0.0, 0, 90, 90]]] * 3, size), Namespace(device="cpu", clock=clock))
    assert found["workers"].value == expected


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 640), 640), ((150, 600), 640), ((150, 2000), 1280), ((3000, 400), 1280)]
)
def test_long_images_keep_their_short_side(size: tuple[int, int], expected: int) -> None:
    found = choose_sizes(Boxes([[[0.0, 0, 90, 90]]] * 3, size), "cpu", None)
    assert found["max_size"].value == expected
    assert ("longer images become smaller" in found["max_size"].reason) == (max(size) >= 2000)


def test_only_images_with_objects_everywhere_alike_are_flipped_upside_down() -> None:
    everywhere = [[[0.0, y, 10, y + 10] for y in range(0, 90, 10)]] * 4
    below = [[[0.0, y, 10, y + 10] for y in range(50, 90, 5)]] * 4
    assert choose_flip(Boxes(everywhere, (90, 90))).value
    assert not choose_flip(Boxes(below, (90, 90))).value
    assert not choose_flip(Boxes([[image[0]] for image in everywhere], (90, 90))).value


def test_one_length_and_a_recipe_where_there_is_a_choice(
    shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        (["--minutes", "5", "--epochs", "2"], "--epochs and --minutes do not go together"),
        (["--recipe", "coco"], "--recipe coco needs --data"),
        (["--minutes", "0"], "--minutes must be above 0, got 0"),
    ):
        with pytest.raises(SystemExit):
            parse_arguments(None, words)
        assert message in capsys.readouterr().err


def test_scores_learn_the_overlap_with_proposals_from_the_image(shapes: Path, tmp_path: Path) -> None:
    assert parse(shapes).class_targets == "iou"
    assert parse(shapes, "--class-targets", "one").class_targets == "one"
    assert parse(shapes, "--proposals", "learned").class_targets == "one"
    fine_tuned = parse(shapes, "--weights", str(tmp_path / "w.pth"), "--num-proposals", "7")
    assert fine_tuned.class_targets == "one"
    # The model is that of the file, but for what is given.
    rows = {
        words[0]: words[1:] for line in fine_tuned.table.splitlines() if (words := line.split(maxsplit=2))
    }
    assert rows["--num-stages"] == rows["--backbone"] == ["-", "of --weights"]
    assert rows["--num-proposals"] == ["7", "given"]
    assert parse(shapes, "--recipe", "coco").class_targets == "one"


def test_a_pretrained_backbone_learns_slowly(shapes: Path, tmp_path: Path) -> None:
    assert parse(shapes).backbone_multiplier == 1
    weights = tmp_path / "mobilenet_v2.pth"
    weights.touch()
    assert parse(shapes, "--backbone-weights", str(weights)).backbone_multiplier == 0.3
    assert parse(shapes, "--weights", str(weights)).backbone_multiplier == 0.3
    assert parse(shapes, "--backbone-multiplier", "0.5").backbone_multiplier == 0.5
    assert parse(shapes, "--recipe", "coco").backbone_multiplier == 1
