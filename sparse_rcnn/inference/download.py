"""Downloads images, with a limit of size and of time."""

import io
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

__all__ = ["CHUNK", "MAX_BYTES", "TIMEOUT", "check_scheme", "download_image", "is_url"]

MAX_BYTES = 50_000_000
TIMEOUT = 20.0  # seconds, for the whole download
CHUNK = 1 << 16


def is_url(name: str | Path) -> bool:
    """Whether a name is a URL of any scheme."""
    return isinstance(name, str) and "://" in name


def check_scheme(url: str) -> None:
    """Raises ValueError if a URL begins neither with http:// nor with https://."""
    scheme = urllib.parse.urlsplit(url).scheme.lower()
    if scheme not in ("http", "https"):
        raise ValueError(f"{url}: a URL must begin with http:// or https://")


def download_image(url: str, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT) -> io.BytesIO:
    """Downloads an image.

    Args:
        url: It begins with http:// or https://. So must all URLs to which it is redirected.
        max_bytes: The limit of its size in bytes.
        timeout: The limit of the whole download in seconds.

    Returns:
        The bytes as a file in memory.

    Raises:
        ValueError: If the URL begins with something else, the download fails, or a limit is exceeded.
    """
    check_scheme(url)
    deadline = time.monotonic() + timeout
    request = urllib.request.Request(url, headers={"User-Agent": "sparse_rcnn"})
    opener = urllib.request.build_opener(_CheckedRedirects)
    try:
        with opener.open(request, timeout=timeout) as response:
            content = io.BytesIO()
            while chunk := response.read1(CHUNK):
                content.write(chunk)
                if content.tell() > max_bytes:
                    raise ValueError(f"has more than {max_bytes} bytes; download it yourself")
                if time.monotonic() > deadline:
                    raise ValueError(f"took longer than {timeout:g} s")
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or error
        raise ValueError(f"the download failed: {reason}") from error
    content.seek(0)
    return content


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, response, code, message, headers, new_url):  # type: ignore[no-untyped-def]
        check_scheme(new_url)
        return super().redirect_request(request, response, code, message, headers, new_url)
