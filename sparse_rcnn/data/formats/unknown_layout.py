"""The error for a folder of no known format: what is in it, and which format is the nearest."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn.data.formats.csv_table import SUFFIXES, why_unknown
from sparse_rcnn.data.formats.data_folders import walk
from sparse_rcnn.data.formats.image_names import IMAGE_SUFFIXES
from sparse_rcnn.data.formats.layout import Format
from sparse_rcnn.data.formats.text_file import decoded

__all__ = ["ARCHIVES", "MOST_FILES", "NEAREST", "OTHER_JSON", "unknown_layout"]

MOST_FILES = 20_000  # a look, not a search
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
# By the first kind of file that is there: the nearest format, and what to do.
NEAREST = (
    (ARCHIVES, None, "it holds an archive: unpack it, and give the folder that comes out"),
    ((".odgt",), "CrowdHuman", "the .odgt files are deeper than one folder: give their folder"),
    ((".xml",), "Pascal VOC", "none of the XML files begins with <annotation>"),
    ((".yaml", ".yml"), "YOLO", "none of the YAML files has train or val, and names or nc"),
    ((".json",), "COCO", "no JSON in it, or one folder deeper, has images, annotations and categories"),
    ((".txt",), "YOLO", "the text files hold neither 'class cx cy w h' nor names of images"),
    (
        (".csv", ".tsv"),
        "CSV",
        "no table has columns of images and boxes, such as filename, class, xmin, ymin, xmax, ymax",
    ),
    (
        (".jsonl", ".ndjson"),
        None,
        "it holds lines of JSON, as of Hugging Face: convert them to COCO's JSON, or use from_boxes",
    ),
    ((".parquet", ".tfrecord", ".record", ".arrow"), None, "convert it to COCO's JSON, or use from_boxes"),
    (
        IMAGE_SUFFIXES,
        None,
        "it holds images, but no annotations: annotate them first, for example with CVAT, Label Studio or "
        "makesense, and export COCO, YOLO or VOC",
    ),
)


# JSON of other tools: names that are all in its beginning, and what it is.
OTHER_JSON = (
    (("result", "data", "annotations"), "Label Studio's own file: export the project as COCO or YOLO"),
    (("original_width", "rectanglelabels"), "Label Studio's own file: export the project as COCO or YOLO"),
    (("items", "label_id"), "Datumaro's own file: convert it, datum convert -f coco_instances"),
    (("classTitle", "geometryType"), "Supervisely's own file: export the project as COCO"),
    (("title", "tags", "shape"), "Supervisely's own file: export the project as COCO"),
    (("labels", "box2d"), "BDD100K's file: convert it with bdd100k.label.to_coco"),
    (("image_id", "bbox", "score"), "detections in COCO's result format: the ground truth is wanted"),
)


def unknown_layout(path: Path, formats: Sequence[Format]) -> ValueError:
    """The error for a folder or file of no known layout."""
    if not path.exists():
        return ValueError(f"{path}: there is no such file or directory")
    known = ", ".join(known.name for known in formats)
    expected = {known.name: known.expected for known in formats}
    if path.is_file():
        said = _said_by(str(path)) if path.suffix.lower() in (".json", *SUFFIXES) else ""
        return ValueError(f"{path}: is no annotation file of a known format ({known}){said}")
    suffixes, folders, first = _look(path)
    counts = [f"{count} {suffix or 'files without suffix'}" for suffix, count in suffixes.most_common(6)]
    found = ", ".join(counts) or "no files"
    shown = ", ".join(f"{folder}/" for folder in sorted(folders)[:6])
    where = f" in {shown}" + (", ..." if len(folders) > 6 else "") if folders else ""
    for kinds, name, reason in NEAREST:
        if any(suffix in kinds for suffix in suffixes):
            nearest = f"the nearest is {name} ({expected[name]}), but {reason}" if name else reason
            example = next((first[suffix] for suffix in first if suffix in kinds), None)
            nearest += _said_by(example) if example and name else ""
            return ValueError(
                f"{path}: its layout is not known: found {found}{where}; {nearest}. Known: {known}"
            )
    return ValueError(f"{path}: its layout is not known: found {found}{where}. Known: {known}")


def _said_by(file: str) -> str:
    """What a file is or begins with, for the message."""
    try:
        with open(file, "rb") as stream:
            head = decoded(stream.read(4096), "replace")
    except OSError:
        return ""
    if file.lower().endswith(".json"):
        kinds = (what for words, what in OTHER_JSON if all(f'"{word}"' in head for word in words))
        return next((f": {os.path.basename(file)} looks like {what}" for what in kinds), "")
    line = next((line.strip() for line in head.splitlines() if line.strip()), "")
    why = f": {why_unknown(Path(file))}" if file.lower().endswith(SUFFIXES) else ""
    return f": {os.path.basename(file)} begins with {line[:60]!r}{why}"


def _look(path: Path) -> tuple[Counter[str], list[str], dict[str, str]]:
    """How many files have which suffix, the first folders, and an example of each suffix."""
    suffixes: Counter[str] = Counter()
    folders: list[str] = []
    first: dict[str, str] = {}
    for prefix, files in walk(path):
        if prefix.count("/") == 1:
            folders.append(prefix[:-1])
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            suffixes[suffix] += 1
            first.setdefault(suffix, os.path.join(path, prefix, name))
        if sum(suffixes.values()) > MOST_FILES:
            break
    return suffixes, folders, first
