import pytest
import torch
from PIL import Image

from sparse_rcnn.data import DatasetRemark, UnreadableImageError, VocDetection

BOX = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"


def item(name, *box, extra=""):
    return f"<object><name>{name}</name>{extra}<bndbox>{BOX.format(*box)}</bndbox></object>"


def page(*objects, size="<width>60</width><height>40</height><depth>3</depth>"):
    return f"<annotation><size>{size}</size>{''.join(objects)}</annotation>"


@pytest.fixture
def root(tmp_path):
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("one", "two", "three"):
        Image.new("RGB", (60, 40)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        (tmp_path / "Annotations" / f"{name}.xml").write_text(page())
    (tmp_path / "Annotations" / "two.xml").write_text(
        page(
            item("dog", 1, 1, 60, 40),
            item("cat", 5, 6, 5, 6),
            item("dog", 2, 3, 10, 20, extra="<difficult>1</difficult>"),
        )
    )
    (tmp_path / "Annotations" / "three.xml").write_text(page(item("ant", 2, 3, 10, 20)))
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("two\none\n")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("three\n")
    return tmp_path


def test_sample(root):
    data = VocDetection(root)
    assert data.class_names == ["ant", "cat", "dog"]  # of all files, not of this split alone
    assert data.class_names == VocDetection(root, "val").class_names
    assert data.category_ids == [1, 2, 3]
    assert data.image_names == ["two", "one"]
    assert data.image_ids == [1, 2]
    assert data.image_sizes == [(40, 60), (40, 60)]
    assert (data.num_crowd, data.num_clipped, data.num_dropped) == (1, 0, 0)
    image, target = data[0]
    assert image.shape == (3, 40, 60)
    # 1-based and inclusive: the whole image, and a single pixel.
    assert target.boxes.tolist() == [[0, 0, 60, 40], [4, 5, 5, 6]]
    assert target.labels.tolist() == [2, 1]
    assert (target.image_id, target.original_size) == (1, (40, 60))
    assert data[1][1].boxes.shape == (0, 4)
    data.check_images()


def test_difficult_objects_are_evaluated_as_ignored(root):
    annotations = VocDetection(root).coco_ground_truth()["annotations"]
    assert [entry["iscrowd"] for entry in annotations] == [0, 0, 1]
    assert annotations[2]["bbox"] == [1, 2, 9, 18]
    assert annotations[2]["area"] == 9 * 18
    assert [entry["id"] for entry in annotations] == [1, 2, 3]


def test_given_class_names(root):
    data = VocDetection(root, class_names=["dog", "cat", "owl"])
    assert data[0][1].labels.tolist() == [0, 1]
    with pytest.raises(
        ValueError, match=r"two\.xml: object 1: name 'cat' is not among the classes \['dog'\]"
    ):
        VocDetection(root, class_names=["dog"])
    for names in ([], ["dog", "dog"]):
        with pytest.raises(ValueError, match="class_names must be distinct"):
            VocDetection(root, class_names=names)


def test_boxes_are_clipped_and_counted(root):
    (root / "Annotations" / "three.xml").write_text(page(item("ant", -3, 5, 70, 10.5)))
    data = VocDetection(root, "val")
    assert data.num_clipped == 1
    assert data[0][1].boxes.tolist() == [[0, 4, 60, 10.5]]


@pytest.mark.parametrize("lowest", [0, 0.5])
def test_a_coordinate_below_1_says_that_pixels_are_counted_from_0(root, lowest):
    (root / "Annotations" / "three.xml").write_text(page(item("ant", lowest, 5, 20, 10.5)))
    with pytest.warns(DatasetRemark, match=rf"from 0, .*three\.xml, object 0, has {lowest} .*count_from=1"):
        data = VocDetection(root, "val")
    assert data[0][1].boxes.tolist() == [[lowest, 5, 20, 10.5]]
    with pytest.warns(DatasetRemark):  # the other files of the set are counted alike
        first = VocDetection(root, drop_degenerate=True)[0][1].boxes[0]
    assert first.tolist() == [1, 1, 60, 40]
    assert VocDetection(root, "val", count_from=1)[0][1].boxes.tolist() == [[0, 4, 20, 10.5]]
    with pytest.raises(ValueError, match="count_from must be 0 or 1, got 2"):
        VocDetection(root, count_from=2)


def test_benign_oddities_load_with_a_remark(root):
    odd = item("ant", 2, 3, 10, 20, extra="<difficult>Unspecified</difficult>")
    empty = item("ant", 2, 3, 10, 20, extra="<difficult></difficult>")
    size = "<width>60.0</width><height>40.0</height>"
    (root / "Annotations" / "three.xml").write_text(page(odd, empty, size=size))
    with pytest.warns(DatasetRemark, match=r"1 file\(s\), such as three\.xml: difficult '.*', taken for 0"):
        data = VocDetection(root, "val")
    assert (data.image_sizes, data.num_objects) == ([(40, 60)], 2)
    (root / "Annotations" / "three.xml").write_text(page(item("ant", 2, 3, 9, 20), size="<width>0</width>"))
    with pytest.warns(DatasetRemark, match=r"three\.xml: no size of the image: its header is asked"):
        assert VocDetection(root, "val").image_sizes == [(40, 60)]


def test_degenerate_boxes(root):
    (root / "Annotations" / "three.xml").write_text(page(item("ant", 1, 1, 5, 5), item("ant", 61, 5, 70, 10)))
    with pytest.raises(ValueError, match=r"three\.xml: object 1 \(ant\): bndbox .* has no width or height"):
        VocDetection(root, "val")
    data = VocDetection(root, "val", drop_degenerate=True)
    assert data.num_dropped == 1
    assert len(data[0][1].boxes) == 1


@pytest.mark.parametrize(
    ("box", "reason"),
    [((9, 5, 3, 10), "negative"), ((1, 5, "nan", 10), "finite"), (("-inf", 5, "inf", 10), "finite")],
)
def test_impossible_boxes(root, box, reason):
    (root / "Annotations" / "three.xml").write_text(page(item("ant", 1, 1, 5, 5), item("ant", *box)))
    with pytest.raises(ValueError, match=rf"three\.xml: object 1 \(ant\): bndbox .* {reason}"):
        VocDetection(root, "val", drop_degenerate=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", r"is not valid XML"),
        ("", r"is not valid XML"),
        (page(size="<width>60</width><height>-4</height>"), r"field 'size/height' must be .*, got '-4'"),
        (page(size="<width>60</width><height>4.5</height>"), r"field 'size/height' must be .*, got '4.5'"),
        (page(size="<width>x</width><height>4</height>"), r"field 'size/width' must be .*, got 'x'"),
        (
            page(item("ant", 1, 2, 3, 4, extra="<bndbox><xmin>9</xmin></bndbox>")),
            r"object 0 \(ant\): field 'bndbox/xmin' is there 2 times, with different values",
        ),
        (page(item("ant", 1, 2, 3, 4, extra="<name>bee</name>")), r"object 0: field 'name' is there 2 times"),
        (page("<object></object>"), r"object 0: field 'name' must be a name, got nothing"),
        (page(item("", 1, 2, 3, 4)), r"object 0: field 'name' must be a name"),
        (page("<object><name>ant</name></object>"), r"object 0 \(ant\): field 'bndbox/xmin' .* got nothing"),
        (page(item("ant", 1, 2, "wide", 4)), r"object 0 \(ant\): field 'bndbox/xmax' .* got 'wide'"),
        (
            page(item("ant", 1, 2, 3, 4), item("ant", 1, 2, 3, 4, extra="<difficult>x</difficult>")),
            r"object 1 \(ant\): field 'difficult' must be 0 or 1, got 'x'",
        ),
    ],
)
def test_malformed_files(root, text, message):
    (root / "Annotations" / "three.xml").write_text(text)
    with pytest.raises(ValueError, match=r"three\.xml: " + message):
        VocDetection(root, "val")


