"""The built-in tasks, made from the documentation that the pinned dependencies carry; see `data/README.md`.

The Python files are parsed and never imported, so the result depends on the installed versions alone. Nothing is drawn
at random: what is taken, and into which split, follows from digests of the texts.
"""

from __future__ import annotations

import ast
import functools
import gc
import hashlib
import importlib.metadata
import importlib.util
import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from espalier.data.builtin.questions import Entry, Question, ask_meaning, ask_type, context_of, entries
from espalier.data.builtin.text import ALIASES, first_sentence, key, mask, paragraphs, passages, prose
from espalier.data.builtin.word_order import swap, swappable

DISTRIBUTIONS = {name: {"sklearn": "scikit-learn"}.get(name, name) for name in ALIASES}
"""Library → distribution that installs it."""

# Distinct first sentences that one library alone has, measured in 2026-11 with the versions of the lock file:
# sympy 6297, torch 5742, transformers 4823, scipy 2760, pandas 2663, matplotlib 2545, sklearn 1967, networkx 1528.
# numpy has the fewest, 1245, and is no class; what it says too is dropped all the same.
LIBRARIES = ("matplotlib", "networkx", "pandas", "scipy", "sklearn", "sympy", "torch", "transformers")

CLASSES: dict[str, tuple[str, ...] | None] = {
    "docs-library": LIBRARIES,
    "docs-pair": ("unrelated", "follows"),
    "docs-order": ("as-written", "swapped"),
    "docs-span": None,
    "docs-corpus": None,
}
"""Built-in task → its class names in the order of the labels; nothing for spans and unlabelled text."""

TRAIN_PER_CLASS, VALIDATION_PER_CLASS = 1250, 200
"""Rows of docs-library; together below the smallest library's number of sentences."""
VALIDATION_FILES = {"docs-pair": 0.12, "docs-order": 0.12, "docs-span": 0.12, "docs-corpus": 0.05}
"""Fraction of the Python files whose texts are validation rows, in (0, 1)."""
PAIR_WORDS, CORPUS_WORDS = (5, 200), (8, 200)
"""Fewest and most words of a paragraph."""
ORDER_ROWS = {"train": 10_000, "validation": 1_000}
"""Rows of docs-order; even numbers, below the number of sentences in the files of each split."""
ORDER_WORDS = (7, 25)
"""Fewest and most words of a sentence of docs-order."""
LEFT_OUT = {"tests", "test", "testing", "_testing", "_vendor", "externals"}
"""Folders of tests and of other projects' code."""

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

ANSWERS = pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())})
"""Answers in SQuAD's form; starts in characters of the context."""
BuiltinRows = list[tuple[Any, ...]]


def build(name: str) -> dict[str, pa.Table]:
    """A built-in task's rows: 'train' and 'validation', columns text_a, text_b (pairs and spans), label (classes only).

    Labels index into `CLASSES[name]`; spans have answers and id. The rows of a split are ordered by digest, which mixes
    libraries and classes.
    """
    makers = {
        "docs-library": _library,
        "docs-pair": _pairs,
        "docs-order": _order,
        "docs-span": _spans,
        "docs-corpus": _corpus,
    }
    splits = makers[name]()
    ordered = {split: sorted(rows, key=lambda row: _digest(*row[:-1])) for split, rows in splits.items()}
    return {split: _table(rows, CLASSES[name]) for split, rows in ordered.items()}


def digest(table: pa.Table) -> str:
    """SHA-256 of the rows in order, one JSON array a line: the content, not the bytes of a file."""
    result = hashlib.sha256()
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        result.update((json.dumps(row, ensure_ascii=False) + "\n").encode())
    return result.hexdigest()


def versions() -> dict[str, str]:
    """Installed version of each distribution that is read, without the local part such as `+cpu`."""
    return {name: importlib.metadata.version(name).split("+")[0] for name in DISTRIBUTIONS.values()}


