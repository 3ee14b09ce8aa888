"""Frames of videos and cameras, by PyAV."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["VIDEO_SUFFIXES", "camera_frames", "video_frames"]

VIDEO_SUFFIXES = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"}


def video_frames(path: str | Path) -> Iterator[Tensor]:
    """The frames of a video file, decoded one at a time.

    Args:
        path: Of the file.

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
        number: Of the camera, from 0.

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


def _frames(place: str, kind: str | None, name: str) -> Iterator[Tensor]:
    try:
        import av
    except ImportError as error:
        raise ImportError(f"{name} needs PyAV: pip install 'sparse_rcnn[video]'") from error
    return _decode(av, place, kind, name)


def _decode(av: Any, place: str, kind: str | None, name: str) -> Iterator[Tensor]:
    try:
        with av.open(place, format=kind) as container:
            if not container.streams.video:
                raise ValueError(f"{name} that has no pictures")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                pixels = frame.to_ndarray(format="rgb24")  # [H, W, 3]
                yield torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{name} that cannot be read: {error}") from error
