"""Debian's Chromium, driven by Playwright, and the pages that it opens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.reports import text_study, whole_study

CHROMIUM = "chromium"
"""Program of Debian's package of this name; Playwright's own browsers are not downloaded."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser without a window."""
    program = shutil.which(CHROMIUM)
    if program is None:
        pytest.fail(f"{CHROMIUM} is not installed; on Debian, as root: apt-get install -y {CHROMIUM}", pytrace=False)
    with sync_playwright() as playwright:
        # the sandbox needs a user other than root; the only page that is opened is our own
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name → report of an invented study: one with all that a page can show, one of a text task and no formats."""
    root = tmp_path_factory.mktemp("reports")
    for name, make in (("everything", whole_study), ("text", text_study)):
        make(root / name / "results" / name)
    return {name: root / name / "results" / name / "report.html" for name in ("everything", "text")}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the screenshots, for people who look at them."""
    return tmp_path_factory.mktemp("screenshots")
