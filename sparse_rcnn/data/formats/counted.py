"""Numbers in sentences: "1 image is", "2 images are"."""

__all__ = ["counted"]


def counted(number: int, one: str, many: str) -> str:
    """A number and the words that go with it.

    Example:
        >>> counted(1, "image is", "images are"), counted(2000, "image is", "images are")
        ('1 image is', '2,000 images are')
    """
    return f"{number:,} {one if number == 1 else many}"
