"""The pages docs/methods/cofi.md and homodistil.md say what the code computes: their tables of numbers, options and names."""

import importlib
import inspect
import json
import re
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from espalier.config.methods.homodistil import HomodistilPlan
from espalier.config.methods.structured import CofiPlan
from espalier.losses.layer_matching import ordered, unrestricted
from espalier.models.modeling_espalier import Shape, shape_of
from espalier.pruning.budget import SizeBudget
from espalier.pruning.equal_layers import equal_shape
from espalier.pruning.hard_concrete import (
    EPSILON,
    LIMIT,
    LOWER,
    SHARPNESS,
    TEMPERATURE,
    UPPER,
    deterministic,
    kept_probability,
    sample,
)
from espalier.pruning.parts import full_masks
from espalier.pruning.platon import smoothed
from espalier.pruning.schedules import remaining
from espalier.pruning.widths import Sizes, final_sizes

ROOT = Path(__file__).parents[2]
PAGES = {"cofi": CofiPlan, "homodistil": HomodistilPlan}


def page(method):
    return (ROOT / "docs/methods" / f"{method}.md").read_text()


def tables(method, heading):
    """The tables below a heading, up to the next one: rows of cells, without the header."""
    section = page(method).split(f"\n{heading}\n")[1].split("\n## ")[0].split("\n### ")[0]
    blocks = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|\n ").split("|")] for line in block.splitlines()[2:]] for block in blocks]


def number(cell):
    return float(cell.replace("−", "-").replace(",", "").rstrip("%"))


def numbers(row):
    return [number(cell) for cell in row]


@pytest.mark.parametrize("method", PAGES)
def test_options_that_a_page_names_exist(method):
    """The lines "Options: …" at the end of sections; every option of the method's own class is on one of them."""
    lists = re.findall(r"^Options: (.*?)\.$", page(method), re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`(\w+)`", " ".join(lists)))
    assert named and named <= PAGES[method].model_fields.keys()
    classes = [each for each in PAGES[method].__mro__ if each.__module__ == PAGES[method].__module__]
    own = {name for each in classes for name in each.__annotations__ if name in PAGES[method].model_fields}
    assert own - named <= {"method"}


def test_names_that_the_table_of_symbols_gives_are_in_the_method():
    modules = [importlib.import_module(f"espalier.methods.{name}") for name in ("cofi", "gated")]
    source = "".join(map(inspect.getsource, modules))
    symbols = tables("cofi", "## 2 Notation and losses")[0]
    names = [name for row in symbols for name in re.findall(r"`([\w.]+)(?:\(\))?`", row[-1])]
    assert len(names) > 8
    assert [name for name in names if name not in source] == []


def test_constants_and_probabilities_of_gates():
    said = re.search(r"β = 2/3, l = −0.1, r = 1.1, ε = 1e-6, inference factor 0.8", page("cofi"))
    assert said and (TEMPERATURE, LOWER, UPPER, EPSILON, SHARPNESS) == (2 / 3, -0.1, 1.1, 1e-6, 0.8)
    [table] = tables("cofi", "### 3.1 Hard concrete")
    assert number(table[0][0]) == pytest.approx(LIMIT, abs=5e-4)
    for log_alpha, probability in map(numbers, table):
        assert float(kept_probability(torch.tensor(log_alpha))) == pytest.approx(probability, abs=5e-4)


def test_the_size_that_is_counted():
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig())
    budget = SizeBudget.of(model, full_masks(shape_of(model.config)), 0.6)
    public, own = tables("cofi", "### 3.2 What each mask covers, and expected size")[1]
    counted = [float(re.search(r"= (\d+)", own[1])[1]), *numbers(own[2:])]
    assert counted == [budget.head_weights, budget.unit_weights, budget.dense]
    hidden, heads, units, layers = 768, 12, 3072, 12
    biased = 4 * hidden**2 + 4 * hidden
    assert number(public[3]) == layers * (biased + 2 * hidden * units + hidden + units)
    assert float(re.search(r"= ([\d.]+)", public[1])[1]) == pytest.approx(biased / heads / hidden, abs=5e-3)
    all_kept = hidden * layers * (biased / hidden + 2 * units)
    assert 1.0 - all_kept / number(public[3]) == pytest.approx(0.0005, abs=5e-5)


def test_vectors_of_gates():
    for log_alpha, uniform, gate, soft in map(numbers, tables("cofi", "## 8 Test vectors")[0]):
        place, noise = torch.tensor([log_alpha], dtype=torch.float64), torch.tensor([uniform], dtype=torch.float64)
        assert float(sample(place, noise)) == pytest.approx(gate, abs=1e-6)
        assert float(deterministic(place, removed=0)) == pytest.approx(soft, abs=1e-6)


