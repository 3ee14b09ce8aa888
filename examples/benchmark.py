"""Measures this library beside the published way to write Sparse R-CNN and beside torchvision's detectors.

    python examples/benchmark.py
    python examples/benchmark.py --only inference head --repeats 9 --output runs/benchmark
    python examples/benchmark.py --only loading --data /data/coco

Each table comes from one run on the same inputs: its rows take turns, and what is shown are medians, so
that a machine that is busy with something else disturbs all of them alike. Ratios say more than times.

`published style` is examples/published_style.py, eager, with this library's weights. Weights are random,
since speed does not depend on them; boxes are kept at realistic sizes, log-uniform from a fiftieth of the
image to all of it, in all stages. `over floor` is time over the time that the model's FLOPs take at the rate
of the machine's matrix product, of the same type and measured in the same rounds.

The output directory gets benchmark.md and benchmark.json.
"""

import argparse
import json
import math
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from detector_file import choose_device
from evaluate import load_dataset
from measuring import Machine, Run, Table, compare, count_flops, peak_memory, to_markdown
from published_style import STRIDES, PublishedStyle, pool_levels, published_loss, run_stage
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn, retinanet_resnet50_fpn
from training.step import TrainingStep, compile_step, recompute_stages

from sparse_rcnn import SparseRCNN, build_sparse_rcnn
from sparse_rcnn.data import CocoDetection, VocDetection, collate, evaluation_transform, training_transform
from sparse_rcnn.loss import set_prediction_loss
from sparse_rcnn.nn import fold_norms
from sparse_rcnn.ops import flatten_pyramid, pyramid_roi_align

SECTIONS = ("inference", "head", "roi", "training", "loss", "scaling", "loading")
PUBLISHED = "published style"


def realistic_boxes(count: int) -> Tensor:
    """``[N, 4]`` cxcywh relative to the image: sides log-uniform from a fiftieth to the whole."""
    generator = torch.Generator().manual_seed(count)
    side = torch.exp(math.log(0.02) * torch.rand(count, generator=generator))
    aspect = torch.exp(torch.rand(count, generator=generator) - 0.5)
    center = torch.rand(count, 2, generator=generator)
    size = torch.stack((side * aspect, side / aspect), dim=1).clamp(max=1.0)
    return torch.cat((center, size), dim=1)


def build_model(machine: Machine, proposals: int = 100, stages: int = 6) -> SparseRCNN:
    """The published ResNet-50 with random weights, and boxes that stay where they are: see above."""
    torch.manual_seed(0)
    model: Any = build_sparse_rcnn(num_proposals=proposals, num_stages=stages, backbone_weights=None)
    with torch.no_grad():
        model.proposals.boxes_norm_cxcywh.copy_(realistic_boxes(proposals))
        for stage in model.head.stages:
            stage.box_deltas.weight.zero_()
            stage.box_deltas.bias.zero_()
    built: SparseRCNN = model.to(machine.device)
    return built


