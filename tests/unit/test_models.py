import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM

from espalier.data.batches import Batch
from espalier.models.files import open_base, open_student, open_with_head, write_compact, write_model
from espalier.models.forward import forward, pool
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.parts import full_masks, heads_of, units_of
from espalier.pruning.shrink import shrink
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from tests import tiny


def files(folder):
    return [folder / "config.json", folder / "model.safetensors"]


def test_a_base_gets_a_head_for_its_task(tmp_path):
    base = files(tiny.write_base(tmp_path))
    model = open_base(base, "classification", ["low", "middle", "high"])
    assert model.config.id2label == {0: "low", 1: "middle", 2: "high"}
    assert model(input_ids=torch.tensor([[2, 5, 3]])).logits.shape == (1, 3)
    regression = open_base(base, "regression", None)
    assert regression.config.problem_type == "regression" and regression.num_labels == 1


CLASSES = ["a", "b", "c"]
"""As many as tiny.encoder has."""


def opened(folder, kind, classes):
    """A base with its head, from the same random numbers each time."""
    torch.manual_seed(5)
    return open_base(files(folder), kind, classes)


@pytest.mark.parametrize("variant", list(tiny.EVERY))
@pytest.mark.parametrize(
    ("kind", "classes"), [("classification", CLASSES), ("classification", ["a", "b"]), ("regression", None)]
)
def test_a_base_that_is_a_classifier_gets_the_head_of_one_that_is_not(tmp_path, variant, kind, classes):
    model = tiny.encoder(variant)
    model.save_pretrained(tmp_path / "classifier")
    model.base_model.save_pretrained(tmp_path / "encoder")
    of_classifier, of_encoder = (opened(tmp_path / name, kind, classes) for name in ("classifier", "encoder"))
    assert tiny.equal(of_classifier.state_dict(), of_encoder.state_dict())
    assert of_classifier.config.num_labels == len(classes or [""])
    head = {name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}.")}
    same = {name for name in head if torch.equal(model.state_dict()[name][:1], of_classifier.state_dict()[name][:1])}
    assert head and not same


@pytest.mark.parametrize("seed", [0, 1])
def test_a_base_that_answers_questions_gets_a_new_head_for_them(tmp_path, seed):
    model = tiny.answerer(seed)
    model.save_pretrained(tmp_path / "answerer")
    again = opened(tmp_path / "answerer", "span", None)
    assert not torch.equal(again.qa_outputs.weight, model.qa_outputs.weight)
    assert torch.equal(again.bert.encoder.layer[0].output.dense.weight, model.bert.encoder.layer[0].output.dense.weight)


def test_text_keeps_the_base_s_own_head_and_no_other_kind_does(tmp_path):
    model = BertForMaskedLM(tiny.config())
    model.save_pretrained(tmp_path / "masked")
    again, brought = open_with_head(files(tmp_path / "masked"), "text", None)
    assert brought and torch.equal(again.cls.predictions.transform.dense.weight, model.cls.predictions.transform.dense.weight)
    tiny.classifier().save_pretrained(tmp_path / "classifier")
    assert not open_with_head(files(tmp_path / "classifier"), "text", None)[1]


def edit_config(folder, **changes):
    content = read_json(folder / "config.json")
    (folder / "config.json").write_text(json.dumps(content | changes))


@pytest.mark.parametrize("headless", [True, False])
@pytest.mark.parametrize("variant", ["bert", "roberta", "electra, projected", "deberta-v2", "distilbert"])
def test_layers_that_config_json_does_not_name_are_not_dropped(tmp_path, variant, headless):
    model = tiny.encoder(variant)
    (model.base_model if headless else model).save_pretrained(tmp_path)
    edit_config(tmp_path, **{"n_layers" if variant == "distilbert" else "num_hidden_layers": 2})
    with pytest.raises(UserError, match=r"weights of the encoder that config.json, with its 2 layers, has no place for"):
        open_base(files(tmp_path), "classification", CLASSES)


