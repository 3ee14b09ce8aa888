"""A data set as a picture: samples with their boxes, boxes by class, and sizes of boxes."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sparse_rcnn.data import DetectionDataset, UnreadableImageError
from sparse_rcnn.data.formats.counted import counted

ROWS, COLUMNS = 3, 4  # samples
MOST_CLASSES = 24  # bars; of more classes, the most and the least frequent
LEAST_FREQUENT = 6
MOST_NAMED = 6  # classes that are named in a sample
MOST_POINTS = 4000  # boxes of a split that are drawn as points
SMALL, LARGE = 32, 96  # sides of a square that divide COCO's small, medium and large boxes
SPLIT_COLOURS = ("#3b6fb5", "#e8853a", "#5a9e6f", "#a05195")
CLASS_COLOURS = (
    *("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324", "#800000"),
    *("#808000", "#000075", "#e0a800", "#00a6d6", "#7ab800", "#ff6f91", "#5d3fd3"),
)


def draw_dataset(splits: Mapping[str, DetectionDataset], file: Path, seed: int = 0) -> list[str]:
    """Draws the picture, and returns the problems with samples that cannot be read."""
    figure = Figure(figsize=(16, 17), layout="constrained")
    counts = (
        f"{name}: {counted(len(data), 'image', 'images')}, {counted(data.num_objects, 'box', 'boxes')}"
        for name, data in splits.items()
    )
    figure.suptitle("      ".join(counts), fontsize=15, fontweight="bold")
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=(1.45, 1))).tolist()
    unreadable = draw_samples(above, next(iter(splits.values())), seed)
    draw_classes(below.add_subplot(1, 2, 1), splits)
    draw_sizes(below.add_subplot(1, 2, 2), splits)
    with warnings.catch_warnings():
        # Letters that the font does not have are empty boxes in the picture, which one sees.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=80)
    return unreadable


def draw_samples(figure: Any, dataset: DetectionDataset, seed: int) -> list[str]:
    """A sheet of images, drawn by lot from those that have boxes, if there are enough."""
    counts = np.bincount(dataset.annotations.image_indices[dataset.is_target], minlength=len(dataset))
    order = np.random.default_rng(seed).permutation(len(dataset))
    order = order[np.argsort(counts[order] == 0, kind="stable")]
    left = order.tolist()[::-1]
    # Frequent classes have different colours.
    by_class = np.bincount(dataset.annotations.labels[dataset.is_target], minlength=len(dataset.class_names))
    rank = np.argsort(np.argsort(-by_class, kind="stable"), kind="stable")
    colours = [CLASS_COLOURS[place % len(CLASS_COLOURS)] for place in rank.tolist()]
    unreadable = []
    for axes in figure.subplots(ROWS, COLUMNS).flat:
        axes.set_axis_off()
        while left:
            try:
                draw_sample(axes, dataset, left.pop(), colours)
                break
            except UnreadableImageError as error:
                unreadable.append(str(error))
    return unreadable


def draw_sample(axes: Any, dataset: DetectionDataset, index: int, colours: list[str]) -> None:
    """An image with its boxes, one colour a class; the largest box of each class has its name."""
    image, target = dataset[index]
    height, width = image.shape[1:]
    axes.imshow(rearrange(image, "c h w -> h w c").numpy())
    sides = (target.boxes[:, 2:] - target.boxes[:, :2]).prod(dim=1)
    named: set[int] = set()
    for number in sides.argsort(descending=True).tolist():
        x1, y1, x2, y2 = target.boxes[number].tolist()
        label = int(target.labels[number])
        colour = colours[label]
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.8))
        if label in named or len(named) == MOST_NAMED:
            continue
        named.add(label)
        inside = y1 < 0.07 * height  # there is no room above the box
        axes.text(
            min(x1, 0.8 * width),
            y1,
            plain(dataset.class_names[label]),
            color="white",
            fontsize=9,
            va="top" if inside else "bottom",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5},
        )
    name = plain(Path(dataset.image_paths[index]).name)
    axes.set_title(f"{name}   {width} x {height}, {counted(len(sides), 'box', 'boxes')}", fontsize=9)


def draw_classes(axes: Any, splits: Mapping[str, DetectionDataset]) -> None:
    """Boxes by class, the most frequent first, one bar for each split, with its number."""
    names = next(iter(splits.values())).class_names
    counts = {split: boxes_by_class(dataset) for split, dataset in splits.items()}
    order = sorted(names, key=lambda name: -max(count.get(name, 0) for count in counts.values()))
    shown, title = order, "boxes by class"
    if len(order) > MOST_CLASSES:
        shown = [*order[: MOST_CLASSES - LEAST_FREQUENT], "...", *order[-LEAST_FREQUENT:]]
        title += f": the most and the least frequent of {len(order)}"
    height = 0.8 / len(splits)
    most = max(max(count.values(), default=0) for count in counts.values()) or 1
    for number, (split, count) in enumerate(counts.items()):
        places = np.arange(len(shown)) + (number - (len(splits) - 1) / 2) * height
        values = [count.get(name, 0) for name in shown]
        axes.barh(places, values, height, label=split, color=SPLIT_COLOURS[number % len(SPLIT_COLOURS)])
        for place, value, name in zip(places.tolist(), values, shown, strict=True):
            if name != "...":
                size = 10 if len(shown) * len(splits) < 30 else 7
                axes.text(value + 0.008 * most, place, f"{value:,}", va="center", fontsize=size)
    axes.set_yticks(np.arange(len(shown)), [plain(name) for name in shown], fontsize=10)
    axes.set_ylim(max(len(shown), 4) - 0.4, -0.6)
    axes.set_xlim(0, 1.1 * most)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=13)
    axes.legend(loc="lower right", fontsize=11)


def boxes_by_class(dataset: DetectionDataset) -> dict[str, int]:
    """The number of boxes in the targets, by class name."""
    labels = dataset.annotations.labels[dataset.is_target]
    counts = np.bincount(labels, minlength=len(dataset.class_names)).tolist()
    return dict(zip(dataset.class_names, counts, strict=True))


def draw_sizes(axes: Any, splits: Mapping[str, DetectionDataset]) -> None:
    """Width and height of boxes in pixels of the files, and the shares of COCO's small, medium and large."""
    largest = 1.0
    areas = []
    for number, (split, dataset) in enumerate(splits.items()):
        boxes = dataset.annotations.boxes[dataset.is_target]
        sides = boxes[:, 2:] - boxes[:, :2]
        areas.append(sides.prod(axis=1))
        largest = max(largest, float(sides.max(initial=1)))
        some = sides[:: max(1, len(sides) // MOST_POINTS)]
        colour = SPLIT_COLOURS[number % len(SPLIT_COLOURS)]
        axes.scatter(some[:, 0], some[:, 1], s=9, alpha=0.45, label=split, color=colour, linewidths=0)
    end = 2.0 ** np.ceil(np.log2(largest) + 0.2)
    for side in (SMALL, LARGE):
        axes.plot(
            [side * side / end, end], [end, side * side / end], color="grey", linewidth=1, linestyle="--"
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis, name in ((axes.xaxis, "width"), (axes.yaxis, "height")):
        axis.set_ticks([2.0**power for power in range(int(np.log2(end)) + 1)])
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_label_text(f"{name} of the box in pixels")
    axes.set_xlim(0.8, end)
    axes.set_ylim(0.8, end)
    axes.set_aspect("equal")
    axes.grid(alpha=0.25)
    area = np.concatenate(areas)
    if len(area):
        small, large = np.mean(area < SMALL**2), np.mean(area >= LARGE**2)
        shares = f"small {small:.0%}, medium {1 - small - large:.0%}, large {large:.0%} (lines: 32², 96² px)"
        axes.set_title(f"sizes of boxes: {shares}", fontsize=13)
    axes.legend(loc="upper left", fontsize=11, markerscale=2)


def plain(text: str) -> str:
    """Text that matplotlib can draw: "$" would start a formula, and some characters are not in the font."""
    return text.encode("utf-8", "replace").decode().replace("$", r"\$")[:40]
