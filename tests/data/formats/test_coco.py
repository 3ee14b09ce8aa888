import json
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from sparse_rcnn.data import (
    CocoDetection,
    UnreadableImageError,
    collate,
    find_coco,
    read_image,
    training_transform,
    write_dataset,
)

GONE = {"id": 99, "file_name": "gone.png", "height": 4, "width": 4}


def write(directory, content, sizes=None):
    """A COCO directory on disk: the JSON (a dict, or text as it is) and its images."""
    images = directory / "images"
    images.mkdir(exist_ok=True)
    for name, (height, width) in (sizes or {"a.png": (40, 60), "b.png": (30, 50)}).items():
        pixels = np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / name)
    file = directory / "ann.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return images, file


def annotation(number, image=7, category=9, bbox=(1, 2, 10, 20), **fields):
    return {"id": number, "image_id": image, "category_id": category, "bbox": list(bbox), **fields}


def content(*annotations, **replaced):
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": 40, "width": 60},
            {"id": 3, "file_name": "b.png", "height": 30, "width": 50},
        ],
        "annotations": list(annotations),
        "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
        **replaced,
    }


def open_coco(directory, *annotations, **replaced):
    return CocoDetection(*write(directory, content(*annotations, **replaced)))


def test_sample(tmp_path):
    data = open_coco(
        tmp_path,
        annotation(11, bbox=(1, 2, 10, 20), area=123.5),
        annotation(5, image=3, category=2, bbox=(0, 0, 50, 30)),
        annotation(12, category=2, bbox=(3, 4, 5, 6), iscrowd=1),
        annotation(13, category=2, bbox=(5.5, 6.25, 5, 6)),
    )
    assert data.class_names == ["cat", "dog"]
    assert data.category_ids == [2, 9]
    assert data.image_ids == [7, 3]
    assert data.image_sizes == [(40, 60), (30, 50)]
    assert (len(data), data.num_crowd, data.num_clipped, data.num_dropped) == (2, 1, 0, 0)
    image, target = data[0]
    pixels = np.asarray(Image.open(tmp_path / "images" / "a.png"))
    assert torch.equal(image, torch.from_numpy(pixels.copy()).permute(2, 0, 1))
    assert image.dtype == torch.uint8
    assert target.boxes.tolist() == [[1, 2, 11, 22], [5.5, 6.25, 10.5, 12.25]]
    assert target.boxes.dtype == torch.float32
    assert target.labels.tolist() == [1, 0]
    assert (target.labels.dtype, target.image_id, target.original_size) == (torch.int64, 7, (40, 60))
    assert data[-1][1].boxes.tolist() == [[0, 0, 50, 30]]
    with pytest.raises(IndexError):
        data[2]


def test_images_without_annotations_are_kept(tmp_path):
    data = open_coco(tmp_path)
    image, target = data[1]
    assert image.shape == (3, 30, 50)
    assert target.boxes.shape == (0, 4)
    assert target.labels.shape == (0,)
    assert data.coco_ground_truth()["annotations"] == []


def test_ground_truth_keeps_crowd_areas_and_boxes_as_written(tmp_path):
    data = open_coco(
        tmp_path,
        annotation(12, bbox=(-3, 4, 5, 6), iscrowd=1, area=7.5),
        annotation(11, image=3, bbox=(1, 2, 10, 20)),
    )
    truth = data.coco_ground_truth()
    assert truth["annotations"] == [
        annotation(12, bbox=(-3, 4, 5, 6), iscrowd=1, area=7.5),
        annotation(11, image=3, bbox=(1, 2, 10, 20), iscrowd=0, area=200.0),
    ]
    assert [image["id"] for image in truth["images"]] == [7, 3]
    assert truth["categories"] == [{"id": 2, "name": "cat"}, {"id": 9, "name": "dog"}]
    assert json.loads(json.dumps(truth)) == truth


def test_boxes_are_clipped_and_counted(tmp_path):
    data = open_coco(
        tmp_path,
        annotation(1, bbox=(-5, 10, 20, 10)),
        annotation(2, bbox=(50, 30, 20, 20)),
        annotation(3, bbox=(10, 10, 50.004, 5)),  # past the edge by rounding: clipped, not counted
        annotation(4, bbox=(10, 10, 5, 5)),
    )
    assert data.num_clipped == 2
    boxes = data[0][1].boxes.tolist()
    assert boxes == [[0, 10, 15, 20], [50, 30, 60, 40], [10, 10, 60, 15], [10, 10, 15, 15]]


