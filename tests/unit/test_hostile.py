"""What a base or a data file brings along is refused with the reason, or shown as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from test_report import edit, found, make_report, study, tags_of

from espalier.__main__ import main
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from espalier.stages.data import fetch
from tests import tiny

SECRET = "correct-horse-battery-staple"
HOSTILE = "\"><script>alert(1)<\\script><img src=x onerror=alert(1)>&'$x^2$ --> ]]> {{ 7 * 7 }}"
OUTPUTS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "source.json")


@pytest.fixture(scope="module")
def _base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def base(_base: Path, tmp_path: Path) -> Path:
    """A base that a test may change."""
    folder = tmp_path / "base"
    folder.mkdir()
    for path in _base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def get(base: Path) -> Path:
    """Fetch a local base."""
    out = base.parent / "out"
    paths = {Path(name).stem.replace("model", "weights"): out / name for name in OUTPUTS}
    fetch.run(json.dumps({"base": {"source": "local", "path": str(base)}}), **paths)
    return out


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("tokenizer_config.json", {"vocab_file": "{secret}"}),
        ("tokenizer_config.json", {"vocab": "{secret}"}),
        ("tokenizer_config.json", {"init_inputs": ["{secret}"]}),
        ("tokenizer_config.json", {"tokenizer_file": "{secret}", "merges": "{secret}", "special_tokens_map_file": "{secret}"}),
        ("special_tokens_map.json", {"vocab_file": "{secret}"}),
        ("special_tokens_map.json", {"vocab": "{secret}"}),
    ],
    ids=str,
)
def test_a_tokenizer_reads_no_file_from_elsewhere(base: Path, file: str, settings: dict[str, Any]) -> None:
    """Files of the user would stand in the vocabulary of a model that is passed on."""
    secret = base.parent / "key"
    secret.write_text(f"{SECRET}\n[UNK]\n[CLS]\n[SEP]\n[PAD]\n[MASK]\n")
    (base / "tokenizer.json").unlink()
    (base / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tree"]))
    (base / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    known = read_json(base / file) if (base / file).exists() else {}
    (base / file).write_text(json.dumps(known | json.loads(json.dumps(settings).replace("{secret}", str(secret)))))
    out = get(base)
    assert "tree" in read_json(out / "tokenizer.json")["model"]["vocab"]
    assert not [
        path for path in out.iterdir() if SECRET.encode() in path.read_bytes() or str(secret).encode() in path.read_bytes()
    ]


def without_weights(base: Path, pickle: str) -> None:
    (base / "model.safetensors").unlink()
    (base / pickle).write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")


def with_code(base: Path, file: str) -> None:
    (base / "own.py").write_text("open('pwned', 'w')")
    kind = {"config.json": "AutoModel", "tokenizer_config.json": "AutoTokenizer"}[file]
    (base / file).write_text(json.dumps(read_json(base / file) | {"auto_map": {kind: "own.Own"}}))


def with_kernels(base: Path, key: str) -> None:
    (base / "config.json").write_text(json.dumps(read_json(base / "config.json") | {key: "someone/kernel"}))


@pytest.mark.parametrize(
    ("change", "what", "reason"),
    [
        *((without_weights, name, f"only {name}; opening such a file can run code") for name in ("pytorch_model.bin", "a.pt")),
        *((with_code, name, f"{name}: 'auto_map' asks to run code") for name in ("config.json", "tokenizer_config.json")),
        *(
            (with_kernels, key, f"'{key}' asks to run code of the hub")
            for key in ("attn_implementation", "_attn_implementation")
        ),
        (lambda base, file: (base / file).write_text("[]"), "config.json", "got list; an object with named settings is needed"),
        (lambda base, file: (base / file).write_text("{]"), "tokenizer.json", "the tokenizer cannot be loaded"),
    ],
)
def test_what_could_run_code_is_refused(base: Path, monkeypatch, change: Any, what: str, reason: str) -> None:
    monkeypatch.chdir(base)
    change(base, what)
    with pytest.raises(UserError) as error:
        get(base)
    assert reason in str(error.value) and str(base) in str(error.value)
    assert not (base / "pwned").exists() and not (base.parent / "out").exists()


def test_code_beside_safetensors_is_left_where_it_is(base: Path) -> None:
    """Where nothing asks for it, it is neither run nor copied."""
    (base / "modeling.py").write_text("raise SystemExit('imported')")
    (base / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    out = get(base)
    assert {path.name for path in out.iterdir()} == {*OUTPUTS}
    assert load_file(out / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()


def test_a_pickle_in_a_parquet_file_is_not_opened(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": "cos\nsystem\n(S'touch pwned'\ntR."}
    schema = pa.schema([pa.field("text", pa.string(), metadata=kind), ("label", pa.string())])
    pq.write_table(pa.table({"text": ["x", "y"], "label": ["a", "b"]}, schema=schema), tmp_path / "a.parquet")
    assert prepare(tmp_path, "a.parquet") == 0
    assert not (tmp_path / "pwned").exists()


def prepare(folder: Path, file: str, **others: Any) -> int:
    """Status of the command, with the same rows for training and evaluation."""
    mine = {"kind": "classification", "source": "files", "text": ["text"], "label": "label", "metric": "accuracy", **others}
    spec = {"name": "mine", "task": mine | {"train": str(folder / file), "validation": str(folder / file)}}
    outputs = {"train": "train.parquet", "evaluation": "evaluation.parquet", "task": "task.json"}
    options = [part for name, path in outputs.items() for part in (f"--{name}", str(folder / "out" / path))]
    return main(["prepare", "--spec", json.dumps(spec), *options])


@pytest.mark.parametrize(("column", "label"), [("text", "\x1b[2J\u202e"), ("te\x1bxt", "a")])
def test_data_do_not_steer_the_terminal(tmp_path: Path, capfd, column: str, label: str) -> None:
    rows = [{column: "x", "label": label}, {column: "y", "label": "b"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert prepare(tmp_path, "a.jsonl") == (column != "text")
    told = "".join(capfd.readouterr())
    assert "\\x1b" in told and all(line.isprintable() for line in told.splitlines())


def test_half_a_character_is_said_to_be_none(tmp_path: Path, capfd) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x\\ud800", "label": "a"}\n{"text": "y", "label": "b"}\n')
    assert prepare(tmp_path, "a.jsonl") == 1
    assert "a.jsonl, data row 1, column 'text': got half of a character" in capfd.readouterr().err


def hostile(content: Any, word: str) -> Any:
    """The same with every text replaced that does not decide what is shown; names of columns and files stay."""
    if isinstance(content, dict):
        return {key: hostile(value, word) for key, value in content.items()}
    return word if isinstance(content, str) and content not in ("best", "last", "accuracy", "validation") else content


def page_of(folder: Path, word: str) -> str:
    """A report in which every string is this one."""
    root = study(folder, seeds=(1,), scores={"teacher": {"0": 0.9}, "sdp-cc": {"50": 0.8}})
    for path in found(root, "run.json"):
        edit(path, **hostile(read_json(path), word), head="own", trained="all")
        edit(path, versions={word: word}, inputs={word: word}, selected={"checkpoint": "best", "set": word, "step": 1})
    for path in found(root, "scores.json"):
        sets = read_json(path)["sets"]["validation"]
        edit(path, set=word, sets={word: sets | {word: 0.5}})
    for path in found(root, "cost.json"):
        edit(path, device=word)
    return make_report(root)


def test_the_report_has_the_same_tags_whatever_the_data_say(tmp_path: Path) -> None:
    page, plain = page_of(tmp_path / "hostile", HOSTILE), page_of(tmp_path / "plain", "plain")
    assert [(tag, [*attributes]) for tag, attributes in tags_of(page)] == [
        (tag, [*attributes]) for tag, attributes in tags_of(plain)
    ]
    assert page.count("<script") == plain.count("<script") == 1, "the page's own"
    assert "<img" not in page and "{{ 7 * 7 }}" in page