@functools.lru_cache(maxsize=1)
def docstrings() -> dict[str, list[str]]:
    """Path of each Python file below site-packages → its docstrings in the order of the file; files sorted."""
    by_file: dict[str, list[str]] = {}

    # Syntax trees have no cycles; the collector's search for some takes a fifth of the time.
    gc.disable()
    try:
        for library in sorted(ALIASES):
            root = Path(importlib.util.find_spec(library).origin).parent
            names = sorted(path.relative_to(root.parent).as_posix() for path in root.rglob("*.py"))
            by_file |= {name: list(_docstrings(_parse(root.parent / name))) for name in names if _wanted(PurePosixPath(name))}
    finally:
        gc.enable()
    return by_file


def _wanted(path: PurePosixPath) -> bool:
    library, *folders, file = path.parts
    test = file.startswith(("test_", "conftest")) or file.endswith("_test.py")
    # transformers: modular_x.py repeats what modeling_x.py says. torch: private packages hold the compiler, not the library.
    repeated = library == "transformers" and file.startswith("modular_")
    private = library == "torch" and bool(folders) and folders[0].startswith("_")
    return not (test or repeated or private or LEFT_OUT & set(folders))


def _parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # other people's invalid escape sequences
        return ast.parse(path.read_bytes())


def _docstrings(tree: ast.Module) -> Iterator[str]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text
        for field in ("finalbody", "orelse", "handlers", "body"):  # definitions stand in statements, never in expressions
            waiting.extend(reversed(getattr(node, field, ())))


def _library() -> dict[str, BuiltinRows]:
    """First sentence → library; what two libraries say is dropped, and each library's texts are cut to the same number."""
    owners: dict[str, set[str]] = {}
    texts: dict[str, tuple[str, str]] = {}
    for file, texts_of_file in docstrings().items():
        library = file.split("/")[0]
        for sentence in filter(None, map(first_sentence, texts_of_file)):
            text = mask(sentence)
            owners.setdefault(key(text), set()).add(library)
            texts.setdefault(key(text), (text, library))
    splits: dict[str, BuiltinRows] = {"train": [], "validation": []}
    for library in LIBRARIES:
        own = sorted((row for key, row in texts.items() if owners[key] == {library}), key=lambda row: _digest(row[0]))
        splits["validation"] += own[:VALIDATION_PER_CLASS]
        splits["train"] += own[VALIDATION_PER_CLASS : VALIDATION_PER_CLASS + TRAIN_PER_CLASS]
    return splits


def _pairs() -> dict[str, BuiltinRows]:
    """Two neighbouring paragraphs of one docstring, or the first of one and the second of another in the same file.

    Each paragraph occurs at most once and each file is balanced, so that neither a text nor a topic tells the class.
    """
    splits: dict[str, BuiltinRows] = {"train": [], "validation": []}
    seen: set[str] = set()
    for file, texts_of_file in docstrings().items():
        pairs = sorted(_neighbours(texts_of_file, seen), key=lambda pair: _digest(*pair[:2]))
        rows = splits[_split(file, "docs-pair")]
        for (a, b, one), (c, d, other), *true in zip(*(pairs[start::4] for start in range(4)), strict=False):
            if one != other:
                rows += [(a, d, "unrelated"), (c, b, "unrelated"), *((first, second, "follows") for first, second, _ in true)]
    return splits


def _neighbours(docstrings_of_file: Iterable[str], seen: set[str]) -> Iterator[tuple[str, str, int]]:
    """Disjoint pairs of neighbouring paragraphs that were not seen before, with the number of their docstring."""
    for number, text in enumerate(docstrings_of_file):
        blocks = [prose(block, words=PAIR_WORDS) for block in paragraphs(text)]
        for first, second in zip(blocks[::2], blocks[1::2], strict=False):
            if first and second and key(first) != key(second) and not seen & {key(first), key(second)}:
                seen.update((key(first), key(second)))
                yield first, second, number


