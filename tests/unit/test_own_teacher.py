"""Teachers of one's own: classes by name, the base's architecture, heads of all families, and every refusal in one sentence."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertForMaskedLM, PreTrainedModel

from espalier.config import ConfigError, parse
from espalier.config.job_specs import finetune_spec
from espalier.config.layout import Layout, check_files
from espalier.config.teachers.matching import architecture_problem, class_names_in, class_order
from espalier.config.teachers.specs import admit_spec, fetch_teacher_spec, own_teachers
from espalier.models.own_teacher import check_architecture, open_own_teacher, reorder_outputs
from espalier.provenance.row_contents import teacher_made_from
from espalier.runtime.errors import UserError
from espalier.stages.data import fetch
from tests import tiny

TASK = {
    **{
        "kind": "classification",
        "source": "files",
        "train": "a.csv",
        "validation": "b.csv",
        "text": ["text"],
        "label": "label",
    },
    **{"classes": ["low", "middle", "high"], "metric": "accuracy", "max_length": 16},
}
COMMIT = "0" * 40
ASKED = TASK | {"kind": "span", "text": ["question", "context"], "label": "answers", "metric": "squad-f1", "stride": 4}
ASKED |= {"train": "a.jsonl", "validation": "b.jsonl", "classes": None}


# Classes.


@pytest.mark.parametrize(
    ("own", "order"),
    [
        (["low", "middle", "high"], [0, 1, 2]),
        (["high", "low", "middle"], [1, 2, 0]),
        (["HIGH", "Low", " middle "], [1, 2, 0]),
    ],
)
def test_classes_are_matched_by_name(own, order):
    assert class_order(own, ["low", "middle", "high"], by_position=False) == order


@pytest.mark.parametrize(
    ("own", "by_position", "message"),
    [
        (["a", "b"], False, "the numbers of classes differ: the checkpoint has 2: a, b; the task has 3: low, middle, high"),
        (["a", "b"], True, "the numbers of classes differ"),
        (["low", "mid", "high"], False, "only in the checkpoint: mid; only in the task: middle"),
        (
            ["low", "LOW", "high"],
            False,
            "the names of the classes differ: the checkpoint has 3: low, LOW, high; the task has 3",
        ),
        (["LABEL_0", "LABEL_1", "LABEL_2"], False, "names do not say which class is which: .* write classes: by-position"),
        (["high", "low", "middle"], True, "by-position would mix classes up that have the same names in another order"),
    ],
)
def test_classes_that_differ_are_refused_with_both_lists(own, by_position, message):
    with pytest.raises(ValueError, match=message):
        class_order(own, ["low", "middle", "high"], by_position=by_position)


def test_generic_names_are_matched_by_position_where_the_user_says_so():
    assert class_order(["LABEL_0", "LABEL_1"], ["no", "yes"], by_position=True) == [0, 1]


def test_names_stand_in_the_order_of_the_outputs():
    assert class_names_in({"id2label": {"1": "b", "0": "a"}}) == ["a", "b"] == class_names_in({"id2label": {0: "a", 1: "b"}})
    assert class_names_in({}) is None and class_names_in({"id2label": {"0": "a", "5": "b"}}) is None


def test_architectures_are_compared_where_both_say_something():
    base = {"model_type": "bert", "hidden_size": 32, "layer_norm_eps": 1e-12}
    assert architecture_problem({"model_type": "bert", "hidden_size": 32, "id2label": {}}, base) is None
    problem = architecture_problem({"model_type": "roberta", "hidden_size": 64}, base)
    assert problem and "model_type 'roberta' against 'bert', hidden_size 64 against 32" in problem


# Heads.


def test_the_outputs_of_every_family_can_be_reordered(variant: str) -> None:
    model = tiny.encoder(variant)
    other = copy.deepcopy(model)
    reorder_outputs(other, [2, 0, 1])
    batch = tiny.padded_batch()
    with torch.no_grad():
        assert torch.equal(other(**batch).logits, model(**batch).logits[:, [2, 0, 1]])
    moved = [name for name, tensor in other.state_dict().items() if not torch.equal(tensor, model.state_dict()[name])]
    assert moved and all(not name.startswith(f"{model.base_model_prefix}.") for name in moved)


def saved(model: PreTrainedModel, folder: Path, **config: Any) -> list[Path]:
    tiny.write_base(folder)
    for name, value in config.items():
        setattr(model.config, name, value)
    model.save_pretrained(folder)
    return [folder / "config.json", folder / "model.safetensors", folder / "tokenizer.json"]


NAMES = {0: "high", 1: "low", 2: "middle"}


def test_a_checkpoint_is_opened_in_the_task_s_order(tmp_path: Path) -> None:
    model = tiny.classifier()
    files = saved(model, tmp_path, id2label=NAMES)
    own = open_own_teacher(files[:2], "classification", ["low", "middle", "high"], "by-name")
    assert own.config.id2label == {0: "low", 1: "middle", 2: "high"} and own.config.label2id["high"] == 2
    ids = torch.arange(8).view(2, 4)
    with torch.no_grad():
        assert torch.equal(own.eval()(ids).logits, model.eval()(ids).logits[:, [1, 2, 0]])


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: BertForMaskedLM(tiny.config()), "classification", "lacks 4 weights of the head.*saved as BertForMaskedLM"),
        (lambda: tiny.classifier(), "span", "lacks 2 weights of the head, such as 'qa_outputs.bias'"),
        (lambda: tiny.classifier(classes=3), "regression", "the head has 3 outputs; a task of kind regression has 1"),
        (
            lambda: tiny.classifier(classes=2),
            "classification",
            "the numbers of classes differ: the checkpoint has 2: LABEL_0, LABEL_1",
        ),
    ],
    ids=["no head", "head of another kind", "too many numbers", "too few classes"],
)
def test_a_head_that_is_not_the_task_s_is_refused(make, kind, message, tmp_path):
    files = saved(make(), tmp_path)
    with pytest.raises(UserError, match=message):
        open_own_teacher(files[:2], kind, ["low", "middle", "high"] if kind == "classification" else None, "by-name")


def test_a_head_of_another_size_than_config_json_says_is_refused(tmp_path):
    files = saved(tiny.classifier(classes=3), tmp_path)
    config = json.loads(files[0].read_text())
    files[0].write_text(json.dumps({**config, "id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}))
    with pytest.raises(UserError, match=r"is of shape \[3(, 32)?\]; by config.json it is of shape \[2"):
        open_own_teacher(files[:2], "classification", ["a", "b"], "by-name")


def test_another_tokenizer_or_size_is_refused(tmp_path):
    base, own = (saved(tiny.classifier(), tmp_path / name) for name in ("base", "own"))
    check_architecture(own, base)

    words = json.loads(own[2].read_text())
    vocabulary = words["model"]["vocab"]
    one, other = list(vocabulary)[10:12]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    own[2].write_text(json.dumps(words))
    with pytest.raises(UserError, match=rf"tokenizer is not the base's.*token 10 is '{other}', in the base's it is '{one}'"):
        check_architecture(own, base)

    shutil.copy(base[2], own[2])
    tokenizer = Tokenizer.from_file(str(own[2]))
    tokenizer.add_tokens(["brand-new"])
    words = json.loads(tokenizer.to_str())
    own[2].write_text(json.dumps(words))
    with pytest.raises(UserError, match="they differ in added_tokens"):
        check_architecture(own, base)

    large = saved(tiny.classifier(hidden_size=64), tmp_path / "large")
    with pytest.raises(UserError, match="not of the base's architecture: hidden_size 64 against 32"):
        check_architecture(large, base)


# Configurations.


def config(teacher: dict[str, Any], **changes: Any) -> dict[str, Any]:
    bases = {"tiny": {"source": "local", "path": "base"}, "other": {"source": "local", "path": "base"}}
    plans: dict[str, Any] = {"dense": {"method": "dense", "epochs": 1.0, "start": "teacher"}}
    tasks = {"grades": TASK, "asked": ASKED}
    whole = {"project": "a", "bases": bases, "tasks": tasks, "teacher": teacher, "plans": plans, "measure": {"length": 16}}
    return whole | changes


def test_a_checkpoint_can_be_named_for_single_tasks_and_bases():
    teacher = {
        **{"epochs": 2.0, "source": "local", "path": "one", "sha256": "a" * 64},
        "per_task": {
            "asked": {"source": "finetune", "per_base": {"other": {"source": "hub", "id": "me/mine", "revision": COMMIT}}}
        },
        "per_base": {"other": {"path": "two", "classes": "by-position"}},
    }
    made = parse(config(teacher))
    assert own_teachers(made) == [("tiny", "grades"), ("other", "grades"), ("other", "asked")]
    assert fetch_teacher_spec(made, "tiny", "grades").base.sha256 == "a" * 64
    other = fetch_teacher_spec(made, "other", "grades").base
    assert (other.path, other.sha256) == ("two", None), "the digest belongs to the first checkpoint"
    assert fetch_teacher_spec(made, "other", "asked").base.id == "me/mine"
    assert (admit_spec(made, "tiny", "grades", 1).matching, admit_spec(made, "other", "grades", 1).matching) == (
        "by-name",
        "by-position",
    )
    assert finetune_spec(made, "asked", 1).settings.epochs == 2.0
    with pytest.raises(ValueError, match="the teacher of tiny on asked is fine-tuned here"):
        fetch_teacher_spec(made, "tiny", "asked")


def test_where_nothing_is_said_teachers_are_trained_by_the_same_specification_as_before():
    spec = json.loads(finetune_spec(parse(config({"epochs": 2.0})), "grades", 1).model_dump_json())
    assert "source" not in spec["settings"] and spec["settings"]["per_task"] == {} and own_teachers(parse(config({}))) == []


def test_without_bases_the_checkpoint_is_the_base_and_its_files_are_fetched_once():
    made = parse({key: value for key, value in config({"source": "local", "path": "one"}).items() if key != "bases"})
    assert made.compressed_bases == ["own"] and made.bases["own"].path == "one"
    assert Layout(made).checkpoint("own", "grades") == "results/a/bases/own"
    assert (
        Layout(parse(config({"source": "local", "path": "one"}))).checkpoint("tiny", "grades")
        == "results/a/teachers/grades/tiny"
    )


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (
            {"source": "locale", "path": "x"},
            "teacher.source: got 'locale'; allowed: finetune, local, hub; did you mean 'local'",
        ),
        ({"source": "local"}, "teacher: source local needs path"),
        ({"source": "hub", "id": "me/mine"}, "teacher: source hub needs revision"),
        ({"source": "hub", "id": "me/mine", "revision": "main"}, "teacher.revision: got 'main'; allowed: a full git commit"),
        ({"path": "x"}, "teacher: source finetune has no path; allowed: finetune, local, hub as source"),
        ({"sha256": "a" * 64}, "source finetune has no sha256"),
        (
            {"source": "local", "path": "x", "classes": "by-luck"},
            "teacher.classes: got 'by-luck'; allowed: by-name, by-position",
        ),
        (
            {"per_base": {"othr": {"path": "x"}}},
            "teacher.per_base.othr: got 'othr'; allowed: tiny, other; did you mean 'other'",
        ),
        (
            {"per_base": {"tiny": {"epochs": 3.0}}},
            "teacher.per_base.tiny: epochs cannot differ between bases; allowed: source, path",
        ),
        ({"per_base": {"tiny": {"source": "hub"}}}, "teacher.per_base.tiny: source hub needs id, revision"),
        ({"per_task": {"grades": {"source": "local"}}}, "teacher.per_task.grades: source local needs path"),
    ],
)
def test_a_wrong_teacher_block_is_refused(teacher, message):
    with pytest.raises(ConfigError, match=message):
        parse(config(teacher))


def test_a_study_of_text_alone_has_no_checkpoint_with_a_head():
    corpus = {"kind": "text", "source": "files", "train": "a.txt", "validation": "b.txt", "text": ["text"]}
    plans = {"narrow": {"method": "homodistil", "path": [0.5]}}
    with pytest.raises(ConfigError, match=r"teacher.source: a checkpoint with a head is for tasks of kind classification"):
        parse(config({"source": "local", "path": "x"}, tasks={"words": corpus}, plans=plans))


# Files, before the first job.


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base, a checkpoint, and the files of the tasks."""
    monkeypatch.chdir(tmp_path)
    tiny.write_base(tmp_path / "base")
    saved(tiny.classifier(), tmp_path / "one", id2label=NAMES)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    return tmp_path