def random_images(machine: Machine, batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
    return images.to(machine.device), torch.tensor([[height, width]] * batch, device=machine.device)


def random_targets(
    machine: Machine, batch: int, count: int, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels and which are valid: all."""
    boxes = realistic_boxes(batch * count).view(batch, count, 4)
    scale = torch.tensor([width, height], dtype=torch.float32)
    corners = torch.cat((boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2), dim=-1)
    corners = (corners.clamp(0, 1).view(batch, count, 2, 2) * scale).view(batch, count, 4)
    labels = torch.arange(batch * count).view(batch, count) * 7 % 80
    valid = torch.ones(batch, count, dtype=torch.bool)
    return corners.to(machine.device), labels.to(machine.device), valid.to(machine.device)


def compile_for_inference(model: nn.Module, machine: Machine) -> Any:
    """Weights are constants: converted, packed and folded when compiling."""
    options: Any = {"freezing": True, "triton.cudagraphs": machine.device.type == "cuda"}
    return torch.compile(model, fullgraph=True, dynamic=False, options=options)


def without_gradients(call: Callable[..., Any], *inputs: Any, bf16: str | None = None) -> Run:
    """A call without inputs; ``bf16`` is the device's type where autocast is wanted."""

    def run() -> Any:
        with torch.no_grad(), torch.autocast(bf16 or "cpu", torch.bfloat16, enabled=bf16 is not None):
            return call(*inputs)

    return run


def measure_inference(machine: Machine) -> list[Table]:
    cases = [(1, 800, 1216, 100), (1, 480, 640, 300)]
    if machine.device.type == "cuda":
        cases = [(1, 800, 1344, 100), (16, 800, 1344, 100), (1, 480, 640, 300)]
    if machine.tiny:
        cases = [(1, 64, 96, 10)]
    return [_inference_table(machine, *case) for case in cases]


def _inference_table(machine: Machine, batch: int, height: int, width: int, proposals: int) -> Table:
    kind = machine.device.type
    model = build_model(machine, proposals).eval().requires_grad_(False)
    images, sizes = random_images(machine, batch, height, width)
    published = PublishedStyle(model)
    folded = fold_norms(model).to(memory_format=torch.channels_last)
    runs = {
        PUBLISHED: without_gradients(published, list(images)),
        "as built": without_gradients(model, images, sizes),
        "folded norms, channels last": without_gradients(folded, images, sizes),
        "the same in bf16": without_gradients(folded, images, sizes, bf16=kind),
    }
    if machine.compiled:
        compiled = compile_for_inference(folded, machine)
        runs["compiled for this size"] = without_gradients(compiled, images, sizes)
        runs["compiled for this size in bf16"] = without_gradients(compiled, images, sizes, bf16=kind)
    errors = {}
    expected = runs[PUBLISHED]()[-1][0].sigmoid()
    for name, run in runs.items():
        if name != PUBLISHED:
            logits = run().logits[-1].float()
            errors[name] = f"{(logits.sigmoid() - expected).abs().max().item():.0e}"
    for name, build in (("Faster R-CNN", fasterrcnn_resnet50_fpn), ("RetinaNet", retinanet_resnet50_fpn)):
        other = build(weights=None, weights_backbone=None, min_size=min(height, width), max_size=1344)
        other = other.eval().requires_grad_(False).to(machine.device)
        floating = [image / 255 for image in images]
        runs[f"torchvision {name}"] = without_gradients(other, floating)
    flops = count_flops(runs["as built"])
    title = f"Inference, {batch} × {height}×{width}, {proposals} proposals"
    note = (
        "difference: the largest of a score; torchvision's models include the selection of detections, "
        "but have little to suppress with random weights"
    )
    return compare(title, runs, machine, batch, flops, errors, note)


def random_levels(machine: Machine, batch: int, height: int, width: int) -> list[Tensor]:
    shapes = [(batch, 256, height // stride, width // stride) for stride in STRIDES]
    return [torch.randn(shape, device=machine.device) for shape in shapes]


def measure_head(machine: Machine) -> list[Table]:
    """All stages, from the levels of the feature pyramid on."""
    height, width, proposals = (64, 96, 10) if machine.tiny else (480, 640, 300)
    kind = machine.device.type
    model = build_model(machine, proposals).eval().requires_grad_(False)
    head: Any = model.head
    levels = random_levels(machine, 1, height, width)
    channels_last = [level.contiguous(memory_format=torch.channels_last) for level in levels]
    half = [level.bfloat16() for level in channels_last]  # as a backbone in bf16 gives them
    boxes, features = model.proposals(torch.tensor([[height, width]], device=machine.device))

    def published() -> Tensor:
        current, objects = boxes, features
        for stage in head.stages:
            logits, current, objects = run_stage(stage, levels, current, objects)
        return logits

    runs: dict[str, Run] = {
        PUBLISHED: without_gradients(published),
        "eager": without_gradients(head, channels_last, boxes, features),
        "eager in bf16": without_gradients(head, half, boxes, features, bf16=kind),
    }
    if machine.compiled:
        compiled = compile_for_inference(head, machine)
        runs["compiled"] = without_gradients(compiled, channels_last, boxes, features)
        runs["compiled in bf16"] = without_gradients(compiled, half, boxes, features, bf16=kind)
    expected = runs[PUBLISHED]().sigmoid()
    errors = {
        name: f"{(run().logits[-1].float().sigmoid() - expected).abs().max().item():.0e}"
        for name, run in runs.items()
        if name != PUBLISHED
    }
    title = f"The head alone, {height}×{width}, {proposals} proposals, 6 stages"
    return [compare(title, runs, machine, flops=count_flops(runs["eager"]), errors=errors)]


def measure_roi(machine: Machine) -> list[Table]:
    """RoIAlign over the pyramid for all six stages, with the flattening."""
    height, width, count = (64, 96, 10) if machine.tiny else (800, 1216, 100)
    levels = random_levels(machine, 1, height, width)
    channels_last = [level.contiguous(memory_format=torch.channels_last) for level in levels]
    corners = random_targets(machine, 1, count, height, width)[0]
    boxes = [corners + stage for stage in range(6)]  # not the same in every stage

    def per_level(features: list[Tensor]) -> list[Tensor]:
        return [pool_levels(features, stage_boxes, 7) for stage_boxes in boxes]

    def one_table(features: list[Tensor]) -> list[Tensor]:
        pyramid = flatten_pyramid(features)
        return [pyramid_roi_align(pyramid, stage_boxes) for stage_boxes in boxes]

    def with_backward(pool: Callable[[list[Tensor]], list[Tensor]], features: list[Tensor]) -> Run:
        leaves = [level.detach().requires_grad_() for level in features]
        with torch.no_grad():
            gradients = [torch.ones_like(pooled) for pooled in pool(features)]

        def run() -> None:
            for leaf in leaves:
                leaf.grad = None
            torch.autograd.backward(pool(leaves), gradients)

        return run

    forward = {
        "torchvision's roi_align per level": without_gradients(per_level, levels),
        "pyramid_roi_align": without_gradients(one_table, levels),
        "pyramid_roi_align, channels last": without_gradients(one_table, channels_last),
    }
    both = {
        "torchvision's roi_align per level": with_backward(per_level, levels),
        "pyramid_roi_align": with_backward(one_table, levels),
        "pyramid_roi_align, channels last": with_backward(one_table, channels_last),
    }
    if machine.compiled:
        compiled = torch.compile(one_table, fullgraph=True, dynamic=False)
        forward["pyramid_roi_align, channels last, compiled"] = without_gradients(compiled, channels_last)
    title = f"RoIAlign, {height}×{width}, {count} boxes, six stages"
    return [
        compare(f"{title}, forward", forward, machine),
        compare(f"{title}, forward and backward", both, machine),
    ]


# Training.

TRAINING = (
    PUBLISHED,
    "eager",
    "eager, bf16",
    "eager, bf16, head recomputed",
    "compiled for this size",
    "compiled for this size, bf16",
)


def build_training_step(machine: Machine, name: str, batch: int, height: int, width: int) -> Run:
    """Images to updated parameters in one of the ways of :data:`TRAINING`."""
    model = build_model(machine).train()
    images, sizes = random_images(machine, batch, height, width)
    boxes, labels, valid = random_targets(machine, batch, 8, height, width)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if name == PUBLISHED:
        published = PublishedStyle(model)
        optimizer = torch.optim.AdamW(parameters, 2.5e-5, weight_decay=1e-4)
        whwh = sizes.flip(1).repeat(1, 2).float()

        def losses() -> Tensor:
            total = published_loss(published(list(images)), list(zip(boxes, labels, strict=True)), whwh)
            optimizer.zero_grad()  # as the authors' trainer: the last step's gradients live until here
            return total
    else:
        model.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(parameters, 2.5e-5, weight_decay=1e-4, fused=True)
        step = TrainingStep(model)
        if "recomputed" in name:
            recompute_stages(model)
        if "compiled" in name:
            compile_step(step)
        num_targets = valid.sum().float()

        def losses() -> Tensor:
            optimizer.zero_grad()  # as train.py
            with torch.autocast(machine.device.type, torch.bfloat16, enabled="bf16" in name):
                total: Tensor = step(images, sizes, boxes, labels, valid, num_targets).losses.total
            return total

    def run() -> None:
        losses().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return run


def measure_training(machine: Machine) -> list[Table]:
    cases = [(16, 800, 1344)] if machine.device.type == "cuda" else [(2, 480, 640), (1, 800, 1216)]
    if machine.tiny:
        cases = [(1, 64, 96)]
    tables = []
    for index, (batch, height, width) in enumerate(cases):
        compiled = machine.compiled and index == 0  # each takes minutes
        names = [name for name in TRAINING if compiled or "compiled" not in name]
        memory = {
            name: peak_memory(build_training_step, machine, name, batch, height, width) for name in names
        }
        torch.compiler.reset()  # or the second size would count as a size that changes
        runs = {name: build_training_step(machine, name, batch, height, width) for name in names}
        title = f"Training step, {batch} × {height}×{width}, 100 proposals"
        table = compare(title, runs, machine, batch, count_flops(runs["eager"]))
        for row in table.rows:
            bytes_needed = memory[row[""]]
            row["peak GB"] = None if bytes_needed is None else bytes_needed / 1e9
        tables.append(table)
        runs.clear()  # five models with their optimisers
    return tables


def measure_loss(machine: Machine) -> list[Table]:
    """Matching in all stages, losses and their gradients."""
    cases = [(2, 20, 5)] if machine.tiny else [(2, 100, 8), (16, 100, 8), (16, 300, 20), (16, 500, 60)]
    return [_loss_table(machine, *case) for case in cases]


def _loss_table(machine: Machine, batch: int, proposals: int, count: int) -> Table:
    names = (PUBLISHED, "set_prediction_loss")
    runs = {name: build_loss(machine, name, batch, proposals, count) for name in names}
    expected, found = (run() for run in runs.values())
    errors = {names[1]: f"{(found / expected - 1).abs().item():.0e}"}
    title = f"Loss and gradients, 6 stages, {batch} images, {proposals} proposals, {count} targets in each"
    table = compare(title, runs, machine, errors=errors, note="difference: of the total, relative")
    for row in table.rows:
        bytes_needed = peak_memory(build_loss, machine, row[""], batch, proposals, count)
        row["peak MB"] = None if bytes_needed is None else bytes_needed / 1e6
    return table


def build_loss(machine: Machine, name: str, batch: int, proposals: int, count: int) -> Run:
    """From the predictions of all stages to the loss and its gradients."""
    stages = 6
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(stages, batch, proposals, 80, generator=generator) - 4
    corners = random_targets(machine, batch, stages * proposals, 800, 1216)[0]
    boxes = corners.view(batch, stages, proposals, 4).transpose(0, 1).contiguous()
    target_boxes, labels, valid = random_targets(machine, batch, count, 800, 1216)
    sizes = torch.tensor([[800, 1216]] * batch, device=machine.device)
    whwh = sizes.flip(1).repeat(1, 2).float()
    leaves = (logits.to(machine.device).requires_grad_(), boxes.requires_grad_())

    def run() -> Tensor:
        if name == PUBLISHED:
            targets = list(zip(target_boxes, labels, strict=True))
            total = published_loss(list(zip(*leaves, strict=True)), targets, whwh)
        else:
            total = set_prediction_loss(
                leaves[0], leaves[1], target_boxes, labels, valid, sizes, valid.sum()
            ).total
        torch.autograd.grad(total, leaves)
        return total.detach()

    return run


def measure_scaling(machine: Machine) -> list[Table]:
    """The paper's Tables 7 and 8: what proposals and stages cost."""
    height, width = (64, 96) if machine.tiny else (800, 1216)
    images, sizes = random_images(machine, 1, height, width)
    variants = [(100, 6), (300, 6), (500, 6), (100, 1), (100, 2), (100, 3), (100, 12)]
    runs, figures = {}, {}
    for proposals, stages in variants:
        model = build_model(machine, proposals, stages).eval().requires_grad_(False)
        name = f"{proposals} proposals, {stages} stages"
        folded = fold_norms(model).to(memory_format=torch.channels_last)
        runs[name] = without_gradients(folded, images, sizes)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        figures[name] = {"parameters, M": parameters / 1e6, "GFLOP": count_flops(runs[name]) / 1e9}
    table = compare(f"Proposals and stages (Tables 7 and 8), 1 × {height}×{width}, eager", runs, machine, 1)
    for row in table.rows:
        row.update(figures[row[""]])
    return [table]


def draw_photographs(directory: Path, height: int, width: int) -> tuple[Path, Path]:
    """16 JPEGs, as smooth and grainy as photographs, and their COCO file."""
    images, annotations = [], []
    for index in range(16):
        generator = torch.Generator().manual_seed(index)
        coarse = 255 * torch.rand(1, 3, 12, 16, generator=generator)
        smooth = F.interpolate(coarse, (height, width), mode="bicubic")
        grainy = smooth + 12 * torch.randn(1, 3, height, width, generator=generator)
        path = directory / f"{index}.jpg"
        torchvision.io.write_jpeg(grainy[0].clamp(0, 255).to(torch.uint8), str(path), quality=90)
        images.append({"id": index, "file_name": path.name, "height": height, "width": width})
        box = [10, 10, 30, 20]
        annotations.append({"id": index, "image_id": index, "category_id": 1, "bbox": box, "area": 600})
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (directory / "photographs.json").write_text(json.dumps(coco))
    return directory, directory / "photographs.json"


def measure_loading(machine: Machine, data: str | None) -> list[Table]:
    """Decoding, augmenting and collating, in one thread as a DataLoader's worker does it."""
    height, width = (48, 64) if machine.tiny else (480, 640)
    with tempfile.TemporaryDirectory() as directory:
        dataset: CocoDetection | VocDetection
        if data is None:
            dataset = CocoDetection(*draw_photographs(Path(directory), height, width))
            what = f"16 generated JPEGs of {height}×{width}"
        else:
            dataset = load_dataset(data, "val", None, drop_degenerate=True)
            what = f"{min(16, len(dataset))} images of {Path(data).name}"
        count = min(16, len(dataset))

        def read(transform: Any) -> Run:
            def run() -> None:
                dataset.transform = transform
                threads = torch.get_num_threads()
                torch.set_num_threads(1)
                collate([dataset[index] for index in range(count)])
                torch.set_num_threads(threads)

            return run

        runs = {
            "decode": read(None),
            "decode, flip, resize to 480..800 px": read(training_transform()),
            "decode, flip, half of them cropped, resize": read(training_transform(crop=True)),
            "decode, resize to 800 px": read(evaluation_transform()),
        }
        return [compare(f"Reading data in one thread, {what}", runs, machine, count)]


def header(machine: Machine) -> str:
    """What ran where."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        models = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    where = f"{os.cpu_count()} cores of {name}, {torch.get_num_threads()} threads"
    if machine.device.type == "cuda":
        where = f"{torch.cuda.get_device_name(machine.device)}, {where}"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return (
        f"`python {shlex.join(sys.argv)}` on {where}; {versions}, torchvision {torchvision.__version__}; "
        f"medians of {machine.repeats} rounds in which all rows of a table take turns"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="these tables (all)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count, after one (5)")
    parser.add_argument("--no-compile", action="store_true", help="leave out what takes minutes to compile")
    parser.add_argument("--tiny", action="store_true", help="tiny images: to see that the script runs")
    parser.add_argument("--data", metavar="DIR", help="COCO or VOC directory to read (generated pictures)")
    parser.add_argument("--output", default="runs/benchmark", metavar="DIR", help="(runs/benchmark)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("--repeats must be at least 1")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    device = choose_device(arguments.device)
    # Full float32 in all rows called so: convolutions would take TensorFloat-32, products would not.
    torch.backends.cudnn.allow_tf32 = False
    machine = Machine(device, arguments.repeats, not arguments.no_compile, arguments.tiny)
    sections: dict[str, Callable[[], list[Table]]] = {
        "inference": lambda: measure_inference(machine),
        "head": lambda: measure_head(machine),
        "roi": lambda: measure_roi(machine),
        "training": lambda: measure_training(machine),
        "loss": lambda: measure_loss(machine),
        "scaling": lambda: measure_scaling(machine),
        "loading": lambda: measure_loading(machine, arguments.data),
    }
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    head = header(machine)
    print(head, flush=True)
    tables: list[Table] = []
    for name in arguments.only:
        for table in sections[name]():
            print(f"\n{to_markdown(table)}", flush=True)
            tables.append(table)
            # After each table: nothing is lost if the next one runs out of memory.
            text = "\n".join([f"{head}.\n", *map(to_markdown, tables)])
            (output / "benchmark.md").write_text(text)
            record = {"header": head, "tables": [table._asdict() for table in tables]}
            (output / "benchmark.json").write_text(json.dumps(record, indent=2))
    print(f"tables in {output / 'benchmark.md'} and {output / 'benchmark.json'}")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
