"""CrowdHuman's annotations: one JSON object a line and image (odgt), full boxes of persons.

Shao et al., "CrowdHuman: A Benchmark for Detecting Human in a Crowd", section 3. Boxes are xywh in
pixels from 0. `fbox` is the whole person, and may leave the image. What is tagged "mask", or says "ignore",
is a region that is evaluated as ignored.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rcnn.data.formats.annotated_images import AnnotatedImages, ReadOptions, make_objects
from sparse_rcnn.data.formats.coco_fields import is_box, is_name
from sparse_rcnn.data.formats.flat import FlatStrings
from sparse_rcnn.data.formats.image_index import ImageIndex
from sparse_rcnn.data.formats.image_names import images_below, missing_message, suffix_order
from sparse_rcnn.data.formats.image_sizes import keep_readable, read_image_sizes
from sparse_rcnn.data.formats.layout import Format, Layout
from sparse_rcnn.data.formats.split_files import splits_of_files
from sparse_rcnn.data.formats.text_file import read_text

__all__ = ["CROWDHUMAN_FORMAT", "recognise"]


def recognise(path: Path) -> Layout | None:
    """An .odgt file, or a folder that holds some."""
    if path.is_file():
        return Layout("CrowdHuman", {"all": partial(_read, path, path.parent)}) if _is_odgt(path) else None
    files = sorted([*path.glob("*.odgt"), *path.glob("*/*.odgt")])
    splits = splits_of_files(files, path, lambda file: partial(_read, file, path))
    return Layout("CrowdHuman", splits) if splits else None


def _is_odgt(file: Path) -> bool:
    return file.suffix.lower() == ".odgt"


def _read(file: Path, root: Path, options: ReadOptions) -> AnnotatedImages:
    entries = _entries(file)
    images = Path(options.images) if options.images else root
    names = images_below(images)
    index = ImageIndex(images, sorted(names, key=suffix_order))
    matched = index.match({f"{entry['ID']}.jpg": None for entry in entries})
    found = [matched.get(f"{entry['ID']}.jpg") for entry in entries]
    missing = [str(entry["ID"]) for entry, name in zip(entries, found, strict=True) if name is None]
    if missing and not (options.allow_missing or options.leave_out_broken):
        raise ValueError(missing_message(missing, len(entries), f"in {images}", file))
    remarks = [missing_message(missing, len(entries), f"in {images}: left out", file)] if missing else []
    kept = [(entry, name) for entry, name in zip(entries, found, strict=True) if name is not None]
    rows = [
        (number, box, ignored, entry["ID"])
        for number, (entry, _) in enumerate(kept)
        for box, ignored in _boxes(entry, file)
    ]
    boxes = np.array([box for _, box, _, _ in rows], dtype=np.float64).reshape(-1, 4)
    paths = FlatStrings(str(images / name) for _, name in kept)
    sizes, problems = read_image_sizes(paths, options)
    content = AnnotatedImages(
        paths,
        np.arange(1, len(kept) + 1),
        sizes,
        ["person"],
        [1],
        make_objects([row[0] for row in rows], [0] * len(rows), boxes, [row[2] for row in rows]),
        lambda index: f"{file}: image {rows[index][3]:.80}: fbox {rows[index][1]}",
        remarks,
    )
    return keep_readable(content, problems, options)


def _entries(file: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}: line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: is not valid JSON: {error}") from error
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: must be an object, got {type(entry).__name__}")
        if not is_name(entry.get("ID")):
            raise ValueError(f"{where}: field 'ID' must be a non-empty string, got {_shown(entry, 'ID')}")
        if entry["ID"] in seen:
            raise ValueError(f"{where}: image {entry['ID']:.80} occurs more than once")
        seen.add(entry["ID"])
        if not isinstance(entry.get("gtboxes"), list):
            raise ValueError(f"{where}: field 'gtboxes' must be a list, got {_shown(entry, 'gtboxes')}")
        entries.append(entry)
    if not entries:
        raise ValueError(f"{file}: the data set is empty: the file has no lines")
    return entries


def _boxes(entry: dict[str, Any], file: Path) -> list[tuple[list[float], bool]]:
    found = []
    for number, box in enumerate(entry["gtboxes"]):
        where = f"{file}: image {entry['ID']:.80}: box {number}"
        if not isinstance(box, dict):
            raise ValueError(f"{where}: must be an object, got {type(box).__name__}")
        if box.get("tag") not in ("person", "mask"):
            raise ValueError(f"{where}: field 'tag' must be 'person' or 'mask', got {_shown(box, 'tag')}")
        if not is_box(box.get("fbox")):
            expected = "[x, y, width, height], four finite numbers"
            raise ValueError(f"{where}: field 'fbox' must be {expected}, got {_shown(box, 'fbox')}")
        extra = box.get("extra", {})
        if not isinstance(extra, dict) or extra.get("ignore", 0) not in (0, 1):
            raise ValueError(
                f"{where}: field 'extra' must be an object, its 'ignore' 0 or 1, got {extra!r:.80}"
            )
        found.append((box["fbox"], box["tag"] == "mask" or extra.get("ignore", 0) == 1))
    return found


def _shown(entry: dict[str, Any], field: str) -> str:
    return repr(entry[field])[:80] if field in entry else "nothing"


CROWDHUMAN_FORMAT = Format(
    "CrowdHuman", "annotation_train.odgt and annotation_val.odgt, and the images in Images/", recognise
)
