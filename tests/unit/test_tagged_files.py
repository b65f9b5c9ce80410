"""Files of words and tags: what is read from each format, and what is refused with which words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec
from espalier.data.labelled import LabelledTables
from espalier.data.tagged.windows import classes_in_schema
from espalier.kinds.base import read_task, task_kind
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from espalier.stages.data import prepare

CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""
CONLLU = """# sent_id = 1
# text = Al final va.
1-2\tAl\t_\t_\t_\t_\t_\t_\t_\t_
1\tA\ta\tADP\t_\t_\t3\tcase\t_\t_
2\tel\tel\tDET\t_\t_\t3\tdet\t_\t_
3\tfinal\tfinal\tNOUN\t_\t_\t4\tobl\t_\t_
3.1\tnadie\t_\tPRON\t_\t_\t_\t_\t_\t_
4\tva\tir\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t_\t_\t4\tpunct\t_\t_

# sent_id = 2
1\t10 000\t10 000\tNUM\t_\t_\t0\troot\t_\t_
"""


def block(train: Path, **changes: object) -> Task:
    files = {"source": "files", "train": str(train), "validation": str(train)}
    return Task.model_validate({"kind": "tokens", **files, "metric": "accuracy", **changes})


def read(path: Path, content: str, **changes: object) -> LabelledTables:
    path.write_text(content)
    return read_task("mine", block(path, **changes))


def tagged(tables: LabelledTables) -> list[list[tuple[str, str]]]:
    """Word and tag, sentence by sentence."""
    rows = zip(tables.train["words"].to_pylist(), tables.train["tags"].to_pylist(), strict=True)
    return [[(word, tables.classes[tag]) for word, tag in zip(words, tags, strict=True)] for words, tags in rows]


def test_conll_has_words_first_and_tags_last(tmp_path):
    tables = read(tmp_path / "a.conll", CONLL, metric="entity-f1")
    eu = [("EU", "B-ORG"), ("rejects", "O"), ("German", "B-MISC")]
    assert tagged(tables) == [eu, [("Peter", "B-PER"), ("Blackburn", "I-PER")]]
    assert tables.classes == ("B-MISC", "B-ORG", "B-PER", "I-PER", "O") == classes_in_schema(tables.train.schema)
    assert tables.train["text_a"].to_pylist() == ["EU rejects German", "Peter Blackburn"]


@pytest.mark.parametrize("name", ["a.txt", "a.conll"])
def test_other_columns_of_conll_are_named_by_their_number(tmp_path, name):
    tables = read(tmp_path / name, CONLL.replace(" ", "\t").replace("\n", "\r\n"), label="2")
    assert [tag for sentence in tagged(tables) for _, tag in sentence] == ["NNP", "VBZ", "JJ", "NNP", "NNP"]


def test_where_tabs_separate_a_word_may_hold_a_blank(tmp_path):
    assert tagged(read(tmp_path / "a.conll", "1 000\tNUM\nmen\tNOUN"))[0][0] == ("1 000", "NUM")
    # a blank that does not break separates nothing either
    assert tagged(read(tmp_path / "a.conll", "1\xa0000 NUM\nmen NOUN\n"))[0][0] == ("1\xa0000", "NUM")


def test_conllu_skips_comments_ranges_and_empty_nodes(tmp_path):
    tables = read(tmp_path / "a.conllu", CONLLU)
    first, second = tagged(tables)
    assert first == [("A", "ADP"), ("el", "DET"), ("final", "NOUN"), ("va", "VERB"), (".", "PUNCT")]
    assert second == [("10 000", "NUM")]
    lemmas = read(tmp_path / "a.conllu", CONLLU, label="LEMMA", text=["FORM"])
    assert tagged(lemmas)[0][3] == ("va", "ir")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_lists_of_other_files(tmp_path, ending):
    rows = {"tokens": [["a", "b"], ["c"]], "pos": [["X", "Y"], ["X"]]}
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table(rows), path)
    else:
        path.write_text(
            "".join(json.dumps({"tokens": one, "pos": two}) + "\n" for one, two in zip(*rows.values(), strict=True))
        )
    tables = read_task("mine", block(path, text=["tokens"], label="pos"))
    assert tagged(tables) == [[("a", "X"), ("b", "Y")], [("c", "X")]]


def test_names_that_the_datasets_library_stores_are_those_of_the_tags(tmp_path):
    names = datasets.ClassLabel(names=["VERB", "ADJ"])
    features = datasets.Features({"words": datasets.List(datasets.Value("string")), "tags": datasets.List(names)})
    rows = {"words": [["a", "b"]], "tags": [[1, 0]]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "a.parquet"))
    tables = read_task("mine", block(tmp_path / "a.parquet"))
    assert tables.classes == ("VERB", "ADJ") and tagged(tables) == [[("a", "ADJ"), ("b", "VERB")]]


def test_numbers_are_places_in_the_classes_of_the_configuration(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"words": ["a", "b"], "tags": [1, 0]}\n')
    assert tagged(read_task("mine", block(path, classes=["ADJ", "VERB"]))) == [[("a", "VERB"), ("b", "ADJ")]]


GOOD = {"words": ["a", "b"], "tags": ["X", "Y"]}
REFUSED = {
    "fewer tags than words": (
        ".jsonl",
        [GOOD, {"words": ["a", "b"], "tags": ["X"]}],
        "data row 2, column 'tags': got 1 tags for 2 words",
    ),
    "no words": (
        ".jsonl",
        [GOOD, {"words": [], "tags": []}],
        "data row 2, column 'words': got an empty sentence; every row needs a word",
    ),
    "a text": (".jsonl", [GOOD, {"words": "a b", "tags": ["X", "Y"]}], "column 'words': got 'a b'; a list of words is needed"),
    "missing words": (".jsonl", [GOOD, {"words": None, "tags": ["X"]}], "column 'words': got None; a list of words is needed"),
    "a tag for all": (".jsonl", [GOOD, {"words": ["a", "b"], "tags": "X"}], "column 'tags': got 'X'; a list of tags is needed"),
    "a number as word": (
        ".jsonl",
        [GOOD, {"words": ["a", 1], "tags": ["X", "Y"]}],
        "column 'words', word 2: got 1; a word is a text",
    ),
    "a blank word": (
        ".jsonl",
        [GOOD, {"words": ["a", " "], "tags": ["X", "Y"]}],
        "column 'words', word 2: got the empty word ' '",
    ),
    "no tag": (".jsonl", [GOOD, {"words": ["a", "b"], "tags": ["X", None]}], "column 'tags', word 2: the tag is missing"),
    "an odd tag": (
        ".jsonl",
        [GOOD, {"words": ["a", "b"], "tags": ["X", ["Y"]]}],
        "word 2: got the label ['Y']; a text, a number",
    ),
    "one class": (
        ".jsonl",
        [{"words": ["a", "b"], "tags": ["X", "X"]}],
        "column 'tags': got 1 class (X); at least 2 are needed",
    ),
    "no such column": (".jsonl", [{"wrods": ["a"], "tags": ["X"]}], "there is no column 'words'; did you mean 'wrods'?"),
    "nothing in CoNLL": (".conll", "\n-DOCSTART- O\n\n", "got 0 sentences; at least 1 is needed"),
    "a word alone": (".conll", "a\nb\n", "line 1: got 1 columns in 'a'; needed: a word and its tag at least"),
    "a short line": (".conll", "a X\n\nb Y Z\n", "line 3: got 3 columns in 'b Y Z'; needed: 2, as the first line has"),
    "an empty tag": (".conll", "a\tX\nb\tY\nc\t\n", "line 3: the tag is missing"),
    "an empty word": (".conll", "a\tX\n\tY\n", "line 2: got the empty word ''; leave it out together with its tag"),
    "blanks in CoNLL-U": (
        ".conllu",
        "# x\n1 a a X _ _ 0 root _ _\n",
        "line 2: got 1 columns in '1 a a X _ _ 0 root _ _'; needed: 10",
    ),
    "a lost word": (
        ".conllu",
        CONLLU.replace("5\t.", "6\t."),
        "line 9: got the ID '6'; needed: 5, or a range 1-2, or an empty node",
    ),
    "no UPOS": (".conllu", CONLLU.replace("NOUN", "_"), "line 6: the tag is missing"),
}
"""What is wrong: ending and content of the file, and what is said of it."""


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content))
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_is_refused(tmp_path, name):
    ending, content, said = REFUSED[name]
    path = write(tmp_path / f"a{ending}", content)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        read_task("mine", block(path))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "a.conll"
    path.write_bytes(b"a X\nb\xff Y\n")
    with pytest.raises(UserError, match=re.escape(f"{path}, line 2: got the byte 0xff, which is not UTF-8")):
        read_task("mine", block(path))


def test_a_tag_outside_the_classes_is_named_with_its_line(tmp_path):
    said = "a.conll, line 3: got the label 'NOUM', which is outside the classes; allowed: NOUN, VERB; did you mean 'NOUN'?"
    with pytest.raises(UserError, match=re.escape(said)):
        read(tmp_path / "a.conll", "a NOUN\nb VERB\nc NOUM\n", classes=["NOUN", "VERB"])


BROKEN = "a O\nb I-PER\n\nc B-PER\nd I-LOC\n"


def test_a_broken_entity_is_refused_where_entities_are_counted(tmp_path):
    said = (
        "a.conll, line 2: the tag 'I-PER' continues no entity of its type, so it must be a B- tag; correct it, or let bio: mend"
    )
    for changes in ({"metric": "entity-f1"}, {"also": ["entity-f1-strict"]}, {"bio": "refuse"}):
        with pytest.raises(UserError, match=re.escape(said) + r".* \(1 more such sentence\)$"):
            read(tmp_path / "a.conll", BROKEN, **changes)
    assert tagged(read(tmp_path / "a.conll", BROKEN))[0] == [("a", "O"), ("b", "I-PER")], "accuracy takes tags as they are"


def test_a_broken_entity_is_mended_and_counted(tmp_path, capsys):
    tables = read(tmp_path / "a.conll", BROKEN, metric="entity-f1", bio="mend")
    assert tagged(tables) == [[("a", "O"), ("b", "B-PER")], [("c", "B-PER"), ("d", "B-LOC")]]
    assert "a.conll: 2 of 4 tags mended: an I- that continued no entity begins one" in capsys.readouterr().out
    with pytest.raises(UserError, match="line 5: mending needs the class 'B-LOC', which is not named"):
        read(tmp_path / "a.conll", BROKEN, metric="entity-f1", bio="mend", classes=["O", "B-PER", "I-PER", "I-LOC"])


def test_tags_of_another_scheme_have_no_entities(tmp_path):
    said = (
        "column 'tags': metric entity-f1 needs tags of the BIO scheme: O, B-… and I-…; got the class 'S-PER'; rename it, or use"
    )
    with pytest.raises(UserError, match=re.escape(said)):
        read(tmp_path / "a.conll", "a O\nb S-PER\n", metric="entity-f1")


def test_prepare_says_how_often_the_most_frequent_tag_is_right(tmp_path):
    write(tmp_path / "a.conll", "a X\nb X\nc Y\n\nd X\n")
    write(tmp_path / "b.conllu", CONLLU)
    write(tmp_path / "c.conll", "a Y\nb X\n\nc Y\nd Y\n\n e Y\n")
    task = block(tmp_path / "a.conll", validation={"first": str(tmp_path / "c.conll"), "same": str(tmp_path / "a.conll")})
    paths = {"train": tmp_path / "t.parquet", "evaluation": tmp_path / "e.parquet", "task": tmp_path / "task.json"}
    prepare.run(PrepareSpec(name="mine", task=task).model_dump_json(), **paths)
    card = read_json(paths["task"])
    assert card["majority"] == {"first": 1 / 5, "same": 3 / 4} and card["rows"] == {"train": 2, "first": 3, "same": 2}
    assert card["classes"] == ["X", "Y"] and card["leaked"] == {"first": 0, "same": 2}
    assert pq.read_table(paths["evaluation"])["sentence"].to_pylist() == [1, 2, 3, 1, 2]


def test_evaluation_rows_are_the_first_sentences(tmp_path):
    tables = read(tmp_path / "a.conll", "a X\n\nb Y\n\nc X\n", evaluation_rows=2)
    assert tables.train.num_rows == 3 and tables.evaluation["validation"]["words"].to_pylist() == [["a"], ["b"]]


def test_the_metrics_fit_the_rules():
    assert set(task_kind("tokens").rules.metrics) == {"accuracy", "entity-f1", "entity-f1-strict"}