def test_missing_images_may_be_allowed_and_fail_when_read(root):
    (root / "JPEGImages" / "one.jpg").unlink()
    data = VocDetection(root, allow_missing=True)
    assert data[0][0].shape == (3, 40, 60)
    with pytest.raises(UnreadableImageError, match=r"one\.jpg: cannot be read as an image"):
        data[1]


def test_missing_files(root):
    with pytest.raises(ValueError, match=r"test\.txt: cannot be read as a list of images"):
        VocDetection(root, "test")
    main = root / "ImageSets" / "Main"
    (main / "test.txt").write_text("one\nfour\nfive\n")
    with pytest.raises(ValueError, match=r"Annotations: has no file for 2 of 3 images .*: four, five$"):
        VocDetection(root, "test")
    (main / "test.txt").write_text("one\ntwo\none\n")
    with pytest.raises(ValueError, match=r"test\.txt: image one is listed more than once"):
        VocDetection(root, "test")
    (main / "test.txt").write_text("\n\n")
    with pytest.raises(ValueError, match=r"test\.txt: the data set is empty"):
        VocDetection(root, "test")
    (root / "JPEGImages" / "three.jpg").unlink()
    with pytest.raises(ValueError, match=r"JPEGImages: has no file for 1 of 1 images .*: three$"):
        VocDetection(root, "val")
    for file in (root / "JPEGImages").iterdir():
        file.unlink()
    (root / "JPEGImages").rmdir()
    with pytest.raises(ValueError, match="is not in Pascal VOC's layout"):
        VocDetection(root)


def test_no_objects_anywhere(root):
    for file in (root / "Annotations").iterdir():
        file.write_text(page())
    with pytest.raises(ValueError, match="Annotations: no annotation file names an object"):
        VocDetection(root)


def test_size_field_differs_from_the_image(root):
    data = VocDetection(root, "val")
    Image.new("RGB", (40, 60)).save(root / "JPEGImages" / "three.jpg")
    with pytest.raises(ValueError, match=r"three\.jpg: the image is 60 x 40 .* annotation says 40 x 60"):
        data[0]
    with pytest.raises(ValueError, match=r"1 unusable image.*three\.jpg"):
        data.check_images()


def test_png_images(root):
    Image.new("RGB", (60, 40), "white").save(root / "JPEGImages" / "three.PNG")
    assert VocDetection(root, "val")[0][0].max() == 0  # the .jpg is preferred
    (root / "JPEGImages" / "three.jpg").unlink()
    assert VocDetection(root, "val")[0][0].min() == 255


@pytest.mark.parametrize(("split", "count"), [("train", 205), ("val", 87)])
def test_bccd(shared_dir, split, count):
    data = VocDetection(shared_dir / "data" / "bccd", split)
    data.check_images()
    assert len(data) == count
    assert data.class_names == ["Platelets", "RBC", "WBC"]
    # Two objects have xmin == xmax. In VOC, such a box is one pixel wide, so none is dropped.
    assert (data.num_dropped, data.num_clipped) == (0, data.num_clipped)
    boxes = torch.cat([target.boxes for _, target in (data[i] for i in range(0, count, 10))])
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 1
