"""Programs of others open exported folders as they are and give our numbers; each test says which client it lacks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from espalier.config.deployment.formats import Format
from espalier.config.kinds import KIND_RULES
from espalier.deployment.runtimes import open_format
from tests import exports, tiny

pytestmark = pytest.mark.slow
CLIENTS = Path(__file__).parents[1] / "clients"
DTYPES: dict[str, Format] = {"fp32": "onnx", "int8": "onnx-int8", "q8": "onnx-int8"}
"""Word of transformers.js for a format → ours; q8 looks for model_quantized.onnx."""
FAMILIES = ("roberta", "xlm-roberta", "camembert", "electra", "deberta-v2", "distilbert", "modernbert")
BARE = """
import builtins, sys
sys.path.append(sys.argv[2])
try:
    import espalier
except ImportError:
    pass
else:
    sys.exit("espalier is importable, so this process shows nothing")
builtins.input = lambda *words: sys.exit(f"asked: {words}")
from transformers import AutoModelForSequenceClassification, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
print(tokenizer("word1 word2")["input_ids"])
try:
    AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
except Exception as error:
    print(type(error).__name__)
else:
    print("opened")
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Folders of a student whose single weights are removed, and of one with unequal layers, for each kind of task."""
    made = {}
    for kind, text in (("classification", ("text",)), ("regression", ("a", "b")), ("span", ("question", "context"))):
        model = exports.stock(kind)
        for name, student in {"stock": model, "unequal": exports.unequal(model)}.items():
            folder = tmp_path_factory.mktemp(f"{kind}-{name}")
            made[f"{kind}-{name}"] = exports.write_export(folder, student, exports.spec_of(kind, text), "onnx-int8")
    return made


@pytest.fixture(scope="module")
def families(tmp_path_factory) -> dict[str, Path]:
    """A student of unequal layers of every other family."""
    spec, made = exports.spec_of("classification"), {}
    for family in FAMILIES:
        model = exports.unequal(tiny.encoder(family, vocab_size=64))
        with torch.no_grad():  # logits of hundreds would leave fp32 too few digits
            for parameter in model.parameters():
                parameter.mul_(0.5)
        made[family] = exports.write_export(tmp_path_factory.mktemp(family), model, spec)
    return made


def question(folder: Path, kind: str, dtype: str = "fp32") -> dict[str, Any]:
    """Texts of different lengths that fit into a row: transformers.js cuts longer ones in another way, with [SEP] cut off."""
    texts, pairs = ([" ".join(text.split()[:5]) for text in exports.texts(9, seed)] for seed in (1, 2))
    auto = KIND_RULES[kind].auto_class
    content = {"folder": f"{folder}/", "dtype": dtype, "auto": auto, "texts": texts, "length": exports.LENGTH}
    return content if kind == "classification" else content | {"pairs": pairs}


def asked(questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What transformers.js answers."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (CLIENTS / "node_modules/@huggingface/transformers").is_dir():
        pytest.skip("transformers.js is not installed: make clients")
    command = ["node", str(CLIENTS / "ask.mjs")]
    result = subprocess.run(command, input=json.dumps(questions), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def ours(asked_for: dict[str, Any], kind: str) -> tuple[list[list[int]], dict[str, np.ndarray]]:
    """Token ids and outputs for the same texts in our own runtime."""
    folder = Path(asked_for["folder"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [asked_for["texts"], *([asked_for["pairs"]] if "pairs" in asked_for else [])]
    encoded = tokenizer(*texts, padding=True, truncation=True, max_length=asked_for["length"], return_tensors="np")
    outputs = open_format(folder, DTYPES[asked_for["dtype"]], kind)(dict(encoded))
    return encoded["input_ids"].tolist(), outputs


def probabilities(values: Any) -> np.ndarray:
    return torch.softmax(torch.as_tensor(np.asarray(values, dtype=np.float32)), dim=-1).numpy()


@pytest.mark.parametrize("kind", ["classification", "regression", "span"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-4), ("int8", 2e-2), ("q8", 2e-2)])
def test_transformers_js_gives_our_numbers(folders, kind, dtype, tolerance):
    names = [f"{kind}-stock", f"{kind}-unequal"]
    questions = [question(folders[name], kind, dtype) for name in names]
    for wanted, answer in zip(questions, asked(questions), strict=True):
        ids, outputs = ours(wanted, kind)
        assert answer["ids"] == ids
        assert outputs.keys() <= answer.keys()
        for name, values in outputs.items():
            if kind == "regression":
                np.testing.assert_allclose(np.asarray(answer[name]), values, atol=tolerance * 10, rtol=0)
            else:
                np.testing.assert_allclose(probabilities(answer[name]), probabilities(values), atol=tolerance, rtol=0)

        if kind == "classification":
            named = {row["label"]: row["score"] for row in answer["pipeline"][0]}
            first = probabilities(answer["logits"])[0]
            assert named.keys() == {"low", "middle", "high"} and abs(named["high"] - first[2]) < tolerance + 1e-3


def test_transformers_js_opens_unequal_students_of_every_family(families):
    questions = [question(folder, "classification") for folder in families.values()]
    for wanted, answer in zip(questions, asked(questions), strict=True):
        _, outputs = ours(wanted, "classification")
        np.testing.assert_allclose(probabilities(answer["logits"]), probabilities(outputs["logits"]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["classification-stock", "classification-unequal", *FAMILIES])
def test_a_tokenizer_opens_without_code_and_without_a_question_and_no_stock_class_takes_unequal_layers(folders, families, name):
    folder = (folders | families)[name]
    packages = str(Path(transformers.__file__).parents[1])
    command = [sys.executable, "-S", "-c", BARE, str(folder), packages]
    environment = {"PATH": "/usr/bin:/bin", "HF_HOME": str(folder.parent / "home"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:] + result.stdout
    ids, opened = result.stdout.strip().splitlines()[-2:]
    assert ids == "[2, 5, 6, 3]"
    assert (opened == "opened") == name.endswith("-stock"), opened


@pytest.mark.parametrize("name", ["classification-stock", "classification-unequal"])
def test_sentence_transformers_embeds_with_the_encoder(folders, name):
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    vectors = library.SentenceTransformer(str(folders[name]), device="cpu").encode(texts := exports.texts(4, 3))

    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[name])
    encoded = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    encoder = transformers.AutoModel.from_pretrained(folders[name]).eval()
    with torch.inference_mode():
        states = encoder(**encoded).last_hidden_state
    mask = encoded["attention_mask"][..., None]
    expected = (states * mask).sum(dim=1) / mask.sum(dim=1)
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["classification-stock", "classification-unequal"])
@pytest.mark.parametrize("client", ["onnxruntime", "openvino"])
def test_bare_runtimes_read_the_file_and_give_pytorch_s_logits(folders, name, client):
    library = pytest.importorskip(client, reason=f"{client} is not installed")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[name])
    encoded = dict(tokenizer(exports.texts(4, 4), padding=True, truncation=True, max_length=16, return_tensors="np"))
    encoded.setdefault("token_type_ids", np.zeros_like(encoded["input_ids"]))
    file = folders[name] / "onnx/model.onnx"
    if client == "onnxruntime":
        (logits,) = library.InferenceSession(file).run(["logits"], encoded)
    else:
        logits = library.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(encoded)["logits"]
    expected = open_format(folders[name], "torch", "classification")(encoded)["logits"]
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)