def test_vectors_of_whole_models_are_those_of_the_file():
    """What the code makes of the file is in test_hard_concrete.py and test_lagrangian.py."""
    content = json.loads((ROOT / "tests/methods/cofi-vectors.json").read_text())
    [_, cases, matching] = tables("cofi", "## 8 Test vectors")
    for column, case in enumerate(content["cases"], start=1):
        said = [[number(part) for part in row[column].split(", ")] for row in cases]
        assert said == [
            [case[key] for key in ("hidden", "heads", "ffn", "layers")],
            [case["prunable_parameters"]],
            [case[key] for key in ("target", "warmup_steps", "step_since_pruning_began")],
            [case["lambda_1"], case["lambda_2"]],
            [case["expected_sparsity"]],
            [case["current_target"]],
            [case["lagrangian"]],
            [case["gradient"]["lambda_1"]],
            [case["gradient"]["lambda_2"]],
            [case["actual_sparsity_of_deterministic_masks"]],
        ]
    [vector] = content["layer_matching"]
    assert [numbers(row[1:]) for row in matching] == vector["mse_matrix"]
    for match in (unrestricted, ordered):
        pairs = match(torch.tensor(vector["mse_matrix"]), [1, 3, 5], [True] * 6)
        assert [student + 1 for _, student in pairs] == [2, 4, 6]


def test_vectors_of_the_schedule():
    for step, above, ratio in map(numbers, tables("homodistil", "## 8 Test vectors")[0]):
        left = remaining(int(step), 500, 19_600, "cubic")
        assert left == pytest.approx(above, abs=1e-12) and 0.75 + 0.25 * left == pytest.approx(ratio, abs=1e-12)


def test_vectors_of_platon():
    mean = spread = torch.zeros(1, dtype=torch.float64)
    for new, *expected in map(numbers, tables("homodistil", "## 8 Test vectors")[1]):
        mean, spread = smoothed(mean, spread, torch.tensor([new], dtype=torch.float64), beta1=0.85, beta2=0.95)
        assert [float(mean), float(spread), float(mean * spread)] == pytest.approx(expected, abs=1e-8)


def test_widths_and_parameters_of_the_papers_models():
    start = Sizes.of(BertConfig())
    rows = tables("homodistil", "## 4 Hyper-parameters")[1]
    assert len(rows) == 4
    for _, _, *cells in rows:
        hidden, head_dim, embeddings, encoder, total, matrices = numbers(cells)
        sizes = final_sizes(start, matrices, HomodistilPlan.model_fields["multiple"].default)
        assert sizes == Sizes(hidden, 12, head_dim, (4 * hidden,) * 12) and sizes.matrices == matrices
        with torch.device("meta"):
            config = BertConfig(hidden_size=int(hidden), intermediate_size=int(4 * hidden))
            model = BertModel(config, add_pooling_layer=False)
        parts = [sum(each.numel() for each in part.parameters()) for part in (model.embeddings, model.encoder, model)]
        assert parts == [embeddings, encoder, total]


def test_the_example_of_final_widths():
    said = re.search(
        r"Example: (\d+) hidden, (\d+) heads of (\d+), (\d+) units, (\d+) layers at 50 % become (\d+) hidden, heads of (\d+), "
        r"(\d+) units",
        " ".join(page("homodistil").split()),
    )
    hidden, heads, head_dim, units, layers, *left = map(int, said.groups())
    start = Sizes(hidden, heads, head_dim, (units,) * layers)
    sizes = final_sizes(start, start.matrices * 0.5, HomodistilPlan.model_fields["multiple"].default)
    assert [sizes.hidden, sizes.head_dim, sizes.units[0]] == left


def test_numbers_of_the_paper_that_are_defaults():
    fields = HomodistilPlan.model_fields
    assert fields["learning_rate"].default == pytest.approx(6e-4 * (32 / 4096) ** 0.5, rel=1e-2)
    assert [fields[f"{name}_weight"].default for name in ("prediction", "hidden", "embedding", "attention")] == [1, 1, 0.1, 0.1]
    assert "1, 1, 0.1, 0.1" in page("homodistil")
    for name, said in (("prune_start", "0.018 T"), ("prune_end", "0.7 T"), ("beta1", "0.85"), ("beta2", "0.95")):
        assert fields[name].default == float(said.split()[0]) and said in page("homodistil")


@pytest.mark.parametrize(("layers", "hidden", "ffn", "column"), [(12, 768, 3072, 2), (6, 384, 1536, 4)])
def test_shapes_of_equal_layers(layers, hidden, ffn, column):
    """Section 3.9: heads, hidden width and FFN units at each target, for BERT-base and MiniLM."""
    (rows,) = tables("cofi", "### 3.9 Layers of one size")
    start = Shape(hidden, hidden // 12, hidden, ((12, ffn),) * layers)
    dense = float(layers * hidden * (4 * hidden + 2 * ffn))
    for row in rows:
        budget = SizeBudget(number(row[0].rstrip(" %")) / 100, start, dense, 4.0 * hidden / 12, 2.0)
        shape = equal_shape(budget, ("heads", "units", "hidden"))
        assert [*shape.layers[0], shape.hidden] == [number(row[1]), number(row[column + 1]), number(row[column])]
