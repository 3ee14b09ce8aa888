import pytest
from parts.outputs import check_outputs
from parts.report.thumbnails import write_thumbnails

from sparse_rcnn.data import ShapesDataset


def test_what_is_replaced_is_said_before_and_inputs_are_never_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("old.png", "photo.png", "folder/old.png", "photos/photo.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    check_outputs({"--picture": "new.png", "--results": None}, ["photo.png", None])
    assert capsys.readouterr().err == ""
    check_outputs({"--picture": "old.png"}, ["photo.png", "photos/old.png"], {"--output": "folder"})
    assert capsys.readouterr().err == (
        "remark: old.png is there already, and will be replaced (--picture)\n"
        "remark: folder has files: results replace those with the same name (--output)\n"
    )
    with pytest.raises(ValueError, match=r"^--results folder: is a folder; give a file$"):
        check_outputs({"--results": "folder"})
    with pytest.raises(ValueError, match=r"^--report old.png: is a file; give a folder$"):
        check_outputs({}, folders={"--report": "old.png"})
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"^--picture link/photo.png: is a file that is read; "):
        check_outputs({"--picture": "link/photo.png"}, ["old.png", "photo.png"])
    (tmp_path / "symbolic.png").symlink_to(tmp_path / "photo.png")
    (tmp_path / "hard.png").hardlink_to(tmp_path / "photo.png")
    for name in ("symbolic.png", "hard.png"):
        with pytest.raises(ValueError, match=rf"^--picture {name}: is a file that is read; "):
            check_outputs({"--picture": name}, ["val", "photo.png"])


def test_small_copies_do_not_replace_the_photos(tmp_path):
    dataset = ShapesDataset(tmp_path, "val", num_images=1)
    photo = tmp_path / "photos" / "000000.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"the user's own")
    dataset.image_paths = [str(photo)]
    with pytest.raises(ValueError, match="has photos of the data set"):
        write_thumbnails(dataset, [0], tmp_path)
    assert photo.read_bytes() == b"the user's own"