def test_other_weights_of_the_encoder_that_would_be_dropped_are_named(tmp_path):
    tiny.classifier().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.distance_embedding.weight"
    save_file(tensors | {name: torch.zeros(2, 2)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"holds 1 weights of the encoder .*distance_embedding"):
        open_base(files(tmp_path), "classification", CLASSES)


def test_an_encoder_of_another_size_is_refused_in_words(tmp_path):
    tiny.write_base(tmp_path)
    edit_config(tmp_path, intermediate_size=48)
    with pytest.raises(UserError, match=r"is of shape \[64\]; by config.json it is of shape \[48\]"):
        open_base(files(tmp_path), "classification", CLASSES)


@pytest.mark.parametrize("variant", ["bert", "roberta", "distilbert"])
def test_old_names_of_layernorms_are_not_written_again(tmp_path, variant):
    model = tiny.encoder(variant)
    model.base_model.save_pretrained(tmp_path / "old")
    weights = tmp_path / "old/model.safetensors"
    renamed = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {}
    for name, tensor in load_file(weights).items():
        for new, old in renamed.items():
            name = name.replace(new, old)
        tensors[name] = tensor
    save_file(tensors, weights, metadata={"format": "pt"})
    student = opened(tmp_path / "old", "classification", CLASSES)
    (tmp_path / "new").mkdir()
    write_model(student, *files(tmp_path / "new"))
    written = load_file(tmp_path / "new/model.safetensors")
    assert not [name for name in written if name.endswith((".gamma", ".beta"))]
    assert written.keys() == dict(student.named_parameters()).keys()
    write_compact(student, *files(tmp_path / "new"), tmp_path / "new/modeling_espalier.py")
    assert not [name for name in load_file(tmp_path / "new/model.safetensors") if name.endswith((".gamma", ".beta"))]


def test_written_and_opened_again_to_the_bit(tmp_path):
    model = tiny.classifier()
    config, weights = files(tmp_path)
    write_model(model, config, weights)
    again = open_student([config, weights], "classification")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_base_without_an_encoder_weight_is_refused(tmp_path):
    base = files(tiny.write_base(tmp_path))
    tensors = load_file(base[1])
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, base[1], metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights of the encoder, such as 'bert.encoder.layer.1.output.dense.weight'"):
        open_base(base, "classification", ["a", "b"])


def compact(uniform=False):
    model = tiny.classifier()
    masks = full_masks(shape_of(model.config))
    for layer in range(2):
        masks[units_of(layer)][40:] = False
    if not uniform:
        masks[heads_of(0)][:] = False
        masks["hidden"][3] = False
    return shrink(model, masks).eval()


@pytest.mark.parametrize("uniform", [True, False])
def test_a_compact_student_is_opened_again_to_the_bit_and_stays_compact(tmp_path, uniform):
    model, (config, weights) = compact(uniform), files(tmp_path)
    write_model(model, config, weights)
    again = open_student([config, weights], "classification")
    assert type(again) is type(model) and shape_of(again.config) == shape_of(model.config)
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("uniform", [True, False])
def test_what_others_open_is_stock_where_it_can_be_and_brings_its_code(tmp_path, uniform):
    model, (config, weights) = compact(uniform), files(tmp_path)
    write_compact(model, config, weights, tmp_path / "modeling_espalier.py")
    content = read_json(config)
    assert content["model_type"] == "bert" and ("pooled_size" in content) != uniform
    classes = {"AutoConfig": "CompactBertConfig", "AutoModel": "CompactBertModel"}
    classes["AutoModelForSequenceClassification"] = "CompactBertForSequenceClassification"
    wanted = None if uniform else {name: f"modeling_espalier.{kind}" for name, kind in classes.items()}
    assert content.get("auto_map") == wanted
    assert "class _Compact" in (tmp_path / "modeling_espalier.py").read_text()
    ids = torch.tensor([[2, 10, 11, 3]])
    again = open_student([config, weights], "classification").eval()
    torch.testing.assert_close(again(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("change", ["missing", "left over", "another shape"])
@pytest.mark.parametrize("make", [tiny.classifier, compact])
def test_a_student_opens_strictly(tmp_path, change, make):
    config, weights = files(tmp_path)
    write_model(make(), config, weights)
    tensors = load_file(weights)
    if change == "missing":
        del tensors["classifier.bias"]
    elif change == "another shape":
        tensors["classifier.bias"] = torch.zeros(7)
    else:
        tensors["extra"] = torch.zeros(1)
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"does not fit its config\.json"):
        open_student([config, weights], "classification")


def test_representations_are_states_of_the_last_layer():
    model = tiny.classifier().eval()
    ids = torch.tensor([[2, 10, 11, 3], [2, 12, 3, 0]])
    batch = Batch(torch.arange(2), ids, (ids != 0).long(), None, torch.tensor([0, 1]))
    hidden = model.bert(input_ids=ids, attention_mask=batch.attention_mask).last_hidden_state
    first = forward(model, batch, "first-token")
    torch.testing.assert_close(first.representation, hidden[:, 0])
    torch.testing.assert_close(pool(hidden, batch.attention_mask, "mean")[1], hidden[1, :3].mean(dim=0))
    assert forward(model, batch).representation is None and forward(model, batch).hidden_states == ()
    every = forward(model, batch, hidden_states=True).hidden_states
    assert len(every) == 2 and torch.equal(every[-1], hidden)
