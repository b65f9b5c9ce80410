"""docs/families.md: the committed page is the generated one, has every family, method and kind, and people are led to it."""

from __future__ import annotations

import re
from pathlib import Path

from espalier.config.families import ASKED_FOR, ENCODERS, WITHOUT_HEAD
from espalier.config.families.matrix import Verdict, family_and_method, method_and_kind
from espalier.config.families.page import Notes, families_page, grouped
from espalier.config.kinds import KINDS
from espalier.config.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/families.md").read_text()


def cells_of(heading: str) -> dict[tuple[str, str], str]:
    """(row, name in the head) → what a table of the page says, with the text of its note."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    notes = dict(re.findall(r"^(\d+)\. (.+)$", section, re.MULTILINE))
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    found = {}
    for row, *cells in rows:
        for names, cell in zip(head[1:], cells, strict=True):
            word, _, number = cell.partition(" (")
            found |= {(row, name): f"{word}: {notes[number[:-1]]}" if number else word for name in names.split(", ")}
    return found


def said(verdict: Verdict) -> str:
    return Notes().mark(verdict).partition(" (")[0]


def test_the_committed_page_is_the_generated_one():
    assert families_page() == PAGE, "run `make docs-pages`"


def test_the_table_of_families_has_every_pair():
    cells = cells_of("Family and method")
    assert cells.keys() == {(family, method) for family in ENCODERS for method in METHODS}
    for (family, method), cell in cells.items():
        verdict = family_and_method(family, method)
        assert cell.partition(":")[0] == said(verdict)
        assert (verdict.why_not or "")[1:] in cell
    assert "gates: [units, attention, ffn, hidden]" in cells["mpnet", "cofi"] and "position biases" in cells["mpnet", "obs"]
    assert cells["bert", "homodistil"] == "yes" and cells["gte", "cofi"] == "yes" and "RMSNorm" in cells["eurobert", "l0"]


def test_the_table_of_kinds_has_every_pair():
    cells = cells_of("Method and kind of task")
    assert cells.keys() == {(method, kind) for method in METHODS for kind in KINDS}
    assert all(cell.partition(":")[0] == said(method_and_kind(*pair)) for pair, cell in cells.items())
    assert cells["homodistil", "text"] == "yes" and cells["cofi", "text"].startswith("no: It trains on labels")


def test_what_is_missing_or_asked_for_is_named():
    assert all(", ".join(families) in PAGE and name in PAGE for name, families in WITHOUT_HEAD.items())
    assert all(f"- {family}: {reason}." in PAGE for family, reason in ASKED_FOR.items())
    assert not set(ASKED_FOR) & set(ENCODERS)


def test_names_with_the_same_column_share_it():
    columns = {"a": [Verdict()], "b": [Verdict("no")], "c": [Verdict()]}
    assert grouped(list(columns), columns.__getitem__) == [["a", "c"], ["b"]]


def test_a_note_is_numbered_once():
    notes = Notes()
    cells = [notes.mark(verdict) for verdict in (Verdict("why"), Verdict(), Verdict(None, {"a": 0}), Verdict("why"))]
    assert cells == ["no (1)", "yes", "yes (2)", "no (1)"] and notes.lines() == "1. Why.\n2. With `a: 0` in the plan."


def test_the_front_page_leads_here_and_counts_right():
    text = (ROOT / "README.md").read_text()
    assert f"[{len(ENCODERS)} families](docs/families.md)" in text and len(text.splitlines()) <= 110
