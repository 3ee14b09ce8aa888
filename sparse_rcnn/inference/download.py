"""Images from the web, with a bound on size and time."""

import io
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

__all__ = ["CHUNK", "MAX_BYTES", "TIMEOUT", "check_scheme", "download_image", "is_url"]

MAX_BYTES = 50_000_000
TIMEOUT = 20.0  # seconds, for the whole of it
CHUNK = 1 << 16


def is_url(name: str | Path) -> bool:
    """Whether a name is a URL, of whatever scheme."""
    return isinstance(name, str) and "://" in name


def check_scheme(url: str) -> None:
    """Raises ValueError unless a URL is of http or https."""
    scheme = urllib.parse.urlsplit(url).scheme.lower()
    if scheme not in ("http", "https"):
        raise ValueError(f"{url}: a URL must begin with http:// or https://")


def download_image(url: str, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT) -> io.BytesIO:
    """What is at a URL.

    Args:
        url: Of scheme http or https; so are those that it is redirected to.
        max_bytes: The most to read.
        timeout: Seconds that the whole download may take.

    Returns:
        The bytes as a file.

    Raises:
        ValueError: If it is of another scheme, cannot be read, is larger, or takes longer.
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
