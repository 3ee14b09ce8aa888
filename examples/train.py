"""Trains Sparse R-CNN, evaluates it, and draws what it finds.

Without --data: a small model on the built-in shapes, from scratch, in a few minutes on two CPU cores.

    python examples/train.py

With --data: the paper's recipe (ResNet-50, 100 proposals, 36 epochs of COCO, 16 images a step in total) on a
COCO directory (`annotations/`, `train2017/`, `val2017/`) or a Pascal VOC one (`ImageSets/Main/train.txt` and
`val.txt`, `Annotations/`, `JPEGImages/`), on one device or several.

    torchrun --nproc-per-node 8 examples/train.py --data /data/coco --drop-degenerate-boxes
    python examples/train.py --data /data/mine --weights r50_100pro_3x_model.pth --iterations 2000

The output directory gets checkpoint.pth, metrics.jsonl, training.png, predictions.png, pictures/ and
TensorBoard's files.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy
import PIL
import torch
import torch.distributed as dist
import torchvision
from detect import draw_boxes
from detector_file import Detector, choose_device, detect_image
from evaluate import detect_dataset, load_dataset, without_nan
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from torchvision.transforms import v2
from tqdm import tqdm

import sparse_rcnn
from sparse_rcnn import build_sparse_rcnn
from sparse_rcnn.data import (
    COCO_CLASS_NAMES,
    CocoDetection,
    ShapesDataset,
    VocDetection,
    collate,
    evaluate_coco,
    evaluation_transform,
    format_metrics,
    training_transform,
)
from sparse_rcnn.loss import SetLoss, set_prediction_loss
from sparse_rcnn.nn import (
    EndToEndDetector,
    SparseRCNN,
    checkpoint_class_names,
    load_weights,
    read_checkpoint,
    recognize_layout,
)

matplotlib.use("Agg")

# The paper's recipe (section 4), used with --data ...
PAPER: dict[str, Any] = {
    "output": "runs/coco",
    "backbone": "resnet50",
    "backbone_norm": "frozen",
    "backbone_weights": "imagenet",
    "num_proposals": 100,
    "num_stages": 6,
    "hidden_dim": 256,
    "dynamic_dim": 64,
    "feedforward_dim": 2048,
    "num_heads": 8,
    "proposal_init": "image",
    "batch_size": 16,
    "iterations": 270_000,
    "schedule": "step",
    "learning_rate": 2.5e-5,
    "warmup": 1000,
    "sizes": list(range(480, 801, 32)),
    "max_size": 1333,
    "eval_size": 800,
    "eval_interval": 7500,
    "workers": 4,
}
# ... and what differs without it: small, from scratch, and a learning rate to match.
SHAPES: dict[str, Any] = {
    **PAPER,
    "output": "runs/shapes",
    "backbone": "resnet10",
    "backbone_norm": "batch",
    "backbone_weights": "none",
    "num_proposals": 12,
    "num_stages": 4,
    "hidden_dim": 64,
    "dynamic_dim": 16,
    "feedforward_dim": 256,
    "proposal_init": "grid",
    "batch_size": 8,
    "iterations": 1300,
    "schedule": "cosine",
    "learning_rate": 8e-4,
    "warmup": 100,
    "sizes": [128],
    "max_size": 128,
    "eval_size": 128,
    "eval_interval": 650,
    "workers": 1,
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def add(group: Any, name: str, text: str, **options: Any) -> None:
        """An option whose default depends on whether --data is given."""
        key = name[2:].replace("-", "_")
        paper, shapes = PAPER[key], SHAPES[key]
        shown = f"{paper}; without --data: {shapes}" if paper != shapes else f"{paper}"
        group.add_argument(name, help=f"{text} ({shown})", **options)

    data = parser.add_argument_group("data")
    data.add_argument("--data", metavar="DIR", help="COCO or VOC directory; if absent, the built-in shapes")
    data.add_argument("--shapes-dir", default="data/shapes", metavar="DIR", help="where the shapes are kept")
    data.add_argument(
        "--shapes-images",
        type=int,
        default=4000,
        help="training images of the shapes (4000); as many for validation, but at most 300",
    )
    data.add_argument(
        "--drop-degenerate-boxes",
        action="store_true",
        help="leave out boxes of no width or height, which COCO has a few of, instead of refusing the file",
    )
    data.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME",
        help="VOC: the classes; another name is an error (all there are)",
    )
    add(
        data,
        "--sizes",
        "shortest sides in pixels that training draws from",
        type=int,
        nargs="+",
        metavar="PX",
    )
    add(data, "--max-size", "bound of the longest side", type=int, metavar="PX")
    add(data, "--eval-size", "shortest side for evaluation", type=int, metavar="PX")
    data.add_argument(
        "--crop", action="store_true", help="random crops half of the time (300-proposal recipe)"
    )
    data.add_argument(
        "--vertical-flip",
        action="store_true",
        help="flip upside down, too, half of the time: for images without an up, as of microscopes",
    )
    add(data, "--workers", "processes per device that read images", type=int)

    model = parser.add_argument_group("model")
    add(model, "--backbone", "resnet10, resnet18, resnet34, resnet50, resnet101 or mobilenet_v2")
    add(model, "--backbone-norm", "frozen (for pretrained weights), batch or group")
    add(model, "--backbone-weights", "imagenet (downloaded), a file in torchvision's layout, or none")
    add(model, "--num-proposals", "proposals, N: the most objects that an image can have", type=int)
    add(model, "--num-stages", "stages of the head, L", type=int)
    add(model, "--hidden-dim", "channels of features and proposals, C", type=int)
    add(model, "--dynamic-dim", "inner channels of the dynamic interaction, D", type=int)
    add(model, "--feedforward-dim", "inner width of the feed-forward network", type=int)
    add(model, "--num-heads", "of the self-attention", type=int)
    add(model, "--proposal-init", "image, center, grid or random")
    model.add_argument(
        "--weights",
        metavar="CHECKPOINT",
        help="fine-tune from this file of this library, detectron2 or mmdetection; sets the model's options "
        "unless they are given; with other classes, class layers start anew",
    )

    training = parser.add_argument_group("training")
    add(training, "--output", "directory", metavar="DIR")
    add(training, "--iterations", "optimiser steps", type=int)
    add(training, "--batch-size", "images per step over all devices", type=int)
    add(training, "--learning-rate", "of AdamW, after warm-up", type=float)
    training.add_argument("--weight-decay", type=float, default=1e-4, help="of AdamW (1e-4)")
    training.add_argument("--clip-norm", type=float, default=1.0, help="bound of the gradient's norm (1.0)")
    add(training, "--schedule", "step or cosine", choices=("step", "cosine"))
    training.add_argument(
        "--steps",
        type=int,
        nargs="*",
        metavar="ITERATION",
        help="where the step schedule divides the learning rate by 10 (at 7/9 and 25/27 of the iterations, "
        "the paper's 210000 and 250000)",
    )
    add(
        training,
        "--warmup",
        "iterations of linear warm-up from a hundredth of the rate; unless given, a tenth of all at most",
        type=int,
    )
    add(training, "--eval-interval", "iterations between evaluations; 0: only at the end", type=int)
    training.add_argument("--checkpoint-interval", type=int, default=1000, help="iterations (1000)")
    training.add_argument("--log-interval", type=int, default=20, help="iterations (20)")
    training.add_argument(
        "--compile",
        nargs="?",
        const="inductor",
        metavar="BACKEND",
        help="compile the step, images to losses and their gradients, as one graph with this backend of "
        "torch.compile (inductor); takes minutes before the first step",
    )
    training.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="bf16: convolutions and matrix products in bfloat16, matching and losses in float32 (fp32)",
    )
    training.add_argument("--resume", action="store_true", help="go on from the output's checkpoint.pth")
    training.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (0)")
    training.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")

    arguments = parser.parse_args()
    recipe = PAPER if arguments.data else SHAPES
    arguments.given = {key for key in recipe if getattr(arguments, key) is not None}
    for key, value in recipe.items():
        if key not in arguments.given:
            setattr(arguments, key, value)
    for name in ("iterations", "batch_size", "log_interval", "checkpoint_interval", "shapes_images"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if arguments.data is None and (arguments.crop or arguments.vertical_flip):
        parser.error("--crop and --vertical-flip need --data: the built-in shapes are drawn as they are")
    if arguments.compile:
        backends = torch._dynamo.list_backends(exclude_tags=())
        if arguments.compile not in backends:
            parser.error(f"--compile must be one of {', '.join(backends)}, got {arguments.compile}")
    if arguments.weights and Path(arguments.output).resolve() in Path(arguments.weights).resolve().parents:
        parser.error("--weights must not lie in --output: give the new run a directory of its own")
    if "warmup" not in arguments.given:  # the paper's 1000 are for 270000
        arguments.warmup = min(arguments.warmup, arguments.iterations // 10)
    if arguments.steps is None:
        arguments.steps = [arguments.iterations * 7 // 9, arguments.iterations * 25 // 27]
    return arguments


def load_data(
    arguments: argparse.Namespace,
) -> tuple[CocoDetection | VocDetection, CocoDetection | VocDetection]:
    """Training and validation sets, and everything that can be wrong with them."""
    evaluation = evaluation_transform(arguments.eval_size, arguments.max_size)
    if arguments.data is None:
        flip = v2.RandomHorizontalFlip(0.5)  # drawn at the size they are trained at: nothing to resize
        return (
            ShapesDataset(arguments.shapes_dir, "train", arguments.shapes_images, transform=flip),
            ShapesDataset(
                arguments.shapes_dir, "val", min(300, arguments.shapes_images), transform=evaluation
            ),
        )
    training = training_transform(
        tuple(arguments.sizes), arguments.max_size, arguments.crop, arguments.vertical_flip
    )
    train = load_dataset(
        arguments.data, "train", training, arguments.drop_degenerate_boxes, arguments.classes
    )
    val = load_dataset(arguments.data, "val", evaluation, arguments.drop_degenerate_boxes, arguments.classes)
    if train.class_names != val.class_names:
        raise ValueError(f"{arguments.data}: train and val have different classes")
    return train, val


def model_config(
    arguments: argparse.Namespace, num_classes: int, weights: dict[str, Any] | None
) -> dict[str, Any]:
    """Arguments of build_sparse_rcnn: the recipe's, over them those of --weights, over them those given."""
    keys = (
        "backbone",
        "backbone_norm",
        "num_proposals",
        "num_stages",
        "hidden_dim",
        "dynamic_dim",
        "feedforward_dim",
        "num_heads",
        "proposal_init",
    )
    config = {key: getattr(arguments, key) for key in keys}
    if weights is not None:
        stored = weights.get("config") or sparse_rcnn.nn.infer_config(weights)
        config.update({key: value for key, value in stored.items() if key not in arguments.given})
    config["num_classes"] = num_classes
    return config


