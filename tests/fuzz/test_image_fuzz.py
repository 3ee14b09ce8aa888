"""Damaged image files: each is read, or refused by name. Nothing crashes, hangs or gives another image.

Seconds here. By hand, over more files: python tests/fuzz/test_image_fuzz.py 3500 [SEED]
"""

import io
import json
import os
import random
import signal
import sys
import tempfile
import warnings
from argparse import Namespace
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (1, 2)]
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import numpy as np
import pytest
import torch
from detect import detect_all
from inference_cases import OPTIONS
from PIL import Image
from small_model import build_small_model

from sparse_rcnn.data import CocoDetection, UnreadableImageError, read_image
from sparse_rcnn.data.image_file import read_image_size
from sparse_rcnn.inference import Detector
from sparse_rcnn.nn import EndToEndDetector

FORMATS = ["png", "jpg", "webp", "tiff", "bmp", "gif", "ppm", "jp2", "tga", "avif", "ico", "pcx", "sgi", "im"]
FORMATS += ["dds", "icns", "eps", "mpo", "msp", "spi", "xbm"]
MODES = ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "YCbCr", "I", "F", "I;16"]
SECONDS = 20  # for one file


def drawn_file(generator: random.Random) -> tuple[bytes, str]:
    """A file of any format, mode, size and orientation, and its suffix."""
    while True:
        suffix, mode = generator.choice(FORMATS), generator.choice(MODES)
        height, width = generator.choice([(1, 1), (1, 300), (8, 5), (33, 64), (64, 48), (64, 64)])
        noise = np.random.default_rng(generator.randrange(2**32)).integers(0, 256, (height, width, 3))
        picture = Image.fromarray(noise.astype(np.uint8))
        picture = picture.convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)
        options = {}
        if suffix in ("png", "jpg", "webp", "tiff"):
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = generator.choice([1, 1, *range(10)])
        if suffix == "tiff":
            options["compression"] = generator.choice(["raw", "tiff_lzw", "tiff_deflate", "packbits"])
        file = io.BytesIO()
        try:
            Image.init()
            kind = Image.registered_extensions().get(f".{suffix}", suffix.upper())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture.save(file, kind, **options)
        except (OSError, KeyError, ValueError, SystemError, RuntimeError):  # no such mode in this format
            continue
        return file.getvalue(), suffix


def damaged(content: bytes, generator: random.Random) -> tuple[bytes, str]:
    """The content with one kind of damage, and its name."""
    kind = generator.choice(["none", "cut", "bits", "header", "hole", "moved", "twice", "number", "tail"])
    data, size = bytearray(content), len(content)
    place = generator.randrange(size)
    if kind == "cut":
        del data[place:]
    elif kind == "bits":
        for _ in range(generator.choice([1, 3, 30])):
            data[generator.randrange(size)] ^= 1 << generator.randrange(8)
    elif kind == "header":
        for _ in range(generator.choice([1, 4])):
            data[generator.randrange(min(size, 64))] = generator.randrange(256)
    elif kind == "hole":
        data[place : place + generator.choice([1, 50, size])] = b""
    elif kind == "moved":
        data[place:place] = generator.randbytes(generator.choice([1, 7, 400]))
    elif kind == "twice":
        data += data[:place]
    elif kind == "number":  # sizes, counts and offsets at the ends of their range
        data[place : place + 4] = generator.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"])
    elif kind == "tail":
        data = bytearray(generator.randbytes(generator.choice([0, 1, 20, 2000])))
    return bytes(data), kind


def write_files(directory: Path, count: int, seed: int) -> list[tuple[Path, str, str]]:
    """Damaged files, pipes and folders, each with its format and the kind of damage."""
    generator = random.Random(seed)
    files = []
    for number in range(count):
        content, suffix = drawn_file(generator)
        content, kind = damaged(content, generator)
        # A name that lies, now and then: Pillow looks at the content.
        path = directory / f"{number:05d}_{kind}.{generator.choice([suffix, suffix, 'jpg', 'png'])}"
        path.write_bytes(content)
        files.append((path, suffix, kind))
    os.mkfifo(directory / "pipe.jpg")
    (directory / "folder.jpg").mkdir()
    (directory / "nowhere.jpg").symlink_to("gone.jpg")
    (directory / "device.jpg").symlink_to("/dev/zero")
    files += [(directory / f"{name}.jpg", "", name) for name in ("pipe", "folder", "nowhere", "device")]
    return files


