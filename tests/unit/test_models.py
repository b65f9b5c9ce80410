import pytest
import torch
from safetensors.torch import load_file, save_file

from espalier.core.models import forward, open_base, open_student, pool, write_model
from espalier.core.runtime import UserError
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


@pytest.mark.parametrize("change", ["missing", "left over"])
def test_a_student_opens_strictly(tmp_path, change):
    config, weights = files(tmp_path)
    write_model(tiny.classifier(), config, weights)
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
    from espalier.core.batches import Batch

    ids = torch.tensor([[2, 10, 11, 3], [2, 12, 3, 0]])
    batch = Batch(torch.arange(2), ids, (ids != 0).long(), None, torch.tensor([0, 1]))
    hidden = model.bert(input_ids=ids, attention_mask=batch.attention_mask).last_hidden_state
    first = forward(model, batch, "first-token")
    torch.testing.assert_close(first.representation, hidden[:, 0])
    torch.testing.assert_close(pool(hidden, batch.attention_mask, "mean")[1], hidden[1, :3].mean(dim=0))
    assert forward(model, batch).representation is None
