"""Reads frames of videos and cameras, and writes videos. PyAV does the work."""

import contextlib
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

__all__ = ["USUAL_RATE", "VIDEO_SUFFIXES", "VideoFile", "camera_frames", "frame_rate", "video_frames"]

USUAL_RATE = 30  # frames a second
VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"}


def video_frames(path: str | Path) -> Iterator[Tensor]:
    """The frames of a video file. They are decoded one at a time.

    Args:
        path: The file.

    Yields:
        [3, H, W] uint8, RGB.

    Raises:
        ValueError: If it is no video.
        ImportError: If PyAV is not installed.
    """
    return _frames(str(path), None, f"{path}: a video")


def camera_frames(number: int = 0) -> Iterator[Tensor]:
    """The frames of a camera, until the caller stops.

    Args:
        number: The number of the camera, from 0.

    Yields:
        [3, H, W] uint8, RGB.

    Raises:
        ValueError: If there is no such camera.
        ImportError: If PyAV is not installed.
    """
    places = {
        "linux": ("v4l2", f"/dev/video{number}"),
        "darwin": ("avfoundation", str(number)),
        "win32": ("vfwcap", str(number)),
    }
    if sys.platform not in places:
        raise ValueError(f"camera {number}: no cameras are known on {sys.platform}")
    kind, place = places[sys.platform]
    return _frames(place, kind, f"camera {number}")


def frame_rate(path: str | Path) -> Fraction:
    """The frame rate of a video file.

    Args:
        path: The file.

    Returns:
        Frames per second. 30 if the file does not say it.

    Raises:
        ValueError: If it is no video.
        ImportError: If PyAV is not installed.
    """
    name = f"{path}: a video"
    av = _pyav(name)
    try:
        with av.open(str(path)) as container:
            stream = next(iter(container.streams.video), None)
            return (stream and stream.average_rate) or Fraction(USUAL_RATE)
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{name} that cannot be read: {error}") from error


class VideoFile:
    """Writes pictures to a video, one after the other. It keeps none of them in memory.

        with VideoFile("found.mp4", frame_rate("clip.mp4")) as video:
            for found in detector("clip.mp4"):
                video.add(found.draw())

    Args:
        path: The file. An existing one is overwritten.
        rate: Frames per second.

    Raises:
        ImportError: If PyAV is not installed.
        ValueError: By `add` and `close`, if the encoder or the disk fails. The file is removed then.
    """

    def __init__(self, path: str | Path, rate: Fraction | int = USUAL_RATE) -> None:
        self._av = _pyav(f"{path}: writing a video")
        self._path = Path(path)
        self._is_open = True
        self._container = self._av.open(str(path), "w")
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        self._stream = self._container.add_stream(codec, rate=rate)
        self._stream.pix_fmt = "yuv420p"  # what every player shows
        self._size = (0, 0)

    def add(self, picture: Image.Image) -> None:
        """Adds a frame. The first one gives the size of the video. Others are resized to it."""
        if self._size == (0, 0):
            self._size = picture.width // 2 * 2, picture.height // 2 * 2  # the codec needs even sides
            self._stream.width, self._stream.height = self._size
        if picture.size != self._size:
            picture = picture.resize(self._size)
        with self._removed_if_it_fails():
            self._container.mux(self._stream.encode(self._av.VideoFrame.from_image(picture)))

    def close(self) -> None:
        """Writes what is left, and closes the file. It does nothing a second time, or after an error."""
        if not self._is_open:
            return
        with self._removed_if_it_fails():
            if self._size != (0, 0):
                self._container.mux(self._stream.encode())
            self._container.close()
        self._is_open = False

    @contextlib.contextmanager
    def _removed_if_it_fails(self) -> Iterator[None]:
        """A video that cannot be written is no half video: its file is removed."""
        try:
            yield
        except (self._av.error.FFmpegError, OSError) as error:
            self._is_open = False
            with contextlib.suppress(self._av.error.FFmpegError, OSError):
                self._container.close()
            self._path.unlink(missing_ok=True)
            message = f"{self._path}: the video cannot be written, and is removed: {error}"
            raise ValueError(message) from error

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _pyav(name: str) -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(f"{name} needs PyAV: pip install 'sparse_rcnn[video]'") from error
    return av


def _frames(place: str, kind: str | None, name: str) -> Iterator[Tensor]:
    return _decode(_pyav(name), place, kind, name)


def _decode(av: Any, place: str, kind: str | None, name: str) -> Iterator[Tensor]:
    try:
        with av.open(place, format=kind) as container:
            if not container.streams.video:
                raise ValueError(f"{name} that has no pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                pixels = frame.to_ndarray(format="rgb24")  # [H, W, 3]
                yield torch.from_numpy(rearrange(pixels, "h w c -> c h w").copy())
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{name} that cannot be read: {error}") from error
