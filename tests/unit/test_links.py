"""Every link between files of the repository leads somewhere, headings included."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
PAGES = [name for name in LISTED if (ROOT / name).is_file()]


def links(page: str) -> list[str]:
    """Addresses of the links and pictures of a page, without those that lead out of the repository."""
    inline = [
        token for block in MarkdownIt().enable("table").parse((ROOT / page).read_text()) for token in block.children or []
    ]
    addresses = [token.attrGet("href") or token.attrGet("src") for token in inline if token.type in ("link_open", "image")]
    return [address for address in addresses if address and not re.match(r"[a-z]+:", address)]


def headings(page: Path) -> set[str]:
    """Names under which the headings of a page can be linked, as GitHub and the site make them."""
    tokens = MarkdownIt().parse(page.read_text())
    texts = [tokens[index + 1].content for index, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for address in links(page):
        path, _, anchor = address.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {address}"
        if anchor and target.suffix == ".md":
            assert anchor in headings(target), f"{page}: {address}"
