"""Word tables with fewer rows, and as products of two tables: what a model gives stays, or differs as the rank says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    ErnieConfig,
    ErnieForSequenceClassification,
    MobileBertConfig,
    MobileBertForMaskedLM,
)

from espalier.models.classes import as_stock
from espalier.models.files import open_student, write_compact
from espalier.models.modeling_espalier import FAMILIES, shape_of
from espalier.models.onnx import onnx_runner, write_onnx
from espalier.models.word_tables import factorised, factors, needed_tokens, product_error, saves, with_tokens
from espalier.pruning.parts import full_masks
from espalier.pruning.shrink import shrink
from tests import tiny

KEPT = [0, 1, 2, 3, 7, 8, 20, 21, 22, 33, 40, 59]


def rows(kept: list[int]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Three rows of kept tokens, the second one padded, by their old and by their new numbers."""
    new = torch.randint(3, len(kept), (3, 17), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(new)
    mask[1, 10:] = 0
    new = new * mask
    return {"input_ids": torch.tensor(kept)[new], "attention_mask": mask}, {"input_ids": new, "attention_mask": mask}


def outputs(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return model(**batch).logits


@pytest.mark.parametrize("variant", tiny.EVERY)
def test_a_smaller_vocabulary_changes_no_logit_in_any_family(variant: str) -> None:
    model = tiny.encoder(variant)
    small = with_tokens(model, KEPT)
    old, new = rows(KEPT)
    assert torch.equal(outputs(model, old), outputs(small, new))
    assert small.config.vocab_size == len(KEPT) == small.get_input_embeddings().num_embeddings
    assert model.config.vocab_size == 60


@pytest.mark.parametrize("variant", [name for name in tiny.VARIANTS if "deberta" not in name])
def test_a_pruned_model_of_unequal_layers_loses_words_too(variant: str) -> None:
    model = tiny.encoder(variant)
    masks = full_masks(shape_of(model.config))
    masks["layer.0.heads"][:2] = False
    masks["layer.1.ffn"][:] = False
    small = shrink(model, masks)
    old, new = rows(KEPT)
    assert torch.equal(outputs(small, old), outputs(with_tokens(small, KEPT), new))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_predicts_words_loses_the_same_rows(family: str) -> None:
    encoder = tiny.encoder(family)
    torch.manual_seed(1)
    model = tiny.randomised(AutoModelForMaskedLM.from_config(encoder.config))
    small = with_tokens(model, KEPT)
    old, new = rows(KEPT)
    assert torch.equal(outputs(model, old)[..., KEPT], outputs(small, new))
    assert outputs(small, new).shape[-1] == len(KEPT)


def test_a_family_outside_the_table_of_structures_loses_words_too() -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    model = tiny.randomised(ErnieForSequenceClassification(ErnieConfig(**sizes)))
    old, new = rows(KEPT)
    assert torch.equal(outputs(model, old), outputs(with_tokens(model, KEPT), new))

    # here a matrix has a column, not a row, for each word
    mobile = {**sizes, "embedding_size": 16, "true_hidden_size": 16, "intra_bottleneck_size": 16}
    predictor = tiny.randomised(MobileBertForMaskedLM(MobileBertConfig(**mobile)))
    assert torch.equal(outputs(predictor, old)[..., KEPT], outputs(with_tokens(predictor, KEPT), new))


def test_numbers_of_special_tokens_follow() -> None:
    config = BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config.pad_token_id, config.sep_token_id, config.mask_token_id = 7, 20, 59
    small = with_tokens(BertForMaskedLM(config), KEPT)
    assert [small.config.pad_token_id, small.config.sep_token_id, small.config.mask_token_id] == [4, 6, 11]
    assert small.get_input_embeddings().padding_idx == 4


def test_tokens_that_a_model_needs_are_known_and_missed() -> None:
    config = tiny.config(pad_token_id=0, sep_token_id=30)
    model = BertForMaskedLM(config)
    assert needed_tokens(model) >= {0, 30}
    with pytest.raises(ValueError, match=r"sep_token_id 30 of config.json is not among the tokens that are kept"):
        with_tokens(model, KEPT)
    with pytest.raises(ValueError, match="token 99 has no row in the word table, which has 60"):
        with_tokens(tiny.encoder("bert"), [*KEPT, 99])


def test_positions_that_are_counted_from_the_padding_token_keep_its_number() -> None:
    model = tiny.encoder("roberta", pad_token_id=3)
    assert {0, 1, 2, 3} <= needed_tokens(model)
    with pytest.raises(ValueError, match="positions are counted from pad_token_id 3"):
        with_tokens(model, [1, 2, 3, 8])


def test_a_product_is_as_near_as_its_rank_allows() -> None:
    table = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(table)
    errors = []
    for rank in range(1, 13):
        first, second = factors(table, rank)
        assert first.shape == (50, rank) and second.shape == (rank, 12)
        expected = values[rank:].square().sum().sqrt() / values.square().sum().sqrt()
        assert product_error(table, rank) == pytest.approx(float(expected), abs=1e-5)
        errors.append(product_error(table, rank))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.5 and errors[-1] < 1e-5


def test_a_product_must_be_smaller_than_its_table() -> None:
    assert saves(torch.zeros(1000, 100), 90)
    assert not saves(torch.zeros(1000, 100), 91)
    assert not saves(torch.zeros(10, 10), 5)


@pytest.mark.parametrize("variant", tiny.EVERY)
def test_a_table_of_full_rank_gives_the_same_logits_as_its_product(variant: str) -> None:
    model = tiny.encoder(variant)
    width = model.get_input_embeddings().embedding_dim
    whole, cut = (factorised(model, rank) for rank in (width, width // 2))
    batch = tiny.padded_batch()
    expected = outputs(model, batch)
    assert float((outputs(whole, batch) - expected).abs().max()) < 1e-3
    assert float((outputs(cut, batch) - expected).abs().max()) > 1e-2
    assert cut.config.model_type == f"compact-{variant.split(',')[0]}"
    assert as_stock(cut) is None


def test_a_product_is_written_opened_and_exported(tmp_path: Path) -> None:
    model = factorised(with_tokens(tiny.encoder("bert"), KEPT), 4)
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    write_compact(model, config, weights, tmp_path / "modeling_espalier.py")
    reopened = open_student([config, weights], "classification").eval()
    assert reopened.config.embedding_rank == 4

    _, batch = rows(KEPT)
    assert torch.equal(outputs(model, batch), outputs(reopened, batch))
    write_onnx(reopened, tmp_path / "model.onnx")
    given = {**batch, "token_type_ids": torch.zeros_like(batch["input_ids"])}
    onnx_logits = onnx_runner(tmp_path / "model.onnx", torch.device("cpu"))(given)[0]
    assert float((outputs(model, batch) - torch.from_numpy(onnx_logits)).abs().max()) < 1e-4