def _order() -> dict[str, BuiltinRows]:
    """First sentence → is it as written, or have two neighbouring words changed places?

    Each sentence occurs once, in one of the two forms, and every second one is swapped: both classes have equal words,
    lengths and punctuation.
    """
    sentences: dict[str, list[str]] = {split: [] for split in ORDER_ROWS}
    seen: set[str] = set()
    for file, texts_of_file in docstrings().items():
        for sentence in filter(None, map(first_sentence, texts_of_file)):
            few, most = ORDER_WORDS
            # Words in alphabetical order: sentences that differ in their order alone would look like a swap.
            words = " ".join(sorted(key(sentence).split()))
            if few <= len(sentence.split()) <= most and swappable(sentence) and words not in seen:
                seen.add(words)
                sentences[_split(file, "docs-order")].append(sentence)

    splits: dict[str, BuiltinRows] = {}
    for split, count in ORDER_ROWS.items():
        chosen = sorted(sentences[split], key=_digest)[:count]
        as_written: BuiltinRows = [(sentence, "as-written") for sentence in chosen[::2]]
        splits[split] = as_written + [(_swapped(sentence), "swapped") for sentence in chosen[1::2]]
    return splits


def _swapped(sentence: str) -> str:
    places = swappable(sentence)
    return swap(sentence, places[int(_digest("docs-order", sentence)[:8], 16) % len(places)])


def _spans() -> dict[str, BuiltinRows]:
    """Two questions on each list of parameters: what one of them is, and the type of another.

    A list occurs once, and so does a sentence that is an answer.
    """
    splits: dict[str, BuiltinRows] = {"train": [], "validation": []}
    seen: set[str] = set()
    for file, texts_of_file in docstrings().items():
        for kept in filter(None, (context_of(entries(docstring)) for docstring in texts_of_file)):
            context = " ".join(entry.text for entry in kept)
            if key(context) not in seen:
                seen.add(key(context))
                splits[_split(file, "docs-span")] += _questions(kept, seen)
    return splits


def _questions(kept: list[Entry], seen: set[str]) -> Iterator[Question]:
    by_digest = sorted(kept, key=lambda entry: _digest(entry.text, *(other.name for other in kept)))
    meant = next((entry for entry in by_digest if entry.meaning and key(entry.meaning) not in seen), None)
    if meant:
        seen.add(key(meant.meaning))
        yield ask_meaning(kept, meant)
    typed = next((entry for entry in by_digest if entry.type and entry is not meant), None)
    if typed:
        yield ask_type(kept, typed)


def _corpus() -> dict[str, BuiltinRows]:
    """Every paragraph of natural text, once."""
    splits: dict[str, BuiltinRows] = {"train": [], "validation": []}
    seen: set[str] = set()
    for file, texts_of_file in docstrings().items():
        blocks = [prose(block, words=CORPUS_WORDS) for docstring in texts_of_file for block in passages(docstring)]
        for text in filter(None, blocks):
            if key(text) not in seen:
                seen.add(key(text))
                splits[_split(file, "docs-corpus")].append((text, ""))
    return splits


def _split(file: str, name: str) -> str:
    return "validation" if int(_digest(file)[:8], 16) < VALIDATION_FILES[name] * 16**8 else "train"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _table(rows: BuiltinRows, classes: tuple[str, ...] | None) -> pa.Table:
    texts = {
        f"text_{letter}": pa.array(column, pa.string()) for letter, column in zip("ab", zip(*rows, strict=True), strict=False)
    }
    questions = [row for row in rows if isinstance(row, Question)]
    if questions:
        answers = pa.array([{"text": [row.answer], "answer_start": [row.start]} for row in questions], ANSWERS)
        return pa.table(texts | {"answers": answers, "id": pa.array([_digest(*row[:3])[:16] for row in rows])})
    if classes is None:
        return pa.table({"text_a": texts["text_a"]})
    if len(rows[0]) == 2:
        del texts["text_b"]
    return pa.table(texts | {"label": pa.array([classes.index(row[-1]) for row in rows], pa.int64())})


def readme_table(built: dict[str, dict[str, pa.Table]]) -> str:
    """The table of `data/README.md`: rows and digest of each split of each built-in task, and the versions it holds for."""
    lines = ["| task | split | rows | SHA-256 of the rows |", "|---|---|---|---|"]
    for name, splits in built.items():
        lines += [f"| `{name}` | {split} | {rows.num_rows:,} | `{digest(rows)}` |" for split, rows in splits.items()]
    return "\n".join([*lines, "", "Versions: " + ", ".join(f"{name} {version}" for name, version in versions().items())])


if __name__ == "__main__":
    print(readme_table({name: build(name) for name in CLASSES}))
