import pytest
import torch
from transformers import ErnieConfig, ErnieForSequenceClassification

from espalier.models.encoder import count_weights, embedding_parameters, prunable_weights
from espalier.models.modeling_espalier import family_of
from espalier.pruning.masks import Pruner, read_masks, structure_of, write_masks
from espalier.pruning.scores import magnitude
from espalier.runtime.errors import UserError
from tests import tiny


@pytest.fixture
def model():
    return tiny.classifier()


def pruner_of(model, **options):
    pruner = Pruner(model, **{"allocation": "layer", "embeddings": False} | options)
    return pruner, {name: magnitude(weight) for name, weight in pruner.weights.items()}


def test_six_matrices_a_layer_and_nothing_else(model):
    names = list(prunable_weights(model))
    assert len(names) == 12
    assert count_weights(model) == 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert not any(part in name for name in names for part in ("embed", "pooler", "classifier", "LayerNorm", "bias"))
    assert len(prunable_weights(model, embeddings=True)) == 13


def embeddings_of(model):
    found = {id(parameter) for parameter in embedding_parameters(model)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in found}


@pytest.mark.parametrize("variant", tiny.EVERY)
def test_what_belongs_neither_to_layers_nor_to_the_head_is_the_embeddings(variant):
    model = tiny.encoder(variant)
    family = family_of(model.config)
    others = [f"{path}." for path in (family.layers, *family.pooled, *family.final_norms)]
    names = [name for name, _ in model.named_parameters()]
    assert embeddings_of(model) == {name for name in names if not any(path in name for path in others)}


def test_a_layer_norm_that_reads_a_table_in_the_encoder_is_the_embeddings():
    tables = {"encoder.rel_embeddings.weight", "encoder.LayerNorm.weight", "encoder.LayerNorm.bias"}
    assert {f"deberta.{name}" for name in tables} <= embeddings_of(tiny.encoder("deberta-v2"))


def test_embeddings_of_an_unknown_family_stand_beside_its_words():
    config = ErnieConfig(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=24)
    names = embeddings_of(ErnieForSequenceClassification(config))
    tables = tuple(f"{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
    kinds = (*tables, "LayerNorm.weight", "LayerNorm.bias")
    assert names == {f"ernie.embeddings.{kind}" for kind in kinds}


def test_counts_are_exact_in_each_matrix_and_the_smallest_go(model):
    pruner, scores = pruner_of(model)
    pruner.remove(0.37, scores, torch.optim.AdamW(model.parameters()))
    for name, mask in pruner.masks.items():
        assert int((~mask).sum()) == round(0.37 * mask.numel())
        assert scores[name][~mask].max() <= scores[name][mask].min()
        assert (pruner.weights[name][~mask] == 0).all() and (pruner.weights[name][mask] != 0).all()


def test_global_ranking_is_exact_over_all_matrices(model):
    pruner, scores = pruner_of(model, allocation="global")
    pruner.remove(0.5, scores, torch.optim.AdamW(model.parameters()))
    total = sum(mask.numel() for mask in pruner.masks.values())
    assert sum(int((~mask).sum()) for mask in pruner.masks.values()) == round(0.5 * total)
    kept = torch.cat([scores[name][mask] for name, mask in pruner.masks.items()])
    removed = torch.cat([scores[name][~mask] for name, mask in pruner.masks.items()])
    assert removed.max() <= kept.min()


def test_removal_clears_adams_moments_and_masked_gradients_keep_zeros(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    pruner, _ = pruner_of(model)
    for step in range(3):
        if step == 1:
            pruner.remove(0.5, {name: magnitude(weight) for name, weight in pruner.weights.items()}, optimizer)
        model(input_ids=torch.randint(4, 60, (4, 8)), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        pruner.mask_gradients()
        optimizer.step()
        optimizer.zero_grad()
    for name, weight in pruner.weights.items():
        removed = ~pruner.masks[name]
        assert (weight[removed] == 0).all()
        assert (optimizer.state[weight]["exp_avg"][removed] == 0).all()
        assert (weight[~removed] != 0).all()


def test_masks_come_back_from_their_file(model, tmp_path):
    pruner, scores = pruner_of(model)
    pruner.remove(0.3, scores, torch.optim.AdamW(model.parameters()))
    write_masks(tmp_path / "masks.safetensors", pruner.masks)
    again = read_masks(tmp_path / "masks.safetensors")
    assert again.keys() == pruner.masks.keys()
    assert all(torch.equal(again[name], mask) for name, mask in pruner.masks.items())
    assert (tmp_path / "masks.safetensors").stat().st_size < 16384 / 8 + 3000


def test_no_masks_have_a_file_too(tmp_path):
    write_masks(tmp_path / "masks.safetensors", {})
    assert read_masks(tmp_path / "masks.safetensors") == {}
    assert structure_of({}) == {"sparsity": 0.0, "matrices": {}}


def test_masks_of_another_model_are_refused_by_name(model):
    pruner, _ = pruner_of(model)
    other, _ = pruner_of(tiny.classifier(intermediate_size=96))
    with pytest.raises(UserError, match=r"4 matrices differ, such as 'bert.encoder.layer.0.intermediate"):
        pruner.load(other.masks)


def test_equal_masks_give_equal_bytes(tmp_path):
    masks = {f"layer.{index}.heads": torch.arange(7) % (index + 2) > 0 for index in range(12)}
    for name in ("first", "second"):
        write_masks(tmp_path / name, masks)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
