"""Questions and contexts become windows, and every answer is found again in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import BertTokenizer

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec, TokeniseSpec
from espalier.data.spans import SpanRows
from espalier.runtime.errors import UserError
from espalier.stages.data import prepare, tokenise

ROOT = Path(__file__).parents[2]
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), *"0123456789.,()-'$%"]


def row(question: str, context: str, *answers: str, **others: Any) -> dict[str, Any]:
    found = {"text": list(answers), "answer_start": [context.index(answer) for answer in answers]}
    return {"text_a": question, "text_b": context, "answers": found, "id": "x"} | others


def run(folder: Path, rows: list[dict[str, Any]], max_length: int = 16, stride: int = 4, **options: Any) -> pa.Table:
    BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)}, **options).save_pretrained(folder)
    for name, found in (("train", rows), ("evaluation", [each | {"set": "validation"} for each in rows])):
        pq.write_table(pa.Table.from_pylist(found), folder / f"{name}.parquet")
    tokenise.run(
        TokeniseSpec(kind="span", max_length=max_length, stride=stride, max_answer_length=5).model_dump_json(),
        tokenizer=[folder / "tokenizer.json", folder / "tokenizer_config.json"],
        train=folder / "train.parquet",
        evaluation=folder / "evaluation.parquet",
        tokens_train=folder / "tokens/train.parquet",
        tokens_evaluation=folder / "tokens/evaluation.parquet",
    )
    return pq.read_table(folder / "tokens/train.parquet")


def shown(folder: Path) -> list[str | None]:
    """What the places of each evaluation window say, in words; None for [CLS]."""
    rows = SpanRows.read(folder / "tokens/evaluation.parquet", 0)
    found = []
    for window, (start, end) in enumerate(rows.labels):
        question, first, offsets = rows.examples.example[window], rows.examples.first[window], rows.examples.offsets[window]
        span = slice(offsets[start - first, 0], offsets[end - first, 1]) if start else None
        found.append(rows.examples.contexts[question][span] if span else None)
    return found


def test_a_short_context_is_one_window(tmp_path: Path) -> None:
    train = run(tmp_path, [row("a b", "c d e f", "d e", "d")])
    assert train.to_pylist() == [
        {
            "input_ids": [WORDS.index(word) for word in ("[CLS]", "a", "b", "[SEP]", "c", "d", "e", "f", "[SEP]")],
            "token_type_ids": [0] * 4 + [1] * 5,
            "start": 5,
            "end": 6,
            "context_from": 4,
            "context_to": 8,
        }
    ]
    assert shown(tmp_path) == ["d e"], "the first answer is the one to learn"


def test_a_long_context_is_read_in_windows_that_overlap(tmp_path: Path) -> None:
    train = run(tmp_path, [row("a", "b c d e f g h i j k l m n o p q r s t", "j k")], max_length=12, stride=4)
    words = [" ".join(WORDS[i] for i in ids[3:-1]) for ids in train["input_ids"].to_pylist()]
    assert words == ["b c d e f g h i", "f g h i j k l m", "j k l m n o p q", "n o p q r s t"]
    assert shown(tmp_path) == [None, "j k", "j k", None]
    assert list(zip(train["start"].to_pylist(), train["end"].to_pylist(), strict=True)) == [(0, 0), (7, 8), (3, 4), (0, 0)]


def test_an_answer_that_no_window_holds_whole_is_in_none(tmp_path: Path) -> None:
    run(tmp_path, [row("a", "b c d e f g h i j k l m", "d e f g h i j")], max_length=10, stride=2)
    assert shown(tmp_path) == [None, None, None]


def test_tokens_wider_than_the_answer_are_taken_whole(tmp_path: Path) -> None:
    run(tmp_path, [row("a", "x (2001,5) y", "200"), row("a", "bce d", "ce")])
    assert shown(tmp_path) == ["2001", "ce"], "2001 is one unknown token, bce are three"


def test_white_space_and_odd_characters_do_not_shift_the_places(tmp_path: Path) -> None:
    run(tmp_path, [row("  a  ", "É \u200b c\u00a0 \n d\u0301 \u4e2d e", "d\u0301 \u4e2d"), row("a", "b\tc", "c")])
    assert shown(tmp_path) == ["d\u0301 \u4e2d", "c"]


def test_a_tokenizer_without_types(tmp_path: Path) -> None:
    train = run(tmp_path, [row("a", "b c", "c")], model_input_names=["input_ids", "attention_mask"])
    assert "token_type_ids" not in train.column_names and train["start"].to_pylist() == [4]


def test_what_is_needed_to_score_stands_once_a_question(tmp_path: Path) -> None:
    run(tmp_path, [row("a", "b c d e f g h i j k l m", "m", id="one"), row("a", "b c", "c", "b", id="two")], max_length=12)
    table = pq.read_table(tmp_path / "tokens/evaluation.parquet")
    assert table["example"].to_pylist() == [0, 0, 1] and table["id"].to_pylist() == ["one", None, "two"]
    examples = SpanRows.read(tmp_path / "tokens/evaluation.parquet", 0).examples
    assert examples.ids == ["one", "two"] and examples.answers == [["m"], ["c", "b"]] and examples.max_answer_length == 5
    assert examples.contexts[0].startswith("b c d") and examples.sets.tolist() == ["validation"] * 2
    assert [offsets.tolist() for offsets in examples.offsets][2] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("question", "stride", "room"),
    [("a b c", 10, 10), ("a " * 20, 0, 0)],
)
def test_no_room(tmp_path: Path, question: str, stride: int, room: int) -> None:
    message = f"stride: got {stride}; it must be smaller than the room for the context, {room} tokens: max_length 16 less 3 "
    with pytest.raises(UserError) as error:
        run(tmp_path, [row(question, "b c", "c")], stride=stride)
    assert str(tmp_path / "train.parquet") in str(error.value) and message in str(error.value)
    assert f"and {len(question.split())} of the question {question!r}" in str(error.value)


def test_the_largest_stride_that_there_is_room_for(tmp_path: Path) -> None:
    train = run(tmp_path, [row("a b c", "b c d e f g h i j k l m", "m")], stride=9)
    assert train.num_rows == 3


def test_a_context_without_a_token(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the context of the question 'a' has no token that can be read"):
        run(tmp_path, [row("a", "\u200b\u200b", "\u200b")])


@pytest.mark.parametrize("name", ["xquad/validation.en", "subjqa/validation"])
def test_real_answers_are_found_again(tmp_path: Path, name: str) -> None:
    path = ROOT.parent / f"shared/data/{name}.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    files = {"train": str(path), "validation": str(path)}
    block = {"kind": "span", "source": "files", **files, "text": ["question", "context"], "label": "answers"}
    spec = PrepareSpec(name="mine", task=Task.model_validate(block | {"metric": "squad-f1"}))
    paths = {name: tmp_path / f"{name}.parquet" for name in ("train", "evaluation")}
    prepare.run(spec.model_dump_json(), **paths, task=tmp_path / "task.json")
    run(tmp_path, pq.read_table(paths["train"]).slice(0, 100).to_pylist(), max_length=384, stride=128)
    rows = SpanRows.read(tmp_path / "tokens/evaluation.parquet", 0)
    wrong, found = 0, set()
    for window, text in enumerate(shown(tmp_path)):
        if text is not None:
            found.add(int(rows.examples.example[window]))
            wrong += text != rows.examples.answers[rows.examples.example[window]][0]
    assert len(rows) > 100 and len(found) >= 95 and wrong <= 2
