"""Documents become rows of one length, in order, with nothing lost; rows of a corpus are read piece by piece."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import BertTokenizer

from espalier.config.data import Task
from espalier.data import corpus, packing
from espalier.data.packed import CHUNK, PackedRows
from espalier.runtime.errors import UserError
from espalier.stages.data import pack, prepare

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{index}" for index in range(50))]
PAD, UNK, CLS, SEP = 0, 1, 2, 3
FIRST = 5


def tokenizer(folder: Path) -> list[Path]:
    made = BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}, model_max_length=64)
    made.save_pretrained(folder)
    return [folder / "tokenizer.json", folder / "tokenizer_config.json"]


def documents(count: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(f"w{word}" for word in generator.integers(0, 50, generator.integers(1, 30))) for _ in range(count)]


def run(
    folder: Path,
    train: list[str],
    sets: dict[str, list[str]],
    length: int = 16,
    rows: int | None = None,
    evaluation_rows: int | None = None,
):
    pq.write_table(pa.table({"text_a": train}), folder / "train.parquet")
    names = [name for name, texts in sets.items() for _ in texts]
    pq.write_table(pa.table({"text_a": list(chain(*sets.values())), "set": names}), folder / "evaluation.parquet")
    pack.run(
        json.dumps({"max_length": length, "rows": rows, "evaluation_rows": evaluation_rows}),
        tokenizer=tokenizer(folder),
        train=folder / "train.parquet",
        evaluation=folder / "evaluation.parquet",
        packed_train=folder / "packed/train.arrow",
        packed_evaluation=folder / "packed/evaluation.arrow",
    )
    return [PackedRows(folder / f"packed/{name}.arrow", 0) for name in ("train", "evaluation")]


def ids(packed: PackedRows) -> np.ndarray:
    return np.concatenate(packed.chunks)


def stream(texts: list[str]) -> list[int]:
    found = []
    for text in texts:
        found += [SEP, *(FIRST + int(word[1:]) for word in text.split())]
    return found[1:]


def test_nothing_is_lost_and_the_order_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "FRAGMENTS_AT_ONCE", 7)
    texts = documents(200, 0)
    train, _ = run(tmp_path, texts, {"validation": ["w1"]})
    rows, expected = ids(train), stream(texts)
    assert rows.shape == (-(-len(expected) // 14), 16)
    assert (rows[:, 0] == CLS).all() and (rows[:-1, -1] == SEP).all()
    inner = rows[:, 1:].tolist()
    rest = len(expected) - 14 * (len(rows) - 1)
    assert [*chain(*(row[:-1] for row in inner[:-1])), *inner[-1][:rest]] == expected
    assert inner[-1][rest:] == [SEP, *[PAD] * (14 - rest)]


def test_long_texts_are_tokenised_in_parts_and_stay_one(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "LONGEST_FRAGMENT", 30)
    monkeypatch.setattr(packing, "FRAGMENTS_AT_ONCE", 3)
    texts = [" ".join(documents(40, 5)), "w1", "w2 " * 300]
    train, _ = run(tmp_path, texts, {"validation": ["w1"]})
    expected, rows = stream(texts), ids(train)
    assert rows[:, 1:-1].reshape(-1)[: len(expected)].tolist() == expected


@pytest.mark.parametrize("text", ["", "short", "a b " * 20, "x" * 100, "x" * 50 + " y" * 40])
def test_parts_are_the_text(text, monkeypatch):
    monkeypatch.setattr(packing, "LONGEST_FRAGMENT", 16)
    parts = list(packing.cut(text))
    assert "".join(parts) == text and max(map(len, parts)) <= 16


def test_sets_are_packed_apart_and_record_batches_have_one_size(tmp_path):
    first, second = documents(1500, 1), documents(50, 2)
    _, evaluation = run(tmp_path, ["w1"], {"easy": first, "hard": second})
    rows, sets = ids(evaluation), evaluation.sets
    assert [len(chunk) for chunk in evaluation.chunks[:-1]] == [CHUNK] * (len(evaluation.chunks) - 1)
    for name, texts in (("easy", first), ("hard", second)):
        inner = rows[sets == name, 1:]
        assert inner.reshape(-1)[inner.reshape(-1) != PAD].tolist().count(SEP) >= len(texts) - 1
        assert inner[0, :14].tolist() == stream(texts)[:14]


def test_the_first_rows_can_be_taken_and_no_more_than_there_are(tmp_path):
    texts = documents(60, 3)
    everything = ids(run(tmp_path, texts, {"validation": ["w1"]})[0])
    some, _ = run(tmp_path, texts, {"validation": ["w1"]}, rows=5)
    assert np.array_equal(ids(some), everything[:5])
    with pytest.raises(UserError, match=rf"rows: got 1,000; the corpus has {len(everything)} rows of 16 tokens"):
        run(tmp_path, texts, {"validation": ["w1"]}, rows=1000)
    assert not (tmp_path / "packed/train.arrow").exists()


def test_of_each_evaluation_set_the_first_rows_can_be_taken(tmp_path):
    sets = {"easy": documents(60, 3), "short": ["w1"], "hard": documents(50, 4)}
    _, whole = run(tmp_path, ["w1"], sets)
    _, some = run(tmp_path, ["w1"], sets, evaluation_rows=3)
    assert some.sets.tolist() == ["easy"] * 3 + ["short"] + ["hard"] * 3
    for name in sets:
        assert np.array_equal(ids(some)[some.sets == name], ids(whole)[whole.sets == name][:3])


def test_what_looks_like_a_special_token_is_text(tmp_path):
    train, _ = run(tmp_path, ["w1 [PAD] [MASK] w2"], {"validation": ["w1"]})
    inner = ids(train)[0, 1:].tolist()
    assert inner[0] == FIRST + 1 and inner.index(FIRST + 2) > 2 and 4 not in inner
    assert PAD not in inner[: inner.index(FIRST + 2)]


def test_rows_longer_than_the_model_s_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"max_length: got 65; .* takes at most 64 tokens"):
        run(tmp_path, ["w1"], {"validation": ["w1"]}, length=65)


def task(**changes) -> Task:
    block = {"kind": "text", "source": "files", "train": "train.txt", "validation": "validation.txt", "text": ["text"]}
    return Task.model_validate(block | changes)


def prepared(folder: Path, block: Task):
    paths = {"train": folder / "out/train.parquet", "evaluation": folder / "out/evaluation.parquet"}
    spec = json.dumps({"name": "mine", "task": block.model_dump(mode="json")})
    prepare.run(spec, **paths, task=folder / "out/task.json")
    return *(pq.read_table(path) for path in paths.values()), json.loads((folder / "out/task.json").read_text())


def test_paragraphs_of_text_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(corpus, "ROWS_IN_MEMORY", 2)
    (tmp_path / "train.txt").write_text("\n\nOne line\n  and another.\n\n\n\nTwo.\n \nThree.\r\n\r\nFour.", newline="")
    (tmp_path / "validation.txt").write_text("Five.\n\nTwo.\n")
    train, evaluation, facts = prepared(tmp_path, task())
    assert train.to_pydict() == {"text_a": ["One line and another.", "Two.", "Three.", "Four."]}
    assert evaluation.to_pydict() == {"text_a": ["Five.", "Two."], "set": ["validation"] * 2}
    assert facts["rows"] == {"train": 4, "validation": 2} and facts["sets"] == ["validation"]
    assert "warning: 1 training rows have a text that is also one of an evaluation set" in capsys.readouterr().out


def test_a_file_without_blank_lines_is_no_single_paragraph(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(corpus, "LONGEST_PARAGRAPH", 10)
    (tmp_path / "train.txt").write_text("".join(f"line {number}\n" for number in range(5)))
    (tmp_path / "validation.txt").write_text("Five.\n")
    train, _, _ = prepared(tmp_path, task())
    assert train["text_a"].to_pylist() == ["line 0 line 1", "line 2 line 3", "line 4"]


def test_parquet_in_pieces_without_what_has_no_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(corpus, "ROWS_IN_MEMORY", 3)
    texts = ["a", None, " \n", "b", "c", "", "d", "e"]
    pq.write_table(pa.table({"body": pa.array(texts, pa.large_string())}), tmp_path / "train.parquet", row_group_size=5)
    (tmp_path / "validation.jsonl").write_text('{"body": "f"}\n')
    block = task(train="train.parquet", validation={"one": "validation.jsonl"}, text=["body"])
    train, evaluation, facts = prepared(tmp_path, block)
    assert train["text_a"].to_pylist() == ["a", "b", "c", "d", "e"] and evaluation["set"].to_pylist() == ["one"]
    assert "mine: train 5 rows; 3 without text were left out" in capsys.readouterr().out and facts["rows"]["train"] == 5


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        (" \n\n", "text", "train.txt: got no row with text; at least 1 is needed"),
        ("a\n", "texts", "train.txt: there is no column 'texts'; did you mean 'text'?"),
        ("a\n\udcff", "text", "train.txt, line 2: got the byte 0xff, which is not UTF-8; save the file as UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, monkeypatch, content, column, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.txt").write_text(content, errors="surrogateescape")
    (tmp_path / "validation.parquet").write_bytes(b"")
    pq.write_table(pa.table({column: ["v"]}), tmp_path / "validation.parquet")
    with pytest.raises(UserError) as error:
        prepared(tmp_path, task(text=[column], validation="validation.parquet"))
    assert message in str(error.value)


def test_a_column_that_occurs_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["body", "body"])
    for split in ("train", "validation"):
        pq.write_table(table, tmp_path / f"{split}.parquet")
    with pytest.raises(UserError, match=r"\.parquet: the column 'body' occurs 2 times; it must occur once"):
        prepared(tmp_path, task(train="train.parquet", validation="validation.parquet", text=["body"]))
