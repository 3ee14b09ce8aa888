"""Options for reading image files, and for the number of images that may be unreadable."""

import argparse

from sparse_rcnn.data.image_file import MAX_PIXELS


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Adds --exif-orientation, --max-pixels and --max-unreadable."""
    parser.add_argument(
        "--exif-orientation",
        choices=("apply", "ignore"),
        default="apply",
        help="apply: turn images upright as EXIF says. Boxes are on upright images. ignore: do not turn. "
        "Boxes are on the stored pixels (apply)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help=f"limit of pixels per image. Larger images count as unreadable ({MAX_PIXELS})",
    )
    parser.add_argument(
        "--max-unreadable",
        type=int,
        default=0,
        metavar="N",
        help="accept up to N images that cannot be read. They are named and left out. If there are more, the "
        "exit status is 1 (0)",
    )


def refuse_unreadable(count: int, total: int, accepted: int) -> None:
    """Raises an error if more images were unreadable than accepted. Call it when all results are written."""
    if count > accepted:
        raise ValueError(
            f"{count} of {total} images could not be read and are left out; to accept this, give "
            f"--max-unreadable {count}"
        )
