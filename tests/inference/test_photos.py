"""The forms of a photo, errors for other things, and URLs from a server of this process."""

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from inference_cases import assert_same
from PIL import Image

from sparse_rcnn.data import UnreadableImageError
from sparse_rcnn.inference import find_images
from sparse_rcnn.inference.download import download_image


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (None, "image must be a path, URL, .* got NoneType"),
        (b"\xff\xd8", r"give PIL.Image.open\(file\), of bytes io.BytesIO\(bytes\)"),
        (io.BytesIO(b"\xff\xd8"), "image is a file's content: give PIL.Image.open"),
        (np.zeros((2, 4, 6, 3), np.uint8), "of several images, give a list of them"),
        (True, "got bool"),
        ([1.5], "image 0 must be .* got float"),
        (torch.zeros(4, 4), r"got Tensor of shape \(4, 4\)"),
        (torch.zeros(4, 6, 3), r"must be \[3, H, W\].*got \[4, 6, 3\] torch.float32; channels come first"),
        (torch.zeros(1, 4, 6), r"of a grey image, give image.expand\(3, -1, -1\)"),
        (torch.zeros(3, 4, 6, dtype=torch.int64), "uint8 or floating, got .* torch.int64"),
        (torch.full((3, 4, 6), 200.0), r"must be in 0\.\.1 and not normalised, got 200 to 200"),
        (torch.full((3, 4, 6), float("nan")), r"must be in 0\.\.1"),
        (torch.zeros(3, 0, 6), r"got \[3, 0, 6\]"),
        (np.zeros((3, 4, 6), np.uint8), r"channels come last: image.transpose\(1, 2, 0\)"),
        (np.zeros((4, 6), np.uint8), "of a grey image, give numpy.stack"),
        (np.zeros((4, 6, 4), np.uint8), "leave out its fourth channel"),
        (np.zeros((4, 6, 3)), "must be .* uint8, got .* float64; scale it to 0..255"),
        ("nowhere.jpg", "^nowhere.jpg: no image there: no file or folder has this name"),
        ("ftp://host/a.jpg", "^ftp://host/a.jpg: a URL must begin with http:// or https://"),
        ("file:///etc/passwd", "a URL must begin with http"),
    ],
)
def test_what_is_no_photo_is_told_what_to_give(detector, what, message):
    with pytest.raises(ValueError, match=message):
        detector(what)


def test_folders_and_globs_are_sorted_images_only(photo, tmp_path):
    for name in ("b.JPG", "a.webp", "notes.txt", "c.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.png").write_bytes(b"")
    (tmp_path / "._b.JPG").write_bytes(b"of another system")
    (tmp_path / "folder.jpg").mkdir()
    assert [path.name for path in find_images(tmp_path)] == ["a.webp", "b.JPG", "c.png"]
    assert [path.name for path in find_images(f"{tmp_path}/**/*.png")] == ["c.png", "d.png"]
    with pytest.raises(UnreadableImageError, match="sub2: no image there"):
        find_images(tmp_path / "sub2")
    (tmp_path / "sub2" / "e").mkdir(parents=True)
    with pytest.raises(UnreadableImageError, match=r"of folders in it, give '.*sub2/\*\*/\*.jpg'"):
        find_images(tmp_path / "sub2")


def test_a_photo_in_memory_stays_as_it_is(detector, photo):
    image = Image.open(photo).convert("P")
    array = np.asarray(Image.open(photo)).copy()
    before = array.copy()
    assert detector(image).image_size == (90, 130)
    detector(array)
    assert image.mode == "P"
    assert np.array_equal(array, before)


class Answers(BaseHTTPRequestHandler):
    """A photo, a page, too much, too slow, and redirections."""

    photo = b""

    def do_GET(self):
        if self.path == "/missing.png":
            return self.send_error(404)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd" if "file" in self.path else "/photo.png")
            self.end_headers()
            return None
        self.send_response(200)
        self.end_headers()
        if self.path == "/slow.png":
            for _ in range(40):
                self.wfile.write(b"x")
                self.wfile.flush()
                if stopped.wait(0.05):
                    break
        elif self.path == "/photo.png":
            self.wfile.write(self.photo)
        else:
            self.wfile.write(b"<html>" * 1000)
        return None

    def log_message(self, *_):
        pass


stopped = threading.Event()


@pytest.fixture(scope="module")
def server(photo):
    Answers.photo = photo.read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    stopped.set()
    server.shutdown()
    server.server_close()


def test_urls(detector, photo, server):
    expected = detector(photo, threshold=0.0)
    for place in ("photo.png", "to/photo"):
        found = detector(f"{server}/{place}", threshold=0.0)
        assert_same(found, expected)
        assert found.photo.name == f"{server}/{place}"
    assert found.draw().size == (520, 360)  # enlarged, without asking the server again
    for place, message in (
        ("missing.png", "the download failed: .*Not Found"),
        ("page.html", "cannot be read as an image"),
        ("to/file", "the download failed: .*not allowed"),
    ):
        with pytest.raises(UnreadableImageError, match=f"^{server}/{place}: .*{message}"):
            detector(f"{server}/{place}")
    (found,) = detector([f"{server}/missing.png", photo], on_unreadable=lambda error: None)
    assert found.photo.name == str(photo)


def test_downloads_are_bounded(server):
    with pytest.raises(ValueError, match="has more than 5999 bytes"):
        download_image(f"{server}/page.html", max_bytes=5999)
    assert len(download_image(f"{server}/page.html", max_bytes=6000).getvalue()) == 6000
    with pytest.raises(ValueError, match=r"took longer than 0\.2 s"):
        download_image(f"{server}/slow.png", timeout=0.2)


def test_video_frames_are_found_as_photos(detector, pixels, tmp_path):
    av = pytest.importorskip("av")
    frames = [pixels[:, :88, :128].roll(shift, 2) for shift in (0, 30, 60)]
    with av.open(tmp_path / "clip.mkv", "w") as container:
        stream = container.add_stream("ffv1", rate=5)  # lossless
        stream.width, stream.height, stream.pix_fmt = 128, 88, "bgr0"
        for frame in frames:
            array = frame.permute(1, 2, 0).contiguous().numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    results = detector(tmp_path / "clip.mkv", threshold=0.0)
    assert not isinstance(results, list)  # lazy: a video has many
    found = list(results)
    assert [one.photo.name.rpartition("/")[2] for one in found] == [f"clip.mkv, frame {n}" for n in range(3)]
    for one, frame in zip(found, frames, strict=True):
        assert_same(one, detector(frame, threshold=0.0))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"broken\.mp4: a video that cannot be read"):
        list(detector(tmp_path / "broken.mp4"))
    with pytest.raises(ValueError, match="camera 77 that cannot be read"):
        list(detector(77))


def test_without_pyav_the_message_names_the_extra(detector, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(ImportError, match=r"needs PyAV: pip install 'sparse_rcnn\[video\]'"):
        list(detector(tmp_path / "clip.mp4"))
