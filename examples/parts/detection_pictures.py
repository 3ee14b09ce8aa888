"""Where the pictures of detections go: a PNG for an image, and a video for a video or camera."""

import os
import sys
from pathlib import Path

from PIL.Image import Image

from sparse_rcnn.inference import Detected
from sparse_rcnn.inference.video import USUAL_RATE, VideoFile, frame_rate

LONGEST_STEM = 200  # bytes of a picture's name, of 255 that file systems allow


def picture_for(path: Path, output: Path, taken: set[Path], suffix: str = ".png") -> Path:
    """Where the picture of an image goes: into no other one and into no image, whatever they are called."""
    stem = os.fsencode(path.stem)[:LONGEST_STEM].decode(sys.getfilesystemencoding(), "ignore") or "image"
    name, copy = f"{stem}{suffix}", 1
    while (output / name).resolve() in taken:
        name, copy = f"{stem}_{copy}{suffix}", copy + 1
    taken.add((output / name).resolve())
    return output / name


def replace_by(drawn: Image, picture: Path) -> None:
    """Writes a new file: an old one may be a hard link to a photo, which must stay as it is."""
    picture.unlink(missing_ok=True)
    drawn.save(picture)


class Pictures:
    """Writes the picture of each photo, and frames into one video for each video or camera.

    Args:
        output: The directory for them.
        taken: Files that no picture may overwrite.
        frames: Also write a PNG for each frame.
    """

    def __init__(self, output: Path, taken: set[Path], frames: bool) -> None:
        self.output = output
        self.taken = taken
        self.frames = frames
        self.source = ""  # of the frames
        self.path = Path()
        self.video: VideoFile | None = None

    def add(self, found: Detected) -> tuple[Path, Path]:
        """Writes a picture.

        Returns:
            Its file; and the one that other files of this photo are named after.
        """
        source, frame, number = found.photo.name.rpartition(", frame ")
        drawn = found.draw()
        if not frame or found.photo.path is not None:  # a file may be called like a frame
            picture = picture_for(Path(found.photo.name), self.output, self.taken)
            replace_by(drawn, picture)
            return picture, picture
        if source != self.source:
            self.close()
            self.source = source
            self.path = picture_for(Path(source), self.output, self.taken, ".mp4")
            self.video = VideoFile(self.path, frame_rate(source) if Path(source).is_file() else USUAL_RATE)
        assert self.video is not None  # since the first frame
        self.video.add(drawn)
        picture = picture_for(Path(f"{Path(source).stem}_{int(number):06}.png"), self.output, self.taken)
        if self.frames:
            replace_by(drawn, picture)
        return self.path, picture

    def close(self) -> None:
        """Ends the video that is being written."""
        if self.video is not None:
            self.video.close()
            self.video = None
