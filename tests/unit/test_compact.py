"""One structured student, masked, shrunk, exported and opened in every way that the README names: equal logits."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification

from espalier.models.files import open_student, write_compact
from espalier.models.modeling_espalier import shape_of
from espalier.models.onnx import onnx_runner, write_onnx
from espalier.models.word_tables import factorised
from espalier.pruning.fold import folded
from espalier.pruning.gates import attach
from espalier.pruning.inside_heads.rows import full_row_masks
from espalier.pruning.parts import full_masks, queries_of, values_of
from espalier.pruning.shrink import shrink
from tests import tiny

pytestmark = pytest.mark.slow

SHAPES = [(batch, length) for batch in (1, 2, 7, 32) for length in (1, 2, 16, 129, 512)]
OPEN = """
import sys, torch, transformers
try:
    import espalier
except ImportError:
    pass
else:
    sys.exit("espalier is importable, so this process shows nothing")
folder, remote = sys.argv[1], sys.argv[2] == "remote"
kind = transformers.AutoModelForSequenceClassification
model, report = kind.from_pretrained(folder, trust_remote_code=remote, output_loading_info=True)
assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
batches = torch.load(f"{folder}/batches.pt", weights_only=True)
with torch.inference_mode():
    torch.save([model.eval()(**batch).logits for batch in batches], f"{folder}/logits.pt")
print(type(model).__module__)
"""


def batches() -> list[dict[str, torch.Tensor]]:
    """Rows of every length up to the batch's, the rest padding."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for batch, length in SHAPES:
        ids = torch.randint(4, 64, (batch, length), generator=generator)
        real = torch.arange(length) < torch.randint(1, length + 1, (batch, 1), generator=generator)
        found.append({"input_ids": ids.where(real, 0), "attention_mask": real.long()})
    return found


@torch.inference_mode()
def logits(model) -> list[torch.Tensor]:
    return [model.eval()(**batch).logits for batch in batches()]


def gap(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(first, second, strict=True))


