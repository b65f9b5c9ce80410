"""Docstrings → natural text: markup taken off, what is not prose left out, names of libraries masked."""

from __future__ import annotations

import itertools
import re

ALIASES = {
    "matplotlib": ("matplotlib", "pyplot", "plt", "mpl"),
    "networkx": ("networkx", "nx"),
    "numpy": ("numpy", "np"),
    "pandas": ("pandas", "pd"),
    "scipy": ("scipy",),
    "sklearn": ("sklearn", "scikit-learn", "scikit learn", "scikit"),
    "sympy": ("sympy",),
    "torch": ("torch", "pytorch"),
    "transformers": ("transformers", "huggingface", "hugging face", "hf"),
}
"""Names under which a library speaks of itself and of the others."""
PLACEHOLDER = "library"
"""What stands in a text for the name of any library."""

_LONG = ("matplotlib", "networkx", "numpy", "pandas", "scipy", "sklearn", "sympy", "torch", "huggingface")
_SHORT = sorted({name for names in ALIASES.values() for name in names} - set(_LONG), key=len, reverse=True)
_ANY_LONG, _ANY_SHORT = ("|".join(map(re.escape, names)) for names in (_LONG, _SHORT))
# Long names count inside a word too (NetworkXError, libtorch, is_torch_available), short ones as words of their own.
_NAMES = re.compile(
    rf"(?<![a-z])[a-z]*(?:{_ANY_LONG})[a-z]*|(?<![a-z0-9])(?:{_ANY_SHORT})(?![a-z0-9])",
    re.IGNORECASE,
)
_LABELLED = re.compile(r"(?::[\w:+.-]+:)?`([^`<]+?)\s*<[^`>]*>`_{0,2}")
_ROLE = re.compile(r":[\w:+.-]+:`[~!.]*([^`]*)`")
_MARKDOWN_LINK = re.compile(r"\[([^\[\]]+)\]\([^()\s]*\)")
_FOOTNOTE = re.compile(r"\s*\[(?:\d+|#\w*)\]_")
_QUOTED = re.compile(r"\[?`{1,3}~?([^`]+)`{1,3}\]?_{0,2}")
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})(\w[^*]*?)\1(?![\w*])")
_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\betc)(?<!\bcf)(?<!\bal)[.!?](?=\s+[\"'(]?[A-Z]|$)")
_NOT_PROSE = re.compile(
    r"[{}<>|\\$=^~@#*`\[\]\x00-\x1f]|::|https?:|deprecat|versionadded|versionchanged|copied from|todo", re.I
)
_NOT_LETTER = re.compile(r"[^A-Za-z ]+")
_LIST = re.compile(r"\s|[.\-*+:|#>]|\d+[.)]\s|\w[\w ]*:\s*\n|.*\n *[-=*+~^\"]", re.DOTALL)
_HEADING = re.compile(r"^.*\n[ \t]*([-=~])\1{2,}[ \t]*$", re.MULTILINE)
_PUNCTUATION = ".,;:!?()\"'"


def paragraphs(docstring: str) -> list[str]:
    """Blocks between blank lines, as written."""
    return [block for block in re.split(r"\n[ \t]*\n", docstring.strip()) if block.strip()]


def passages(docstring: str) -> list[str]:
    """Runs of lines with the same indentation, headings left out: finer than paragraphs, so lists give their descriptions."""
    text = _HEADING.sub("", docstring)
    runs = itertools.groupby(text.splitlines(), key=lambda line: len(line) - len(line.lstrip()) if line.strip() else None)
    return ["\n".join(line.strip() for line in lines) for indent, lines in runs if indent is not None]


def clean(text: str) -> str:
    """One line without reStructuredText and Markdown; roles such as :class:`~x.y` become the bare name `y`."""
    if "`" in text:
        text = _LABELLED.sub(r"\1", text)
        text = _ROLE.sub(lambda found: found[1].rsplit(".", 1)[-1] if " " not in found[1] else found[1], text)
    if "[" in text:
        text = _MARKDOWN_LINK.sub(r"\1", text)
        text = _FOOTNOTE.sub("", text)
    if "`" in text:
        text = _QUOTED.sub(r"\1", text)
    if "*" in text:
        text = _EMPHASIS.sub(r"\2", text)
    return " ".join(text.split())


def prose(block: str, *, words: tuple[int, int]) -> str | None:
    """The cleaned block if it is natural text of a sane length, else nothing.

    Args:
        block: a paragraph or a sentence as written.
        words: fewest and most words.
    """
    few, cased = len(block.split()) < words[0], not block[:1].islower()
    if few or not cased or len(block) > 12 * words[1] or ":math:" in block or _LIST.match(block):
        return None  # the cheap tests first: most blocks end here
    text = clean(block)
    sane = words[0] <= len(text.split()) <= words[1] and len(_NOT_LETTER.sub("", text)) >= 0.85 * len(text)
    natural = text[:1].isupper() and not text.endswith(":") and text.isprintable() and not _NOT_PROSE.search(text)
    return text if sane and natural else None


def first_sentence(docstring: str) -> str | None:
    """The first sentence, cleaned, if it is natural text of 5 to 40 words."""
    blocks = paragraphs(docstring)
    text = prose(blocks[0], words=(5, 200)) if blocks else None
    if text is None:
        return None
    end = _SENTENCE_END.search(text)
    return prose(text[: end.end()] if end else text, words=(5, 40))


def mask(text: str) -> str:
    """The text with every name of a library replaced, case-insensitively."""
    return _NAMES.sub(PLACEHOLDER, text)


def key(text: str) -> str:
    """What two texts share that say the same of different things: identifiers, case, digits and punctuation put aside.

    'Construct a BertTokenizer.' and 'Construct a GPT2Tokenizer' have the same key.
    """
    first, *others = text.split()
    words = [first[0].lower() + first[1:], *others]
    plain = [word.strip(_PUNCTUATION).replace("-", "") for word in words]
    return " ".join(word if word.isalpha() and word.islower() else "x" for word in plain)
