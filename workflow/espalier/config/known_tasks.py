"""The known tasks, as data: columns, classes, metrics, place on the hub, usual length.

A user's `tasks:` block overlays an entry of this table, so `rte: {source: files, train: a.parquet, ...}` keeps RTE's
columns and metric and reads the user's files. Sources: GLUE (Wang et al. 2019, arXiv 1804.07461) as stored on the hub
under `nyu-mll/glue`; SQuAD v1.1 (Rajpurkar et al. 2016, arXiv 1606.05250) under `rajpurkar/squad`, and
v2 (Rajpurkar et al. 2018, arXiv 1806.03822) under `rajpurkar/squad_v2`; XGLUE stands in `benchmarks/xglue.py`; the built-in
tasks are described in `data/README.md`.
"""

from typing import Any

from espalier.config.benchmarks.xglue import XGLUE

GLUE = {
    "source": "hub",
    "id": "nyu-mll/glue",
    "revision": "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
    "train": "train",
    "validation": {"validation": "validation"},
    "kind": "classification",
    "label": "label",
    "max_length": 128,
}
NLI = ("entailment", "not_entailment")

KNOWN: dict[str, dict[str, Any]] = {
    "cola": GLUE
    | {
        "name": "cola",
        "text": ("sentence",),
        "classes": ("unacceptable", "acceptable"),
        "metric": "matthews",
        "also": ("accuracy",),
    },
    "sst2": GLUE | {"name": "sst2", "text": ("sentence",), "classes": ("negative", "positive"), "metric": "accuracy"},
    "mrpc": GLUE
    | {
        "name": "mrpc",
        "text": ("sentence1", "sentence2"),
        "classes": ("not_equivalent", "equivalent"),
        "metric": "f1",
        "also": ("accuracy",),
    },
    "stsb": GLUE
    | {"name": "stsb", "kind": "regression", "text": ("sentence1", "sentence2"), "metric": "spearman", "also": ("pearson",)},
    "qqp": GLUE
    | {
        "name": "qqp",
        "text": ("question1", "question2"),
        "classes": ("not_duplicate", "duplicate"),
        "metric": "accuracy",
        "also": ("f1",),
    },
    "mnli": GLUE
    | {
        "name": "mnli",
        "validation": {"matched": "validation_matched", "mismatched": "validation_mismatched"},
        "text": ("premise", "hypothesis"),
        "classes": ("entailment", "neutral", "contradiction"),
        "metric": "accuracy",
    },
    "qnli": GLUE | {"name": "qnli", "text": ("question", "sentence"), "classes": NLI, "metric": "accuracy"},
    "rte": GLUE | {"name": "rte", "text": ("sentence1", "sentence2"), "classes": NLI, "metric": "accuracy"},
    "wnli": GLUE
    | {"name": "wnli", "text": ("sentence1", "sentence2"), "classes": ("not_entailment", "entailment"), "metric": "accuracy"},
    "docs-library": {
        "source": "builtin",
        "kind": "classification",
        "text": ("text",),
        "label": "label",
        "metric": "accuracy",
        "also": ("macro-f1",),
        "max_length": 64,
    },
    "docs-pair": {
        "source": "builtin",
        "kind": "classification",
        "text": ("first", "second"),
        "label": "label",
        "classes": ("unrelated", "follows"),
        "metric": "accuracy",
        "also": ("f1",),
        "max_length": 128,
    },
    "docs-order": {
        "source": "builtin",
        "kind": "classification",
        "text": ("text",),
        "label": "label",
        "classes": ("as-written", "swapped"),
        "metric": "accuracy",
        "also": ("f1",),
        "max_length": 64,
    },
    "docs-span": {
        "source": "builtin",
        "kind": "span",
        "text": ("question", "context"),
        "label": "answers",
        "metric": "squad-f1",
        "also": ("exact-match",),
        "max_length": 256,
        "stride": 64,
    },
    "squad": {
        "source": "hub",
        "id": "rajpurkar/squad",
        "revision": "7b6d24c440a36b6815f21b70d25016731768db1f",
        "train": "train",
        "validation": {"validation": "validation"},
        "kind": "span",
        "text": ("question", "context"),
        "label": "answers",
        "metric": "squad-f1",
        "also": ("exact-match",),
    },
    "squad-v2": {
        "source": "hub",
        "id": "rajpurkar/squad_v2",
        "revision": "3ffb306f725f7d2ce8394bc1873b24868140c412",
        "train": "train",
        "validation": {"validation": "validation"},
        "kind": "span",
        "text": ("question", "context"),
        "label": "answers",
        "no_answer": True,
        "metric": "squad-f1",
        "also": ("exact-match", "has-answer-f1", "no-answer-accuracy", "best-f1", "best-exact-match"),
    },
    "docs-corpus": {"source": "builtin", "kind": "text", "text": ("text",), "max_length": 128},
    **XGLUE,
}

OF_A_SOURCE = ("train", "validation", "id", "name", "revision", "counts")
"""Keys that say where the rows are. A known task loses them when the user gives another source."""


def overlay(name: str, block: dict[str, Any]) -> dict[str, Any]:
    """The user's block over the known task of that name, if there is one."""
    known = dict(KNOWN.get(name, {}))
    if "source" in block and block["source"] != known.get("source"):
        known = {key: value for key, value in known.items() if key not in OF_A_SOURCE}
    return _of_these_sets(known, block) | block


def _of_these_sets(known: dict[str, Any], block: dict[str, Any]) -> dict[str, Any]:
    """What is known, without what it says of evaluation sets and splits that the user has replaced."""
    before = {"train": known.get("train"), **(known.get("validation") or {})}
    now = block.get("validation", known.get("validation"))
    sets = now if isinstance(now, dict) else {"validation": now}
    after = {"train": block.get("train", known.get("train")), **sets}

    counts = {name: rows for name, rows in (known.get("counts") or {}).items() if after.get(name) == before[name]}
    fits = any(str(name).startswith(f"{known.get('mean')}-") for name in sets)
    left = {"counts": counts or None, "mean": known.get("mean") if fits else None}
    return known | {key: value for key, value in left.items() if key in known}
