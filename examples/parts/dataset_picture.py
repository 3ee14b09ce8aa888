"""A data set as a picture: samples with their boxes, boxes by class, and sizes of boxes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sparse_rcnn.data import DetectionDataset, UnreadableImageError

SAMPLES = 12
MOST_CLASSES = 25
COLOURS = (
    "tab:blue",
    "tab:orange",
    "tab:green",
    "tab:red",
    "tab:purple",
    "tab:brown",
    "tab:pink",
    "tab:cyan",
)


def draw_dataset(splits: Mapping[str, DetectionDataset], file: Path, seed: int = 0) -> list[str]:
    """Draws the picture, and returns the problems with samples that cannot be read."""
    figure = Figure(figsize=(16, 15), layout="constrained")
    grid = figure.add_gridspec(4, 4, height_ratios=(1, 1, 1, 1.3))
    unreadable = []
    dataset = next(iter(splits.values()))
    order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
    for place in range(SAMPLES):
        axes = figure.add_subplot(grid[place // 4, place % 4])
        axes.set_axis_off()
        while order:
            try:
                draw_sample(axes, dataset, order.pop())
                break
            except UnreadableImageError as error:
                unreadable.append(str(error))
    draw_classes(figure.add_subplot(grid[3, :2]), splits)
    draw_sizes(figure.add_subplot(grid[3, 2:]), splits)
    figure.savefig(file, dpi=80)
    return unreadable


def draw_sample(axes: Any, dataset: DetectionDataset, index: int) -> None:
    """An image with its boxes, one colour per class."""
    image, target = dataset[index]
    axes.imshow(rearrange(image, "c h w -> h w c").numpy())
    for (x1, y1, x2, y2), label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
        colour = COLOURS[label % len(COLOURS)]
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.5))
        if len(target.labels) <= 12:
            name = plain(dataset.class_names[label])
            axes.text(x1, y1, name, color="white", fontsize=7, va="bottom", backgroundcolor=colour)
    axes.set_title(plain(Path(dataset.image_paths[index]).name), fontsize=8)


def draw_classes(axes: Any, splits: Mapping[str, DetectionDataset]) -> None:
    """Boxes by class, the most frequent first, one bar per split."""
    first = next(iter(splits.values()))
    counts = {name: boxes_by_class(dataset) for name, dataset in splits.items()}
    order = sorted(first.class_names, key=lambda name: -max(count.get(name, 0) for count in counts.values()))
    shown = order[:MOST_CLASSES]
    width = 0.8 / len(splits)
    for number, (split, count) in enumerate(counts.items()):
        places = np.arange(len(shown)) + number * width
        axes.bar(places, [count.get(name, 0) for name in shown], width, label=split)
    names = [plain(name) for name in shown]
    axes.set_xticks(np.arange(len(shown)) + 0.4 - width / 2, names, rotation=60, ha="right", fontsize=8)
    axes.set_yscale("symlog")
    some = f", {len(shown)} of {len(order)}" if len(order) > len(shown) else ""
    add_title_and_legend(axes, "boxes by class" + some)


def boxes_by_class(dataset: DetectionDataset) -> dict[str, int]:
    """The number of boxes in the targets, by class name."""
    labels = dataset.annotations.labels[dataset.is_target]
    counts = np.bincount(labels, minlength=len(dataset.class_names)).tolist()
    return dict(zip(dataset.class_names, counts, strict=True))


def draw_sizes(axes: Any, splits: Mapping[str, DetectionDataset]) -> None:
    """Width and height of boxes in pixels of the files, at most 5,000 of each split."""
    for split, dataset in splits.items():
        boxes = dataset.annotations.boxes[dataset.is_target]
        some = boxes[:: max(1, len(boxes) // 5000)]
        sides = some[:, 2:] - some[:, :2]
        axes.scatter(sides[:, 0], sides[:, 1], s=6, alpha=0.4, label=split)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("width, px")
    axes.set_ylabel("height, px")
    add_title_and_legend(axes, "sizes of boxes")


def add_title_and_legend(axes: Any, title: str) -> None:
    """Both above the axes, where they cover nothing."""
    axes.set_title(title, loc="left")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)


def plain(text: str) -> str:
    """Text that matplotlib can draw: "$" would start a formula, and some characters are not in the font."""
    return text.encode("utf-8", "replace").decode().replace("$", r"\$")[:40]
