"""Text files as tools write them: UTF-8, with or without a mark at the beginning, or Windows' UTF-16."""

import codecs
from pathlib import Path

__all__ = ["decoded", "lines_of", "read_text"]


def read_text(file: str | Path, what: str = "") -> str:
    r"""The text of a file, with "\n" at the end of each line.

    Args:
        file: The file.
        what: What it should be, for the message: " as a list of images".

    Raises:
        ValueError: If the file cannot be read, or is no text.
    """
    try:
        text = decoded(Path(file).read_bytes())
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: cannot be read{what}: {error}; save it as UTF-8") from error
    except OSError as error:
        raise ValueError(f"{file}: cannot be read{what}: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(file: str | Path, what: str = "") -> list[str]:
    """The lines of a file that are not empty, without spaces at their ends; raises as `read_text`."""
    return [line.strip() for line in read_text(file, what).split("\n") if line.strip()]


def decoded(content: bytes, errors: str = "strict") -> str:
    """Bytes as text."""
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf16 else "utf-8-sig", errors)
