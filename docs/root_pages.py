"""Pages of the site that lie in the repository's root, where people and packaging look for them."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ON_SITE = {
    "README.md": "index.md",
    "RESULTS.md": "experiments.md",
    "BENCHMARKS.md": "benchmarks.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
IN_ROOT = {page: source for source, page in ON_SITE.items()}
LINK = re.compile(r"\[(?P<text>[^]]*)\]\((?!http|#)(?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    for source, page in ON_SITE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links are written as they work in the repository; here they become those of the site."""
    here = page.file.src_uri
    folder = posixpath.dirname(IN_ROOT.get(here, f"docs/{here}"))

    def on_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link["target"]))
        if not (ROOT / target).exists():
            return link[0]  # code that looks like a link, or a link that the build will complain of
        if target in ON_SITE:
            target = ON_SITE[target]
        elif target.startswith("docs/"):
            target = target.removeprefix("docs/")
        else:
            return link["text"]  # a file of the repository that is no page: its name is enough
        target = posixpath.relpath(target, posixpath.dirname(here) or ".")
        return f"[{link['text']}]({target}{link['anchor'] or ''})"

    return LINK.sub(on_site, markdown)
