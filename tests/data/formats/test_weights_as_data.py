import pytest

from sparse_rcnn.data import load_dataset


def test_a_file_of_weights_is_no_data_set(tmp_path):
    (tmp_path / "best.pth").write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"best.pth: is a detector, but a data set is needed"):
        load_dataset(tmp_path / "best.pth", "train")
