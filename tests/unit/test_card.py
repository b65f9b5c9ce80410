"""The model card says what the model is, in words that Markdown prints as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from espalier.config import parse
from espalier.config.job_specs import fetch_spec
from espalier.config.methods import METHODS, PAPERS
from espalier.config.reporting.specs import CardSpec, card_spec
from espalier.config.targets import Latency, Parameters, Speedup
from espalier.models.onnx import write_onnx
from espalier.report.card import Facts, aim, code, escaped, front_matter, languages, render
from espalier.stages.results import card
from tests import tiny
from tests.conftest import MINILM, ROOT, SMALL

SPEC = CardSpec(
    project="demo",
    base="minilm",
    licence="Apache-2.0",
    task="docs-library",
    kind="classification",
    max_length=64,
    plan="tight",
    method="cofi",
    seed=42,
    target=0.6,
)
TIMES = {"median": 20.0, "q25": 19.0, "q75": 21.04}
HALF = {"median": 10.0, "q25": 9.5, "q75": 10.5}
RUNTIME = {
    "latency_ms": {"1": HALF, "32": HALF},
    "dense_latency_ms": {"1": TIMES, "32": TIMES},
    "speedup": {"1": 2.0, "32": 2.0},
}
COST = {
    **{"params_total": 22_716_296, "params_encoder": 860_320, "params_nonzero": 22_000_000, "macs": 120_606_720},
    **{"sparsity_encoder": 0.6001, "sparsity_total": 0.3, "size_mib": 48.89, "length": 128, "repeats": 5},
    **{"device": "cpu", "precision": "fp32", "threads": 2, **RUNTIME, "onnx": {**RUNTIME, "size_mib": 48.88}},
}
SOURCE = {"source": "hub", "id": "google-bert/bert-base-uncased", "revision": "e" * 40, "weights_sha256": "f" * 64, "files": {}}
TASK = {
    "classes": ["good", "so|so\n`bad`"],
    "rows": {"train": 3000, "validation": 1600},
    "sources": [{"id": "nyu-mll/glue", "name": "", "revision": "a" * 40}],
    "leaked": {"validation": 0},
}
STRUCTURE = {
    "layers": [{"heads": {"kept": 3, "total": 12}, "ffn": {"kept": 0, "total": 1536}}],
    "hidden": {"kept": 380, "total": 384},
}


def scores(value: float) -> dict:
    values = {"rows": 1600, "loss": 0.5, "matthews": value, "f1": value}
    return {"score": value, "metric": "matthews", "set": "validation", "precision": "fp32", "sets": {"validation": values}}


def record(stage: str, checkpoint: str = "last") -> dict:
    return {
        **{"stage": stage, "seed": 42, "steps": 94, "train_seconds": 20.145, "device": "cpu", "precision": "bf16"},
        **{"git_commit": "d" * 40, "spec_sha256": "b" * 64, "code_sha256": "c" * 64, "versions": {"torch": "2.13.0"}},
        "selected": {"checkpoint": checkpoint, "set": "validation" if checkpoint == "best" else None, "step": 94},
    }


FACTS = Facts(
    scores=scores(0.61),
    teacher=scores(0.6744),
    cost=COST,
    records=[record("finetune", "best"), record("compress"), record("recover")],
    structure=STRUCTURE,
    source=SOURCE,
    task=TASK,
    config={"model_type": "bert", "auto_map": {"AutoConfig": "modeling_espalier.CompactBertConfig"}},
)


def rows(text: str, title: str) -> list[list[str]]:
    """The first table after a heading: cells of each row, the header first, the rule left out."""
    lines = text.split(f"\n## {title}\n")[1].split("\n## ")[0].splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith("|"))
    end = next((index for index, line in enumerate(lines) if index > begin and not line.startswith("|")), len(lines))
    cells = [[cell.strip() for cell in line.strip("|").replace(r"\|", "¦").split("|")] for line in lines[begin:end]]
    assert {len(row) for row in cells} == {len(cells[0])}, cells
    return [cells[0], *cells[2:]]


@pytest.fixture(scope="module")
def text() -> str:
    return render(SPEC, FACTS)


def test_the_front_matter_is_what_the_hub_reads(text):
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "apache-2.0",
        "language": ["en"],
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": "google-bert/bert-base-uncased",
        "base_model_relation": "finetune",
        "datasets": ["nyu-mll/glue"],
        "metrics": ["matthews_correlation", "f1"],
        "tags": ["espalier", "pruning", "cofi", "onnx", "arxiv:2204.00408"],
        "model-index": [
            {
                "name": "minilm-docs-library-tight-60",
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {
                            "type": "nyu-mll/glue",
                            "name": "docs-library",
                            "revision": "a" * 40,
                            "split": "validation",
                        },
                        "metrics": [
                            {"type": "matthews_correlation", "value": 0.61, "name": "matthews"},
                            {"type": "f1", "value": 0.61, "name": "f1"},
                        ],
                    }
                ],
            }
        ],
    }
    assert text.startswith("---\n") and body.lstrip().startswith("# minilm on docs-library, made smaller by cofi\n")


def test_the_hub_s_own_library_reads_scores_and_base_from_the_front_matter(text):
    data = ModelCard(text).data
    results = {(result.metric_type, result.dataset_split): result for result in data.eval_results}
    assert data.model_name == "minilm-docs-library-tight-60" and results.keys() == {
        ("matthews_correlation", "validation"),
        ("f1", "validation"),
    }
    result = results["matthews_correlation", "validation"]
    assert (result.metric_value, result.dataset_type, result.task_type) == (0.61, "nyu-mll/glue", "text-classification")
    assert (data.base_model, data.language, data.license) == ("google-bert/bert-base-uncased", ["en"], "apache-2.0")


def test_rows_from_files_are_a_data_set_of_the_task_s_name_in_no_known_language():
    own = FACTS._replace(task=TASK | {"sources": [{"split": "train", "sha256": "0" * 64}]})
    (result,) = ModelCard(render(SPEC, own)).data.eval_results[:1]
    assert (result.dataset_type, result.dataset_name) == ("docs-library", "docs-library")
    assert "language" not in front_matter(SPEC, own) and "like those of the task docs-library, of at most" in render(SPEC, own)
    assert languages(SPEC, FACTS._replace(task=TASK | {"sources": [{"builtin": "docs-order"}]})) == ["en"]


def test_languages_that_the_task_names_stand_in_front_matter_and_sentence():
    own = FACTS._replace(task=TASK | {"sources": [{"split": "train", "path": "rows.csv"}]})
    spec = SPEC.model_copy(update={"languages": ("pt-BR", "de")})
    assert front_matter(spec, own)["language"] == ["pt-BR", "de"]
    assert "like those of the task docs-library, in pt-BR, de, of at most" in render(spec, own)


def test_a_card_has_lines_for_every_runtime_that_the_model_is_served_in(text):
    values = {"score": 0.6, "drop": 0.01, "agreement": 0.99, "size_mib": 9.0, "total_mib": 10.0, "sets": {}}
    values["latency_ms"] = {"b1_lrows": {"median": 1.0, "p95": 2.0}}
    formats = dict.fromkeys(("torch", "onnx-int8", "openvino", "openvino-int8"), values)
    served = render(SPEC, FACTS._replace(deployment={"formats": formats}))
    assert text.count("```python") == 2 and served.count("```python") == 3
    assert 'openvino.compile_model(f"{folder}/openvino/openvino_model.xml"' in served
    assert ModelCard(served).data.tags == ["espalier", "pruning", "cofi", "onnx", "openvino", "arxiv:2204.00408"]


def test_every_paper_that_a_card_names_is_named_by_the_code_of_its_method():
    sources = {path.stem: path.read_text() for path in (ROOT / "workflow/espalier").glob("*/*.py")}
    for method, paper in PAPERS.items():
        module = METHODS[method].partition(":")[0].rpartition(".")[2]
        # L0 is CoFi's gates alone, and their paper stands where the gates are
        assert paper in sources[module] or (method == "l0" and paper in sources["hard_concrete"]) or method == "distil", method


LANDING = {"of": "sparsity", "target": 0.6, "tolerance": 0.01, "expected": 0.221, "decided": 0.203, "landed": 0.5999}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "expected to remove 22.1 % of the encoder's weights and had decided on 20.3 %, where the target is 60.0 %",
        ),
        ({"of": "saved_latency"}, "expected to remove 22.1 % of the latency"),
        ({"expected": 0.7, "decided": 0.72}, "where the target is 60.0 %; opening some again brought it to 60.0 % without any"),
        ({"expected": 0.6099}, ""),
        ({"expected": 0.591}, ""),
        ({"expected": 0.58, "tolerance": 0.05}, ""),
    ],
)
def test_a_student_whose_gates_missed_the_target_says_so(changes, said):
    card_text = render(SPEC, FACTS._replace(structure=STRUCTURE | {"landing": LANDING | changes}))
    limits = card_text.split("## Limits")[1].replace("\\", "")
    assert said in limits and ("Warning: the gates missed the target" in limits) == bool(said)


def test_a_student_without_gates_has_no_warning(text):
    assert "missed" not in text


def test_what_is_not_known_is_left_out():
    package = FACTS._replace(
        source={"source": "package", "package": "a==1", "weights_sha256": "f" * 64}, task=TASK | {"sources": []}
    )
    found = front_matter(SPEC.model_copy(update={"licence": None}), package)
    assert not {"license", "base_model", "datasets", "language"} & found.keys()
    assert "look it up before you pass the model on" in render(SPEC.model_copy(update={"licence": None}), package)


def test_scores_stand_beside_the_teacher_s(text):
    assert "| score | matthews 0.6100 on validation, computed in fp32; the teacher has 0.6744 |" in text
    assert rows(text, "Scores") == [
        ["set", "rows", "metric", "this model", "teacher"],
        ["validation", "1600", "loss", "0.5000", "0.5000"],
        ["validation", "1600", "matthews", "0.6100", "0.6744"],
        ["validation", "1600", "f1", "0.6100", "0.6744"],
    ]


def test_latencies_stand_with_their_conditions(text):
    table = rows(text, "Speed")
    assert [row[:2] for row in table[1:]] == [[name, size] for name in ("PyTorch eager", "onnxruntime") for size in ("1", "32")]
    assert table[1][2:] == ["10.0 (9.5–10.5)", "20.0 (19.0–21.0)", "2.00"]
    assert "of 5 passes" in text and "128 tokens" in text and "2 threads on cpu" in text


def test_what_was_not_timed_has_no_row():
    empty = {"latency_ms": {}, "dense_latency_ms": {}, "speedup": {}, "size_mib": 48.88}
    assert len(rows(render(SPEC, FACTS._replace(cost=COST | {"onnx": empty})), "Speed")) == 3


def test_structure_provenance_and_ways_of_loading(text):
    assert rows(text, "What is left") == [["layer", "attention heads", "FFN units"], ["0", "3 of 12", "0 of 1536"]]
    assert "380 of 384 hidden dimensions" in text
    assert [line.split(" | ")[0] for line in text.splitlines() if f"`{'d' * 40}`" in line] == [
        "| finetune",
        "| compress",
        "| recover",
    ]
    assert "import espalier  #" in text and "trust_remote_code=True" in text
    assert 'InferenceSession(f"{folder}/onnx/model.onnx")' in text
    assert "The checkpoint of finetune is the best one on validation" in text
    assert "kernels for dense matrices" not in text


def test_where_all_heads_stay_their_dimensions_are_listed():
    count = lambda kept, total: {"kept": kept, "total": total}  # noqa: E731
    layer = {"heads": count(12, 12), "ffn": count(1096, 1536), "queries": count(276, 384), "values": count(276, 384)}
    text = render(SPEC, FACTS._replace(structure={"layers": [layer], "hidden": count(276, 384)}))
    header, first = rows(text, "What is left")
    assert header[2:4] == ["dimensions of queries and of keys", "dimensions of values"]
    assert first == ["0", "12 of 12", "276 of 384", "276 of 384", "1096 of 1536"]
    assert "the sublayer is gone" not in text and "All heads stay; the dimensions are those of all heads" in text

    # Where heads have gone as well, as with grain, the card says so.
    less = layer | {"heads": count(3, 12), "queries": count(40, 384), "values": count(66, 384)}
    text = render(SPEC, FACTS._replace(structure={"layers": [layer, less], "hidden": count(384, 384)}))
    assert rows(text, "What is left")[2] == ["1", "3 of 12", "40 of 384", "66 of 384", "1096 of 1536"]
    assert "\nThe dimensions are those of all heads of a layer together.\nWhere 0 are left, the sublayer is gone" in text


def test_what_the_card_says_of_onnx_can_be_typed(tmp_path, monkeypatch, text):
    tiny.write_base(tmp_path)
    write_onnx(model := tiny.classifier().eval(), tmp_path / "onnx/model.onnx")
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(text.split("```python\n")[2].split("```")[0], found)
    encoded = found["tokenizer"](["a text"], return_tensors="pt")
    torch.testing.assert_close(torch.from_numpy(found["logits"]), model(**encoded).logits.detach(), atol=1e-5, rtol=0)


def test_a_stock_unstructured_student():
    other = FACTS._replace(structure={"matrices": {}}, config={"model_type": "bert"})
    text = render(SPEC, other)
    assert "This is a stock checkpoint" in text and "import espalier" not in text and "trust_remote_code" not in text
    assert "## What is left" not in text and "kernels for dense matrices" in text


def test_a_teacher_has_nobody_beside_it():
    spec = SPEC.model_copy(update={"plan": "teacher", "method": "teacher", "target": None})
    teacher = FACTS._replace(structure=None, config={"model_type": "bert"}, records=[record("finetune")])
    text = render(spec, teacher)
    assert "# minilm fine-tuned on docs-library\n" in text and "| target |" not in text
    assert rows(text, "Scores")[1] == ["validation", "1600", "loss", "0.5000"]
    assert front_matter(spec, teacher)["tags"] == ["espalier", "onnx"]


def test_a_ready_made_model_says_whose_rival_it_is():
    spec = SPEC.model_copy(
        update={"plan": "tiny", "method": "ready-made", "target": 0.0, "base": "tiny", "taught_by": "minilm"}
    )
    text = render(spec, FACTS._replace(structure={"target": 0.0, "sparsity": 0.0}, config={"model_type": "bert"}))
    assert "# tiny on docs-library, plan tiny\n" in text and "| removed |" not in text and "| target |" not in text
    assert "it is a rival of the models that are made from minilm, whose fine-tuned" in text
    assert "| smaller than the teacher | 60.0 % of the encoder's matrices" in text
    assert front_matter(spec, FACTS)["tags"] == ["espalier", "onnx"]


def test_rows_that_are_in_training_and_evaluation_are_told(text):
    leaked = render(SPEC, FACTS._replace(task=TASK | {"leaked": {"validation": 1200, "other": 34}}))
    said = "- Of the task's rows 1,234 stand in training and in evaluation: scores may be too high.\n"
    assert said in leaked and leaked.replace(said, "") == text


def test_regression_has_no_classes():
    text = render(SPEC.model_copy(update={"kind": "regression"}), FACTS._replace(task=TASK | {"classes": None}))
    assert "Classes, in order" not in text and "the predicted value itself" in text


def test_strings_from_data_break_no_table(text):
    assert r"`` so\|so `bad` ``" in text
    odd = TASK | {"sources": [{"path": "a|b\nc.csv"}]}
    scored = FACTS._replace(task=odd, scores=FACTS.scores | {"sets": {"validation": FACTS.scores["sets"]["validation"]}})
    table = rows(render(SPEC, scored), "How it was made")
    assert table[-1] == ["data", "path `a¦b c.csv`"]


def test_escapes():
    assert escaped("a|b\n*c* <d> [e](f)") == r"a\|b \*c\* \<d\> \[e\](f)"
    assert code("x") == "`x`" and code("a`b") == "`` a`b ``"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (None, None),
        (0.0, None),
        (0.975, "97.5 % of the encoder's weights removed"),
        (Parameters(parameters="5M"), "5,000,000 weights left in the encoder's matrices"),
        (Speedup(speedup=4.0), "4 times the dense model's speed at batch 32, length 128"),
        (Latency(latency_ms=12.5, batch_size=1), "12.5 ms a forward pass at batch 1, length 128"),
    ],
)
def test_the_target_in_words(target, words):
    assert aim(target) == words


def test_a_fact_that_is_missing_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="threads"):
        render(SPEC, FACTS._replace(cost={key: value for key, value in COST.items() if key != "threads"}))


def test_the_stage_reads_files_and_writes_one(tmp_path):
    files = {}
    for name in ("scores", "teacher", "cost", "source", "task", "config"):
        files[name] = tmp_path / f"{name}.json"
        files[name].write_text(json.dumps(getattr(FACTS, name)))
    lists = {"records": [], "structure": [tmp_path / "structure.json"], "deployment": [], "trimmed": []}
    for index, content in enumerate(FACTS.records):
        lists["records"].append(tmp_path / f"run{index}.json")
        lists["records"][-1].write_text(json.dumps(content))
    lists["structure"][0].write_text(json.dumps(STRUCTURE))
    card.run(SPEC.model_dump_json(), **files, **lists, card=tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == render(SPEC, FACTS)


def test_specs_of_a_student_and_of_its_teacher():
    study = parse(SMALL | {"bases": {"minilm": MINILM | {"licence": "Apache-2.0"}}})
    student = card_spec(study, "minilm", "docs-library", "sdp", 42, "90")
    assert (student.method, student.target, student.licence, student.max_length) == ("sdp", 0.9, "Apache-2.0", 64)
    teacher = card_spec(study, "minilm", "docs-library", "teacher", 42, "0")
    assert (teacher.method, teacher.target) == ("teacher", None)
    assert (
        not teacher.pair and card_spec(parse(SMALL | {"tasks": {"docs-pair": {}}}), "minilm", "docs-pair", "sdp", 42, "90").pair
    )
    assert fetch_spec(study, "minilm") == fetch_spec(parse(SMALL), "minilm"), "a licence fetches no base again"


def test_a_card_of_spans():
    page = render(SPEC.model_copy(update={"kind": "span"}), FACTS._replace(task=TASK | {"classes": None}))
    assert "pipeline_tag: question-answering" in page and "AutoModelForSequenceClassification" not in page
    assert "model = AutoModelForQuestionAnswering.from_pretrained(folder)" in page and "outputs.start_logits" in page
    assert "start_logits, end_logits = session.run(None" in page and "contexts are read in windows of 64 tokens" in page
    assert "The one logit" not in page and "two logits" in page


@pytest.mark.parametrize(
    ("pair", "said"), [(True, '["a text"], ["the other text"], padding=True'), (False, '["a text"], padding=True')]
)
def test_lines_take_pairs_where_rows_are_pairs(pair, said):
    page = render(SPEC.model_copy(update={"pair": pair}), FACTS)
    assert page.count(said) == 2 and page.count("truncation=True, max_length=64,") == 2


def test_a_card_of_spans_reads_windows_as_training_did():
    changes = {"kind": "span", "stride": 17, "max_answer_length": 9}
    page = render(SPEC.model_copy(update=changes), FACTS._replace(task=TASK | {"classes": None}))
    assert page.count("max_length=64, stride=17,") == 2 and page.count("places[first : first + 9]") == 2
    for lines in page.split("```python\n")[1:]:
        compile(lines.split("```")[0], "card", "exec")


def test_a_card_needs_no_torch():
    command = "import sys, espalier.stages.results.card; print(*({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_the_template_is_shipped():
    assert (Path(card.__file__).parents[2] / "report/templates/card.md.j2").is_file()


def test_a_text_model_is_one_for_masked_tokens():
    told = {**record("pretrain"), "head": "new", "trained": "head"}
    values = {"rows": 9, "loss": 2.0, "masked-accuracy": 0.5, "perplexity": 7.4}
    own = {"score": 0.5, "metric": "masked-accuracy", "set": "validation", "precision": "fp32", "sets": {"validation": values}}
    facts = FACTS._replace(scores=own, teacher=own, task=TASK | {"classes": None}, records=[told, record("compress")])
    page = render(SPEC.model_copy(update={"kind": "text", "max_length": 128}), facts)
    assert "pipeline_tag: fill-mask" in page and "AutoModelForSequenceClassification" not in page
    assert "model = AutoModelForMaskedLM.from_pretrained(folder)" in page and "packed into rows of 128 tokens" in page
    assert "one was trained on this corpus" in page and "The one logit" not in page
    assert "one was trained" not in render(
        SPEC.model_copy(update={"kind": "text"}), facts._replace(records=[record("compress")])
    )


def test_the_card_of_a_trimmed_model_gives_its_own_scores_and_says_what_is_not_its_own():
    sets = {"validation": {"rows": 1043, "loss": 0.7, "matthews": 0.59, "f1": 0.6}}
    values = {"score": 0.59, "sets": sets, "drop": 0.02, "agreement": 0.98, "total_mib": 11.5, "latency_ms": {}}
    trimmed = {
        "vocabulary": {"before": 30522, "kept": 12402},
        "factorise": None,
        "bytes": {"model.safetensors": {"before": 90 * 2**20, "after": 60 * 2**20}},
    }
    told = render(SPEC, FACTS._replace(trimmed=trimmed, deployment={"formats": {"torch": values}}))

    lines = [line.strip("| ").split(" | ") for line in told.splitlines() if line.startswith("| ")]
    about = {row[0]: row[1] for row in lines if len(row) > 1}
    assert about["score"].startswith("matthews 0.5900 on validation")
    assert about["removed"].endswith("of the encoder's matrices"), "the share of all parameters is another one now"
    assert about["vocabulary"].startswith("12,402 of 30,522 tokens")
    assert "60.0 MiB, before its embeddings were made smaller" in about["files"]
    assert "parameters before its embeddings were made smaller" in about
    assert "Of the model before its embeddings were made smaller" in told.split("## Speed")[1]
    assert yaml.safe_load(told.split("---\n")[1])["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.59
