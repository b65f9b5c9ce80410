"""A configuration becomes exactly these jobs."""

from __future__ import annotations

import re

STUDENT = ("compress", "recover", "export", "evaluate", "measure", "card")
TEACHER = {"finetune", "export teacher 0", "evaluate teacher 0", "measure teacher 0", "card teacher 0"}
DATA = {"fetch", "prepare", "tokenise"}
SUMMARY = {"table", "report"}


def students(plan: str, *percents: str, rules: tuple[str, ...] = STUDENT) -> set[str]:
    return {f"{rule} {plan} {percent}" for rule in rules for percent in percents}


def inputs_of(clone, target: str) -> str:
    """The input line of the job that makes a file."""
    result = clone.snakemake("--dry-run", target)
    blocks = re.findall(r"input: (.*)\n    output: (.*)\n", result.stdout + result.stderr)
    return next(inputs for inputs, outputs in blocks if target in outputs)


def test_the_whole_study(clone):
    assert clone.jobs() == DATA | TEACHER | {"teach"} | students("magnitude", "50") | students("sdp", "50", "90") | SUMMARY


def test_without_a_chain_no_target_waits_for_another(clone, small):
    small["plans"] = {"sdp": {"method": "sdp", "path": [0.5, 0.9], "chain": False}}
    clone.write_config(small)
    folder = "results/small/minilm/docs-library/seed42/sdp"
    assert clone.jobs(f"{folder}/90/recovered/run.json") == DATA | {"finetune", "teach", "compress sdp 90", "recover sdp 90"}
    inputs = inputs_of(clone, f"{folder}/90/model.safetensors")
    assert "results/small/bases/minilm/model.safetensors" in inputs and "sdp/50" not in inputs


def test_without_recovery_the_stage_itself_is_exported(clone, small):
    small["plans"] = {"sdp": {"method": "sdp", "path": [0.5, 0.9], "recover": {"epochs": 0.0}}}
    clone.write_config(small)
    bare = tuple(rule for rule in STUDENT if rule != "recover")
    assert clone.jobs() == DATA | TEACHER | {"teach"} | students("sdp", "50", "90", rules=bare) | SUMMARY
    folder = "results/small/minilm/docs-library/seed42/sdp/90"
    assert f"{folder}/model.safetensors" in inputs_of(clone, f"{folder}/compact/model.safetensors")


def test_a_card_tells_of_teacher_stage_and_recovery(clone):
    folder = "results/small/minilm/docs-library/seed42"
    inputs = inputs_of(clone, f"{folder}/sdp/90/compact/README.md")
    told = [f"{folder}/{place}/run.json" for place in ("teacher/0", "sdp/90", "sdp/90/recovered")]
    assert all(path in inputs for path in (*told, f"{folder}/sdp/90/structure.json"))
    assert "sdp/50" not in inputs and "structure.json" not in inputs_of(clone, f"{folder}/teacher/0/compact/README.md")


def test_a_stage_starts_from_the_stage_before(clone):
    start = inputs_of(clone, "results/small/minilm/docs-library/seed42/sdp/90/model.safetensors")
    assert "seed42/sdp/50/masks.safetensors" in start
    assert "sdp/50/recovered" not in start


def test_a_path_starts_from_the_base_or_the_teacher(clone, small):
    target = "results/small/minilm/docs-library/seed42/magnitude/50/model.safetensors"
    base = "results/small/bases/minilm/model.safetensors"
    assert base in inputs_of(clone, target)
    small["plans"]["magnitude"]["start"] = "teacher"
    clone.write_config(small)
    assert base not in inputs_of(clone, target)


def test_a_corpus_is_packed_and_its_teacher_pretrained(clone, small):
    small |= {"tasks": {"docs-corpus": None}, "plans": {}}
    clone.write_config(small)
    assert clone.jobs() == {"fetch", "prepare", "pack", "pretrain"} | TEACHER - {"finetune"} | SUMMARY


def test_plans_run_on_tasks_of_their_kinds(clone, small):
    small["tasks"] = {"docs-corpus": {"rows": 64}, "docs-library": {"rows": 64}}
    small["plans"] = {"homodistil": {"method": "homodistil", "path": [0.5, 0.75]}, "sdp": small["plans"]["sdp"]}
    clone.write_config(small)
    bare = tuple(rule for rule in STUDENT if rule != "recover")
    text = {"teach", "pack", "pretrain"} | students("homodistil", "50", "75", rules=bare)
    assert clone.jobs() == DATA | TEACHER | text | students("sdp", "50", "90") | SUMMARY
    folder = "results/small/minilm/docs-corpus"
    inputs = inputs_of(clone, f"{folder}/seed42/homodistil/50/model.safetensors")
    tokens = [f"{folder}/tokens/{split}.arrow" for split in ("train", "evaluation")]
    assert all(path in inputs for path in (*tokens, f"{folder}/seed42/teacher/0/model.safetensors"))


def test_files_of_the_user_count_by_their_contents(clone, small):
    (clone.folder / "a.csv").write_text("text,label\n")
    small["tasks"] = {"docs-library": {"source": "files", "train": "a.csv", "validation": {"easy": "a.csv"}}}
    clone.write_config(small)
    assert inputs_of(clone, "results/small/prepared/docs-library/task.json") == "envs/requirements.lock"


def test_a_given_configuration_replaces_the_shipped_one(clone, small):
    small |= {"project": "other", "plans": {"only": {"method": "dense"}}}
    other = clone.write_config(small, "other.yaml")
    jobs = clone.jobs("--configfile", str(other))
    assert {job for job in jobs if "compress" in job} == {"compress only 0"}


def test_single_values_can_be_overlaid(clone):
    result = clone.snakemake("--dry-run", "--config", "project=overlaid")
    assert "results/overlaid/table.csv" in result.stdout + result.stderr


def test_the_list_reads_like_a_table_of_contents(clone):
    listed = dict(re.findall(r"^(\w+) \((.+)\)$", clone.snakemake("--list").stdout, re.MULTILINE))
    others = {"pack", "pretrain", "finetune", "teach", "latency", "specialise", "adopt", "linear", "analyse"}
    formats = {"deploy", "deploy_trimmed", "trim", "card_trimmed", "gather"}
    kinds = {"collect", "fetch_teacher", "admit", "decide", "export_vectors", "trim_vectors"}
    assert set(listed) == {"all", *DATA, *others, *formats, *kinds, *STUDENT, *SUMMARY}
    assert all(text.endswith(".") and "{" not in text for text in listed.values())