def sample_batches(
    num_images: int, batch_size: int, seed: int, start: int, rank: int, world_size: int
) -> Iterator[list[int]]:
    """Endless batches of one rank's indices: epoch after epoch, each a permutation of (seed, epoch) alone."""
    order, order_epoch = torch.empty(0), -1
    total = batch_size * world_size
    position = start * total
    while True:
        indices = []
        for offset in range(rank, total, world_size):
            epoch, place = divmod(position + offset, num_images)
            if epoch != order_epoch:
                generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
                order, order_epoch = torch.randperm(num_images, generator=generator), epoch
            indices.append(int(order[place]))
        position += total
        yield indices


def learning_rate_factor(arguments: argparse.Namespace, iteration: int) -> float:
    """Learning rate of an iteration relative to --learning-rate."""
    if arguments.schedule == "step":
        factor = 0.1 ** sum(iteration >= step for step in arguments.steps)
    else:
        factor = 0.5 * (1 + math.cos(math.pi * iteration / arguments.iterations))
    if iteration < arguments.warmup:
        progress = iteration / arguments.warmup
        factor *= 0.01 * (1 - progress) + progress
    return factor


class TrainingStep(nn.Module):
    """Images and targets in, losses out: one graph to compile, and the module that DDP wraps."""

    def __init__(self, model: SparseRCNN) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        images: Tensor,
        image_sizes: Tensor,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        num_targets: Tensor,
    ) -> SetLoss:
        """Losses of a batch as ``collate`` makes it."""
        predictions = self.model(images, image_sizes)
        return set_prediction_loss(
            predictions.logits, predictions.boxes, boxes, labels, valid, image_sizes, num_targets
        )


