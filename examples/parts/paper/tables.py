"""The tables of the paper (Sun et al. 2021, arXiv 2011.12450v2), with their models and figures.

Two tables are missing: Table 2 (COCO test-dev) and Table 9 (multi-head attention in place of the dynamic
head, 6.6 AP less). Table 11 is not from the paper. The hours of training in Table 1 come from the authors'
repository.
"""

from typing import NamedTuple

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class Row(NamedTuple):
    """A row: a model and the paper's figures. If `model` is empty, the row is another detector."""

    title: str
    model: str
    figures: tuple[float, ...]  # AP, AP50, AP75 and, where the paper has them, APs, APm, APl
    fps: float | None = None  # images a second on one V100
    hours: float | None = None  # of training on eight V100


class PaperTable(NamedTuple):
    """A table and the paper's claim."""

    title: str
    claim: str
    rows: list[Row]


ABLATION = (42.3, 61.2, 45.7, 26.7, 44.6, 57.6)  # R50, 100 proposals, as in Tables 3 to 10
TABLES = {
    1: PaperTable(
        "COCO 2017 val, beside well-established detectors",
        "on a par with them; *: 300 proposals and random crops",
        [
            Row("RetinaNet-R50", "", (38.7, 58.0, 41.5, 23.3, 42.3, 50.3), 24),
            Row("RetinaNet-R101", "", (40.4, 60.2, 43.2, 24.0, 44.3, 52.2), 18),
            Row("Faster R-CNN-R50", "", (40.2, 61.0, 43.8, 24.2, 43.5, 52.0), 26),
            Row("Faster R-CNN-R101", "", (42.0, 62.5, 45.9, 25.2, 45.6, 54.6), 20),
            Row("Cascade R-CNN-R50", "", (44.3, 62.2, 48.0, 26.6, 47.7, 57.7), 19),
            Row("DETR-R50", "", (42.0, 62.4, 44.2, 20.5, 45.8, 61.1), 28),
            Row("DETR-R101", "", (43.5, 63.8, 46.4, 21.9, 48.0, 61.8), 20),
            Row("DETR-DC5-R50", "", (43.3, 63.1, 45.9, 22.5, 47.3, 61.1), 12),
            Row("DETR-DC5-R101", "", (44.9, 64.7, 47.7, 23.7, 49.5, 62.3), 10),
            Row("Deformable DETR-R50", "", (43.8, 62.6, 47.7, 26.4, 47.1, 58.0), 19),
            Row("Sparse R-CNN-R50", "sparse-rcnn", (42.8, 61.2, 45.7, 26.7, 44.6, 57.6), 23, 19),
            Row("Sparse R-CNN-R101", "sparse-rcnn-r101", (44.1, 62.1, 47.2, 26.1, 46.3, 59.7), 19, 25),
            Row("Sparse R-CNN*-R50", "sparse-rcnn-300", (45.0, 63.4, 48.2, 26.9, 47.2, 59.5), 22, 24),
            Row("Sparse R-CNN*-R101", "sparse-rcnn-r101-300", (46.4, 64.6, 49.5, 28.3, 48.3, 61.6), 18, 29),
        ],
    ),
    3: PaperTable(
        "Components, from Faster R-CNN on",
        "every component helps",
        [
            Row("learned proposal boxes", "learned-boxes", (18.5, 35.0, 17.7, 8.3, 21.7, 26.4)),
            Row("+ iterative", "iterative", (32.2, 47.5, 34.4, 18.2, 35.2, 41.7)),
            Row("+ dynamic head", "sparse-rcnn", ABLATION),
        ],
    ),
    4: PaperTable(
        "Feature reuse in the iterative architecture",
        "a cascade alone makes no big difference, reusing features does",
        [
            Row("one stage", "learned-boxes", (18.5, 35.0, 17.7)),
            Row("cascade", "cascade", (20.5, 29.3, 20.7)),
            Row("cascade, feature reuse", "iterative", (32.2, 47.5, 34.4)),
        ],
    ),
    5: PaperTable(
        "The dynamic head",
        "without instance interaction it degenerates to self-attention; the gain comes from both",
        [
            Row("iterative", "iterative", (32.2, 47.5, 34.4)),
            Row("+ self-attention", "self-attention", (37.2, 54.8, 40.1)),
            Row("+ feed-forward and towers (not in the paper)", "no-interaction", ()),
            Row("+ instance interaction", "sparse-rcnn", ABLATION),
        ],
    ),
    6: PaperTable(
        "Initial proposal boxes",
        "robust to how they start",
        [
            Row("center", "init-center", (41.5, 59.6, 45.0, 25.6, 43.9, 56.1)),
            Row("image", "sparse-rcnn", ABLATION),
            Row("grid", "init-grid", (41.0, 59.4, 44.2, 23.8, 43.7, 55.6)),
            Row("random", "init-random", (42.1, 60.3, 45.3, 24.5, 44.6, 57.9)),
        ],
    ),
    7: PaperTable(
        "Number of proposals",
        "more proposals, more precision, at little cost when detecting",
        [
            Row("100", "sparse-rcnn", (42.3, 61.2, 45.7), 23, 19),
            Row("300", "proposals-300", (43.9, 62.3, 47.4), 22, 24),
            Row("500", "proposals-500", (44.6, 63.2, 48.5), 20, 60),
        ],
    ),
    8: PaperTable(
        "Number of stages",
        "rises and saturates at six",
        [
            Row("1", "stages-1", (21.7, 36.7, 22.3), 35, 12),
            Row("2", "stages-2", (36.2, 52.8, 38.8), 33, 13),
            Row("3", "stages-3", (39.9, 56.8, 43.2), 29, 15),
            Row("6", "sparse-rcnn", (42.3, 61.2, 45.7), 23, 19),
            Row("12", "stages-12", (41.6, 60.2, 45.0), 17, 30),
        ],
    ),
    10: PaperTable(
        "Positional encoding",
        "proposal features do without; DETR loses 7.8 AP",
        [
            Row("with", "positional-encoding", (41.9, 60.9, 45.0)),
            Row("without", "sparse-rcnn", (42.3, 61.2, 45.7)),
        ],
    ),
    11: PaperTable(
        "Proposals from the image (not in the paper; figures: Zhang et al. 2023, DDQ R-CNN)",
        "in a third of the time, more than learned ones have in all of it",
        [
            Row("learned, 12 epochs", "sparse-rcnn-12-epochs", (37.9,)),
            Row("learned, 36 epochs", "sparse-rcnn", (42.8, 61.2, 45.7)),
            Row("dense, 300 proposals, 12 epochs", "dense-300-12-epochs", (44.6,)),
            Row("dense, 300 proposals, 36 epochs", "dense-300", ()),
        ],
    ),
}
