"""Tables whose columns have other names, units, separators and repeats."""

import shutil
from pathlib import Path

import layout_exports as exports
import pytest
from layout_exports import CLASSES, IMAGES, contents, expected

from sparse_rcnn.data import load_dataset

pytestmark = pytest.mark.filterwarnings("ignore::sparse_rcnn.data.DatasetRemark")
CORNERS = "xmin,ymin,xmax,ymax"
WITH_BOXES = {stem: found for stem, found in expected("train", "val").items() if found[1]}


def table(root: Path, head: str, *rows: str, name: str = "labels.csv") -> Path:
    exports.draw(root / "a1.jpg", IMAGES[0])
    exports.text(root / name, "\n".join([head, *rows]))
    return root


@pytest.mark.parametrize(
    "column", ["Class Name", "class_id", "category_id", "species", "classname", "labels", "object"]
)
def test_classes_are_found_and_numbers_are_in_their_order(tmp_path: Path, column: str) -> None:
    rows = [f"a1.jpg,{label},{label},0,20,20" for label in ("10.0", "9", " 2 ")]
    data = load_dataset(table(tmp_path, f"filename,{column},{CORNERS}", *rows), val_share=0)
    assert data.class_names == ["2", "9", "10"]
    assert sorted(zip(data[0][1].labels.tolist(), data[0][1].boxes[:, 0].tolist(), strict=True)) == [
        *((0, 2.0), (1, 9.0), (2, 10.0))
    ]


def test_a_name_of_the_class_goes_before_its_number(tmp_path: Path) -> None:
    table(tmp_path, f"image,class,class_name,{CORNERS}", "a1.jpg,7,cat,1,2,3,4")
    assert load_dataset(tmp_path, val_share=0).class_names == ["cat"]


def test_a_table_without_classes_gets_a_remark(tmp_path: Path) -> None:
    data = load_dataset(table(tmp_path, f"image,kind,note,{CORNERS}", "a1.jpg,cat,x,1,2,3,4"), val_share=0)
    assert data.class_names == ["object"]
    (remark,) = data.remarks
    said = "no column says the class: all boxes are of one, 'object' (columns that are not used: kind, note)"
    assert remark == f"{tmp_path / 'labels.csv'}: {said}"


FORMS = {
    "tabs": ("filename\tclass\txmin\tymin\txmax\tymax", "{s}.jpg\t{n}\t{x}\t{y}\t{r}\t{b}"),
    "decimal commas": ("filename;class;xmin;ymin;xmax;ymax", "{s}.jpg;{n};{x},0;{y},0;{r},0;{b},0"),
    "corner and size": ("filename,class,left,top,width,height", "{s}.jpg,{n},{x},{y},{w},{h}"),
    "size of the image, too": (
        "filename,class,x_min,y_min,width,height,image_width,image_height",
        "{s}.jpg,{n},{x},{y},{w},{h},{width},{height}",
    ),
    "centre": ("filename,class,cx,cy,w,h", "{s}.jpg,{n},{cx},{cy},{w},{h}"),
    "fractions": ("filename,class,x_center,y_center,width,height", "{s}.jpg,{n},{fx},{fy},{fw},{fh}"),
}


@pytest.mark.parametrize("form", FORMS)
def test_other_columns_units_and_separators(tmp_path: Path, form: str) -> None:
    head, pattern = FORMS[form]

    def row(picture: exports.Picture, name: str, x: int, y: int, r: int, b: int) -> str:
        height, width = picture.size
        cx, cy, w, h = (x + r) / 2, (y + b) / 2, r - x, b - y
        fractions = {"fx": cx / width, "fy": cy / height, "fw": w / width, "fh": h / height}
        values = {"cx": cx, "cy": cy, "w": w, "h": h, "width": width, "height": height, **fractions}
        return pattern.format(s=picture.stem, n=name, x=x, y=y, r=r, b=b, **values)

    exports.csv_of(tmp_path, head, row)
    if form == "tabs":
        (tmp_path / "labels.csv").rename(tmp_path / "labels.tsv")
    data = load_dataset(tmp_path, val_share=0)
    assert (contents(data), data.class_names) == (WITH_BOXES, CLASSES)


@pytest.mark.parametrize(
    ("head", "cause"),
    [
        (
            "filename,x,y,width,height,class",
            "x, y may be the corner or the centre of a box: call them left, top",
        ),
        (f"photo,class,{CORNERS}", "no column names the image, such as filename"),
        ("filename,class,west,east", "no columns say the box, such as xmin, ymin, xmax, ymax"),
    ],
)
def test_an_error_names_what_is_wrong_with_the_columns(tmp_path: Path, head: str, cause: str) -> None:
    table(tmp_path, head)
    for path in (tmp_path, tmp_path / "labels.csv"):
        with pytest.raises(ValueError, match=rf"labels\.csv begins with '{head}': {cause}"):
            load_dataset(path)


def test_equal_rows_count_once(tmp_path: Path) -> None:
    exports.csv_of(tmp_path, *exports.CSV_TABLES["Roboflow"])
    labels = tmp_path / "labels.csv"
    shutil.copy(labels, tmp_path / "copy.csv")
    more = "filename,class,xmin,ymin,xmax,ymax\na1.jpg,cat,1,2,3,4\na1.jpg,cat,1,2,3,4\n"
    (tmp_path / "more.csv").write_text(more)
    data = load_dataset(tmp_path, val_share=0)
    wanted = {stem: (size, [*boxes]) for stem, (size, boxes) in WITH_BOXES.items()}
    wanted["a1"][1].insert(0, ("cat", [1.0, 2.0, 3.0, 4.0]))
    assert contents(data) == wanted
    assert len(data) == len(wanted)
    count = sum(len(boxes) for _, boxes in WITH_BOXES.values()) + 1
    (remark,) = data.remarks
    assert remark.startswith(
        f"{tmp_path}: {count} boxes are copies of another of its class and image: left out"
    )
