"""A tokenizer with fewer tokens that cuts every text whose tokens it has kept as before.

Why, for the three algorithms of tokenizer.json. A text is *covered* if the whole tokenizer cuts it into kept tokens.

- WordPiece takes the longest token that matches, again and again. A kept token that was the longest one still is, because
  there are only fewer candidates. A word with a sign that no token has stays unknown, as long as every character of every
  token is a token by itself, which trainers see to; for other vocabularies the job `trim` counts what is cut otherwise.
- BPE merges the pair that comes first in the list of merges, again and again. The merges inside a token do not depend on
  what stands around it. So the merges of kept tokens, and the tokens in between, are kept in their order; then every step of
  a covered text is the same, and no other pair comes first, because there are only fewer candidates.
- Unigram takes the path of the highest sum of scores. The best path of a covered text is still there with the same sum, and
  there are only fewer rivals. An unknown character costs the lowest score of all tokens and a constant, so the token with
  that score is kept.

What is not covered is cut into smaller tokens: single characters and bytes are always kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from espalier.config.deployment.embeddings import ALGORITHMS, KeptVocabulary
from espalier.runtime.errors import UserError

Document = dict[str, Any]
"""The content of tokenizer.json."""
BYTE = "<0x{:02X}>"
"""A byte as a token, where a tokenizer falls back to bytes."""
TEXTS_AT_ONCE = 1000
"""Texts that are cut at a time."""


def tokens_of(document: Document) -> dict[str, int]:
    """Token → number, those that were added to the algorithm's own vocabulary among them.

    Raises:
        UserError: the tokenizer works by another algorithm.
    """
    model = document["model"]
    if (algorithm := model.get("type")) not in ALGORITHMS:
        raise UserError(f"a tokenizer of the type {algorithm} cannot be made smaller; supported: {', '.join(ALGORITHMS)}")

    unigram = algorithm == "Unigram"
    own = {token: number for number, (token, _) in enumerate(model["vocab"])} if unigram else model["vocab"]
    return own | {added["content"]: added["id"] for added in document.get("added_tokens", ())}


def count_tokens(tokenizer: Tokenizer, texts: Iterable[str], size: int) -> Int[np.ndarray, " tokens"]:
    """How often each token occurs in texts, special tokens that stand around a text left out.

    Args:
        tokenizer: without truncation and padding.
        texts: to cut.
        size: tokens of the vocabulary.
    """
    counts = np.zeros(size, dtype=np.int64)
    for rows in _in_turn(texts):
        numbers = [number for row in tokenizer.encode_batch(rows, add_special_tokens=False) for number in row.ids]
        counts += np.bincount(numbers, minlength=size)
    return counts


def always_kept(document: Document) -> set[int]:
    """Numbers of the tokens that every smaller tokenizer keeps: those that settings name, and what other words are made of."""
    model, numbers = document["model"], tokens_of(document)

    kept = {added["id"] for added in document.get("added_tokens", ())} | {*_numbers_in(document.get("post_processor"))}
    if (padding := document.get("padding")) is not None:
        kept.add(padding["pad_id"])

    if model["type"] == "Unigram":
        # the cost of an unknown character is counted from the lowest score
        scores = [score for _, score in model["vocab"]]
        kept.add(scores.index(min(scores)))
        if model.get("unk_id") is not None:
            kept.add(model["unk_id"])
    elif model.get("unk_token") in numbers:
        kept.add(numbers[model["unk_token"]])

    bytes_ = {BYTE.format(byte) for byte in range(256)} if model.get("byte_fallback") else set()
    return kept | {number for token, number in numbers.items() if token in bytes_ or len(_bare(model, token)) <= 1}


def _bare(model: Document, token: str) -> str:
    """A token without the marks of its place in a word; nothing, where a character of a text is itself such a mark."""
    token = token.removeprefix(model.get("continuing_subword_prefix") or "")
    return token.removesuffix(model.get("end_of_word_suffix") or "")


def _numbers_in(processor: Any) -> Iterator[int]:
    """Numbers of the special tokens that a post-processor adds."""
    if isinstance(processor, list):
        for part in processor:
            yield from _numbers_in(part)
    elif isinstance(processor, dict):
        for key, value in processor.items():
            if key in ("sep", "cls") and isinstance(value, list):
                yield value[1]
            elif key == "ids" and isinstance(value, list):
                yield from value
            else:
                yield from _numbers_in(value)


def cuts_alike(document: Document) -> bool:
    """Whether every text of kept tokens is sure to be cut as before: in WordPiece a word may otherwise stop being unknown."""
    model = document["model"]
    if model["type"] != "WordPiece":
        return True

    # what was added is found as a whole, before words are cut
    prefix, added = model["continuing_subword_prefix"], {token["content"] for token in document.get("added_tokens", ())}
    for token in model["vocab"].keys() - added:
        continues, bare = token.startswith(prefix), _bare(model, token)
        marks = [prefix if continues or place else "" for place in range(len(bare))]
        if any(mark + character not in model["vocab"] for mark, character in zip(marks, bare, strict=True)):
            return False
    return True


class Merges:
    """The merges of a BPE tokenizer: which tokens, and which merges, a token is made from."""

    def __init__(self, model: Document) -> None:
        self.model = model
        self.prefix = model.get("continuing_subword_prefix") or ""
        self.suffix = model.get("end_of_word_suffix") or ""
        # older files have a merge as one text
        pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
        self.ranks = {(first, second): rank for rank, (first, second) in enumerate(pairs)}

    def merged(self, pair: tuple[str, str]) -> str:
        """The token that a merge makes."""
        return pair[0] + pair[1].removeprefix(self.prefix)

    def between(self, token: str) -> set[str]:
        """The token itself, and the tokens that its merges make on the way."""
        parts, made = self._characters(token), {token}
        while len(parts) > 1:
            # the first of the pairs that come first in the list
            ranked = [(self.ranks.get(pair, math.inf), place) for place, pair in enumerate(pairwise(parts))]
            rank, place = min(ranked)
            if rank == math.inf:
                break
            parts[place : place + 2] = [self.merged((parts[place], parts[place + 1]))]
            made.add(parts[place])
        return made

    def _characters(self, token: str) -> list[str]:
        continues = bool(self.prefix) and token.startswith(self.prefix)
        ends = bool(self.suffix) and token.endswith(self.suffix)
        characters = list(_bare(self.model, token))

        parts = [
            character if place == 0 and not continues else self.prefix + character for place, character in enumerate(characters)
        ]
        if ends and parts:
            parts[-1] += self.suffix
        return parts


def kept_tokens(
    document: Document, counts: Int[np.ndarray, " tokens"], wanted: KeptVocabulary, needed: Collection[int] = ()
) -> list[int]:
    """Numbers of the tokens to keep, in ascending order.

    Args:
        document: the whole tokenizer.
        counts: occurrences of each token in the training text.
        wanted: what the configuration asks for.
        needed: further tokens that are kept whatever the text has.

    Raises:
        UserError: there is no room for the tokens that are always kept.
    """
    parts_of = _parts(document)
    kept = {part for number in always_kept(document) | {*needed} for part in parts_of(number)}
    if wanted.tokens is not None and len(kept) > wanted.tokens:
        raise UserError(
            f"deploy.vocabulary.tokens: got {wanted.tokens:,}; special tokens, and the pieces that every other word is cut "
            f"into, are {len(kept):,} tokens already"
        )

    covered = int(counts[[*kept]].sum())
    share = 1.0 if wanted.keep == "used" else wanted.coverage
    enough = math.inf if share is None else share * int(counts.sum())

    # most frequent tokens first, of equal ones that with the lower number
    for number in np.argsort(-counts, kind="stable").tolist():
        if counts[number] == 0 or covered >= enough:
            break
        if number in kept:
            continue

        more = parts_of(number)
        if wanted.tokens is not None and len(kept | more) > wanted.tokens:
            continue
        covered += int(counts[[*(more - kept)]].sum())
        kept |= more
    return sorted(kept)


def _parts(document: Document) -> Callable[[int], set[int]]:
    """A function from a token to the tokens that must be kept with it, itself among them."""
    if document["model"]["type"] != "BPE":
        return lambda number: {number}

    numbers, merges, own = tokens_of(document), Merges(document["model"]), document["model"]["vocab"]
    names = {number: token for token, number in numbers.items()}

    def parts(number: int) -> set[int]:
        token = names[number]
        # what was added to the vocabulary is found as a whole
        return {numbers[part] for part in merges.between(token)} if token in own else {number}

    return parts


def smaller_tokenizer(document: Document, kept: Sequence[int]) -> Document:
    """The content of tokenizer.json with these tokens only, numbered anew in their order."""
    result = copy.deepcopy(document)
    model, new = result["model"], {number: place for place, number in enumerate(kept)}

    if model["type"] == "Unigram":
        # added tokens may have numbers beyond the algorithm's own
        model["vocab"] = [model["vocab"][number] for number in kept if number < len(model["vocab"])]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {token: new[number] for token, number in model["vocab"].items() if number in new}
    if model["type"] == "BPE":
        merges, own = Merges(model), model["vocab"]
        pairs = [pair for pair in merges.ranks if {*pair, merges.merged(pair)} <= own.keys()]
        model["merges"] = [[*pair] for pair in pairs]

    for added in result.get("added_tokens", ()):
        added["id"] = new[added["id"]]
    if result.get("padding") is not None:
        result["padding"]["pad_id"] = new[result["padding"]["pad_id"]]
    result["post_processor"] = _renumbered(result.get("post_processor"), new)
    return result


def _renumbered(processor: Any, new: Mapping[int, int]) -> Any:
    """A post-processor with the new numbers of its special tokens."""
    if isinstance(processor, list):
        return [_renumbered(part, new) for part in processor]
    if not isinstance(processor, dict):
        return processor

    result = {}
    for key, value in processor.items():
        if key in ("sep", "cls") and isinstance(value, list):
            result[key] = [value[0], new[value[1]]]
        elif key == "ids" and isinstance(value, list):
            result[key] = [new[number] for number in value]
        else:
            result[key] = _renumbered(value, new)
    return result


def smaller_settings(settings: Document, kept: Sequence[int]) -> Document:
    """The content of tokenizer_config.json with the new numbers of added tokens."""
    if "added_tokens_decoder" not in settings:
        return settings
    new = {str(number): str(place) for place, number in enumerate(kept)}
    added = {new[number]: token for number, token in settings["added_tokens_decoder"].items() if number in new}
    return settings | {"added_tokens_decoder": added}


class Agreement(NamedTuple):
    """How a smaller tokenizer cuts texts, beside the whole one."""

    texts: int
    covered: int
    """Texts that the whole tokenizer cuts into kept tokens."""
    different: int
    """Covered texts that the smaller tokenizer cuts otherwise."""
    coverage: float
    """Part of all tokens that are kept, in [0, 1]."""


def agreement(whole: Tokenizer, small: Tokenizer, kept: Sequence[int], texts: Iterable[str]) -> Agreement:
    """Cut texts by both tokenizers.

    Args:
        whole, small: the tokenizers, without truncation and padding.
        kept: numbers of the smaller one's tokens in the whole one.
        texts: to cut.
    """
    # a token that is gone becomes -1, which is no token of the smaller one
    new = {number: place for place, number in enumerate(kept)}
    count = covered = different = tokens = gone = 0
    for rows in _in_turn(texts):
        cuts = [tokenizer.encode_batch(rows, add_special_tokens=False) for tokenizer in (whole, small)]
        for before, after in zip(*cuts, strict=True):
            expected = [new.get(number, -1) for number in before.ids]
            is_covered = -1 not in expected
            count += 1
            covered += is_covered
            different += is_covered and expected != after.ids
            tokens += len(expected)
            gone += expected.count(-1)
    return Agreement(count, covered, different, 1.0 - gone / tokens if tokens else 1.0)


def _in_turn(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts, some at a time."""
    remaining = iter(texts)
    while rows := list(islice(remaining, TEXTS_AT_ONCE)):
        yield rows
