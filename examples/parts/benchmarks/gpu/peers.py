"""Other detectors with random weights in the same run: from torchvision, and DETRs from transformers."""

import importlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn

from parts.benchmarks.gpu.rows import growing
from parts.benchmarks.gpu.switches import AS_PUBLISHED, for_inference, stages_on
from parts.benchmarks.inputs import build_model, random_images
from parts.measuring import Machine, Run, Table
from parts.paper.peers import OUTPUTS, PEERS, MaskPeer
from sparse_rcnn.nn import EndToEndDetector, cast_weights, fold_first_stage, fold_norms
from sparse_rcnn.ops import select_detections


def build_rt_detr() -> nn.Module:
    """RT-DETR with a ResNet-50 (Zhao et al. 2024)."""
    library = importlib.import_module("transformers")
    config = library.RTDetrConfig(num_labels=OUTPUTS)
    model = library.RTDetrForObjectDetection(config)
    return MaskPeer(model, select_detections).eval().requires_grad_(False)


def build_sparse_rcnn(machine: Machine, precision: str) -> nn.Module:
    """Our detector, as detect.py runs it."""
    model = build_model(machine, stages=stages_on(machine)).eval().requires_grad_(False)
    model = fold_first_stage(fold_norms(model)).to(memory_format=torch.channels_last)
    return EndToEndDetector(cast_weights(model, machine.device.type) if precision == "bf16" else model)


OURS = "Sparse R-CNN (this library)"
DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "Faster R-CNN (torchvision)": PEERS["Faster R-CNN-R50"],
    "RetinaNet (torchvision)": PEERS["RetinaNet-R50"],
    "RT-DETR (transformers)": build_rt_detr,
    "Deformable DETR (transformers)": PEERS["Deformable DETR-R50"],
}


def measure_gpu_peers(machine: Machine) -> Iterator[Table]:
    """Tables for one image and sixteen, eager, with PyTorch's default number formats and in bf16."""
    height, width = (64, 96) if machine.tiny else (800, 1344)

    def build(name: str, count: int, precision: str) -> Run:
        built = build_sparse_rcnn(machine, precision) if name == OURS else DETECTORS[name]()
        detector = built.to(machine.device)
        batch = random_images(machine, count, height, width)
        return for_inference(lambda: detector(*batch), precision, machine.device)

    kinds = [(name, precision) for name in (OURS, *DETECTORS) for precision in (AS_PUBLISHED, "bf16")]
    if machine.tiny:
        kinds = kinds[:3:2]  # ours, and one of torchvision
    for count in (1,) if machine.tiny else (1, 16):
        builds = {f"{name}, {precision}": partial(build, name, count, precision) for name, precision in kinds}
        note = "with random weights, others have little to suppress, and Faster R-CNN's head few boxes"
        yield from growing(f"Other detectors, {count} × {height}×{width}", builds, machine, count, note=note)
