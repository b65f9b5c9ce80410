"""Where the parts of each family live: shapes, configurations, and what is refused."""

import json

import pytest
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    ErnieConfig,
)

from espalier.models.classes import model_class, stock_config
from espalier.models.modeling_espalier import FAMILIES, Shape, check_covered, compact_config, family_of, shape_of
from tests import tiny

UNEQUAL = Shape(hidden=27, head_dim=8, pooled=32, layers=((0, 5), (3, 0), (0, 0)))
UNIFORM = Shape(hidden=32, head_dim=8, pooled=32, layers=((4, 10), (4, 10), (4, 10)))


@pytest.fixture(params=list(tiny.VARIANTS))
def model(request):
    return tiny.encoder(request.param)


def test_every_family_has_a_variant():
    assert {family for family, _ in tiny.EVERY.values()} == set(FAMILIES)
    assert {family for family, _ in tiny.WHOLE_HEADS.values()} == {name for name, each in FAMILIES.items() if each.head_table}


@pytest.mark.parametrize("shape", [UNEQUAL, UNIFORM])
def test_a_compact_configuration_says_its_shape(model, shape, tmp_path):
    assert shape_of(model.config) == Shape(32, 8, 32, ((4, 24),) * 3)
    config = compact_config(model.config, shape)
    assert shape_of(config) == shape
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is type(config) and shape_of(again) == shape
    smaller = shape._replace(hidden=20, layers=((0, 1), (2, 0), (0, 0)))
    assert shape_of(compact_config(again, smaller)) == smaller


def test_a_configuration_file_has_the_upstream_schema(tmp_path):
    compact_config(tiny.encoder("bert").config, UNEQUAL).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    assert (content["model_type"], content["hidden_size"], content["head_dim"], content["pooled_size"]) == (
        "bert",
        27,
        8,
        32,
    )
    layers = content["per_layer_config"]
    assert layers["0"] == {"intermediate_size": 5, "skip": ["attention"]}
    assert layers["1"] == {"num_attention_heads": 3, "skip": ["mlp"]}
    assert layers["2"] == {"skip": ["attention", "mlp"]}


def test_files_of_the_first_versions_still_open(tmp_path):
    compact_config(tiny.encoder("distilbert").config, UNEQUAL).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    layers = content["per_layer_config"].values()
    renamed = [{"intermediate_size" if key == "hidden_dim" else key: size for key, size in layer.items()} for layer in layers]
    content |= {"model_type": "compact-distilbert", "hidden_dim": 24, "per_layer_config": dict(enumerate(renamed))}
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert shape_of(AutoConfig.from_pretrained(tmp_path)) == UNEQUAL


def test_no_stock_class_builds_a_model_of_which_only_a_sublayer_is_gone(tmp_path):
    dense = tiny.encoder("bert")
    whole = shape_of(dense.config)
    shape = whole._replace(layers=(whole.layers[0], (whole.layers[1][0], 0), whole.layers[2]))
    model_class(compact_config(dense.config, shape))(compact_config(dense.config, shape)).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="'intermediate_size' is a per-layer attribute"):
        BertForSequenceClassification.from_pretrained(tmp_path)


def test_stock_configurations_are_read_as_before(tmp_path):
    for variant in ("bert", "distilbert", "modernbert"):
        config = tiny.encoder(variant).config
        config.save_pretrained(tmp_path / variant)
        again = AutoConfig.from_pretrained(tmp_path / variant)
        assert type(again) is type(config) and again.to_diff_dict() == config.to_diff_dict()
        assert type(AutoConfig.for_model(variant, num_labels=5)) is type(config)
        # transformers prefers the code of a trusted repository to a class of its own, but not to one from elsewhere
        assert CONFIG_MAPPING[variant].__module__.startswith("transformers.")


def test_every_sublayer_has_the_size_that_the_configuration_says(model):
    compact = model_class(compact_config(model.config, UNEQUAL))(compact_config(model.config, UNEQUAL))
    assert type(compact).__name__.startswith("Compact")
    logits = compact.eval()(**tiny.padded_batch()).logits
    assert logits.shape == (3, 3) and torch.isfinite(logits).all()
    encoder = sum(p.numel() for name, p in compact.named_parameters() if ".weight" in name and _is_matrix(name, compact))
    family, inputs = family_of(compact.config), _matrices_that_read(model)
    gated = family.stem in ("ModernBert", "NomicBert", "Gte")
    assert encoder == 27 * (3 * 8 * (inputs + 1) + 5 * (3 if gated else 2))


def _is_matrix(name, model):
    family = family_of(model.config)
    return any(
        name.endswith(f"{path}.weight") for path in (*family.to_heads, family.from_heads, *family.ffn_in, family.ffn_out)
    ) and (f"{family.layers}." in name)


def _matrices_that_read(model):
    """Square blocks of a layer's attention besides the output's."""
    family = family_of(model.config)
    return family.head_blocks * sum(any(path in name for name, _ in model.named_parameters()) for path in family.to_heads)


def test_unequal_or_narrow_models_have_no_stock_configuration(model):
    stock = stock_config(compact_config(model.config, UNIFORM))
    assert type(stock) is type(model.config) and shape_of(stock) == UNIFORM
    for other in (
        UNEQUAL,
        UNIFORM._replace(hidden=31),
        UNIFORM._replace(layers=((4, 10), (4, 10), (4, 9))),
        UNIFORM._replace(layers=((3, 10),) * 3),
        UNIFORM._replace(layers=((4, 10), (4, 0), (4, 10))),
        UNIFORM._replace(layers=((0, 0),) * 3),
    ):
        assert stock_config(compact_config(model.config, other)) is None


def test_layers_that_are_gone_are_left_out_of_a_stock_configuration_where_layers_can_move():
    shape = UNIFORM._replace(layers=((4, 10), (0, 0), (4, 10)))
    assert stock_config(compact_config(tiny.encoder("bert").config, shape)).num_hidden_layers == 2
    assert stock_config(compact_config(tiny.encoder("modernbert").config, shape)) is None


def test_an_unsupported_family_is_refused_by_name_with_the_supported_ones():
    with pytest.raises(ValueError, match=f"'ernie' cannot be pruned structurally; supported: {', '.join(FAMILIES)}"):
        family_of(ErnieConfig())


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"conv_kernel_size": 3, "conv_act": "gelu"}, "encoder.conv,"),
        ({"norm_rel_ebd": "none"}, "encoder.rel_embeddings without"),
    ],
)
def test_parts_that_the_table_does_not_cover_are_refused_by_name(changes, part):
    model = tiny.encoder("deberta-v2", **changes)
    with pytest.raises(ValueError, match=f"this DebertaV2 model has {part}"):
        check_covered(model.base_model, family_of(model.config))


def test_a_width_that_equals_the_number_of_classes_is_not_taken_for_it(model):
    """The residual stream may be left with as many dimensions as there are classes; the outputs stay what they are."""
    config = compact_config(model.config, UNEQUAL._replace(hidden=3))
    assert model_class(config)(config).eval()(**tiny.padded_batch()).logits.shape == (3, 3)


@pytest.mark.parametrize("shape", [UNEQUAL, UNIFORM])
def test_a_reloaded_model_is_the_same_to_the_bit(model, shape, tmp_path):
    config = compact_config(model.config, shape)
    compact = model_class(config)(config).eval()
    compact.save_pretrained(tmp_path)
    again, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again) is type(compact) and not any(report.values()), report
    state = again.state_dict()
    assert state.keys() == compact.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in compact.state_dict().items())
    batch = tiny.padded_batch()
    assert torch.equal(again.eval()(**batch).logits, compact(**batch).logits)
