"""Write a model with smaller embeddings beside the compact one: fewer words, or a word table that is a product of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from espalier.config.deployment.specs import TrimSpec
from espalier.config.kinds import PACKED, Kind
from espalier.data.smaller_tokenizer import Document, smaller_settings, smaller_tokenizer
from espalier.deployment.rows import folder_tokenizer
from espalier.deployment.sentences import write_sentence_files
from espalier.deployment.trimming import Whole, compared, coverage_of, tokens_for
from espalier.models.files import open_student, write_compact
from espalier.models.onnx import write_onnx
from espalier.models.word_tables import factorised, product_error, saves, with_tokens, word_table
from espalier.runtime.errors import UserError
from espalier.runtime.files import copy_file, digits, read_json, write_json

ALLOWED = 1.0e-6
"""Largest difference between outputs for text that is covered; for outputs above 1 it grows in proportion."""


def run(
    spec: str,
    *,
    model: list[Path],
    tokenizer: list[Path],
    train: Path,
    evaluation: Path,
    config: Path,
    weights: Path,
    code: Path,
    onnx: Path,
    tokenizer_json: Path,
    tokenizer_config: Path,
    sentences: list[Path],
    report: Path,
) -> None:
    """Write the trimmed folder; what its model gives for text that it covers must be what the compact one gives.

    Args:
        spec: a `TrimSpec` as JSON.
        model, tokenizer: config.json, weights and tokenizer of the compact folder.
        train, evaluation: the task's rows; training texts say which tokens are kept.
        config, weights, code, onnx, tokenizer_json, tokenizer_config, sentences, report: what is written.
    """
    wanted = TrimSpec.model_validate_json(spec)
    files = {path.name: path for path in (*model, *tokenizer)}
    document = read_json(files["tokenizer.json"])
    whole = Whole(open_student(model, wanted.kind).eval(), folder_tokenizer(files["tokenizer.json"].parent))

    kept = tokens_for(wanted.vocabulary, whole, document, train, wanted.kind) if wanted.vocabulary else None
    small, product = _factorised(whole.model if kept is None else with_tokens(whole.model, kept), wanted)
    write_compact(small, config, weights, code)
    _write_tokenizer(files, kept, tokenizer_json, tokenizer_config)

    trimmed = Whole(open_student([config, weights], wanted.kind).eval(), folder_tokenizer(tokenizer_json.parent))
    _write_for_others(trimmed.model, wanted, onnx, sentences)
    answers = _checked(compared(whole, trimmed, kept, evaluation, wanted.max_length), product, weights)

    vocabulary = _vocabulary(whole, trimmed, kept, document, (train, evaluation), wanted.kind)
    write_json(report, {"vocabulary": vocabulary, "factorise": product} | answers | _sizes(files, weights, tokenizer_json))


def _factorised(model: PreTrainedModel, wanted: TrimSpec) -> tuple[PreTrainedModel, dict[str, Any] | None]:
    """The model with a product in its word table's place, and what trim.json says of it; where that saves nothing, as it is."""
    # a model that predicts words shares the table with its output
    if wanted.factorise is None or wanted.kind in PACKED:
        return model, None

    rank, table = wanted.factorise.rank, word_table(model)
    if not saves(table, rank):
        return model, None
    return factorised(model, rank), {"rank": rank, "relative_error": digits(product_error(table, rank))}


def _write_for_others(model: PreTrainedModel, wanted: TrimSpec, onnx: Path, sentences: list[Path]) -> None:
    """Write what other runtimes and libraries open."""
    write_onnx(model, onnx)
    write_sentence_files(sentences, model.config.hidden_size, wanted.max_length)


def _write_tokenizer(files: dict[str, Path], kept: list[int] | None, document: Path, settings: Path) -> None:
    """Write both files of a tokenizer with these tokens, or copy them."""
    for path, smaller in ((document, smaller_tokenizer), (settings, smaller_settings)):
        if kept is None:
            copy_file(files[path.name], path)
        else:
            write_json(path, smaller(read_json(files[path.name]), kept))


def _vocabulary(
    whole: Whole, small: Whole, kept: list[int] | None, document: Document, rows: tuple[Path, Path], kind: Kind
) -> dict[str, Any] | None:
    """What trim.json says of a smaller vocabulary; None where it stays whole."""
    if kept is None:
        return None
    coverage = {path.stem: coverage_of(whole, small, kept, document, path, kind) for path in rows}
    return {"before": whole.model.config.vocab_size, "kept": len(kept), **coverage}


def _checked(answers: dict[str, Any], product: dict[str, Any] | None, weights: Path) -> dict[str, Any]:
    """The comparison; refused where answers for text that is covered differ and no product of tables is the reason."""
    if product is not None or not answers["compared_rows"]:
        return answers
    allowed = ALLOWED * max(1.0, answers["largest_output"])
    # not `difference > allowed`, which is False for not-a-number
    if not answers["largest_difference"] <= allowed:
        said = f"differ from the compact model's by {answers['largest_difference']:.2g}; allowed: {allowed:.2g}"
        raise UserError(f"{weights}: outputs for text that it covers {said}")
    return answers


def _sizes(before: dict[str, Path], *after: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Bytes of files before and after, as trim.json holds them."""
    return {"bytes": {path.name: {"before": before[path.name].stat().st_size, "after": path.stat().st_size} for path in after}}