def tried(call, path: Path, **options):
    """The result of a call on a file. None if the file is refused. The error must name it."""
    try:
        return call(path, **options)
    except UnreadableImageError as error:
        reason = str(error)
    assert reason.startswith(f"{path}: cannot be read as an image: ")
    return None


def outcome(path: Path) -> tuple[int, int] | None:
    """(height, width) of a file. None if it is refused."""
    sizes = {}
    for orientation in ("ignore", "apply"):
        size = tried(read_image_size, path, exif_orientation=orientation)
        image = tried(read_image, path, exif_orientation=orientation)
        sizes[orientation] = None if image is None else tuple(image.shape[1:])
        if image is not None:
            assert image.dtype == torch.uint8
            assert image.permute(1, 2, 0).is_contiguous()
            assert size == sizes[orientation]
    return sizes["apply"]


def is_plain(path: Path) -> bool:
    """Whether an undamaged file holds 8 bits a channel."""
    with Image.open(path) as image:
        return image.mode[0] not in "IF" and image.format != "EPS"


def data_set_of(paths: list[Path], sizes: list[tuple[int, int]], directory: Path) -> CocoDetection:
    images = [
        {"id": number, "file_name": path.name, "height": height, "width": width}
        for number, (path, (height, width)) in enumerate(zip(paths, sizes, strict=True))
    ]
    file = directory / "annotations.json"
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "one"}]}
    file.write_text(json.dumps(content))
    return CocoDetection(directory, file, allow_missing=True)


@contextmanager
def time_limit(path: Path):
    def stop(*_):
        raise TimeoutError(f"{path}: hangs")  # pragma: no cover

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check_files(directory: Path, count: int, seed: int) -> Counter:
    """Reads files by `read_image`, a data set and detect.py. Counts the read and refused ones by format."""
    files = write_files(directory, count, seed)
    found, counts = [], Counter()
    for path, suffix, kind in files:
        with time_limit(path):
            size = outcome(path)
        found.append(size)
        counts[suffix or "no file", "read" if size else "refused"] += 1
        assert kind != "none" or (size is not None) == is_plain(path)
    paths = [path for path, *_ in files]
    dataset = data_set_of(paths, [size or (1, 1) for size in found], directory)
    for index, size in enumerate(found):
        if size:
            assert tuple(dataset[index][0].shape[1:]) == size
        else:
            with pytest.raises(UnreadableImageError, match=paths[index].name):
                dataset[index]
    unreadable = found.count(None)
    with pytest.raises(UnreadableImageError, match=rf"^{unreadable} unusable image\(s\): "):
        dataset.check_images(decode=True)

    detector = Detector(EndToEndDetector(build_small_model().eval(), 5), ["a", "b", "c"], 32, 64)
    arguments = Namespace(**{**OPTIONS, "max_pixels": 10**8})
    output = directory / "detections"
    output.mkdir()
    assert detect_all(detector, paths, arguments, output) == (len(paths) - unreadable, unreadable)
    records = json.loads((output / "detections.json").read_text())
    assert list(records) == [str(path) for path, size in zip(paths, found, strict=True) if size]
    assert len({record["picture"] for record in records.values()}) == len(records)
    return counts


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Pillow warns of damaged TIFF and EXIF
def test_damaged_image_files_are_read_or_refused_by_name(tmp_path):
    counts = check_files(tmp_path, 60, seed=0)
    assert sum(counts.values()) == 64
    assert counts["no file", "refused"] == 4
    assert sum(number for (_, how), number in counts.items() if how == "read") > 10


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        number, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
        for key, times in sorted(check_files(Path(folder), number, seed).items()):
            print(*key, times)
