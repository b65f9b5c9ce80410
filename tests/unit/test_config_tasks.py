"""What tasks may say, kind by kind, and what they keep when it is left out."""

from __future__ import annotations

import re

import pytest
from test_config import FILES

from espalier.config import ConfigError, parse
from espalier.config.job_specs import pack_spec, prepare_spec, readers
from espalier.config.kinds import LABELLED
from espalier.config.known_tasks import KNOWN


def test_a_known_task_keeps_what_the_user_does_not_say(small):
    task = parse(small | {"tasks": {"rte": FILES}}).tasks["rte"]
    assert (task.text, task.metric, task.classes) == (("sentence1", "sentence2"), "accuracy", ("entailment", "not_entailment"))
    assert (task.source, task.id, task.revision) == ("files", None, None)


QUESTIONS = {"kind": "span", **FILES, "text": ["question", "context"], "label": "answers", "metric": "squad-f1"}
QUESTIONS |= {"train": "a.parquet", "validation": "b.jsonl"}


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ({"text": ["question"]}, "kind span reads two columns, question and context; text names 1: question"),
        ({"train": "a.csv"}, "file 'a.csv' has no known format; allowed: .parquet, .jsonl"),
        ({"metric": "f1"}, "metric 'f1' does not fit kind span; allowed: squad-f1, exact-match"),
        ({"classes": ["a", "b"]}, "kind span with source files has no classes"),
        ({"stride": 384}, "stride must be smaller than max_length; got 384 and 384"),
        ({"max_length": 128}, "stride must be smaller than max_length; got 128 and 128"),
    ],
)
def test_spans_are_configured_as_spans(small, block, problem):
    with pytest.raises(ConfigError) as error:
        parse(small | {"tasks": {"mine": QUESTIONS | block}})
    assert problem in str(error.value)


def test_spans_have_defaults_of_their_own(small):
    task = parse(small | {"tasks": {"mine": QUESTIONS | {"stride": None}}}).tasks["mine"]
    assert (task.max_length, task.stride, task.max_answer_length) == (384, 128, 30)
    assert parse(small).tasks["docs-library"].stride is None
    assert parse(small | {"tasks": {"mine": QUESTIONS | {"max_length": 64, "stride": 0}}}).tasks["mine"].stride == 0


def test_languages_read_no_rows_again(small):
    said = parse(small | {"tasks": {"rte": FILES | {"language": ["en"]}}})
    assert prepare_spec(said, "rte") == prepare_spec(parse(small | {"tasks": {"rte": FILES}}), "rte")


@pytest.mark.parametrize("said", ["English", "en_GB", "e", ""])
def test_a_language_is_a_code(small, said):
    assert parse(small | {"tasks": {"rte": FILES | {"language": ["en", "pt-BR"]}}}).tasks["rte"].language == ("en", "pt-BR")
    with pytest.raises(ConfigError, match=r"tasks\.rte\.language"):
        parse(small | {"tasks": {"rte": FILES | {"language": [said]}}})


def test_the_known_tasks_are_complete(small):
    tasks = parse(small | {"tasks": dict.fromkeys(KNOWN)}).tasks
    assert len(tasks) == 25
    assert list(tasks["mnli"].evaluation_sets) == ["matched", "mismatched"]


WORDS = {
    "kind": "tokens",
    **FILES,
    "metric": "entity-f1",
    "train": "a.conll",
    "validation": {"de": "b.conllu", "en": "c.jsonl"},
}


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ({"text": ["a", "b"]}, "kind tokens reads one column of words; text names 2: a, b"),
        ({"train": "a.csv"}, "file 'a.csv' has no known format; allowed: .parquet, .jsonl, .conll, .conllu, .txt"),
        ({"metric": "f1"}, "metric 'f1' does not fit kind tokens; allowed: accuracy, entity-f1, entity-f1-strict"),
        ({"metric": None}, "kind tokens with source files needs metric"),
        ({"stride": 4}, "kind tokens with source files has no stride"),
        ({"classes": ["O", "S-PER"]}, "metric entity-f1 needs tags of the BIO scheme: O, B-… and I-…; got the class 'S-PER'"),
        (
            {"metric": "accuracy", "also": ["entity-f1-strict"], "classes": ["NOUN", "O"]},
            "got the class 'NOUN'; rename it, or use",
        ),
        ({"bio": "ignore"}, "bio: got 'ignore'; allowed: refuse, mend"),
    ],
)
def test_words_with_tags_are_configured_as_such(small, block, problem):
    with pytest.raises(ConfigError) as error:
        parse(small | {"tasks": {"mine": WORDS | block}})
    assert problem in str(error.value)