DEGENERATE = [(5, 5, 0, 10), (5, 5, 10, 0), (60, 5, 10, 10), (-20, 5, 10, 10), (5, 5, 1e-9, 4)]


@pytest.mark.parametrize("bbox", DEGENERATE)
def test_degenerate_boxes_are_refused_or_counted_and_no_targets(tmp_path, bbox):
    files = write(tmp_path, content(annotation(1), annotation(77, bbox=bbox), annotation(2)))
    with pytest.raises(ValueError, match=r"ann\.json: annotation 77: bbox .* has no width or height"):
        CocoDetection(*files)
    data = CocoDetection(*files, drop_degenerate=True)
    assert (data.num_dropped, data.num_clipped) == (1, 0)
    assert len(data[0][1].boxes) == 2
    assert data.num_objects == 2
    # pycocotools reads the file in this way: a box that no detection can match counts as missed.
    truth = data.coco_ground_truth()["annotations"]
    assert [(entry["id"], entry["bbox"]) for entry in truth][1] == (77, list(bbox))
    assert [entry["id"] for entry in truth] == [1, 77, 2]


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("bbox", [(1, 2, -3, 4), (1, 2, 3, -4)])
def test_negative_boxes_are_refused(tmp_path, bbox, drop):
    files = write(tmp_path, content(annotation(1), annotation(77, bbox=bbox)))
    with pytest.raises(ValueError, match=r"ann\.json: annotation 77: bbox .* negative width or height"):
        CocoDetection(*files, drop_degenerate=drop)


@pytest.mark.parametrize(
    "bbox",
    [[math.nan, 2, 3, 4], [1, 2, math.inf, 4], [1, 2, 3], "1234", None, [1, 2, 3, "4"], [1, 2, 10**400, 4]],
)
def test_boxes_that_are_not_four_finite_numbers_are_refused(tmp_path, bbox):
    entry = annotation(77)
    entry["bbox"] = bbox
    with pytest.raises(ValueError, match=r"ann\.json: annotation 77: field 'bbox' must be .* finite"):
        open_coco(tmp_path, annotation(1), entry)


@pytest.mark.parametrize("text", ["{", "", "[1, 2", '{"images": [}', "\x00"])
def test_malformed_json(tmp_path, text):
    with pytest.raises(ValueError, match=r"ann\.json: is not valid JSON"):
        CocoDetection(*write(tmp_path, text))


def test_json_may_start_with_a_byte_order_mark(tmp_path):
    images, file = write(tmp_path, content())
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(CocoDetection(images, file)) == 2


def test_annotation_file_is_absent(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json: cannot be read"):
        CocoDetection(tmp_path, tmp_path / "none.json")


@pytest.mark.parametrize("section", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, 3, {}])
def test_sections_are_lists(tmp_path, section, value):
    with pytest.raises(ValueError, match=rf"ann\.json: field '{section}' must be a list"):
        CocoDetection(*write(tmp_path, {**content(), section: value}))


def test_file_is_an_object(tmp_path):
    with pytest.raises(ValueError, match=r"ann\.json: expected a JSON object, got list"):
        CocoDetection(*write(tmp_path, "[]"))


def test_empty_data_set(tmp_path):
    with pytest.raises(ValueError, match=r"ann\.json: the data set is empty"):
        open_coco(tmp_path, images=[])
    with pytest.raises(ValueError, match=r"ann\.json: 'categories' has no entries"):
        open_coco(tmp_path, categories=[])


