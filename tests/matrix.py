"""Tiny studies of any family, method and kind through the real stages, and which of them to run so that every pair is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from espalier.config import Config, job_specs, parse
from espalier.config.data import LocalBase
from espalier.config.deployment.formats import SENTENCE_FILES
from espalier.config.families.matrix import family_and_method, plan_of
from espalier.config.kinds import KIND_RULES, KINDS
from espalier.runtime.files import copy_file, read_json, sha256_text
from tests import tiny
from tests.stages import FETCHED
from tests.tagged import EXPORTED, MODEL, PRUNED, TOKENIZER, TRAINED, inside, sentences, stage, write_jsonl

Cell = tuple[str, str, str]
"""A family, a method, a kind."""
SEED, ROWS, LENGTH = 1, 24, 16
BASE, OTHER, TASK, CORPUS, PLAN, SOURCE = "base", "other", "task", "corpus", "plan", "source"
"""Names of every study: the family under test, the base of a ready-made model, tasks, plans."""
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
TOKENS = {"vocab_size": 65, "max_position_embeddings": 40, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
MORE: dict[str, dict[str, Any]] = {
    "mobilebert": {"embedding_size": 16, "true_hidden_size": 16, "intra_bottleneck_size": 16},
    "electra": {"embedding_size": 32},
    "distilbert": {"hidden_dim": SIZES["intermediate_size"]},
    "deberta-v2": {**tiny.VARIANTS["deberta-v2"][1], "type_vocab_size": 2},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8},
}
"""Family → what its configuration says besides sizes."""
FAST = {"batch_size": 8, "learning_rate": 1.0e-3}
GATES = {"prepruning_epochs": 0.0, "pruning_epochs": 1.0, "sparsity_warmup_epochs": 0.5, "gate_learning_rate": 0.5, **FAST}
FEW = {"calibration_rows": 8}
SHORT: dict[str, dict[str, Any]] = {
    **{method: {"prune_steps": 1, **FAST} for method in ("random", "magnitude", "movement", "distil", "heads")},
    "dense": {"epochs": 1.0, **FAST},
    "sdp": {"objective": "cc+kld", "representation": "mean", **FAST},
    "spd": {"sparsify_epochs": 0.5, "grafting_epochs": 0.5, "finetune_epochs": 0.5, "prune_steps": 1, **FAST},
    "l0": GATES,
    "cofi": GATES,
    "obs": {"epochs": 0.5, "search_rows": 4, "search_random": 1, "search_mutations": 1, **FEW, **FAST},
    "grain": {"epochs": 1.0, "head_rows": "unequal", **FAST},
    "kwon": FEW,
    "kprune": FEW,
    "small-dense": {"epochs": 0.5, **FAST},
    "ready-made": {"base": OTHER, "epochs": 0.5, **FAST},
    "homodistil": {"epochs": 1.0, "decide_every": 1, "window": 1, "multiple": 1, **FAST},
    "specialise": {"start": {"plan": SOURCE}, "epochs": 0.5, **FAST},
}
"""Method → settings by which a stage takes three steps or so."""


# Which cells.


def pairs(cell: Cell) -> set[tuple[int, int, str, str]]:
    """The pairs of a cell: family and method, family and kind, method and kind."""
    return {(one, other, cell[one], cell[other]) for one, other in combinations(range(3), 2)}


def covering(allowed: Sequence[Cell]) -> list[Cell]:
    """A few of the cells with every pair that is in any of them.

    Greedy: the cell with the most new pairs comes next, of equal ones the first. Where the pairs are many, that is near the
    least number possible, which is at least the number of pairs of the two longest axes.
    """
    left, chosen = {pair for cell in allowed for pair in pairs(cell)}, []
    waiting = list(allowed)
    while left:
        best = max(waiting, key=lambda cell: len(pairs(cell) & left))
        waiting.remove(best)
        chosen.append(best)
        left -= pairs(best)
    return chosen


# What each kind's files hold.


def words(generator: np.random.Generator, third: int) -> str:
    """A text whose words are of one third of the vocabulary."""
    return " ".join(tiny.WORDS[20 * third + number] for number in generator.integers(0, 20, generator.integers(3, 8)))


def labelled(count: int, seed: int, grades: bool = False) -> list[dict[str, Any]]:
    """Texts whose label, a name or a number, is the third of the vocabulary that they come from."""
    generator = np.random.default_rng(seed)
    return [
        {"text": words(generator, row % 3), "label": row % 3 / 2 if grades else tiny.THIRDS[row % 3]} for row in range(count)
    ]


def questions(count: int, seed: int) -> list[dict[str, Any]]:
    """Questions with contexts, under the names that SQuAD has."""
    names = {"text_a": "question", "text_b": "context"}
    return [{names.get(key, key): value for key, value in row.items()} for row in tiny.span_rows(count, seed)]


def scored_pairs(count: int, seed: int) -> list[dict[str, Any]]:
    """Pairs of texts, of one third or of two; the score says which."""
    generator = np.random.default_rng(seed)
    both = [(row % 3, (row + row % 2) % 3) for row in range(count)]
    return [
        {"first": words(generator, one), "second": words(generator, other), "score": float(one == other) + 0.01 * place}
        for place, (one, other) in enumerate(both)
    ]


def paragraphs(count: int, seed: int) -> list[dict[str, str]]:
    """Texts, to be packed."""
    generator = np.random.default_rng(seed)
    return [{"text": " ".join(words(generator, row % 3) for _ in range(3))} for row in range(count)]


Rows = Callable[[int, int], list[dict[str, Any]]]
FILES: dict[str, tuple[Rows, dict[str, Any]]] = {
    "classification": (labelled, {"text": ["text"], "label": "label", "metric": "accuracy"}),
    "multilabel": (tiny.label_set_rows, {"text": ["title", "body"], "label": "labels", "metric": "micro-f1"}),
    "ranking": (
        lambda count, seed: tiny.ranking_rows(count // 4, seed),
        {"text": ["query", "title", "body"], "label": "grade", "query": "id", "metric": "ndcg@10"},
    ),
    "regression": (
        lambda count, seed: labelled(count, seed, grades=True),
        {"text": ["text"], "label": "label", "metric": "spearman"},
    ),
    "span": (
        questions,
        {"text": ["question", "context"], "label": "answers", "metric": "squad-f1", "stride": 6, "max_answer_length": 4},
    ),
    "embedding": (scored_pairs, {"text": ["first", "second"], "label": "score", "metric": "spearman"}),
    "text": (paragraphs, {"text": ["text"]}),
    "tokens": (sentences, {"text": ["words"], "label": "tags", "metric": "entity-f1"}),
}
"""Kind → its rows, and what its task says besides where they are."""


def task_block(folder: Path, kind: str) -> dict[str, Any]:
    """The task of a kind, with its files in a folder."""
    files = {"train": str(folder / f"{kind}.jsonl"), "validation": str(folder / f"{kind}-new.jsonl")}
    return {"kind": kind, "source": "files", "max_length": LENGTH, **files, **FILES[kind][1]}


def study(folder: Path, kind: str, plan: Mapping[str, Any] | None, base: Path) -> Config:
    """A base and a task of one kind; and a plan, with the other base, corpus and plan that it may begin with."""
    tasks, bases = {TASK: task_block(folder, kind)}, {BASE: {"source": "local", "path": str(base)}}
    plans: dict[str, Any] = {} if plan is None else {PLAN: plan}
    if plan and plan["method"] == "ready-made":
        bases[OTHER] = bases[BASE]
        bases[BASE] = {"source": "local", "path": str(folder / "bases/bert")}
    if plan and plan["method"] == "specialise":
        tasks[CORPUS] = task_block(folder, "text")
        plans[SOURCE] = plan_of("homodistil", SHORT["homodistil"])
    settings = {"project": "matrix", "device": "cpu", "precision": "fp32", "seeds": [SEED], "deploy": {"formats": []}}
    own = {"teacher": {"epochs": 1.0, **FAST}, "pretrain": {"epochs": 0.5, **FAST}, "measure": {"length": LENGTH}}
    return parse({**settings, **own, "rivals": {"linear": False}, "bases": bases, "tasks": tasks, "plans": plans})


def plan_for(family: str, method: str) -> dict[str, Any]:
    """The plan of a cell: short, and with what the method needs for the family."""
    settings = {**SHORT[method], **(family_and_method(family, method).settings or {})}
    if method not in ("ready-made", "specialise", "homodistil"):
        settings["start"] = "teacher"
    return plan_of(method, settings)


class Stages:
    """What the cells of a run share, each made once, when it is asked for: bases, rows, tokens, teachers, students of text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny.write_base(folder / "tokenizer"))
        tokenizer.add_special_tokens({"mask_token": "[MASK]"})
        tokenizer.save_pretrained(folder / "tokenizer")
        for kind, (rows, _) in FILES.items():
            for seed, (ending, count) in enumerate((("", ROWS), ("-new", ROWS))):
                write_jsonl(folder / f"{kind}{ending}.jsonl", rows(count, seed))
        # kept for the run: a cached method would keep the object itself, too
        self.base, self.rows = cache(self._base), cache(self._rows)
        self.teacher, self.source = cache(self._teacher), cache(self._source)

    def _base(self, family: str) -> Path:
        """A base of random weights, as `fetch` hands it on."""
        torch.manual_seed(7)
        config = AutoConfig.for_model(family, **SIZES, **TOKENS, **MORE.get(family, {}))
        given, folder = self.folder / f"given/{family}", self.folder / f"bases/{family}"
        AutoModel.from_config(config).save_pretrained(given)
        for name in TOKENIZER:
            copy_file(self.folder / "tokenizer" / name, given / name)
        spec = job_specs.FetchSpec(base=LocalBase(source="local", path=str(given)))
        stage("fetch", spec, {}, {option: folder / file for option, file in FETCHED.items()})
        return folder

    def _rows(self, kind: str) -> tuple[Path, dict[str, Path]]:
        """task.json, and checked training and evaluation rows."""
        place = self.folder / f"rows/{kind}"
        rows = {name: place / f"{name}.parquet" for name in ("train", "evaluation")}
        config = study(self.folder, kind, None, self.folder)
        stage("prepare", job_specs.prepare_spec(config, TASK), {}, rows | {"task": place / "task.json"})
        return place / "task.json", rows

    def tokens(self, family: str, kind: str) -> tuple[Path, list[Path]]:
        """task.json, and training and evaluation rows as the families with the same tokenizer read them."""
        files = inside(self.base(family), "config.json", *TOKENIZER)
        alike = sha256_text("".join(file.read_text() for file in files[1:]))[:8]
        (card, rows), place = self.rows(kind), self.folder / f"tokens/{kind}-{alike}"
        is_labelled = KIND_RULES[kind].labelled
        written = [place / f"{name}.{'parquet' if is_labelled else 'arrow'}" for name in rows]
        if not place.exists():
            config = study(self.folder, kind, None, self.base(family))
            name, spec = ("tokenise", job_specs.tokenise_spec) if is_labelled else ("pack", job_specs.pack_spec)
            options = [f"{'tokens' if is_labelled else 'packed'}-{name}" for name in rows]
            stage(name, spec(config, TASK), {"tokenizer": files}, rows | dict(zip(options, written, strict=True)))
        return card, written

    def _teacher(self, family: str, kind: str) -> Path:
        """The folder of a teacher."""
        config = study(self.folder, kind, None, self.base(family))
        labels = KIND_RULES[kind].labelled
        name, spec = ("finetune", job_specs.finetune_spec) if labels else ("pretrain", job_specs.pretrain_spec)
        out, base = self.folder / f"teachers/{family}-{kind}", {"base": inside(self.base(family), *MODEL)}
        self._train(name, spec(config, TASK, SEED), (family, kind), base, {name: out / file for name, file in TRAINED.items()})
        return out

    def _source(self, family: str) -> Path:
        """The folder of a student of text."""
        return self.student((family, "homodistil", "text"), self.folder / f"sources/{family}")

    def _train(self, name: str, spec: Any, of: tuple[str, str], lists: Mapping[str, Any], paths: Mapping[str, Path]) -> None:
        """Run a stage that trains on the rows of a family and kind; it works beside what it writes."""
        card, tokens = self.tokens(*of)
        stage(name, spec, {"tokens": tokens, **lists}, {**paths, "task": card, "work": paths["record"].parent / "work"})

    def student(self, cell: Cell, out: Path) -> Path:
        """Train a cell's student, which lies in `out` afterwards."""
        family, method, kind = cell
        config = study(self.folder, kind, plan_for(family, method), self.base(family))
        spec = job_specs.compress_spec(config, TASK, PLAN, SEED, "0" if method in ("dense", "ready-made") else "50")
        taught = inside(self.teacher("bert" if method == "ready-made" else family, kind), *MODEL)
        lists: dict[str, Any] = {"teacher": taught, "start": taught}
        paths = {option: out / file for option, file in PRUNED.items()}
        if method == "ready-made":
            lists |= {"start": inside(self.base(family), *MODEL), "teacher-tokens": self.tokens("bert", kind)[1][:1]}
            paths.pop("masks")
            self._train("adopt", spec, (family, kind), lists, paths)
        elif method == "specialise":
            source = self.source(family)
            lists |= {"start": inside(source, *MODEL, "masks.safetensors"), "outputs": []}
            self._train("specialise", spec, (family, kind), lists, paths | {"kept": source / "structure.json"})
        else:
            self._train("compress", spec, (family, kind), lists | {"latency": [], "outputs": []}, paths)
        return out

    def exported(self, cell: Cell, student: Path) -> Path:
        """The compact folder of a student."""
        config = study(self.folder, cell[2], None, self.base(cell[0]))
        compact = student / "compact"
        files = inside(compact, *SENTENCE_FILES) if KIND_RULES[cell[2]].vectors else []
        lists = {"student": inside(student, *MODEL), "tokenizer": inside(self.base(cell[0]), *TOKENIZER)}
        written = {option: compact / file for option, file in EXPORTED.items()}
        stage("export", job_specs.export_spec(config, TASK), lists | {"decisions": [], "sentences": files}, written)
        return compact

    def scores(self, cell: Cell, compact: Path) -> tuple[dict[str, Any], pd.DataFrame]:
        """What `evaluate` writes of a compact model."""
        config, (card, tokens) = study(self.folder, cell[2], None, self.base(cell[0])), self.tokens(cell[0], cell[2])
        scored = {"scores": compact.parent / "scores.json", "predictions": compact.parent / "predictions.parquet"}
        spec = job_specs.evaluate_spec(config, TASK)
        stage("evaluate", spec, {"model": inside(compact, *MODEL)}, scored | {"task": card, "tokens": tokens[-1]})
        return read_json(scored["scores"]), pd.read_parquet(scored["predictions"])


assert FILES.keys() == KINDS.keys()