def test_words_with_tags_have_defaults_of_their_own(small):
    task = parse(small | {"tasks": {"mine": WORDS}}).tasks["mine"]
    assert (task.text, task.label, task.max_length, task.bio) == (("words",), "tags", 128, None)
    assert list(task.evaluation_sets) == ["de", "en"] and task.metrics == ("entity-f1",)
    with pytest.raises(ConfigError, match="kind classification with source builtin has no bio"):
        parse(small | {"tasks": {"docs-library": {"bio": "mend"}}})


def test_vectors_of_words_are_not_stored(small):
    """docs/methods/sdp.md §2.1: SDP's teacher runs beside the student, unless logits are enough."""
    plans = {name: {"method": "sdp", "path": [0.5], "objective": name} for name in ("cc", "cos", "kld")}
    config = parse(small | {"tasks": {"mine": WORDS, "docs-pair": None}, "plans": plans})
    assert set(readers(config, "mine")) == {"kld"} and set(readers(config, "docs-pair")) == {"cc", "cos", "kld"}


def test_a_ready_made_model_is_no_rival_on_words_with_tags(small):
    """Rows of a student that reads other tokens are cut at other words."""
    small["bases"]["other"] = dict(small["bases"]["minilm"]) if "minilm" in small["bases"] else {"source": "local", "path": "x"}
    small |= {"tasks": {"mine": WORDS}, "plans": {"rival": {"method": "ready-made", "base": "other"}}}
    said = "plans.rival: method ready-made works on tasks of kind classification, multilabel, ranking, regression; the "
    said += "tasks here are of kind tokens"
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse(small)


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ({"text": ["a", "b"]}, "kind text reads one column; text names 2: a, b"),
        ({"holdout": 0.1}, "kind text with source files has no holdout"),
        ({"metric": "accuracy"}, "kind text with source files has no metric"),
        ({"train": "a.doc"}, "file 'a.doc' has no known format; allowed: .parquet, .csv, .tsv, .jsonl, .txt"),
        ({"validation": None}, "kind text with source files needs validation"),
        ({"stride": 4}, "kind text with source files has no stride"),
    ],
)
def test_a_text_task_has_no_labels_and_one_column(small, block, problem):
    known = {"kind": "text", "source": "files", "train": "a.txt", "validation": "b.parquet", "text": ["text"]}
    small |= {"tasks": {"mine": known}, "plans": {}}
    assert parse(small).tasks["mine"].metrics == ("masked-accuracy", "perplexity")
    small["tasks"]["mine"] = known | block
    with pytest.raises(ConfigError, match=re.escape(f"tasks.mine: {problem}")):
        parse(small)


def test_only_text_is_read_from_text_files(small):
    small["tasks"] = {"rte": {"source": "files", "train": "a.txt", "validation": "b.csv"}}
    with pytest.raises(ConfigError, match=r"file 'a\.txt' has no known format; allowed: \.parquet, \.csv, \.tsv, \.jsonl"):
        parse(small)


def test_a_plan_needs_a_task_that_it_can_work_on(small):
    small["tasks"] = {"docs-corpus": None}
    with pytest.raises(ConfigError) as caught:
        parse(small)
    kinds = {"magnitude": set(LABELLED) - {"embedding"}, "sdp": set(LABELLED)}
    assert caught.value.problems == [
        f"plans.{name}: method {name} works on tasks of kind {', '.join(sorted(own))}; the tasks here are of kind text; "
        "it trains on labels, which texts do not have"
        for name, own in kinds.items()
    ]
    small["tasks"]["docs-pair"] = None
    parse(small)


def test_training_rows_of_spans_and_of_text_are_not_scored(small):
    small |= {"tasks": {"docs-corpus": None, "docs-pair": None, "docs-span": None}}
    for name in ("teacher", "pretrain"):
        small[name] = {"evaluate_train": True}
    small["plans"]["sdp"]["evaluate_train"] = True
    tail = "allowed for classification, regression"
    with pytest.raises(ConfigError) as caught:
        parse(small)
    places = {"teacher": "docs-span is of kind span", "pretrain": "docs-corpus is of kind text"}
    places = {**places, "plans.sdp": "docs-span is of kind span"}
    assert set(caught.value.problems) == {f"{place}.evaluate_train: task {what}; {tail}" for place, what in places.items()}
    without = {"per_task": {"docs-span": {"evaluate_train": False}}}
    small["teacher"] |= without
    small["plans"]["sdp"] |= without
    del small["pretrain"]
    assert parse(small).plan_for("sdp", "docs-pair").evaluate_train


def test_the_number_of_packed_rows_is_no_business_of_prepare(small):
    small |= {"tasks": {"docs-corpus": {"rows": 50}, "docs-pair": {"rows": 60}}}
    config = parse(small)
    assert prepare_spec(config, "docs-corpus").task.rows is None and pack_spec(config, "docs-corpus").rows == 50
    assert prepare_spec(config, "docs-pair").task.rows == 60