def leave_open(images: Tensor, boxes: Tensor, labels: Tensor, valid: Tensor) -> None:
    """Tells the compiler what differs between batches, so that it compiles once and not once a size."""
    for tensor, dimensions in ((images, (2, 3)), (boxes, (1,)), (labels, (1,)), (valid, (1,))):
        for dimension in dimensions:
            torch._dynamo.maybe_mark_dynamic(tensor, dimension)


def compile_step(step: TrainingStep, backend: str = "inductor") -> None:
    """Compiles in place, so that the keys of checkpoints stay clean; the model must be channels-last.

    Without the option, Inductor takes the strides in a convolution's backward pass for constants, and
    compiles again for every size of images.
    """
    options: dict[str, Any] | None = {"force_layout_optimization": True} if backend == "inductor" else None
    step.compile(fullgraph=True, backend=backend, options=options)


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Writes beside and renames: whoever reads the path finds a whole checkpoint at any time."""
    temporary = path.with_suffix(".tmp")
    torch.save(checkpoint, temporary)
    os.replace(temporary, path)


def set_aside(output: Path) -> None:
    """Renames the directory of a run before this one: nothing that was trained is lost."""
    if not (output / "checkpoint.pth").exists():
        return
    number = 1
    while (old := output.with_name(f"{output.name}.{number}")).exists():
        number += 1
    output.rename(old)
    print(f"{output} holds a run already, which is now {old}; --resume would go on with it")


def plot_history(history: list[dict[str, Any]], path: Path) -> None:
    """Losses of the last stage and AP over iterations."""
    from matplotlib import pyplot

    losses = [entry for entry in history if "loss" in entry]
    metrics = [entry for entry in history if "AP" in entry]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for key, title in (
        ("loss", "sum over stages"),
        ("classification", "classification, last stage"),
        ("l1", "L1, last stage"),
        ("giou", "GIoU, last stage"),
    ):
        left.plot([e["iteration"] for e in losses], [e[key] for e in losses], label=title)
    left.set(xlabel="iteration", ylabel="weighted loss", yscale="log", title="training")
    left.grid(alpha=0.3)
    left.legend()
    for key in ("AP", "AP50", "AP75"):
        right.plot([e["iteration"] for e in metrics], [e[key] for e in metrics], marker="o", label=key)
    right.set(xlabel="iteration", ylim=(0, 1), title="validation")
    right.grid(alpha=0.3)
    right.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def draw_predictions(
    detector: Detector, dataset: CocoDetection | VocDetection, device: torch.device, output: Path
) -> None:
    """Pictures of the first validation images, and six of them as one sheet."""
    (output / "pictures").mkdir(exist_ok=True)
    pictures = []
    plain = dataset.transform
    dataset.transform = None
    for index in range(min(8, len(dataset))):
        image, _ = dataset[index]
        boxes, scores, labels = detect_image(detector, image, device, threshold=0.3)
        picture = draw_boxes(image, boxes, labels, detector.class_names, scores)
        picture.save(output / "pictures" / f"{Path(dataset.image_paths[index]).stem}.png")
        pictures.append(picture)
    dataset.transform = plain
    columns = min(3, len(pictures))
    shown = pictures[: 2 * columns]
    width, height = max(p.width for p in shown), max(p.height for p in shown)
    rows = math.ceil(len(shown) / columns)
    sheet = PIL.Image.new("RGB", (columns * (width + 8) - 8, rows * (height + 8) - 8), "white")
    for index, picture in enumerate(shown):
        sheet.paste(picture, (index % columns * (width + 8), index // columns * (height + 8)))
    sheet.save(output / "predictions.png")


def main() -> None:
    arguments = parse_arguments()

    # One process per device: torchrun sets these; without it there is one process.
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = choose_device(arguments.device)
    if device.type == "cuda":
        device = torch.device("cuda", local_rank if world_size > 1 else device.index or 0)
        torch.cuda.set_device(device)
    if world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if arguments.batch_size % world_size != 0:
        raise ValueError(f"--batch-size {arguments.batch_size} cannot be shared by {world_size} processes")
    torch.manual_seed(arguments.seed)

    # Data: everything that can be wrong with it is found here, before training starts.
    if rank > 0:
        dist.barrier()  # rank 0 first: it draws the shapes and looks at every file
    train, val = load_data(arguments)
    for name, dataset in (("train", train), ("val", val)):
        if rank == 0:
            # Small sets are decoded whole; of large ones the headers must do.
            dataset.check_images(decode=len(dataset) <= 5000)
            print(f"{name}: {len(dataset)} images, {len(dataset.class_names)} classes")
            print(f"  {dataset.num_crowd} crowd regions kept for evaluation only")
            print(f"  {dataset.num_clipped} boxes clipped, {dataset.num_dropped} without area dropped")
    if world_size > 1 and rank == 0:
        dist.barrier()
    if train.num_objects == 0:
        raise ValueError("the training set has no box to learn from")

    # Model.
    weights = read_checkpoint(arguments.weights) if arguments.weights else None
    config = model_config(arguments, len(train.class_names), weights)
    stored = weights is not None or arguments.resume
    pretrained = None if arguments.backbone_weights == "none" or stored else arguments.backbone_weights
    if config["backbone_norm"] == "frozen" and pretrained is None and not stored:
        raise ValueError(
            "--backbone-norm frozen needs pretrained weights: a random stem that never trains learns poorly; "
            "give --backbone-weights or --weights, or train from scratch with --backbone-norm group"
        )
    if config["backbone_norm"] == "group" and pretrained == "imagenet":
        raise ValueError("--backbone-norm group trains from scratch: give --backbone-weights none")
    model = build_sparse_rcnn(**config, backbone_weights=pretrained)
    if weights is not None:
        names = checkpoint_class_names(weights)
        if names is None and recognize_layout(weights) != "sparse_rcnn":
            names = list(COCO_CLASS_NAMES)  # the authors' files carry no names, and are COCO's
        anew = load_weights(model, weights, new_classes=names is not None and names != train.class_names)
        if rank == 0:
            what = f"everything but {', '.join(anew)}, which start anew" if anew else "everything"
            print(f"{arguments.weights}: loaded {what}")
    model = model.to(device).to(memory_format=torch.channels_last)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, arguments.learning_rate, weight_decay=arguments.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda iteration: learning_rate_factor(arguments, iteration)
    )

    # Go on where a checkpoint ends: weights, optimiser, schedule, place in the data, history.
    output = Path(arguments.output)
    start, history = 0, []
    if rank == 0 and not arguments.resume:
        set_aside(output)
    output.mkdir(parents=True, exist_ok=True)
    if arguments.resume:
        state = read_checkpoint(output / "checkpoint.pth")
        if "optimizer" not in state:
            raise ValueError(f"{output / 'checkpoint.pth'} was not written by this script: use --weights")
        if state["config"] != config or state["class_names"] != train.class_names:
            raise ValueError(
                f"{output / 'checkpoint.pth'} is of another model: {state['config']}, not {config}"
            )
        load_weights(model, state)
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        start, history = state["iteration"], state["history"]
        if start > arguments.iterations:
            raise ValueError(
                f"the checkpoint is at iteration {start}, after --iterations {arguments.iterations}"
            )
        for name in ("batch_size", "learning_rate", "weight_decay", "seed", "precision"):
            before, now = state["arguments"].get(name, "fp32"), getattr(arguments, name)
            if before != now:
                raise ValueError(
                    f"--{name.replace('_', '-')} was {before}, not {now}: give the same to resume, "
                    "or start anew with --weights"
                )
        if rank == 0:
            print(f"resuming at iteration {start}")
    if rank == 0:  # the entries up to the checkpoint, none of a run that went on after it or of another one
        lines = [json.dumps(without_nan(entry)) + "\n" for entry in history]
        (output / "metrics.jsonl").write_text("".join(lines))
    torch.manual_seed(arguments.seed + rank + 1000 * start)  # augmentation differs between ranks
    step = TrainingStep(model)
    if arguments.compile:
        compile_step(step, arguments.compile)
    network: nn.Module = step
    if world_size > 1:
        network = DistributedDataParallel(step, device_ids=[local_rank] if device.type == "cuda" else None)
    if rank == 0:
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        print(
            f"{config['backbone']}, {size:.1f} M parameters, on {world_size} x {device}; output in {output}"
        )

    share = arguments.batch_size // world_size
    loader = DataLoader(
        train,
        batch_sampler=sample_batches(len(train), share, arguments.seed, start, rank, world_size),
        # In blocks of 16, targets of all images make a few shapes, not one for every number of objects.
        collate_fn=partial(collate, target_divisor=16) if arguments.compile else collate,
        num_workers=arguments.workers,
        pin_memory=device.type == "cuda",
    )
    detect = EndToEndDetector(model)
    writer = SummaryWriter(str(output)) if rank == 0 else None
    progress = tqdm(
        total=arguments.iterations,
        initial=start,
        unit="step",
        disable=rank != 0,
        mininterval=1,
        dynamic_ncols=True,
    )

    def record(entry: dict[str, Any]) -> None:
        """To metrics.jsonl, TensorBoard and the plot."""
        history.append(entry)
        with (output / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(without_nan(entry)) + "\n")
        for key, value in entry.items():
            if key != "iteration" and writer is not None:
                writer.add_scalar(("val/" if "AP" in entry else "train/") + key, value, entry["iteration"])

    def save(iteration: int) -> None:
        save_checkpoint(
            output / "checkpoint.pth",
            {
                "config": config,
                "model": model.state_dict(),
                "class_names": train.class_names,
                "category_ids": train.category_ids,
                "image_size": {"shortest_side": arguments.eval_size, "longest_side": arguments.max_size},
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "iteration": iteration,
                "history": history,
                "arguments": {key: value for key, value in vars(arguments).items() if key != "given"},
                "versions": {
                    "sparse_rcnn": sparse_rcnn.__version__,
                    "torch": str(torch.__version__),
                    "torchvision": str(torchvision.__version__),
                    "numpy": numpy.__version__,
                },
            },
        )

    def evaluate(iteration: int) -> dict[str, float]:
        shares: list[Any] = [None] * world_size
        if world_size > 1:
            for buffer in model.buffers():  # trainable batch norm has statistics of its own on every rank
                dist.broadcast(buffer, 0)
        model.eval()
        found = detect_dataset(detect, val, device, share, arguments.workers, rank, world_size)
        model.train()
        if world_size > 1:
            dist.all_gather_object(shares, found)
        else:
            shares = [found]
        if rank != 0:
            return {}
        metrics = evaluate_coco(val, [result for part in shares for result in part])
        record({"iteration": iteration, **metrics})
        progress.write(f"iteration {iteration}\n{format_metrics(metrics)}")
        return metrics

    network.train()
    last_log, last_time = start, time.perf_counter()
    for iteration, batch in enumerate(loader, start):
        if iteration >= arguments.iterations:
            break
        images = batch.images.to(device, non_blocking=True)
        image_sizes = batch.image_sizes.to(device, non_blocking=True)
        boxes, labels, valid = (part.to(device, non_blocking=True) for part in batch.targets)
        num_targets = valid.sum().float()
        if world_size > 1:  # the published normaliser: the mean over ranks
            dist.all_reduce(num_targets)
            num_targets /= world_size

        if arguments.compile and arguments.data:  # the shapes have one size
            leave_open(images, boxes, labels, valid)
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=arguments.precision == "bf16"):
            losses = network(images, image_sizes, boxes, labels, valid, num_targets)
        optimizer.zero_grad()
        losses.total.backward()
        if arguments.compile and rank == 0 and iteration == start:
            seconds = time.perf_counter() - began
            progress.write(f"compiling with {arguments.compile} and the first step took {seconds:.0f} s")
            last_log, last_time = start + 1, time.perf_counter()  # the rate is that of the steps after it
        gradient_norm = torch.nn.utils.clip_grad_norm_(parameters, arguments.clip_norm)
        if not math.isfinite(gradient_norm.item()):
            raise ValueError(
                f"iteration {iteration}: the loss is {losses.total.item()} and the gradient's norm "
                f"{gradient_norm.item()}; image ids {batch.image_ids.tolist()}"
            )
        learning_rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()

        done = iteration + 1
        progress.update()
        if rank == 0 and (done % arguments.log_interval == 0 or done == arguments.iterations):
            now = time.perf_counter()
            entry = {
                "iteration": done,
                "loss": losses.total.item(),
                "classification": losses.classification[-1].item(),
                "l1": losses.l1[-1].item(),
                "giou": losses.giou[-1].item(),
                "gradient_norm": gradient_norm.item(),
                "learning_rate": learning_rate,
                "images_per_second": (done - last_log) * arguments.batch_size / (now - last_time),
            }
            last_log, last_time = done, now
            record(entry)
            progress.set_postfix_str(
                f"loss {entry['loss']:.2f}, class {entry['classification']:.2f}, L1 {entry['l1']:.2f}, "
                f"GIoU {entry['giou']:.2f}, lr {entry['learning_rate']:.1e}, "
                f"{entry['images_per_second']:.1f} images/s"
            )
        if done < arguments.iterations:
            if arguments.eval_interval and done % arguments.eval_interval == 0:
                evaluate(done)
                last_log, last_time = done, time.perf_counter()
            if rank == 0 and done % arguments.checkpoint_interval == 0:
                save(done)

    if rank == 0:
        # Before the evaluation, which takes a while on COCO, and again with its result.
        save(arguments.iterations)
    metrics = evaluate(arguments.iterations)
    progress.close()
    if rank == 0:
        save(arguments.iterations)
        plot_history(history, output / "training.png")
        model.eval()
        detector = Detector(detect, train.class_names, arguments.eval_size, arguments.max_size)
        draw_predictions(detector, val, device, output)
        print(f"AP {metrics['AP']:.3f}, AP50 {metrics['AP50']:.3f} on {len(val)} images; see {output}")
    if writer is not None:
        writer.close()
    if world_size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        # A DataLoader worker's error comes with its traceback; the last line says what is wrong.
        sys.exit(f"error: {str(error).strip().splitlines()[-1]}")
    except torch._dynamo.exc.TorchDynamoException as error:
        sys.exit(f"error: --compile: {str(error).strip().splitlines()[0]}")