def checked(**changes: Any) -> None:
    check_files(parse(config({"source": "local", "path": "one"} | changes, tasks={"grades": TASK})))


def test_a_good_checkpoint_passes_before_the_first_job(here):
    checked()


def without_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def with_code(folder: Path) -> None:
    edit(folder, auto_map={"AutoModel": "mine.Model"})


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "teacher.path: .*/one: there is no such folder"),
        (without_safetensors, "no model.safetensors; pytorch_model.bin can run code when it is opened, so it is refused"),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            "no model.safetensors; save_pretrained of transformers writes it",
        ),
        (with_code, "'auto_map' asks to run code that comes with the model"),
        (lambda folder: (folder / "config.json").write_text("[]"), "no config.json with an object in it; files: config.json"),
        (
            lambda folder: edit(folder, hidden_size=64),
            "base tiny: the checkpoint is not of the base's architecture: hidden_size 64",
        ),
        (lambda folder: edit(folder, model_type="roberta"), "model_type 'roberta' against 'bert'"),
        (
            lambda folder: edit(folder, id2label={"0": "good", "1": "bad", "2": "low"}),
            "task grades: the names of the classes differ",
        ),
        (lambda folder: edit(folder, id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}), "write classes: by-position"),
    ],
    ids=["no folder", "pickle", "no weights", "code", "no object", "size", "family", "names", "generic names"],
)
def test_a_checkpoint_that_cannot_be_the_teacher_is_refused_before_the_first_job(change, message, here):
    change(here / "one")
    with pytest.raises(ConfigError, match=message):
        checked()


