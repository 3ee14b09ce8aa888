"""The options of scripts that detect in image files: how these are read, and how many may be unreadable."""

import argparse

from sparse_rcnn.data.image_file import MAX_PIXELS


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Adds --exif-orientation, --max-pixels and --max-unreadable."""
    parser.add_argument(
        "--exif-orientation",
        choices=("apply", "ignore"),
        default="apply",
        help="apply: images are turned upright as EXIF says, and annotations are of these; ignore: both are "
        "of the pixels as stored (apply)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help=f"the most pixels of an image; a larger one counts as unreadable ({MAX_PIXELS})",
    )
    parser.add_argument(
        "--max-unreadable",
        type=int,
        default=0,
        metavar="N",
        help="images that cannot be read are named and left out, and the exit status is 1 in the end; up to "
        "so many of them are no error (0)",
    )


def refuse_unreadable(count: int, total: int, accepted: int) -> None:
    """At the end, when all results are written: an error if more images were unreadable than accepted."""
    if count > accepted:
        raise ValueError(
            f"{count} of {total} images could not be read and are left out; --max-unreadable {count} accepts "
            "that"
        )
