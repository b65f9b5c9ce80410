"""Embedding tasks: vectors, losses, retrieval and the projection in numbers worked out by hand, and what files must be like."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec
from espalier.data.vector_rows import VectorBatch, VectorRows
from espalier.deployment.sentences import modules, pooling, transformer
from espalier.evaluation.retrieval import ranks_of_right, recall_at
from espalier.kinds.base import label_terms, task_kind
from espalier.losses.terms import vector_difference
from espalier.models.outputs import Outputs
from espalier.runtime.errors import UserError
from espalier.training.projection import VectorProjection

KIND = task_kind("embedding")
CPU = torch.device("cpu")


def test_a_vector_is_the_mean_over_tokens_without_padding_and_of_length_1():
    states = torch.tensor([[[1.0, 0.0], [5.0, 8.0], [99.0, 99.0]]])
    mask = torch.tensor([[1, 1, 0]])
    batch = VectorBatch(torch.tensor([0]), mask, mask, None, torch.zeros(1))
    # (1 + 5) / 2 = 3 and (0 + 8) / 2 = 4, of length 5
    vectors = batch.logits_of(SimpleNamespace(last_hidden_state=states))
    torch.testing.assert_close(vectors, torch.tensor([[0.6, 0.8]]))


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ([[1.0, 0.0]], [[1.0, 0.0]], 0.0),
        ([[1.0, 0.0]], [[0.0, 1.0]], 1.0),
        ([[1.0, 0.0]], [[-1.0, 0.0]], 2.0),
        # 1 - 0.6 and 1 - 0.8
        ([[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [0.6, 0.8]], 0.3),
    ],
)
def test_the_loss_is_1_minus_the_cosine(student, teacher, expected):
    assert float(vector_difference(torch.tensor(student), torch.tensor(teacher))) == pytest.approx(expected)


def test_its_gradient_is_the_difference():
    student, teacher = torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([[0.6, 0.8]], requires_grad=True)
    vector_difference(student, teacher).backward()
    torch.testing.assert_close(student.grad, torch.tensor([[0.4, -0.8]]))
    assert teacher.grad is None


def test_no_term_needs_a_label():
    mask = torch.ones(1, 2, dtype=torch.long)
    batch = VectorBatch(torch.tensor([0]), mask, mask, None, torch.zeros(1))
    assert label_terms(torch.ones(1, 2), batch, "embedding") == {}


def test_ranks_and_recalls():
    texts = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    queries = np.array([[1.0, 0.0], [0.0, 1.0]])
    # cosines of the first query 1, .6, 0 and of the second 0, .8, 1
    ranks = ranks_of_right(queries, texts, [[0], [0, 1]])
    assert [own.tolist() for own in ranks] == [[0], [2, 1]]
    assert [recall_at(count, ranks) for count in (1, 2, 3)] == [0.5, 0.75, 1.0]


def test_of_equally_near_texts_the_first_leads():
    texts = np.ones((4, 1))
    assert ranks_of_right(np.ones((1, 1)), texts, [[2]])[0].tolist() == [2]


def test_the_projection_begins_where_the_teacher_has_the_dimensions():
    kept = torch.tensor([True, False, True, False])
    projection = VectorProjection(2, 4, kept, torch.Generator())
    vectors = projection(Outputs(torch.tensor([[0.6, 0.8]]))).logits
    torch.testing.assert_close(vectors, torch.tensor([[0.6, 0.0, 0.8, 0.0]]))


def test_the_projection_keeps_cosines_however_it_is_trained():
    projection = VectorProjection(3, 5, None, torch.Generator().manual_seed(0))
    with torch.no_grad():
        projection.weight.add_(torch.randn(5, 3, generator=torch.Generator().manual_seed(1)))
    matrix = projection.matrix()
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(3), atol=1e-6, rtol=0)
    one, other = torch.nn.functional.normalize(torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(2)), dim=-1)
    wide = [projection(Outputs(vectors)).logits for vectors in (one, other)]
    torch.testing.assert_close((wide[0] * wide[1]).sum(-1), (one * other).sum(-1), atol=1e-6, rtol=0)
    projection(Outputs(one)).logits.sum().backward()
    assert projection.weight.grad.abs().sum() > 0


def rows_of(side, examples, scores, sets):
    count = len(side)
    return VectorRows(
        ids=np.zeros(count, dtype=np.int64),
        types=None,
        offsets=np.arange(count + 1),
        labels=np.zeros(count),
        sets=np.array(sets),
        pad=0,
        side=np.array(side),
        examples=examples,
        scores=np.array(scores),
    )


def test_scores_predictions_and_agreement_of_both_forms():
    nan = float("nan")
    rows = rows_of(
        side=[0, 1, 0, 1, 0, 1, 0, 1, 1],
        examples=[[0], [0], [1], [1], [2], [2], [0], [0], []],
        scores=[1.0, nan, 3.0, nan, 2.0, nan, nan, nan, nan],
        sets=["pairs"] * 6 + ["search"] * 3,
    )
    # cosines of the pairs 0, .8 and .6, in the order of their scores 1, 3 and 2; the right text is the second nearest
    vectors = torch.tensor([[1, 0], [0, 1], [1, 0], [0.8, 0.6], [1, 0], [0.6, 0.8], [1, 0], [0.6, 0.8], [0.8, 0.6]])
    scores = KIND.scores(vectors, rows, ["spearman", "recall-at-1", "pearson"])
    assert scores["pairs"]["rows"] == 3 and scores["search"]["rows"] == 1
    assert scores["pairs"]["spearman"] == pytest.approx(1.0) and "recall-at-1" not in scores["pairs"]
    assert scores["search"] == {"rows": 1, "recall-at-1": 0.0}
    table = KIND.predictions(vectors, rows)
    np.testing.assert_allclose(table["prediction"], [0.0, 0.8, 0.6, 2.0], atol=1e-6)
    assert KIND.agreement(table, table) == pytest.approx(1.0)
    # the same order and differences of cosines, but another place
    other = table.assign(prediction=table["prediction"] / 2)
    assert KIND.agreement(other, table) == pytest.approx(3 / 4)


def task(folder, **changes):
    block = {
        **{"kind": "embedding", "source": "files", "train": str(folder / "train.csv"), "text": ["a", "b"], "label": "score"},
        **{"validation": {"pairs": str(folder / "pairs.csv"), "search": str(folder / "search.jsonl")}},
        **{"retrieval": {"search": ["query", "right"]}, "metric": "spearman", "also": ["recall-at-1"]},
    }
    return Task.model_validate({**block, **changes})


def files(folder, **contents):
    known = {
        "train.csv": "a,b\none two,three\nthree,four five\n",
        "pairs.csv": "a,b,score\none two,three,1\nnew,three,2\n",
        "search.jsonl": '{"query": "q", "right": ["x", "y"]}\n{"query": "q", "right": "z"}\n{"query": "p", "right": "x"}\n',
    }
    for name, text in (known | contents).items():
        (folder / name).write_text(text)
    return folder


def prepare(folder, **changes):
    settings = PrepareSpec(name="mine", task=task(folder, **changes))
    said = KIND.prepare(settings, folder / "t.parquet", folder / "e.parquet")
    return said, pd.read_parquet(folder / "t.parquet"), pd.read_parquet(folder / "e.parquet")


def test_rows_are_single_texts_each_once_for_training(tmp_path):
    said, train, evaluation = prepare(files(tmp_path))
    assert train["text_a"].tolist() == ["one two", "three", "four five"]
    assert said["rows"] == {"train": 3, "pairs": 2, "search": 2} and said["sets"] == ["pairs", "search"]
    assert said["leaked"] == {"pairs": 1, "search": 0}, "both texts of the first pair are training texts"
    pairs = evaluation[evaluation["set"] == "pairs"]
    assert pairs["text_a"].tolist() == ["one two", "three", "new", "three"]
    assert pairs["side"].tolist() == [0, 1, 0, 1] and [list(own) for own in pairs["examples"]] == [[0], [0], [1], [1]]
    search = evaluation[evaluation["set"] == "search"]
    assert search["text_a"].tolist() == ["q", "p", "x", "y", "z"], "queries once, then what is searched, once"
    assert [list(own) for own in search["examples"]] == [[0], [1], [0, 1], [0], [0]]


def test_a_sample_of_the_training_texts(tmp_path):
    said, train, _ = prepare(files(tmp_path), rows=2)
    assert said["rows"]["train"] == len(train) == 2


@pytest.mark.parametrize(
    ("contents", "changes", "message"),
    [
        (
            {"pairs.csv": "a,b,score\none,two,3\nx,y,3\n"},
            {},
            r"pairs.csv, column 'score': every score is 3; a correlation",
        ),
        (
            {"pairs.csv": "a,b,score\none,two,3\nx,y,high\n"},
            {},
            r"data row 2, column 'score': got the label 'high'; a finite",
        ),
        ({"pairs.csv": "a,b\none,two\n"}, {}, r"pairs.csv: there is no column 'score'"),
        ({"pairs.csv": "a,b,score\none,,3\n"}, {}, r"pairs.csv, data row 1, column 'b': got the empty text"),
        ({"train.csv": "a,c\none,two\n"}, {}, r"train.csv: there is no column 'b'"),
        ({"search.jsonl": '{"query": "q", "answer": "x"}\n'}, {}, r"search.jsonl: there is no column 'right'; columns"),
        (
            {"search.jsonl": '{"query": "q", "right": []}\n'},
            {},
            r"data row 1, column 'right': got \[\]; a text, or a list",
        ),
        ({"search.jsonl": '{"query": "q", "right": ["x", 3]}\n'}, {}, r"column 'right': got \['x', 3\]; a text, or a list"),
        (
            {"search.jsonl": '{"query": "q", "right": "x"}\n'},
            {},
            r"got 1 different texts, and recall-at-1 looks at 1",
        ),
        ({}, {"rows": 9}, r"task mine: rows: got 9; there are 3 different training texts"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, contents, changes, message):
    with pytest.raises(UserError, match=message):
        prepare(files(tmp_path, **contents), **changes)


def test_the_files_for_sentence_transformers():
    """As sentence-transformers/all-MiniLM-L6-v2 has them."""
    assert json.loads(json.dumps(modules())) == [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    assert pooling(384)["word_embedding_dimension"] == 384 and pooling(384)["pooling_mode_mean_tokens"] is True
    assert not any(value is True for name, value in pooling(384).items() if "mode" in name and "mean_tokens" not in name)
    assert transformer(256) == {"max_seq_length": 256, "do_lower_case": False}