def test_contents_decide_and_not_the_path(here):
    made = [parse(config({"source": "local", "path": path})) for path in ("one", "two")]
    shutil.copytree("one", "two")
    assert teacher_made_from(made[0], "tiny", "grades") == teacher_made_from(made[1], "tiny", "grades")
    (here / "three").mkdir()
    third = saved(tiny.classifier(seed=1), here / "three", id2label=NAMES)[0].parent
    other = parse(config({"source": "local", "path": str(third)}))
    assert teacher_made_from(other, "tiny", "grades") != teacher_made_from(made[0], "tiny", "grades")


def test_fetching_refuses_a_pickle_and_another_digest(here, monkeypatch):
    made = config({"source": "local", "path": "one", "sha256": "0" * 64})
    outputs = {name: here / "out" / name for name in ("config", "weights", "tokenizer", "tokenizer_config", "source")}
    with pytest.raises(UserError, match=r"the SHA-256 is .* but the configuration says 0000"):
        fetch.run(fetch_teacher_spec(parse(made), "tiny", "grades").model_dump_json(), **outputs)
    without_safetensors(here / "one")
    with pytest.raises(UserError, match=r"only pytorch_model.bin; opening such a file can run code, so it is refused"):
        fetch.run(fetch_teacher_spec(parse(made), "tiny", "grades").model_dump_json(), **outputs)
