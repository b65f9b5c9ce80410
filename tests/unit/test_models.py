import pytest
import torch
from safetensors.torch import load_file, save_file

from espalier.data.batches import Batch
from espalier.models.files import open_base, open_student, write_compact, write_model
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
    assert content["model_type"] == ("bert" if uniform else "compact-bert")
    classes = {"AutoConfig": "CompactBertConfig", "AutoModelForSequenceClassification": "CompactBertForSequenceClassification"}
    wanted = None if uniform else {name: f"modeling_espalier.{kind}" for name, kind in classes.items()}
    assert content.get("auto_map") == wanted
    assert "class _Compact" in (tmp_path / "modeling_espalier.py").read_text()
    ids = torch.tensor([[2, 10, 11, 3]])
    again = open_student([config, weights], "classification").eval()
    torch.testing.assert_close(again(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("change", ["missing", "left over"])
@pytest.mark.parametrize("make", [tiny.classifier, compact])
def test_a_student_opens_strictly(tmp_path, change, make):
    config, weights = files(tmp_path)
    write_model(make(), config, weights)
    tensors = load_file(weights)
    if change == "missing":
        del tensors["classifier.bias"]
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
