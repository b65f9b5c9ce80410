"""An embedding task through the whole DAG: texts without labels, pairs, retrieval, a base that teaches, four students."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from transformers import AutoModel, AutoTokenizer

from espalier.config.deployment.formats import SENTENCE_FILES
from espalier.runtime.files import read_json
from tests import tiny

pytestmark = pytest.mark.slow
FAST = {"batch_size": 16, "learning_rate": 1.0e-3, "evaluate_every": 1.0, "start": "teacher"}
EQUAL = {"layers": "equal", "recover": {"epochs": 2.0}, **FAST}
CONFIG = {
    "project": "meant",
    "seeds": [1],
    "device": "cpu",
    "precision": "fp32",
    "bases": {"tiny": {"source": "local", "path": "tiny"}},
    "tasks": {
        "texts": {
            "kind": "embedding",
            "source": "files",
            "train": "train.csv",
            "validation": {"pairs": "pairs.csv", "search": "search.jsonl"},
            "text": ["first", "second"],
            "label": "score",
            "retrieval": {"search": ["query", "right"]},
            "metric": "spearman",
            "also": ["recall-at-1", "recall-at-5"],
            "max_length": 16,
            "unlabelled": {"files": [{"path": "more.csv", "text": ["text"]}], "rows": 60, "share": 0.25},
        }
    },
    "plans": {
        "sdp": {"method": "sdp", "path": [0.5], "objective": "cc+kld", "representation": "mean", **FAST},
        "spd": {
            **{"method": "spd", "path": [0.5], "sparsify_epochs": 2.0, "grafting_epochs": 1.0, "finetune_epochs": 2.0},
            **{"attention_weight": 0.0, "prune_steps": 2, **FAST},
        },
        "cofi": {
            **{"method": "cofi", "path": [0.5], "prepruning_epochs": 0.0, "pruning_epochs": 4.0},
            **{"sparsity_warmup_epochs": 1.0, "gate_learning_rate": 0.3, **EQUAL},
        },
        "small": {"method": "small-dense", "path": [0.5], "epochs": 4.0, **EQUAL},
    },
    "deploy": {"formats": ["torch", "onnx", "onnx-int8"], "max_drop": 0.5, "factorise": {"rank": 6}},
    "measure": {"repeats": 3, "length": 16},
    "progress": {"log_every": 2},
}
STUDENTS = ["teacher/0", "sdp/50", "spd/50", "cofi/50", "small/50"]


def sentence(generator: np.random.Generator, third: int) -> str:
    return " ".join(tiny.WORDS[20 * third + word] for word in generator.integers(0, 20, generator.integers(4, 9)))


def write_files(folder):
    generator = np.random.default_rng(3)

    def texts(count):
        return [sentence(generator, number % 3) for number in range(count)]

    pd.DataFrame({"first": texts(60), "second": texts(60)}).to_csv(folder / "train.csv", index=False)
    pd.DataFrame({"text": texts(90)}).to_csv(folder / "more.csv", index=False)
    pairs = {"first": texts(40), "second": texts(40)[::-1]}
    both = enumerate(zip(*pairs.values(), strict=True))
    scores = [len(set(first.split()) & set(second.split())) + 0.01 * place for place, (first, second) in both]
    pd.DataFrame(pairs | {"score": scores}).to_csv(folder / "pairs.csv", index=False)
    asked = [{"query": text, "right": [f"{text} {text.split()[0]}", f"{text} {text.split()[1]}"]} for text in texts(12)]
    (folder / "search.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))


@pytest.fixture(scope="module")
def meant(make_clone, tmp_path_factory):
    clone = make_clone(tmp_path_factory.mktemp("meant"))
    tiny.write_base(clone.folder / "tiny")
    write_files(clone.folder)
    clone.write_config(CONFIG)
    clone.run_all()
    return clone


def vectors_of(model, tokenizer, texts):
    """As the documents of sentence-transformers say, with transformers alone."""
    encoded = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        states = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"].unsqueeze(-1).float()
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)


def test_the_table_has_scores_of_all_and_the_numbers_of_texts(meant):
    table = pd.read_csv(meant.folder / "results/meant/table.csv").set_index("plan")
    assert set(table.index) == {"teacher", "sdp", "spd", "cofi", "small"} and (table["metric"] == "spearman").all()
    assert (table.loc[["sdp", "spd", "cofi", "small"], "sparsity_encoder"] - 0.5).abs().max() < 0.02
    assert table["unlabelled_rows"].fillna(0).to_dict() == {"teacher": 0, "sdp": 60, "spd": 60, "cofi": 60, "small": 60}


def test_the_base_teaches_as_it_is(meant):
    folder = meant.folder / "results/meant/tiny/texts/seed1/teacher/0"
    own, base = (AutoModel.from_pretrained(path) for path in (folder / "compact", meant.folder / "tiny"))
    assert all(torch.equal(value, base.state_dict()[name]) for name, value in own.state_dict().items())
    assert read_json(folder / "run.json")["steps"] == 0


@pytest.mark.parametrize("student", STUDENTS)
def test_plain_transformers_give_the_stored_cosines(meant, student):
    folder = meant.folder / f"results/meant/tiny/texts/seed1/{student}"
    model = AutoModel.from_pretrained(folder / "compact").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "compact")
    pairs = pd.read_csv(meant.folder / "pairs.csv")
    first, second = (vectors_of(model, tokenizer, pairs[name].tolist()) for name in ("first", "second"))
    stored = pd.read_parquet(folder / "predictions.parquet")
    cosines = (first * second).sum(dim=1).numpy()
    np.testing.assert_allclose(cosines, stored[stored["set"] == "pairs"]["prediction"], atol=1e-5)
    scores = read_json(folder / "scores.json")
    assert scores["score"] == pytest.approx(stats.spearmanr(pairs["score"], cosines).statistic, abs=1e-6)
    assert set(scores["sets"]["search"]) == {"rows", "recall-at-1", "recall-at-5"} and scores["sets"]["search"]["rows"] == 12


@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("folder", ["compact", "trimmed"])
def test_the_folder_has_the_form_that_sentence_transformers_reads(meant, student, folder):
    place = meant.folder / f"results/meant/tiny/texts/seed1/{student}/{folder}"
    modules = read_json(place / SENTENCE_FILES[0])
    assert [module["type"].rpartition(".")[2] for module in modules] == ["Transformer", "Pooling", "Normalize"]
    assert [module["path"] for module in modules[:2]] == ["", "1_Pooling"]
    pooling = read_json(place / modules[1]["path"] / "config.json")
    assert [name for name, value in pooling.items() if value is True and "mode" in name] == ["pooling_mode_mean_tokens"]
    assert pooling["word_embedding_dimension"] == read_json(place / "config.json")["hidden_size"]
    assert read_json(place / SENTENCE_FILES[2])["max_seq_length"] == 16


@pytest.mark.parametrize("student", STUDENTS)
def test_sentence_transformers_give_the_same_vectors(meant, student):
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    folder = meant.folder / f"results/meant/tiny/texts/seed1/{student}/compact"
    texts = pd.read_csv(meant.folder / "pairs.csv")["first"].tolist()
    theirs = library.SentenceTransformer(str(folder), device="cpu").encode(texts)
    own = vectors_of(AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder), texts)
    np.testing.assert_allclose(theirs, own.numpy(), atol=1e-5)


@pytest.mark.parametrize("student", ["teacher/0", "cofi/50"])
def test_formats_are_scored_in_their_own_runtimes(meant, student):
    formats = read_json(meant.folder / f"results/meant/tiny/texts/seed1/{student}/deploy/compact.json")["formats"]
    assert set(formats) == {"torch", "onnx", "onnx-int8"}
    assert abs(formats["onnx"]["drop"]) < 1e-3 and formats["onnx"]["agreement"] > 0.999
    assert set(formats["onnx-int8"]["sets"]) == {"pairs", "search"}


@pytest.mark.parametrize("student", ["cofi/50", "small/50"])
def test_narrower_vectors_are_learned_through_a_projection_that_is_dropped(meant, student):
    folder = meant.folder / f"results/meant/tiny/texts/seed1/{student}"
    config = read_json(folder / "compact/config.json")
    assert config["hidden_size"] < 32 and "auto_map" not in config, "a stock checkpoint, narrower than its base"
    history = pd.read_parquet(folder / "recovered/history.parquet")
    terms = [column for column in history if column.startswith("loss/")]
    assert terms and "loss/task" not in terms, "no term needs a label"


def test_teachers_stored_outputs_are_its_vectors(meant):
    [note] = (meant.folder / "results/meant/tiny/texts/seed1/teacher/0/outputs").glob("logits.json")
    vectors = np.load(meant.folder / read_json(note)["folder"] / "logits.npy")
    assert vectors.shape[1] == 32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    train = pd.read_parquet(meant.folder / "results/meant/prepared/texts/train.parquet")["text_a"].tolist()
    base = meant.folder / "tiny"
    model, tokenizer = AutoModel.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    assert len(vectors) == len(train) + 60
    np.testing.assert_allclose(vectors[: len(train)], vectors_of(model, tokenizer, train).numpy(), atol=1e-5)
