"""The paper's recipe with 300 proposals in plain PyTorch and this library. Read it from top to bottom.

    torchrun --nproc-per-node 8 examples/coco_8gpu.py /data/coco
    python examples/evaluate.py runs/coco_8gpu/checkpoint.pth --data /data/coco

It trains for 36 epochs with 16 images per step over all processes, and AdamW at 2.5e-5. The rate drops to a
tenth after epochs 27 and 33. Images are flipped, cropped half of the time, and resized to a shortest side of
480 to 800 pixels. The gradient's norm is clipped at 1. There is no average of the weights. Then it evaluates.

train.py makes the same steps with `--num-proposals 300 --crop`. Its drops are at epochs 28 and 33.3. It adds
what a run of days needs: an exact resume after an interruption, checkpoints and evaluation during training,
handling of bad batches and unreadable images, accumulation of gradients on fewer GPUs, mixed precision,
compiling, recomputing to save memory, an average of the weights, curves, pictures, Pascal VOC, fine-tuning
and a dry run.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset

import sparse_rcnn.data as data
from sparse_rcnn import build_sparse_rcnn
from sparse_rcnn.loss import set_prediction_loss
from sparse_rcnn.nn import EndToEndDetector, ImageSize, save_checkpoint
from sparse_rcnn.ops import Detections, rescale_boxes

LEARNING_RATE, WEIGHT_DECAY, CLIP_NORM, WARMUP, SEED = 2.5e-5, 1e-4, 1.0, 1000, 0
DROPS = (27 / 36, 33 / 36)  # of all epochs


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("data", help="COCO directory: annotations/, train2017/, val2017/")
    parser.add_argument("--output", default="runs/coco_8gpu", help="directory of the checkpoint")
    parser.add_argument("--epochs", type=int, default=36, help="passes over the training images (36)")
    parser.add_argument("--batch-size", type=int, default=16, help="images per step, over all processes (16)")
    parser.add_argument("--backbone", default="resnet50", help="resnet50, resnet101, ... (resnet50)")
    parser.add_argument("--backbone-weights", default="imagenet", help="imagenet, or a file (imagenet)")
    parser.add_argument("--num-proposals", type=int, default=300, help="proposals, N (300)")
    parser.add_argument("--max-size", type=int, default=1333, help="longest side of an image, in px (1333)")
    options = parser.parse_args()
    if "RANK" not in os.environ:
        parser.error("start it with torchrun --nproc-per-node N examples/coco_8gpu.py ...")
    return options


def main() -> None:
    # Processes: torchrun starts one for each GPU and gives each its number.
    options = parse_options()
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(SEED)

    # Data: the sampler shares the images of a step among the processes; augmentation depends on the seed.
    augment = data.training_transform(max_size=options.max_size, crop=True)
    training_set = open_coco(options.data, "train", augment)
    sampler = data.TrainingSampler(training_set.image_sizes, options.batch_size, SEED, rank, world_size)
    samples = data.SeededDataset(training_set, SEED)
    batches = DataLoader(samples, batch_sampler=sampler, collate_fn=data.collate, num_workers=2)

    # Model: all processes begin with the weights of the first.
    names = training_set.class_names
    config = {"backbone": options.backbone, "backbone_weights": options.backbone_weights}
    model = build_sparse_rcnn(**config, num_classes=len(names), num_proposals=options.num_proposals)
    model = model.to(device).train()
    network = DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)

    # Optimiser: the rate rises from a hundredth, and drops twice.
    iterations = options.epochs * len(training_set) // options.batch_size
    warmup = max(1, min(WARMUP, iterations // 10))

    def factor(iteration: int) -> float:
        rising = min(1.0, 0.01 + 0.99 * iteration / warmup)
        return rising * 0.1 ** sum(iteration >= drop * iterations for drop in DROPS)

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    # Loop: the batches are endless.
    for iteration, batch in zip(range(1, iterations + 1), batches, strict=False):
        sizes = batch.image_sizes.to(device)
        boxes, labels, valid = (part.to(device) for part in batch.targets)
        num_targets = valid.sum()
        dist.all_reduce(num_targets)  # of the whole step
        logits, refined = network(batch.images.to(device), sizes)
        losses = set_prediction_loss(logits, refined, boxes, labels, valid, sizes, num_targets)
        optimizer.zero_grad()
        (losses.total * world_size).backward()  # times world_size: DistributedDataParallel takes the mean
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        schedule.step()
        if iteration % 50 == 0 or iteration == iterations:
            total = losses.total.detach().clone()
            dist.all_reduce(total)
            if rank == 0:
                print(f"iteration {iteration} of {iterations}: loss {total.item():.3f}", flush=True)

    # Finish: a checkpoint that evaluate.py, detect.py, export.py and the library read, and its figures.
    if rank == 0:
        Path(options.output).mkdir(parents=True, exist_ok=True)
        path, size = Path(options.output, "checkpoint.pth"), ImageSize(800, options.max_size)
        save_checkpoint(path, model, names, category_ids=training_set.category_ids, image_size=size)
    evaluate(model, options, device)
    dist.destroy_process_group()


def open_coco(directory: str, split: str, transform: Any) -> data.CocoDetection:
    """A split of COCO; a few of its boxes have no area and are left out."""
    return data.CocoDetection(*data.find_coco(directory, split), transform=transform, drop_degenerate=True)


def evaluate(model: torch.nn.Module, options: argparse.Namespace, device: torch.device) -> None:
    """Each process detects objects in its share of the images. The first process computes the metrics."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    dataset = open_coco(options.data, "val", data.evaluation_transform(800, options.max_size))
    share = Subset(dataset, range(rank, len(dataset), world_size))
    detect = EndToEndDetector(model.eval())
    results: list[dict[str, Any]] = []
    for batch in DataLoader(share, collate_fn=data.collate, num_workers=2):
        with torch.inference_mode():
            found = detect(batch.images.to(device), batch.image_sizes.to(device))
        boxes, scores, labels = (part.cpu() for part in found)
        boxes = rescale_boxes(boxes, batch.image_sizes, batch.original_sizes)
        results += data.coco_results(Detections(boxes, scores, labels), batch.image_ids, dataset.category_ids)
    shares: list[Any] = [None] * world_size
    dist.all_gather_object(shares, results)
    if rank == 0:
        metrics = data.evaluate_coco(dataset, [result for part in shares for result in part])
        print(data.format_metrics(metrics))


if __name__ == "__main__":
    main()
