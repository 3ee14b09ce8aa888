"""The same small data set in the layouts of many tools, for tests of the readers.

Each writer gets a folder and writes IMAGES into it as its tool would; all boxes lie on whole pixels, so every
layout holds the same numbers.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from sparse_rcnn.data import DetectionDataset

CLASSES = ["cat", "dog", "owl"]


class Picture(NamedTuple):
    split: str
    stem: str
    size: tuple[int, int]  # height, width
    boxes: list[tuple[str, int, int, int, int]]  # class, xyxy


IMAGES = [
    Picture("train", "a1", (40, 60), [("cat", 4, 6, 24, 26), ("dog", 30, 10, 60, 40)]),
    Picture("train", "a2", (60, 40), [("owl", 2, 2, 12, 12)]),
    Picture("train", "a3", (50, 50), []),
    Picture("val", "b1", (40, 60), [("dog", 6, 8, 26, 28), ("cat", 10, 10, 20, 20), ("owl", 40, 20, 58, 38)]),
    Picture("val", "b2", (60, 60), [("cat", 12, 6, 42, 54)]),
]


Found = dict[str, tuple[tuple[int, int], list[tuple[str, list[float]]]]]


def contents(data: DetectionDataset) -> Found:
    """By stem of the file, its size and its boxes, as they are in `IMAGES`."""
    found = {}
    for index, path in enumerate(data.image_paths):
        _, target = data[index]
        boxes = [[round(side, 3) for side in box] for box in target.boxes.tolist()]
        labels = [data.class_names[label] for label in target.labels.tolist()]
        found[Path(path).stem] = (data.image_sizes[index], sorted(zip(labels, boxes, strict=True)))
    return found


def expected(*splits: str) -> Found:
    return {
        stem: (size, sorted((name, [float(side) for side in box]) for name, *box in boxes))
        for split, stem, size, boxes in IMAGES
        if split in splits
    }


def draw(file: Path, picture: Picture) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = picture.size
    Image.new("RGB", (width, height), (len(picture.stem) * 40, 90, len(picture.boxes) * 60)).save(file)


def text(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def of_split(split: str | None) -> list[Picture]:
    return [picture for picture in IMAGES if split in (None, picture.split)]


def coco(pictures: list[Picture], name: Callable[[Picture], str], ghost: bool = False) -> str:
    annotations = [
        {
            "id": 1000 * i + j,
            "image_id": i,
            "category_id": CLASSES.index(label) + 1,
            "bbox": [x, y, r - x, b - y],
        }
        for i, picture in enumerate(pictures)
        for j, (label, x, y, r, b) in enumerate(picture.boxes)
    ]
    for entry in annotations:
        entry.update(area=entry["bbox"][2] * entry["bbox"][3], iscrowd=0, segmentation=[])
    images = [
        {"id": i, "file_name": name(picture), "height": picture.size[0], "width": picture.size[1]}
        for i, picture in enumerate(pictures)
    ]
    categories = [{"id": i + 1, "name": n, "supercategory": "animals"} for i, n in enumerate(CLASSES)]
    if ghost:
        categories.insert(0, {"id": 0, "name": "animals", "supercategory": "none"})
    return json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})


def yolo_rows(picture: Picture, polygons: bool = False) -> str:
    height, width = picture.size
    rows = []
    for number, (label, x, y, r, b) in enumerate(picture.boxes):
        index = CLASSES.index(label)
        if polygons and number == 0:
            corners = [(x, y), (r, y), (r, b), (x, b)]
            rows.append(" ".join([str(index), *(f"{u / width} {v / height}" for u, v in corners)]))
        else:
            box = ((x + r) / 2 / width, (y + b) / 2 / height, (r - x) / width, (b - y) / height)
            rows.append(" ".join([str(index), *map(str, box)]))
    return "".join(row + "\n" for row in rows)


def voc_page(picture: Picture, name: str, first: int = 1) -> str:
    objects = "".join(
        f"<object><name>{label}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        f"<bndbox><xmin>{x + first}</xmin><ymin>{y + first}</ymin><xmax>{r}</xmax><ymax>{b}</ymax></bndbox>"
        "</object>"
        for label, x, y, r, b in picture.boxes
    )
    height, width = picture.size
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><folder>f</folder><filename>{name}</filename>{size}{objects}</annotation>"


def coco_2014(root: Path) -> None:
    for split in ("train", "val"):
        pictures = of_split(split)
        text(root / f"annotations/instances_{split}2014.json", coco(pictures, lambda p: f"{p.stem}.jpg"))
        text(root / f"annotations/captions_{split}2014.json", '{"images": [], "annotations": []}')
        for picture in pictures:
            draw(root / f"{split}2014" / f"{picture.stem}.jpg", picture)


def coco_plain(root: Path) -> None:
    for split in ("train", "val"):
        text(root / f"{split}.json", coco(of_split(split), lambda p: f"{p.stem}.png"))
        for picture in of_split(split):
            draw(root / "images" / f"{picture.stem}.png", picture)


def coco_valid_folders(root: Path) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        text(
            root / folder / "_annotations.coco.json",
            coco(of_split(split), lambda p: f"{p.stem}.jpg", ghost=True),
        )
        for picture in of_split(split):
            draw(root / folder / f"{picture.stem}.jpg", picture)


def coco_cvat_subsets(root: Path) -> None:
    for split, subset in (("train", "Train"), ("val", "Validation")):
        text(root / f"annotations/instances_{subset}.json", coco(of_split(split), lambda p: f"{p.stem}.jpg"))
        for picture in of_split(split):
            draw(root / "images" / subset / f"{picture.stem}.jpg", picture)


def coco_cvat_default(root: Path) -> None:
    text(root / "annotations/instances_default.json", coco(IMAGES, lambda p: f"field 1/{p.stem}.jpg"))
    for picture in IMAGES:
        draw(root / "images/field 1" / f"{picture.stem}.jpg", picture)


def coco_label_studio(root: Path) -> None:
    text(
        root / "result.json",
        coco(IMAGES, lambda p: f"..\\..\\label-studio\\data\\media\\upload\\1\\{p.stem}.jpg"),
    )
    for picture in IMAGES:
        draw(root / "images" / f"{picture.stem}.jpg", picture)


def coco_makesense(root: Path) -> None:
    text(root / "labels_my-project-name_2024-01-01-12-00-00.json", coco(IMAGES, lambda p: f"{p.stem}.jpg"))
    for picture in IMAGES:
        draw(root / f"{picture.stem}.jpg", picture)


def yolo_ultralytics(root: Path) -> None:
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASSES))
    yaml = (
        f"path: ../datasets/mine  # elsewhere\ntrain: images/train\nval: images/val\ntest:\n\nnames:\n{names}"
    )
    text(root / "mine.yaml", yaml)
    for picture in IMAGES:
        draw(root / "images" / picture.split / f"{picture.stem}.jpg", picture)
        text(root / "labels" / picture.split / f"{picture.stem}.txt", yolo_rows(picture, polygons=True))


def yolo_roboflow(root: Path) -> None:
    text(
        root / "data.yaml",
        f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 3\nnames: {CLASSES}\n",
    )
    for picture in IMAGES:
        folder = root / {"train": "train", "val": "valid"}[picture.split]
        draw(folder / "images" / f"{picture.stem}.jpg", picture)
        if picture.boxes:
            text(folder / "labels" / f"{picture.stem}.txt", yolo_rows(picture))


def yolo_lists(root: Path) -> None:
    text(root / "data.yaml", f"train: [list_a.txt, list_b.txt]\nval: val.txt\nnames: {CLASSES}\n")
    lists = {"list_a.txt": IMAGES[:2], "list_b.txt": IMAGES[2:3], "val.txt": IMAGES[3:]}
    for file, pictures in lists.items():
        text(root / file, "".join(f"./images/{p.stem}.jpg\n" for p in pictures))
    for picture in IMAGES:
        draw(root / "images" / f"{picture.stem}.jpg", picture)
        text(root / "labels" / f"{picture.stem}.txt", yolo_rows(picture))


def yolo_darknet(root: Path) -> None:
    text(
        root / "obj.data",
        "classes = 3\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n",
    )
    text(root / "obj.names", "\n".join(CLASSES) + "\n")
    for split, name in (("train", "train"), ("val", "valid")):
        text(root / f"{name}.txt", "".join(f"data/obj_{name}_data/{p.stem}.jpg\n" for p in of_split(split)))
        for picture in of_split(split):
            draw(root / f"obj_{name}_data" / f"{picture.stem}.jpg", picture)
            text(root / f"obj_{name}_data" / f"{picture.stem}.txt", yolo_rows(picture))


def yolo_label_studio(root: Path) -> None:
    text(root / "classes.txt", "\n".join(CLASSES))
    text(root / "notes.json", json.dumps({"categories": [], "info": {}}))
    for picture in IMAGES:
        draw(root / "images" / f"{picture.stem}.jpg", picture)
        text(root / "labels" / f"{picture.stem}.txt", yolo_rows(picture))


def yolo_beside(root: Path) -> None:
    text(root / "classes.txt", "\n".join(CLASSES) + "\n")
    for picture in IMAGES:
        draw(root / picture.split / f"{picture.stem}.jpg", picture)
        text(root / picture.split / f"{picture.stem}.txt", yolo_rows(picture))


def voc_devkit(root: Path) -> None:
    base = root / "VOCdevkit" / "VOC2012"
    for split in ("train", "val"):
        text(base / f"ImageSets/Main/{split}.txt", "".join(f"{p.stem}\n" for p in of_split(split)))
        rows = "".join(f"{p.stem} {1 if p.boxes else -1:>2}\n" for p in of_split(split))
        text(base / f"ImageSets/Main/cat_{split}.txt", rows)
    for picture in IMAGES:
        draw(base / "JPEGImages" / f"{picture.stem}.jpg", picture)
        text(base / "Annotations" / f"{picture.stem}.xml", voc_page(picture, f"{picture.stem}.jpg"))


def voc_kaggle(root: Path) -> None:
    for picture in IMAGES:
        draw(root / "images" / f"{picture.stem}.png", picture)
        text(root / "annots" / f"{picture.stem}.xml", voc_page(picture, f"{picture.stem}.jpg"))


def voc_split_folders(root: Path) -> None:
    for picture in IMAGES:
        draw(root / "images" / picture.split / f"{picture.stem}.tif", picture)
        text(root / "annotations" / picture.split / f"{picture.stem}.xml", voc_page(picture, picture.stem))


def voc_beside(root: Path) -> None:
    for picture in IMAGES:
        folder = root / {"train": "train", "val": "valid"}[picture.split]
        draw(folder / f"{picture.stem}.jpg", picture)
        text(folder / f"{picture.stem}.xml", voc_page(picture, f"{picture.stem}.jpg"))


def voc_makesense(root: Path) -> None:
    for picture in IMAGES:
        draw(root / "photos" / f"{picture.stem}.bmp", picture)
        page = voc_page(picture, f"{picture.stem}.bmp").replace("<difficult>0</difficult>", "")
        text(root / "labels_my-project-name_2024" / f"{picture.stem}.xml", page)


def cvat_images(root: Path) -> None:
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    images = "".join(
        f'<image id="{i}" name="{p.stem}.jpg" width="{p.size[1]}" height="{p.size[0]}">'
        + "".join(
            f'<box label="{label}" occluded="0" xtl="{x}.00" ytl="{y}.00" xbr="{r}.00" ybr="{b}.00"></box>'
            if number
            else f'<polygon label="{label}" points="{x},{y};{r},{y};{r},{b};{x},{b}"></polygon>'
            for number, (label, x, y, r, b) in enumerate(p.boxes)
        )
        + "</image>"
        for i, p in enumerate(IMAGES)
    )
    head = f"<meta><task><labels>{labels}</labels></task></meta>"
    text(
        root / "annotations.xml",
        f'<?xml version="1.0"?><annotations><version>1.1</version>{head}{images}</annotations>',
    )
    for picture in IMAGES:
        draw(root / "images" / f"{picture.stem}.jpg", picture)


def yolo_roboflow_darknet(root: Path) -> None:
    for picture in IMAGES:
        folder = root / "export" / {"train": "train", "val": "valid"}[picture.split]
        draw(folder / f"{picture.stem}.jpg", picture)
        text(folder / f"{picture.stem}.txt", yolo_rows(picture))
        text(folder / "_darknet.labels", "\n".join(CLASSES) + "\n")
    text(root / "__MACOSX/export/._classes.txt", "")


def yolo_upper_case(root: Path) -> None:
    text(root / "data.yaml", f"train: Images/train\nval: Images/val\nnames: {CLASSES}\n")
    for picture in IMAGES:
        draw(root / "Images" / picture.split / f"{picture.stem}.jpg", picture)
        text(root / "Labels" / picture.split / f"{picture.stem}.txt", yolo_rows(picture))


def voc_lists_with_columns(root: Path) -> None:
    for split in ("train", "val"):
        rows = (f"./JPEGImages/{p.stem}.jpg ./Annotations/{p.stem}.xml\n" for p in of_split(split))
        text(root / "set" / f"{split}.txt", "".join(rows))
    for picture in IMAGES:
        draw(root / "set/JPEGImages" / f"{picture.stem}.jpg", picture)
        page = voc_page(picture, f"{picture.stem}.jpg").replace(
            "<annotation>", '<annotation xmlns="urn:voc">'
        )
        text(root / "set/Annotations" / f"{picture.stem}.xml", page)


def voc_folders_by_kind_and_split(root: Path) -> None:
    for picture in IMAGES:
        draw(root / f"images_{picture.split}" / f"{picture.stem}.png", picture)
        text(root / f"annotations_{picture.split}" / f"{picture.stem}.xml", voc_page(picture, "image.jpg"))


def voc_lists_by_class(root: Path) -> None:
    for split in ("train", "val"):
        for name in CLASSES:
            rows = (f"{p.stem} {1 if name in [b[0] for b in p.boxes] else -1:>2}\n" for p in of_split(split))
            text(root / f"ImageSets/Main/{name}_{split}.txt", "".join(rows))
    for picture in IMAGES:
        draw(root / "JPEGImages" / f"{picture.stem}.jpg", picture)
        text(root / "Annotations" / f"{picture.stem}.xml", voc_page(picture, f"{picture.stem}.jpg"))


def voc_windows(root: Path) -> None:
    for picture in IMAGES:
        folder = root / {"train": "training", "val": "eval"}[picture.split]
        draw(folder / f"{picture.stem}.JPG", picture)
        page = '<?xml version="1.0" encoding="utf-16"?>' + voc_page(picture, f"{picture.stem}.JPG")
        (folder / f"{picture.stem}.XML").write_bytes(page.encode("utf-16"))


def voc_datumaro(root: Path) -> None:
    text(root / "labelmap.txt", "# label:color_rgb:parts:actions\ncat:1,2,3::\n")
    for split in ("train", "val"):
        text(root / f"ImageSets/Main/{split}.txt", "".join(f"{p.stem}\n" for p in of_split(split)))
    for picture in IMAGES:
        draw(root / "JPEGImages" / f"{picture.stem}.jpg", picture)
        page = voc_page(picture, f"{picture.stem}.jpg", first=0)
        text(root / "Annotations" / f"{picture.stem}.xml", page)


def yolo_names_beside(root: Path) -> None:
    (root / "data.yaml").parent.mkdir(exist_ok=True)
    (root / "data.yaml").write_bytes("train: train/images\r\ndev: dev/images\r\nnc: 3\r\n".encode("utf-16"))
    text(root / "classes.txt", "\n".join(CLASSES))
    for picture in IMAGES:
        folder = root / {"train": "train", "val": "dev"}[picture.split]
        draw(folder / "images" / f"{picture.stem}.jpg", picture)
        text(folder / "labels" / f"{picture.stem}.txt", yolo_rows(picture))


def cvat_subsets(root: Path) -> None:
    cvat_images(root)
    page = (root / "annotations.xml").read_text()
    for picture in IMAGES:
        subset = {"train": "Train", "val": "Validation"}[picture.split]
        page = page.replace(f'name="{picture.stem}.jpg"', f'name="{picture.stem}.jpg" subset="{subset}"')
        (root / "images" / subset).mkdir(exist_ok=True)
        (root / f"images/{picture.stem}.jpg").rename(root / f"images/{subset}/{picture.stem}.jpg")
    text(root / "annotations.xml", page)


def labelme(root: Path) -> None:
    for picture in IMAGES:
        folder = root / {"train": "train", "val": "valid"}[picture.split]
        draw(folder / "images" / f"{picture.stem}.jpg", picture)
        shapes = [
            {"label": label, "points": [[r, b], [x, y]], "shape_type": "rectangle"}
            if number
            else {"label": label, "points": [[x, y], [r, y], [r, b], [x, b]], "shape_type": "polygon"}
            for number, (label, x, y, r, b) in enumerate(picture.boxes)
        ]
        page = {"version": "5.0.1", "flags": {}, "shapes": shapes, "imageData": None}
        page |= {"imagePath": f"..\\images\\{picture.stem}.jpg"}
        page |= {"imageHeight": picture.size[0], "imageWidth": picture.size[1]}
        text(folder / "annotations" / f"{picture.stem}.json", json.dumps(page))


def via(root: Path) -> None:
    for split in ("train", "val"):
        images = {}
        for picture in of_split(split):
            draw(root / split / f"{picture.stem}.jpg", picture)
            regions = [
                {
                    "shape_attributes": {"name": "rect", "x": x, "y": y, "width": r - x, "height": b - y}
                    if number
                    else {"name": "polygon", "all_points_x": [x, r, r], "all_points_y": [y, y, b]},
                    "region_attributes": {"type": {label: True}, "note": ""},
                }
                for number, (label, x, y, r, b) in enumerate(picture.boxes)
            ]
            fields = {"filename": f"{picture.stem}.jpg", "size": 1, "file_attributes": {}}
            images[f"{picture.stem}.jpg1"] = {**fields, "regions": regions}
        text(root / split / "via_region_data.json", json.dumps(images))


def createml(root: Path) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        images = []
        for picture in of_split(split):
            draw(root / folder / f"{picture.stem}.jpg", picture)
            centres = [
                (label, {"x": (x + r) / 2, "y": (y + b) / 2, "width": r - x, "height": b - y})
                for label, x, y, r, b in picture.boxes
            ]
            boxes = [{"label": label, "coordinates": sides} for label, sides in centres]
            images.append({"image": f"{picture.stem}.jpg", "annotations": boxes})
        text(root / folder / "_annotations.createml.json", json.dumps(images))


def csv_retinanet(root: Path) -> None:
    for split in ("train", "val"):
        rows = [
            f"images/{p.stem}.jpg,{x},{y},{r},{b},{label}\n"
            for p in of_split(split)
            for label, x, y, r, b in p.boxes
        ]
        rows += [f"images/{p.stem}.jpg,,,,,\n" for p in of_split(split) if not p.boxes]
        text(root / f"{split}.csv", "".join(rows))
    for picture in IMAGES:
        draw(root / "images" / f"{picture.stem}.jpg", picture)


def results(root: Path) -> None:
    """A run, detections, a report and pictures, as commands that are started in the folder write them."""
    for file in ("runs/mine/pictures/a1", "runs/mine/augmentation", "found/a1", "report/photos/0", "dataset"):
        draw(root / f"{file}.png", IMAGES[0])
    text(root / "runs/mine/recipe.txt", "0 0.5 0.5 0.1 0.1\n")
    text(root / "runs/mine/metrics.jsonl", "{}\n")
    text(root / "found/a1.txt", "0 0.5 0.5 0.1 0.1\n")
    text(root / "found/detections.json", "{}")
    text(root / "report/report.html", "")


def csv_of(root: Path, head: str, row: Callable[[Picture, str, int, int, int, int], str]) -> None:
    """A table without images that have no boxes. Such images are not drawn."""
    rows = [row(picture, *box) for picture in IMAGES for box in picture.boxes]
    text(root / "labels.csv", "\n".join([head, *rows]))
    for picture in IMAGES:
        if picture.boxes:
            draw(root / "images" / f"{picture.stem}.jpg", picture)


CSV_TABLES: dict[str, tuple[str, Callable[[Picture, str, int, int, int, int], str]]] = {
    "Roboflow": (
        "filename,width,height,class,xmin,ymin,xmax,ymax",
        lambda p, n, x, y, r, b: f"{p.stem}.jpg,{p.size[1]},{p.size[0]},{n},{x},{y},{r},{b}",
    ),
    "Kaggle": (
        "image_id;bbox;label",
        lambda p, n, x, y, r, b: f"{p.stem};[{x}.0, {y}.0, {r - x}.0, {b - y}.0];{n}",
    ),
    "makesense": (
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height",
        lambda p, n, x, y, r, b: f"{n},{x},{y},{r - x},{b - y},{p.stem}.jpg,{p.size[1]},{p.size[0]}",
    ),
    "Open Images": (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf",
        lambda p, n, x, y, r, b: (
            f"{p.stem},x,{n},1,{x / p.size[1]},{r / p.size[1]},{y / p.size[0]},{b / p.size[0]},0"
        ),
    ),
}


WITH_SPLITS = (
    *(coco_2014, coco_plain, coco_valid_folders, coco_cvat_subsets),
    *(yolo_ultralytics, yolo_roboflow, yolo_lists, yolo_darknet, yolo_beside),
    *(voc_devkit, voc_split_folders, voc_beside),
    *(voc_lists_by_class, voc_windows, voc_datumaro, yolo_names_beside, cvat_subsets),
    *(labelme, via, createml, csv_retinanet),
    *(yolo_roboflow_darknet, yolo_upper_case, voc_lists_with_columns, voc_folders_by_kind_and_split),
)
WITHOUT_SPLITS = (
    *(coco_cvat_default, coco_label_studio, coco_makesense, yolo_label_studio),
    *(voc_kaggle, voc_makesense, cvat_images),
)
