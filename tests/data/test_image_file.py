import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_rcnn.data import UnreadableImageError, read_image
from sparse_rcnn.data.image_check import DatasetRemark, check_image_files
from sparse_rcnn.data.image_file import image_pixels, read_image_size

STORED = np.random.default_rng(0).integers(0, 256, (33, 64, 3)).astype(np.uint8)
# What EXIF's orientations do to stored pixels, said by NumPy.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


def write_png(path, values, bits, color_type):
    """Writes a file with channels of 16 bits. Pillow cannot do this."""
    rows = values.astype(">u2" if bits == 16 else np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("suffix", "mode", "options"),
    [
        ("png", "RGB", {}),
        *[("tiff", m, {"compression": c}) for m in ("RGB", "L") for c in ("raw", "tiff_lzw")],
    ],
)
def test_exif_is_applied_or_ignored_in_every_format(tmp_path, orientation, suffix, mode, options):
    path = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(STORED).convert(mode)
    picture.save(path, exif=exif, **options)
    stored = np.asarray(picture.convert("RGB"))
    for choice, expected in (("apply", UPRIGHT[orientation](stored)), ("ignore", stored)):
        found = read_image(path, exif_orientation=choice).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, expected)
        assert read_image_size(path, exif_orientation=choice) == expected.shape[:2]


def test_a_turn_that_the_size_does_not_tell_gets_a_remark(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    path = tmp_path / "upside_down.png"
    Image.fromarray(STORED).save(path, exif=exif)
    with pytest.warns(UserWarning, match=r"EXIF turns 1 image\(s\) .*upside_down\.png"):
        check_image_files([path], [(33, 64)])
    check_image_files([path], [(33, 64)], exif_orientation="ignore", decode=True)
    with pytest.raises(ValueError, match="exif_orientation must be 'apply' or 'ignore', got 'upright'"):
        read_image(path, exif_orientation="upright")


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (6, 4), (4, 2), (0, 1)])
@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_16_bits_a_channel_are_read_if_they_are_used(tmp_path, color_type, channels, bits):
    values = np.random.default_rng(1).integers(0, 2**bits, (20, 30, channels))
    if channels in (2, 4):
        values[..., -1] = 65535  # opaque, which does not show the depth
    path = tmp_path / "deep.png"
    write_png(path, values, 16, color_type)
    if bits < 16:
        with pytest.raises(UnreadableImageError, match=r"deep\.png.* values use 14 or less.* black"):
            read_image(path)
    else:
        expected = torch.from_numpy(values[..., : 1 if channels == 2 else 3] >> 8).permute(2, 0, 1)
        assert torch.equal(read_image(path), expected.to(torch.uint8).expand(3, -1, -1))
        with pytest.warns(DatasetRemark, match=r"1 image\(s\), .*deep\.png, have 16 bits per channel"):
            check_image_files([path], [(20, 30)])


def test_deep_grey_of_other_formats_and_in_memory(tmp_path):
    values = np.random.default_rng(1).integers(0, 2**16, (20, 30)).astype(np.uint16)
    expected = torch.from_numpy((values >> 8).astype(np.uint8)).expand(3, -1, -1)
    picture = Image.fromarray(values)
    assert torch.equal(image_pixels(picture), expected)
    for name in ("deep.tiff", "deep.pgm"):
        picture.save(tmp_path / name)
        assert torch.equal(read_image(tmp_path / name), expected)
    data = bytearray((tmp_path / "deep.tiff").read_bytes())
    tag = data.index(struct.pack("<HHI", 262, 3, 1))  # 0 is white
    data[tag + 8] = 0
    (tmp_path / "negative.tiff").write_bytes(data)
    assert torch.equal(read_image(tmp_path / "negative.tiff"), 255 - expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_grey_of_no_certain_scale_is_refused(tmp_path, mode):
    Image.new(mode, (5, 4)).save(tmp_path / "deep.tiff")
    with pytest.raises(UnreadableImageError, match=f"mode {mode} has no certain scale; scale all images"):
        read_image(tmp_path / "deep.tiff")


def test_other_modes_become_rgb(tmp_path):
    def read(picture, name, **options):
        picture.save(tmp_path / name, **options)
        return read_image(tmp_path / name)

    red = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 4, 5)
    cmyk = Image.new("CMYK", (5, 4), (0, 255, 255, 0))
    assert torch.equal(read(cmyk, "cmyk.tiff"), red)
    assert torch.equal(read(cmyk, "cmyk.jpg"), red)
    assert torch.equal(read(Image.new("RGBA", (5, 4), (255, 0, 0, 0)), "clear.png"), red)
    palette = Image.fromarray(STORED).quantize(4)
    found = read(palette, "palette.png", transparency=bytes([0, 9, 255, 0]))
    assert torch.equal(found, torch.from_numpy(np.array(palette.convert("RGB"))).permute(2, 0, 1))
    assert read(Image.new("LA", (5, 4), (99, 0)), "la.png").unique().tolist() == [99]
    assert read(Image.new("1", (5, 4), 1), "one.png").unique().tolist() == [255]


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")  # reading it would wait for ever
    for path in (tmp_path / "pipe.jpg", "/dev/zero", tmp_path):
        for read in (read_image, read_image_size):
            with pytest.raises(UnreadableImageError, match=f"^{path}: .*it is not a regular file"):
                read(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_of_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.new("1", (300, 200)).save(path)
    with pytest.raises(UnreadableImageError, match="300 x 200 pixels, more than max_pixels=59999"):
        read_image(path, max_pixels=59_999)
    assert read_image(path, max_pixels=60_000).shape == (3, 200, 300)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's own, of which it refuses twice as many
    with pytest.raises(UnreadableImageError, match="more pixels than max_pixels=1000"):
        read_image_size(path, max_pixels=1000)
    assert read_image_size(path, max_pixels=60_000) == (200, 300)


def test_a_drawing_that_another_program_would_run_is_refused(tmp_path):
    Image.new("RGB", (5, 4)).save(tmp_path / "drawing.eps")
    with pytest.raises(UnreadableImageError, match="EPS is a vector format"):
        read_image(tmp_path / "drawing.eps")