def elsewhere(folder: Path, *arguments: str) -> str:
    """Open the folder in a fresh process that sees the installed packages but not espalier (-S: no .pth files)."""
    torch.save(batches(), folder / "batches.pt")
    packages = str(Path(transformers.__file__).parents[1])
    command = [sys.executable, "-S", "-c", OPEN, str(folder), *arguments]
    environment = {"PYTHONPATH": packages, "PATH": "/usr/bin:/bin", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def student():
    """A dense model, its gates, and logits of the gated model."""
    dense = tiny.classifier(0, num_hidden_layers=3, max_position_embeddings=512)
    torch.manual_seed(1)
    shape = shape_of(dense.config)
    values = {name: torch.rand(len(mask)) * (torch.rand(len(mask)) > 0.4) for name, mask in full_masks(shape).items()}
    values["hidden"] = values["hidden"].where(torch.arange(32) % 5 == 0, torch.ones(32))
    values["layer.1.ffn"] = torch.zeros(64)
    values |= {"attention": torch.tensor([0.9, 1.0, 0.0]), "ffn": torch.tensor([1.0, 1.0, 0.7])}
    gated = copy.deepcopy(dense)
    attach(gated, lambda: values)
    return dense, values, logits(gated)


@pytest.fixture(scope="module")
def folder(student, tmp_path_factory):
    """The exported student."""
    dense, values, _ = student
    small = folded(dense, values)
    folder = tmp_path_factory.mktemp("compact")
    write_compact(small, folder / "config.json", folder / "model.safetensors", folder / "modeling_espalier.py")
    return folder, small


def test_the_compact_model_gives_the_gated_one_s_logits(student, folder):
    assert gap(student[2], logits(folder[1])) < 1e-5
    assert sum(p.numel() for p in folder[1].parameters()) < 0.7 * sum(p.numel() for p in student[0].parameters())


def test_it_opens_where_espalier_is_installed(student, folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder[0])
    assert type(model).__module__ == "espalier.models.modeling_espalier"
    assert gap(logits(folder[1]), logits(model)) < 1e-5


def test_it_opens_from_the_bare_folder_where_espalier_is_not(folder):
    assert elsewhere(folder[0], "remote").startswith("transformers_modules.")
    assert gap(logits(folder[1]), torch.load(folder[0] / "logits.pt", weights_only=True)) < 1e-5


def test_a_product_in_the_word_table_s_place_opens_from_the_bare_folder(student, tmp_path):
    small = factorised(student[0], 16)
    write_compact(small, tmp_path / "config.json", tmp_path / "model.safetensors", tmp_path / "modeling_espalier.py")
    assert elsewhere(tmp_path, "remote").startswith("transformers_modules.")
    assert gap(logits(small), torch.load(tmp_path / "logits.pt", weights_only=True)) < 1e-5


def test_heads_of_unequal_sizes_open_from_the_bare_folder(student, tmp_path):
    masks = full_row_masks(shape_of(student[0].config))
    masks[queries_of(0)][3:9] = masks[values_of(0)][30:] = masks[values_of(2)][::3] = False
    small = shrink(student[0], masks)
    write_compact(small, tmp_path / "config.json", tmp_path / "model.safetensors", tmp_path / "modeling_espalier.py")
    assert elsewhere(tmp_path, "remote").startswith("transformers_modules.")
    assert gap(logits(small), torch.load(tmp_path / "logits.pt", weights_only=True)) < 1e-5


def test_a_uniform_one_opens_with_transformers_alone(tmp_path):
    dense = tiny.classifier(0, num_hidden_layers=3, max_position_embeddings=512)
    masks = full_masks(shape_of(dense.config))
    masks["layer.1.heads"][:] = masks["layer.1.ffn"][:] = False
    masks["layer.0.ffn"][::2] = masks["layer.2.ffn"][1::2] = False
    small = shrink(dense, masks)
    write_compact(small, tmp_path / "config.json", tmp_path / "model.safetensors", tmp_path / "modeling_espalier.py")
    assert elsewhere(tmp_path, "local") == "transformers.models.bert.modeling_bert"
    assert gap(logits(small), torch.load(tmp_path / "logits.pt", weights_only=True)) < 1e-5


def test_onnx_gives_the_same_logits(folder):
    model = open_student([folder[0] / "config.json", folder[0] / "model.safetensors"], "classification")
    write_onnx(model, folder[0] / "model.onnx")
    run = onnx_runner(folder[0] / "model.onnx", torch.device("cpu"))
    typed = [{**batch, "token_type_ids": torch.zeros_like(batch["input_ids"])} for batch in batches()]
    assert gap(logits(model), [torch.from_numpy(run(batch)[0]) for batch in typed]) < 1e-4


@pytest.mark.parametrize(
    "imports",
    [
        "import espalier; from transformers import BertForTokenClassification; from transformers import AutoModel, AutoConfig",
        "from transformers import AutoModel, AutoConfig; import espalier",
        "import espalier, transformers; AutoModel, AutoConfig = transformers.AutoModel, transformers.AutoConfig",
        "import espalier; import transformers.models.bert.modeling_bert; from transformers import AutoModel, AutoConfig",
    ],
    ids=["a model's class first", "espalier last", "as users do", "a module of models first"],
)
def test_espalier_may_be_imported_before_or_after_any_class(tmp_path, imports):
    """own audit: the class of a model, imported before an Auto class, could not be imported at all."""
    dense = tiny.encoder("bert")
    masks = full_masks(shape_of(dense.config))
    masks["layer.0.heads"][1] = False
    files = [tmp_path / name for name in ("config.json", "model.safetensors", "modeling_espalier.py")]
    write_compact(shrink(dense, masks), *files)
    code = f"{imports}\nfolder = {str(tmp_path)!r}\nprint(type(AutoModel.from_pretrained(folder)).__name__)\n"
    code += "print(type(AutoConfig.from_pretrained(folder)).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["CompactBertModel", "CompactBertConfig"], done.stderr[-2000:]
