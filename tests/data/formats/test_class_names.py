"""Names of classes with spaces, of two labels, or of another folder: the same in all formats."""

from collections.abc import Callable
from pathlib import Path

import layout_exports as exports
import pytest
from layout_exports import CLASSES, contents, expected

from sparse_rcnn.data import load_dataset

pytestmark = pytest.mark.filterwarnings("ignore::sparse_rcnn.data.DatasetRemark")


@pytest.mark.parametrize(
    "write",
    [
        *(exports.coco_plain, exports.yolo_ultralytics, exports.yolo_roboflow, exports.yolo_darknet),
        *(exports.voc_devkit, exports.labelme, exports.via, exports.createml, exports.csv_retinanet),
        exports.cvat_subsets,
    ],
    ids=lambda write: write.__name__,
)
def test_spaces_around_a_name_are_no_part_of_it(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    changed = 0
    for file in tmp_path.rglob("*.*"):
        if file.suffix in (".json", ".yaml", ".names", ".xml", ".csv") and "settings" not in file.name:
            page = file.read_text()
            spaced = page.replace('"cat"', '"cat "').replace("'cat'", "'cat '").replace(",cat\n", ", cat \n")
            spaced = (
                spaced.replace(">cat<", "> cat<").replace("0: cat", "0: 'cat '").replace("cat\n", "cat \n")
            )
            changed += spaced != page
            file.write_text(spaced)
    assert changed
    data = load_dataset(tmp_path)
    assert (contents(data), data.class_names) == (expected("train"), CLASSES)


def test_labels_of_one_name_are_one_class(tmp_path: Path) -> None:
    exports.yolo_roboflow(tmp_path)
    file = tmp_path / "data.yaml"
    file.write_text("train: train/images\nval: valid/images\nnames: {0: cat, 1: 'cat ', 2: owl}\n")
    data = load_dataset(tmp_path)
    assert (data.class_names, data.category_ids) == (["cat", "owl"], [0, 2])
    assert [name for name, _ in contents(data)["a1"][1]] == ["cat", "cat"]
    assert data.remarks == [f"{file}: labels 0 and 1 have the same name: they are one class, cat"]


def test_names_from_the_folder_above_get_a_remark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports.yolo_roboflow(tmp_path / "data")
    (tmp_path / "data/data.yaml").unlink()
    names = tmp_path / "classes.txt"
    names.write_text("\n".join(CLASSES))
    data = load_dataset(tmp_path / "data")
    said = "no file in it names the classes; their names are those of"
    assert (data.class_names, data.remarks) == (CLASSES, [f"{tmp_path / 'data'}: {said} {names}"])
    monkeypatch.chdir(tmp_path / "data")
    data = load_dataset(".")
    assert (data.class_names, data.remarks) == (CLASSES, [f".: {said} ../classes.txt"])
