"""Pictures of stages, and figures over a data set against a loop."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from parts.stage_drawing import (
    MOVING_FRAMES,
    MOVING_MS,
    RESTING_MS,
    draw_proposals,
    draw_stages,
    moving_stages,
)
from parts.stage_survey import KINDS, Refinement, numbers_of, refine, survey
from PIL import Image
from processes import failure_of
from small_model import SMALL, build_small_model
from torch import Tensor, nn
from torchvision.transforms import v2
from visualize_stages import choose_stages, main

from sparse_rcnn.data import CocoDetection, ShapesDataset, evaluation_transform, read_image
from sparse_rcnn.inference import batch_of, load_detector
from sparse_rcnn.nn import to_detectron2, to_mmdetection
from sparse_rcnn.ops import pairwise_iou

# The remark on files that this test writes, without a digest.
pytestmark = pytest.mark.filterwarnings("ignore::sparse_rcnn.inference.CheckpointRemark")
CPU = torch.device("cpu")
NAMES = ["apple", "boat", "cat"]
STAGES, PROPOSALS, NUM_IMAGES = 4, 6, 3
RED = "#ff0000"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds shapes/ (COCO layout) and checkpoint.pth, whose boxes move and whose scores differ."""
    directory = tmp_path_factory.mktemp("stages")
    ShapesDataset(directory / "shapes", "val", NUM_IMAGES, image_size=64)
    model = build_small_model(num_stages=STAGES)
    for stage in model.head.stages:  # scores on both sides of the threshold
        nn.init.normal_(stage.class_logits.weight, std=0.6)
        nn.init.constant_(stage.class_logits.bias, -1.0)
    size = {"shortest_side": 64, "longest_side": 96}
    config = {**SMALL, "num_stages": STAGES}
    checkpoint = {"config": config, "model": model.state_dict(), "class_names": NAMES, "image_size": size}
    torch.save(checkpoint, directory / "checkpoint.pth")
    return directory


@pytest.fixture(scope="module")
def image_file(directory: Path) -> Path:
    return min((directory / "shapes" / "val2017").iterdir())


