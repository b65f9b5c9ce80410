"""Hooks of mkdocs: pages that lie outside docs/ join the site, and links between files of the repository work there.

Every page of the repository is written for reading in the repository: its links are relative paths of files. In the site

- README.md is the front page, and the other pages of PAGES have a place;
- a link to a page of the site leads to that page, a picture is copied;
- a link to another file of the repository, such as a source file, becomes plain text;
- a link to a file that does not exist is an error.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "data/README.md": "data.md",
    "benchmarks/README.md": "benchmarks.md",
    **{str(file.relative_to(ROOT)): f"studies/{file.parent.name}.md" for file in ROOT.glob("workflow/experiments/*/README.md")},
}
"""File of the repository → its place in the site."""
SOURCES = {place: source for source, place in PAGES.items()}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|!\[[^\]]*\]\([^)]*\)|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/ and the pictures of the repository's studies."""
    for source, place in PAGES.items():
        if (ROOT / source).is_file() and place not in files.src_uris:
            files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))

    for picture in ROOT.glob("workflow/experiments/*/figures/*.svg"):
        files.append(File.generated(config, f"repository/{picture.relative_to(ROOT)}", abs_src_path=str(picture)))

    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page to places of the site; examples in code stay as they are."""
    place = page.file.src_uri
    source = SOURCES.get(place, f"docs/{place}")

    def lead(match: re.Match[str]) -> str:
        return _link(match, source, place, files)

    parts: list[str] = []
    end = 0
    for code in CODE.finditer(markdown):
        parts += [LINK.sub(lead, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, LINK.sub(lead, markdown[end:])])


def _link(match: re.Match[str], source: str, place: str, files: Files) -> str:
    """One link in the words of the site."""
    mark, text, address = match.groups()
    text = LINK.sub(lambda inner: _link(inner, source, place, files), text)
    path, _, anchor = address.partition("#")
    if not path or re.match(r"[a-z]+:", address):
        return f"{mark}[{text}]({address})"

    target = os.path.normpath(Path(source).parent / unquote(path))
    if not (ROOT / target).exists():
        raise PluginError(f"{source}: the link to {address} leads to {target}, which does not exist")

    there = PAGES.get(target) or target.removeprefix("docs/")
    if target not in PAGES and not target.startswith("docs/"):
        there = f"repository/{target}"
    if there not in files.src_uris:
        return text

    relative = os.path.relpath(there, Path(place).parent)
    return f"{mark}[{text}]({relative}{'#' if anchor else ''}{anchor})"
