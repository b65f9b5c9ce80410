"""Texts without grades beside a ranking: collected, answered by the teacher and trained on, through the real stages."""

from __future__ import annotations

import json

import pytest
from transformers import AutoModelForSequenceClassification

from espalier.config import job_specs
from espalier.config.kinds.specs import collect_spec
from espalier.runtime.files import read_json
from tests import tagged, tiny, xglue

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("objective", ["kld", "cc+kld"])
def test_a_student_learns_from_graded_and_ungraded_texts(tmp_path, objective):
    for name, queries in (("train", 8), ("validation", 4), ("more", 6)):
        rows = tiny.ranking_rows(queries, seed=len(name))
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "validation")}
    block = {"kind": "ranking", "source": "files", **files, "text": ["query", "title", "body"], "label": "grade", "query": "id"}
    block |= {"metric": "ndcg", "unlabelled": {"files": [str(tmp_path / "more.jsonl")], "share": 0.4}}

    study = xglue.Study(tmp_path, "pages", objective=objective, **block)
    study.prepare()
    texts = tmp_path / "tokens/unlabelled.parquet"
    tokenizer = {"tokenizer": tagged.inside(study.base, "config.json", *tagged.TOKENIZER)}
    tagged.stage("collect", collect_spec(study.config, "pages"), tokenizer, study.rows | {"tokens": texts})
    study.teacher()

    written = {option: tmp_path / "student" / file for option, file in tagged.PRUNED.items()}
    teacher = tagged.inside(tmp_path / "teacher", *tagged.MODEL)
    lists = {"teacher": teacher, "start": teacher, "tokens": [*study.tokens.values(), texts], "latency": [], "outputs": []}
    spec = job_specs.compress_spec(study.config, "pages", "sdp", tagged.SEED, "50")
    tagged.stage("compress", spec, lists, written | {"task": study.card, "work": tmp_path / "work"})
    opened = AutoModelForSequenceClassification.from_pretrained(study.export(tmp_path / "student"))
    assert opened.config.num_labels == 1
    record = read_json(tmp_path / "student/run.json")
    assert record["unlabelled_rows"] > 0 and spec.goal.share == 0.4