@pytest.fixture
def run(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the script in another directory."""

    def run_main(*arguments: str | Path) -> Path:
        command = ["visualize_stages.py", str(directory / "checkpoint.pth"), *map(str, arguments)]
        monkeypatch.setattr("sys.argv", command)
        monkeypatch.chdir(tmp_path)
        main()
        return tmp_path

    return run_main


def pixels(picture: Image.Image) -> Tensor:
    return v2.functional.pil_to_tensor(picture).int()  # [3, H, W]


def test_the_figure_has_a_blank_panel_and_one_for_each_stage(run, image_file: Path) -> None:
    output = run(image_file) / "stages.png"
    image = read_image(image_file)
    zoom = round(480 / max(image.shape))
    with Image.open(output) as sheet:
        found = pixels(sheet)
    height, width = zoom * image.shape[1], zoom * image.shape[2]
    assert found.shape[2] == 4 * (width + 8) + 8  # learned, 1, 2, 4
    assert found.shape[1] > height + 2 * 8  # and titles
    # The last panel shows the enlarged photo below few boxes. The canvas of the first is white.
    photo = v2.functional.resize(image, [height, width]).int()
    blank, last = (found[:, -8 - height : -8, 8 + k * (width + 8) :][:, :, :width] for k in (0, 3))
    assert (blank == 255).all(0).float().mean() > 0.5
    assert (last - photo).abs().float().mean() < (blank - photo).abs().float().mean() / 3
    titles = found[:, : -8 - height]
    assert (titles < 128).all(0).any(), "titles are black"


def picture_of(stages: list[int], threshold: float = 0.3) -> Image.Image:
    """Predictions of two proposals in three stages. The second proposal never has a name."""
    boxes = torch.tensor([[0.1, 0.4, 0.6, 0.9], [0.3, 0.3, 0.9, 0.8]]).repeat(4, 1, 1)
    scores = torch.tensor([[0.8, 0.8], [0.4, 0.1], [0.6, 0.1], [0.9, 0.1]])
    captions = [["", ""], *([[f"cat {score:.2f}", ""] for score in scores[1:, 0]])]
    return draw_stages(Image.new("RGB", (600, 500), "black"), boxes, scores, captions, stages, threshold)


def test_a_proposal_has_the_same_colour_in_all_panels_and_rests_are_grey() -> None:
    found = pixels(picture_of([1, 3]))
    panels = [found[:, -508:-8, 8 + 608 * k :][:, :, :600] for k in range(3)]
    # The left edge of the named one and the right edge of the other.
    named, other = ([panel[:, 350, x].tolist() for panel in panels] for x in (61, 539))
    hue = torch.tensor(named[2]) / 0.9
    for edge, opacity in zip(named[1:], (0.4, 0.9), strict=True):
        assert (torch.tensor(edge) - hue * opacity).abs().max() < 3
    assert (torch.tensor(named[0]) - (hue * 0.8 + 255 * 0.2)).abs().max() < 3
    assert max(hue) - min(hue) > 60
    assert all(max(edge) - min(edge) == 0 for edge in other)
    assert sum(other[1]) < sum(other[0])  # on black, and of a low score


def test_more_than_four_panels_make_a_second_row() -> None:
    one, two = picture_of([1, 2, 3]), picture_of([1, 2, 3, 1])
    assert one.width == two.width
    assert two.height - 8 == 2 * (one.height - 8)


@pytest.mark.parametrize("background", ["black", "white"])
def test_the_higher_the_score_the_more_opaque_the_frame(background: str) -> None:
    scores = torch.tensor([0.05, 0.35, 0.65, 0.95])
    boxes = torch.tensor([[0.1, 0.05 + 0.2 * k, 0.9, 0.2 + 0.2 * k] for k in range(4)])
    picture = Image.new("RGB", (200, 200), background)
    found = pixels(draw_proposals(picture, boxes, scores, [RED] * 4, [""] * 4))
    edges = found[:, [25, 65, 105, 145], 21].T  # [4, 3], the left one of each
    ground, red = torch.tensor(picture.getpixel((0, 0))), torch.tensor([255, 0, 0])
    expected = ground + scores[:, None] * (red - ground)
    assert (edges - expected).abs().max() <= 2
    assert pixels(picture).unique().numel() == 1, "the picture given stays as it is"


def test_captions_are_opaque_inside_and_apart() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.8, 0.8]] * 4 + [[0.5, -3, 4, 3], [2, 2, 3, 3]])
    scores, captions = torch.full((6,), 0.01), ["a long caption"] * 6
    colors = [f"#{k:02x}ff00" for k in range(6)]
    picture = Image.new("RGB", (400, 300), "white")
    areas = dict.fromkeys(colors, 0)
    for count, color in draw_proposals(picture, boxes, scores, colors, captions).getcolors(9999):
        if (name := "#{:02x}{:02x}{:02x}".format(*color)) in areas:
            areas[name] = count
    assert min([*areas.values()][:5]) > 0.9 * max(areas.values())
    assert areas[colors[5]] == 0  # outside of the picture


def test_the_animation_rests_at_every_stage_and_moves_straight_in_between() -> None:
    torch.manual_seed(0)
    start, end = torch.tensor([0.1, 0.1, 0.3, 0.3]), torch.tensor([0.5, 0.3, 0.9, 0.7])
    boxes = torch.stack([start, end, end.lerp(start, 0.5)])[:, None]  # [3, 1, 4]
    photo = Image.new("RGB", (500, 500), "black")
    movie = list(moving_stages(photo, boxes, torch.ones(3, 1), [[""], ["cat"], ["cat"]]))
    moving = [MOVING_MS] * MOVING_FRAMES
    assert [ms for _, ms in movie] == [RESTING_MS, *moving, RESTING_MS, *moving, RESTING_MS]
    assert len({frame.size for frame, _ in movie}) == 1
    for step in range(1, MOVING_FRAMES + 1):
        found = pixels(movie[step][0])[:, -499:-1, 1:-1]  # without the panel's edge
        rows, columns = found.amax(0).nonzero().unbind(1)
        corners = torch.stack([columns.min(), rows.min(), columns.max(), rows.max()]) / 500
        assert (corners - start.lerp(end, step / (MOVING_FRAMES + 1))).abs().max() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_the_animation_is_written_with_all_frames(run, image_file: Path, suffix: str) -> None:
    output = run(image_file, "--animate", f"new/moving.{suffix}") / "new" / f"moving.{suffix}"
    with Image.open(output) as movie:
        assert movie.n_frames == 1 + STAGES * (MOVING_FRAMES + 1)
        assert movie.info.get("loop", 0) == 0
        assert min(movie.size) > 300


def test_frames_of_a_narrow_image_are_of_one_size() -> None:
    boxes, scores = torch.rand(3, 5, 4), torch.rand(3, 5)
    movie = moving_stages(Image.new("RGB", (30, 480)), boxes, scores, [["x"] * 5] * 3)
    assert len({frame.size for frame, _ in movie}) == 1


@pytest.mark.parametrize(
    ("num_stages", "expected"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (6, [1, 3, 6])]
)
def test_stages_are_first_middle_and_last_or_those_asked_for(num_stages: int, expected: list[int]) -> None:
    assert choose_stages(None, num_stages) == expected
    assert choose_stages([num_stages, 1, num_stages, 1], num_stages) == list(dict.fromkeys([num_stages, 1]))
    for stage in (0, num_stages + 1, -1):
        with pytest.raises(ValueError, match=f"--stages {stage}: .* has stages 1 to {num_stages}"):
            choose_stages([stage], num_stages)


@pytest.mark.parametrize("published", [to_detectron2, to_mmdetection])
def test_published_layouts_give_the_same_stages(tmp_path: Path, published: Callable) -> None:
    model = build_small_model(num_heads=8, backbone_norm="frozen").eval()
    torch.save({"state_dict": published(model.state_dict())}, tmp_path / "published.pth")
    detector = load_detector(str(tmp_path / "published.pth"), CPU)
    assert detector.class_names == ["class 0", "class 1", "class 2"]
    detector.shortest_side, detector.longest_side = 96, 200
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    found = refine(detector, image, CPU)
    resized = evaluation_transform(96, 200)(image)
    height, width = resized.shape[1:]
    batch = batch_of([resized], [(50, 70)])
    with torch.no_grad():
        logits, boxes = model(batch.images, batch.image_sizes)
    assert batch.images.shape[3] > width  # the batch is padded; boxes_norm are divided by the image's size
    scale = torch.tensor([width, height, width, height])
    torch.testing.assert_close(found.boxes_norm[1:], boxes[:, 0] / scale, rtol=1e-4, atol=1e-4)
    center, size = model.proposals.boxes_norm_cxcywh.detach().split(2, dim=1)
    torch.testing.assert_close(found.boxes_norm[0], torch.cat([center - size / 2, center + size / 2], 1))
    scores = torch.stack([stage[0].sigmoid() for stage in logits])
    torch.testing.assert_close(found.scores, scores.amax(-1), rtol=1e-4, atol=1e-4)
    assert (found.labels == scores.argmax(-1)).float().mean() > 0.9


def test_proposals_from_the_image_are_drawn_but_have_no_places(
    tmp_path: Path, directory: Path, image_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**SMALL, "proposals": "dense"}
    model = build_small_model(proposals="dense").eval()
    size = {"shortest_side": 64, "longest_side": 96}
    checkpoint = {"config": config, "model": model.state_dict(), "class_names": NAMES, "image_size": size}
    torch.save(checkpoint, tmp_path / "dense.pth")
    image = read_image(image_file)
    found = refine(load_detector(str(tmp_path / "dense.pth"), CPU), image, CPU)
    batch = batch_of([evaluation_transform(64, 96)(image)], [image.shape[1:]])
    with torch.no_grad():
        first, _ = model.proposals(batch.image_sizes, model.pyramid(batch.images, batch.image_sizes))
        last = model(batch.images, batch.image_sizes).boxes[-1]
    scale = batch.image_sizes.flip(1).repeat(1, 2)
    torch.testing.assert_close(found.boxes_norm[0], first[0] / scale, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.boxes_norm[-1], last[0] / scale, rtol=1e-4, atol=1e-4)
    command = ["visualize_stages.py", str(tmp_path / "dense.pth"), "--data", str(directory / "shapes")]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(ValueError, match="its proposals come from the image, so each image has others"):
        main()


def load(directory: Path) -> CocoDetection:
    data = directory / "shapes"
    return CocoDetection(data / "val2017", data / "annotations" / "instances_val2017.json")


def test_numbers_of_a_data_set_are_those_of_a_loop(directory: Path) -> None:
    detector = load_detector(str(directory / "checkpoint.pth"), CPU)
    dataset = load(directory)
    numbers = numbers_of(survey(detector, dataset, NUM_IMAGES, CPU, threshold=0.3))
    iou = [[0.0] * PROPOSALS for _ in range(STAGES)]
    score = [[0.0] * PROPOSALS for _ in range(STAGES)]
    places: list[list[list[float]]] = [[] for _ in range(PROPOSALS)]
    kinds = [dict.fromkeys(KINDS, 0) for _ in range(PROPOSALS)]
    for image, target in dataset:
        boxes, scores, _ = refine(detector, image, CPU)
        for proposal in range(PROPOSALS):
            for stage in range(STAGES):
                before, after = boxes[stage : stage + 2, proposal]
                iou[stage][proposal] += float(pairwise_iou(after[None], before[None])) / NUM_IMAGES
                score[stage][proposal] += float(scores[stage, proposal]) / NUM_IMAGES
            x1, y1, x2, y2 = (min(max(x, 0.0), 1.0) for x in boxes[-1, proposal].tolist())
            if scores[-1, proposal] < 0.3 or x2 <= x1 or y2 <= y1:
                continue
            places[proposal].append([x1, y1, x2, y2])
            height, width = (
                (b - a) * side for a, b, side in zip((y1, x1), (y2, x2), target.original_size, strict=True)
            )
            large = "large, horizontal" if width >= height else "large, vertical"
            kinds[proposal]["small" if (x2 - x1) * (y2 - y1) < 0.05 else large] += 1
    assert 0 < sum(map(len, places)) < PROPOSALS * NUM_IMAGES, "the threshold must matter"
    for name, expected in (("iou_with_stage_before", iou), ("score", score)):
        assert torch.tensor(numbers[name]).numpy() == pytest.approx(torch.tensor(expected).numpy(), abs=1e-5)
    assert numbers["mean_score"] == pytest.approx([sum(stage) / PROPOSALS for stage in score])
    assert numbers["mean_iou_with_stage_before"] == pytest.approx([sum(stage) / PROPOSALS for stage in iou])
    for entry, boxes, kind in zip(numbers["proposals"], places, kinds, strict=True):
        assert entry["count"] == len(boxes)
        assert {name: entry[name] for name in KINDS} == kind
        for found, box in zip(entry["boxes_norm"], boxes, strict=True):
            assert found == pytest.approx(box, abs=1e-4)


def test_kinds_go_by_area_of_the_image_and_shape_in_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    last = [[0, 0, 0.2, 0.2], [0, 0, 0.5, 0.5], [0.2, 0, 0.4, 0.9], [-9, -9, -8, -8], [0, 0, 1, 1]]
    boxes = torch.tensor([[[0.1, 0.1, 0.6, 0.6]] * 5, last])
    scores = torch.tensor([[0.9, 0.9, 0.9, 0.9, 0.1]])
    monkeypatch.setattr(
        "parts.stage_survey.refine",
        lambda *_: Refinement(boxes, scores, torch.zeros(1, 5, dtype=torch.int64)),
    )
    wide, high = torch.zeros(3, 50, 100), torch.zeros(3, 100, 50)
    found = survey(None, [(wide, None), (high, None), (wide, None)], 2, CPU, 0.3)
    # Small, large of the image's shape, high, outside, below the threshold.
    assert [kinds.tolist() for kinds in found.kinds] == [[0, 0], [1, 2], [2, 2], [], []]


def test_the_data_set_gives_two_plots_and_a_json_file(run, directory: Path) -> None:
    options = ("--data", directory / "shapes", "--max-images", "2", "--threshold", "0.2", "--max-panels", "3")
    output = run(*options, "--output", "new/survey.png") / "new"
    assert {path.name for path in output.iterdir()} == {
        "survey_drift.png",
        "survey_places.png",
        "survey.json",
    }
    numbers = json.loads((output / "survey.json").read_text())
    assert (numbers["images"], numbers["threshold"]) == (2, 0.2)
    assert [len(row) for row in numbers["score"]] == [PROPOSALS] * STAGES
    assert len(numbers["proposals"]) == PROPOSALS
    for name in ("drift", "places"):
        with Image.open(output / f"survey_{name}.png") as picture:
            assert min(picture.size) > 400


def test_panels_are_of_the_most_used_proposals(run, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr("visualize_stages.plot_places", lambda *arguments: shown.append(arguments))
    output = run("--data", directory / "shapes", "--max-panels", "4")
    counts = [entry["count"] for entry in json.loads((output / "stages.json").read_text())["proposals"]]
    ((_, _, boxes, _, order, caption),) = shown
    assert [len(these) for these in boxes] == counts
    assert [counts[proposal] for proposal in order] == sorted(counts, reverse=True)[:4]
    assert "3 images" in caption


@pytest.mark.slow
def test_nothing_above_the_threshold_is_a_picture_too(run, directory: Path, image_file: Path) -> None:
    output = run(image_file, "--data", directory / "shapes", "--threshold", "1", "--max-images", "1")
    assert {path.name for path in output.iterdir()} >= {"stages.png", "stages_places.png", "stages.json"}


def test_what_cannot_be_drawn_is_said(directory: Path, image_file: Path, tmp_path: Path) -> None:
    checkpoint, photo = str(directory / "checkpoint.pth"), str(image_file)
    broken, exported = tmp_path / "broken.jpg", tmp_path / "model.onnx"
    broken.write_bytes(b"no image")
    exported.write_bytes(b"")
    own = str(tmp_path / "a.png")
    Path(own).touch()
    animate = ("--animate", str(tmp_path / "x.png"), "--output", str(tmp_path / "x.png"))
    for arguments, expected in {
        (checkpoint, "absent.jpg"): "absent.jpg: cannot be read",
        (checkpoint, str(broken)): "cannot be read as an image",
        ("absent.pth", photo): "absent.pth: no such file",
        (str(exported), photo): "exported as onnx, but only checkpoints hold all stages",
        (
            checkpoint,
            photo,
            "--stages",
            "1",
            "7",
        ): f"--stages 7: no such stage, the checkpoint has stages 1 to {STAGES}",
        (checkpoint, photo, "--threshold", "1.5"): "--threshold must be in 0..1, got 1.5",
        (checkpoint, photo, "--threshold", "nan"): "--threshold must be in 0..1, got nan",
        (checkpoint, photo, "--output", "stages.jpg"): "--output must end in .png",
        (checkpoint, photo, "--animate", "moving.mp4"): "--animate must end in one of .gif, .png, .webp",
        (checkpoint, photo, *animate): "--animate and --output must differ",
        (checkpoint, own, "--output", own): "a.png: is a file that is read",
        (checkpoint, "--animate", "moving.gif"): "--animate needs an image",
        (checkpoint,): "an image or --data is needed",
        (checkpoint, "--data", "nowhere"): "nowhere: there is no such file or directory",
        (checkpoint, "--data", "nowhere", "--max-images", "0"): "--max-images must be at least 1, got 0",
    }.items():
        said = failure_of("visualize_stages.py", *arguments)
        assert said.startswith("error: ")
        assert expected in said


def test_a_model_that_diverged_is_said(directory: Path, image_file: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(directory / "checkpoint.pth", weights_only=True)
    checkpoint["model"]["head.stages.1.box_deltas.bias"].fill_(torch.nan)
    torch.save(checkpoint, tmp_path / "diverged.pth")
    said = failure_of("visualize_stages.py", str(tmp_path / "diverged.pth"), str(image_file))
    assert "not finite" in said