@pytest.mark.parametrize("field", ["id", "image_id", "category_id", "bbox"])
def test_missing_annotation_fields(tmp_path, field):
    entry = annotation(77)
    del entry[field]
    name = "number 1" if field == "id" else "77"
    with pytest.raises(
        ValueError, match=rf"ann\.json: annotation {name}: field '{field}' must be .* got nothing"
    ):
        open_coco(tmp_path, annotation(1), entry)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            ("image_id", "7"),
            ("image_id", 7.0),
            ("category_id", True),
            ("category_id", None),
            ("image_id", 2**70),
        ],
        *[("iscrowd", 2), ("iscrowd", None), ("area", -1), ("area", math.nan), ("area", "x"), ("area", None)],
    ],
)
def test_wrongly_typed_annotation_fields(tmp_path, field, value):
    with pytest.raises(ValueError, match=rf"ann\.json: annotation 77: field '{field}' must be "):
        open_coco(tmp_path, annotation(1), {**annotation(77), field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("file_name", ""), ("file_name", 3), ("height", 0), ("height", "40"), ("width", -60), ("width", None)],
)
def test_wrong_image_fields(tmp_path, field, value):
    images = content()["images"]
    images[1][field] = value
    with pytest.raises(ValueError, match=rf"ann\.json: image 3: field '{field}' must be "):
        open_coco(tmp_path, images=images)
    del images[1][field]
    with pytest.raises(ValueError, match=rf"ann\.json: image 3: field '{field}' must be .* got nothing"):
        open_coco(tmp_path, images=images)


def test_entries_are_objects(tmp_path):
    with pytest.raises(ValueError, match=r"ann\.json: annotation number 1 must be an object, got int"):
        open_coco(tmp_path, annotation(1), 5)


def test_unknown_references(tmp_path):
    with pytest.raises(
        ValueError, match=r"ann\.json: annotation 77: category_id 4 is not among 'categories'"
    ):
        open_coco(tmp_path, annotation(1), annotation(77, category=4))
    with pytest.raises(ValueError, match=r"ann\.json: annotation 77: image_id 4 is not among 'images'"):
        open_coco(tmp_path, annotation(1), annotation(77, image=4))


def test_duplicate_ids(tmp_path):
    with pytest.raises(ValueError, match=r"ann\.json: annotation id 77 occurs more than once"):
        open_coco(tmp_path, annotation(77), annotation(1), annotation(77))
    with pytest.raises(ValueError, match=r"ann\.json: image id 7 occurs more than once"):
        open_coco(tmp_path, images=content()["images"] + content()["images"][:1])
    with pytest.raises(ValueError, match=r"ann\.json: category id 9 occurs more than once"):
        open_coco(tmp_path, categories=[{"id": 9, "name": "a"}, {"id": 9, "name": "b"}])


def test_missing_images_are_named_and_counted(tmp_path):
    images = [{"id": i, "file_name": f"gone{i}.png", "height": 4, "width": 4} for i in range(8)]
    with pytest.raises(
        ValueError, match=r"ann\.json: 8 of 10 images are not in .*images: gone0\.png, .*gone4\.png, \.\.\.$"
    ):
        open_coco(tmp_path, images=images + [{**e, "id": e["id"] + 100} for e in content()["images"]])
    with pytest.raises(ValueError, match="elsewhere: there is no such directory"):
        CocoDetection(tmp_path / "elsewhere", tmp_path / "ann.json")


def test_missing_images_may_be_allowed_and_fail_when_read(tmp_path):
    files = write(tmp_path, content(annotation(1), images=[*content()["images"], GONE]))
    data = CocoDetection(*files, allow_missing=True)
    assert len(data) == 3
    index = data.image_ids.index(GONE["id"])
    with pytest.raises(UnreadableImageError, match=r"gone\.png: cannot be read as an image"):
        data[index]
    with pytest.raises(UnreadableImageError, match=r"1 unusable image.*gone\.png"):
        data.check_images()
    with pytest.raises(ValueError, match="elsewhere: there is no such directory"):
        CocoDetection(tmp_path / "elsewhere", files[1], allow_missing=True)


def test_images_in_subdirectories(tmp_path):
    (tmp_path / "images" / "deep").mkdir(parents=True)
    images = content()["images"]
    images[0]["file_name"] = "deep/a.png"
    files = write(tmp_path, content(images=images), {"deep/a.png": (40, 60), "b.png": (30, 50)})
    assert CocoDetection(*files)[0][0].shape == (3, 40, 60)
    images[0]["file_name"] = "other/a.png"
    with pytest.raises(ValueError, match=r"1 of 2 images are not in .*: other/a\.png"):
        CocoDetection(*write(tmp_path, content(images=images)))


