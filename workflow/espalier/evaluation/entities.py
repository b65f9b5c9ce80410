"""F1 of entities from tags of the BIO scheme, counted as conlleval and seqeval count them; a fraction in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from espalier.data.tagged.bio import broken, split_tag


class Entity(NamedTuple):
    """Neighbouring words that are of one type together."""

    kind: str
    begin: int
    """First word, from 0."""
    end: int
    """The word behind the last one."""


def entities(tags: Sequence[str], *, strict: bool = False) -> Iterator[Entity]:
    """The entities of a sentence, in order.

    Source: conlleval of the CoNLL-2000 and CoNLL-2003 shared tasks (Tjong Kim Sang and Buchholz 2000; `start_of_chunk` and
    `end_of_chunk`), which seqeval's default mode repeats: an I- that continues no entity of its type begins one. With `strict`,
    seqeval's `mode="strict", scheme=IOB2`: such an I- belongs to no entity.

    Args:
        tags: O, B-type and I-type.
        strict: whether every entity begins with B-.
    """
    orphans = set(broken(tags))
    begin, open_kind = 0, None
    for place, tag in enumerate([*tags, "O"]):
        prefix, kind = split_tag(tag)
        begins = prefix == "B" or place in orphans

        # an entity ends before O and before whatever begins another one
        if open_kind is not None and (begins or prefix == "O"):
            yield Entity(open_kind, begin, place)
            open_kind = None

        # in strict mode what follows an orphan of the same type is as lost as the orphan itself
        if begins and not (strict and prefix != "B"):
            begin, open_kind = place, kind


def entity_f1(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]], *, strict: bool = False) -> float:
    """2 shared / (predicted + gold) over the entities of all sentences: type, begin and end must agree; 0 where there is none.

    Source: conlleval's overall FB1; seqeval's `f1_score(average="micro")`.

    Args:
        gold: tags of each sentence.
        predicted: tags of the same words.
        strict: whether an I- that continues no entity counts as none.
    """
    shared = total = 0
    for own, other in zip(gold, predicted, strict=True):
        wanted, given = set(entities(own, strict=strict)), set(entities(other, strict=strict))
        shared += len(wanted & given)
        total += len(wanted) + len(given)
    return 2.0 * shared / total if total else 0.0
