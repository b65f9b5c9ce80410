"""Parts of a table that are balanced like the whole; the same part every time."""

from __future__ import annotations

import random

import pyarrow as pa

SEED = 0
"""Samples belong to the task, not to a run: every seed of a study sees the same rows."""

QUERY = "query"
"""Column whose equal values hold rows together: they all go to one part."""


def stratified(labels: list[int] | None, count: int, total: int) -> list[int]:
    """Indices of `count` of `total` rows in ascending order, with every class in its share (largest remainders).

    Args:
        labels: class of each row; nothing when the rows have no classes.
        count: 0 to `total`.
        total: number of rows.
    """
    groups: dict[int, list[int]] = {}
    for row, label in enumerate(labels or [0] * total):
        groups.setdefault(label, []).append(row)
    exact = {label: count * len(rows) / total for label, rows in groups.items()}
    quota = {label: int(share) for label, share in exact.items()}
    by_remainder = sorted(groups, key=lambda label: (quota[label] - exact[label], label))
    for label in by_remainder[: count - sum(quota.values())]:
        quota[label] += 1
    generator = random.Random(SEED)
    return sorted(row for label in sorted(groups) for row in generator.sample(groups[label], quota[label]))


def whole_groups(names: list[str], count: int) -> list[int]:
    """Indices, in ascending order, of all rows of as many groups as hold at most `count` rows, and at least one group's.

    Groups come in a seeded order; one that no longer fits is left out, and smaller ones after it may still fit.

    Args:
        names: group of each row.
        count: rows, at least 1.
    """
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(name, []).append(row)
    order = sorted(groups)
    random.Random(SEED).shuffle(order)

    taken: list[int] = []
    for name in order:
        if not taken or len(taken) + len(groups[name]) <= count:
            taken += groups[name]
    return sorted(taken)


def split(table: pa.Table, labels: list[int] | None, count: int) -> tuple[pa.Table, pa.Table]:
    """(a sample of `count` rows, the other rows), both in the order of the table; no query is torn, where rows have any.

    Classes have their shares in the sample. A sample of whole queries has `count` rows at most, and one query at least.
    """
    grouped = QUERY in table.column_names
    taken = whole_groups(table[QUERY].to_pylist(), count) if grouped else stratified(labels, count, table.num_rows)
    chosen = set(taken)
    others = [row for row in range(table.num_rows) if row not in chosen]
    return table.take(taken), table.take(pa.array(others, pa.int64()))  # there may be none
