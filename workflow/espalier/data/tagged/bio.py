"""Tags of the BIO scheme (Ramshaw and Marcus 1995, cmp-lg/9505040, as IOB2): B-X begins an entity of type X, I-X continues it.

An I- tag after another type, or after O, continues nothing. CoNLL's first shared tasks wrote such tags on purpose (IOB1), other
files have them by mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def split_tag(tag: str) -> tuple[str, str]:
    """Prefix and type of a tag; ("O", "") outside of entities."""
    prefix, _, kind = tag.partition("-")
    return prefix, kind


def broken(tags: Sequence[str]) -> Iterator[int]:
    """Where I- tags stand that continue no entity of their type."""
    before = ""
    for place, tag in enumerate(tags):
        prefix, kind = split_tag(tag)
        if prefix == "I" and kind != before:
            yield place
        before = kind


def mended(tags: Sequence[str]) -> list[str]:
    """The tags, with B- where I- continues no entity."""
    wrong = set(broken(tags))
    return [f"B-{split_tag(tag)[1]}" if place in wrong else tag for place, tag in enumerate(tags)]


def with_beginnings(names: Iterable[str]) -> tuple[str, ...]:
    """Tags in order, with a B- tag for each type of entity that has an I- tag."""
    known = list(names)
    added = {f"B-{kind}" for prefix, kind in map(split_tag, known) if prefix == "I" and kind}
    return tuple(sorted({*known, *added})) if added - {*known} else tuple(known)
