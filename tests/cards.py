"""Running the Python lines of a model's card as they are printed, on rows of one's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def lines_of(card: str) -> tuple[str, str]:
    """The lines for PyTorch, and those for the ONNX file."""
    torch_lines, onnx_lines = (part.split("```")[0] for part in card.split("```python\n")[1:3])
    return torch_lines, onnx_lines


def run_lines(lines: str, folder: Path, texts: dict[str, list[str]]) -> dict[str, Any]:
    """Run lines in the folder of their card; returns all names that they give.

    Args:
        lines: of the card.
        folder: of the model.
        texts: example in the card → what stands there instead, such as {"a text": rows}.
    """
    for example, rows in texts.items():
        assert lines.count(f'["{example}"]') == 1, lines
        lines = lines.replace(f'["{example}"]', repr(rows))

    before, found = Path.cwd(), {}
    os.chdir(folder)
    try:
        exec(lines, found)
    finally:
        os.chdir(before)
    return found
