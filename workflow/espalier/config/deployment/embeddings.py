"""The keys `vocabulary` and `factorise` of the block `deploy`: embeddings that are small enough to hand on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Block
from espalier.config.families import read_object

ALGORITHMS = ("WordPiece", "BPE", "Unigram")
"""Algorithms of tokenizers whose vocabulary can be made smaller."""


class KeptVocabulary(Block):
    """Tokens that a model keeps. Special tokens, and the smallest pieces that every other word is cut into, are always kept:
    single characters, or bytes. One key only."""

    keep: Literal["used"] | None = None
    """Which tokens are kept: used are those that occur in the task's training text. null leaves this to another key. [ours]"""
    coverage: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Keep the most frequent tokens, as many as make up this part of the tokens of the training text. null leaves this to
    another key. [fraction; ours]"""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Keep at most so many tokens, the most frequent ones of the training text, those that are always kept among them. null
    leaves this to another key. [tokens; ours]"""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [f"{name}: {value}" for name, value in self if value is not None]
        if len(given) != 1:
            raise ValueError(f"got {', '.join(given) or 'nothing'}; allowed: one of keep: used, coverage, tokens")
        return self


class Factorise(Block):
    """The word table as a product of two smaller ones."""

    rank: Annotated[int, Field(ge=1)]
    """Columns of the first table and rows of the second: the largest singular values that are kept. [dimensions]"""


def tokenizer_problem(path: Path) -> str | None:
    """Why the vocabulary of a tokenizer at hand cannot be made smaller; None if it can, or if nothing is known of it yet."""
    model = (read_object(path) or {}).get("model")
    algorithm = model.get("type") if isinstance(model, dict) else None
    if algorithm is None or algorithm in ALGORITHMS:
        return None
    return f"deploy.vocabulary cannot work on a tokenizer of the type {algorithm}; supported: {', '.join(ALGORITHMS)}"