def test_unreadable_and_wrongly_sized_images_are_named(tmp_path):
    data = open_coco(tmp_path, annotation(1))
    data.check_images()
    data.check_images(decode=True)
    (tmp_path / "images" / "a.png").write_bytes(b"no image")
    Image.new("RGB", (30, 50)).save(tmp_path / "images" / "b.png")
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as an image"):
        data[0]
    with pytest.raises(ValueError, match=r"b\.png: the image is 50 x 30 .* annotation says 30 x 50"):
        data[1]
    with pytest.raises(ValueError, match=r"2 unusable image.*a\.png: cannot .*b\.png: the image is 50 x 30"):
        data.check_images()


def test_truncated_images_are_found_by_decoding(tmp_path):
    images = [{"id": 7, "file_name": "a.jpg", "height": 40, "width": 60}]
    data = CocoDetection(*write(tmp_path, content(images=images), {"a.jpg": (40, 60)}))
    file = tmp_path / "images" / "a.jpg"
    file.write_bytes(file.read_bytes()[:-500])
    data.check_images()
    with pytest.raises(ValueError, match=r"1 unusable image.*a\.jpg: cannot be read"):
        data.check_images(decode=True)


# Python 3.12 and later warn whenever a process with threads forks, as every DataLoader does on Linux.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_broken_image_is_named_from_a_worker_process(tmp_path):
    data = open_coco(tmp_path)
    (tmp_path / "images" / "b.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"b\.png: cannot be read as an image"):
        list(DataLoader(data, batch_size=2, num_workers=1, collate_fn=collate))


def test_image_modes(tmp_path):
    grey = tmp_path / "grey.png"
    Image.new("L", (5, 4), 99).save(grey)
    assert torch.equal(read_image(grey), torch.full((3, 4, 5), 99, dtype=torch.uint8))


def test_exif_orientation_turns_the_image_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: stored 60 wide and 40 high, to be shown 40 wide and 60 high
    files = write(tmp_path, content(images=[{"id": 7, "file_name": "a.jpg", "height": 60, "width": 40}]))
    stored = Image.new("RGB", (60, 40))
    stored.paste((255, 255, 255), (0, 0, 30, 40))
    stored.save(tmp_path / "images" / "a.jpg", exif=exif)
    data = CocoDetection(*files)
    data.check_images()
    image, target = data[0]
    assert image.shape == (3, 60, 40)
    assert target.original_size == (60, 40)
    assert image[:, :28].float().mean() > 250 > 5 > image[:, 32:].float().mean()
    # Boxes of a program that does not know EXIF: the size is the stored one.
    files = write(tmp_path, content(images=[{"id": 7, "file_name": "a.jpg", "height": 40, "width": 60}]))
    data = CocoDetection(*files)
    for decode in (False, True):
        with pytest.warns(UserWarning, match=r"EXIF turns 1 image\(s\), .*a\.jpg, .* they are not turned"):
            data.check_images(decode=decode)
    image, target = data[0]
    assert (image.shape, target.original_size) == ((3, 40, 60), (40, 60))
    assert image[:, :, :28].float().mean() > 250 > 5 > image[:, :, 32:].float().mean()
    with pytest.raises(ValueError, match=r"1 image is turned by EXIF, .*a\.jpg, .* of the stored pixels"):
        write_dataset({"val": data}, tmp_path / "yolo", "yolo")


def test_transform_is_any_v2_transform(tmp_path):
    steps = [v2.RandomHorizontalFlip(1.0), v2.ColorJitter(0.5), v2.ToDtype(torch.float32, scale=True)]
    files = write(tmp_path, content(annotation(1, bbox=(1, 2, 10, 20))))
    image, target = CocoDetection(*files, v2.Compose(steps))[0]
    assert type(image) is torch.Tensor
    assert type(target.boxes) is torch.Tensor
    assert image.dtype == torch.float32
    assert image.max() <= 1
    assert target.boxes.tolist() == [[49, 2, 59, 22]]
    steps = [v2.RandomResizedCrop((20, 20)), v2.SanitizeBoundingBoxes()]
    image, target = CocoDetection(*files, v2.Compose(steps))[0]
    assert image.shape == (3, 20, 20)
    assert len(target.boxes) == len(target.labels)


@pytest.mark.parametrize(
    "transform",
    [
        lambda image, objects: image,
        lambda image, objects: (image, {"boxes": objects["boxes"]}),
        lambda image, objects: (image[:1], objects),
        lambda image, objects: (image, {**objects, "labels": objects["labels"][:0]}),
        lambda image, objects: (image, {**objects, "labels": objects["labels"].float()}),
        lambda image, objects: (image, {**objects, "labels": [1]}),
        v2.ConvertBoundingBoxFormat("XYWH"),
    ],
)
def test_what_a_transform_returns_is_checked(tmp_path, transform):
    data = CocoDetection(*write(tmp_path, content(annotation(1))), transform)
    with pytest.raises(ValueError, match=r"a\.png: the transform must return"):
        data[0]


def test_transform_gets_tv_tensors(tmp_path):
    def look(image, objects):
        assert isinstance(image, tv_tensors.Image)
        assert isinstance(objects["boxes"], tv_tensors.BoundingBoxes)
        assert objects["boxes"].canvas_size == (40, 60)
        return image, objects

    assert CocoDetection(*write(tmp_path, content(annotation(1))), look)[0][1].boxes.tolist() == [
        [1, 2, 11, 22]
    ]


def test_data_set_can_be_sent_to_a_spawned_worker(tmp_path):
    data = open_coco(tmp_path, annotation(1))
    assert torch.equal(pickle.loads(pickle.dumps(data))[0][1].boxes, data[0][1].boxes)


def test_find_coco(tmp_path):
    with pytest.raises(ValueError, match=r"is not in COCO's layout: .*instances_val2017\.json"):
        find_coco(tmp_path, "val")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is not in COCO's layout: there is no directory .*val2017"):
        find_coco(tmp_path, "val")
    (tmp_path / "val2017").mkdir()
    assert find_coco(tmp_path, "val") == (
        tmp_path / "val2017",
        tmp_path / "annotations" / "instances_val2017.json",
    )


@pytest.mark.parametrize(
    ("split", "count", "crowd", "boxes"), [("train", 343, 29, 2974), ("val", 106, 12, 855)]
)
def test_coco_mini(shared_dir, split, count, crowd, boxes):
    data = CocoDetection(*find_coco(shared_dir / "data" / "coco_mini", split))
    data.check_images()
    assert (len(data), data.num_crowd, len(data.class_names)) == (count, crowd, 80)
    assert data.class_names[:2] == ["person", "bicycle"]
    assert data.category_ids[-1] == 90
    assert len(data.coco_ground_truth()["annotations"]) == boxes
    file = json.loads(find_coco(shared_dir / "data" / "coco_mini", split)[1].read_text())
    plain = {entry["id"]: entry for entry in file["annotations"]}
    for entry in data.coco_ground_truth()["annotations"]:
        assert entry == {field: plain[entry["id"]][field] for field in entry}
    # By image, and within an image as in the file: pycocotools breaks ties by this order.
    place = {image_id: index for index, image_id in enumerate(data.image_ids)}
    in_order = sorted(file["annotations"], key=lambda entry: place[entry["image_id"]])
    ids = [entry["id"] for entry in data.coco_ground_truth()["annotations"]]
    assert ids == [entry["id"] for entry in in_order]


# Python 3.12 and later warn whenever a process with threads forks, as every DataLoader does on Linux.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_coco_mini_in_batches(shared_dir):
    data = CocoDetection(
        *find_coco(shared_dir / "data" / "coco_mini", "val"), training_transform((96, 128), 200)
    )
    loader = DataLoader(data, batch_size=8, num_workers=1, collate_fn=collate)
    batches = [batch for batch, _ in zip(loader, range(3), strict=False)]
    for batch in batches:
        limits = batch.image_sizes.flip(1).repeat(1, 2)[:, None] + 1e-3
        assert ((batch.targets.boxes <= limits) & (batch.targets.boxes >= 0)).all()
    assert sum(int(batch.targets.valid.sum()) for batch in batches) == sum(
        len(data[i][1].boxes) for i in range(24)
    )
