"""Names, paths and strings of configuration and data stay where they are put: in their folder, their word, their cell."""

from __future__ import annotations

import csv
import re
import shlex
from itertools import pairwise
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from snakemake.utils import format as snakemake_format

from espalier.config import ConfigError, parse
from espalier.config.blocks import printable
from espalier.config.job_specs import compress_spec, prepare_spec
from espalier.config.layout import Layout
from espalier.config.targets import PERCENT
from espalier.report.card import code, escaped, render
from tests.conftest import ROOT, SMALL
from tests.unit.test_card import FACTS, SPEC

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
NASTY = (
    *(
        "",
        ".",
        "..",
        "../x",
        "../../etc/passwd",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "~",
        "~root",
        "-rf",
        "--config",
        "a b",
        "a\n",
        "a\0",
    ),
    *(
        "$(touch pwned)",
        "`touch pwned`",
        "a;touch pwned",
        "a'b",
        'a"b',
        "a|b",
        "a&b",
        "*",
        "{w}",
        "{{w}}",
        "é",
        "ａ",
        "A",
        "\ud800",
    ),
    *(
        "a\u202eb",
        "\x1b[2J",
        "<script>alert(1)</script>",
        "# a",
        "`",
        "``",
        "|",
        "[a](http://b)",
        "![a](b)",
        "a" * 65,
        "a" * 5000,
    ),
)
ANYTHING = st.one_of(st.sampled_from(NASTY), st.text(max_size=40), st.text("ab/.-~$`'\"\\ \n{}<>|&;*_[]()!#", max_size=20))
TASK = {"kind": "classification", "source": "files", "train": "a.csv", "validation": "b.csv", "metric": "accuracy"}
MINE = TASK | {"text": ["a"], "label": "b"}
MARKDOWN = MarkdownIt("commonmark").enable("table")


def small() -> dict[str, Any]:
    return yaml.safe_load(yaml.safe_dump(SMALL))


def named(where: str, name: str) -> dict[str, Any]:
    """The small configuration with a name of this kind."""
    raw = small()
    if where == "project":
        raw["project"] = name
    elif where == "set":
        raw["tasks"]["mine"] = MINE | {"validation": {name: "b.csv"}}
    elif where == "task":
        raw["tasks"] = {name: MINE}
    else:
        raw[where] = {name: next(iter(raw[where].values()))}
    return raw


def check_refusal(error: ConfigError) -> None:
    """Every problem is one line that any terminal can print."""
    assert error.problems and all(problem.isprintable() for problem in error.problems)
    str(error).encode()


@settings(max_examples=200)
@given(st.sampled_from(["project", "bases", "task", "plans", "set"]), ANYTHING)
def test_a_name_is_plain_or_refused(where, name):
    try:
        config = parse(named(where, name))
    except ConfigError as error:
        check_refusal(error)
    else:
        assert NAME.fullmatch(name)
        for path in (*Layout(config).students(), Layout(config).prepared(next(iter(config.tasks)))):
            assert re.fullmatch(r"[A-Za-z0-9./-]+", path) and path.startswith(f"results/{config.project}/")
            assert not {"", ".", ".."} & {*path.split("/")}


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | ANYTHING, lambda inner: st.dictionaries(ANYTHING, inner, max_size=3))
)
def test_whatever_stands_in_a_configuration_is_refused_in_plain_lines(block):
    for key in ("seeds", "bases", "tasks", "plans", "teacher", "x\n  - y"):
        try:
            parse(small() | {key: block})
        except ConfigError as error:
            check_refusal(error)


NUMBERS = st.one_of(st.floats(), st.floats(0.0, 1.0), st.integers(), st.sampled_from([10**400, -0.0, 1e-10, 0.9999999999]))
WORDS = st.one_of(ANYTHING, st.sampled_from(["5M\n", "٣M", f"{'9' * 5000}M", "5MM", "1e5", "0.5k"]))


@settings(max_examples=200)
@given(
    st.sampled_from(["speedup", "latency_ms", "parameters", None]),
    st.one_of(NUMBERS, WORDS, st.integers(-2000, 2000).map(lambda thousandths: thousandths / 1000)),
)
@example(None, float("nan"))
def test_a_target_becomes_a_short_word_that_the_rules_know_or_is_refused(key, number):
    raw = small()
    raw["plans"] = {"cofi": {"method": "cofi", "path": [number if key is None else {key: number}]}}
    try:
        config = parse(raw)
    except ConfigError as error:
        check_refusal(error)
    else:
        (word,) = Layout(config).percents("cofi")
        assert re.fullmatch(PERCENT, word) and word.isascii() and len(word) < 30


@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING)
@example("\ud800", "label", "one", "file")
@example("text", "label", "one", "\ud800")
def test_columns_classes_and_files_reach_the_stage_as_one_word(column, label, one, file):
    raw = small()
    raw["tasks"]["mine"] = MINE | {"text": [column], "label": label, "classes": [one, "x"], "train": f"{file}.csv"}
    try:
        config = parse(raw)
    except ConfigError as error:
        check_refusal(error)
        return
    for spec in (prepare_spec(config, "mine"), compress_spec(config, "mine", "sdp", 1, "50")):
        text = spec.model_dump_json()
        command = snakemake_format("run {spec:q} {paths:q}", spec=text, paths=[f"{file}.csv", "b"])
        assert shlex.split(command) == ["run", text, f"{file}.csv", "b"]
        assert type(spec).model_validate_json(text) == spec


def test_every_value_in_a_rule_s_command_is_quoted():
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for command in re.findall(r'shell:\n\s+r"""(.*?)"""', file.read_text(), re.DOTALL):
            found = re.findall(r"\{([^}]*)\}", command)
            assert found and [value for value in found if not re.fullmatch(r"(params|input|output)\.\w+:q|log:q", value)] == []


def cell(text: str) -> list[tuple[str, str]]:
    """Kind and content of everything in the second of three cells."""
    tokens = MARKDOWN.parse(f"| h | h | h |\n|---|---|---|\n| a | {text} | z |\n")
    cells = [token for before, token in pairwise(tokens) if before.type == "td_open"]
    assert [cells[0].content, cells[-1].content, len(cells)] == ["a", "z", 3]
    return [(each.type, each.content) for each in cells[1].children]


def shown(text: str) -> str:
    """What Markdown can show of a text on one line."""
    return " ".join(text.split()).replace("\0", "\ufffd")


UNICODE = ANYTHING.filter(lambda text: not re.search("[\ud800-\udfff]", text))


@settings(max_examples=200)
@given(UNICODE)
def test_code_in_a_card_is_the_text_and_nothing_else(text):
    assert cell(code(text)) == [("code_inline", shown(text) or " ")]
    found = MARKDOWN.parseInline(f"{code(text)}, {code('`<b>')}.")[0].children
    assert [token.type for token in found] == ["code_inline", "text", "code_inline", "text"]


@settings(max_examples=200)
@given(UNICODE)
def test_words_in_a_card_are_the_text_and_nothing_else(text):
    assert {kind for kind, _ in cell(escaped(text))} <= {"text"}
    assert "".join(content for _, content in cell(escaped(text))) == shown(text)


def kinds(page: str) -> list[str]:
    """Of all that Markdown makes of a page."""
    return [kind for token in MARKDOWN.parse(page) for kind in (token.type, *(each.type for each in token.children or ()))]


@settings(max_examples=40)
@given(UNICODE)
@example("")
@example("--- \n- a: b\n---\n")
@example("\x85")
def test_a_card_has_the_same_form_whatever_the_data_say(text):
    def card(word: str) -> str:
        classes = [word, "`<script>", "so|so", word + "b"]
        places = [{"path": word or "-", "id": word}, {"id": word, "name": "x", "revision": word or "-"}]
        record = FACTS.records[0] | {
            "git_commit": word or "-",
            "stage": word or "-",
            "device": word or "-",
            "versions": {"a": word},
        }
        source = {"source": "hub", "id": word, "path": word, "weights_sha256": word, "files": {}}
        task = FACTS.task | {"classes": classes, "sources": places, "rows": {"train": 3, word: 2}}
        return render(SPEC, FACTS._replace(task=task, source=source, records=[record]))

    front, page = card(text).removeprefix("---\n").split("\n---\n\n", 1)
    said = yaml.safe_load(front)
    assert said["base_model"] == text and said["library_name"] == "transformers" and len(said) == 9
    assert not {"html_inline", "html_block", "image"} & {*kinds(page)}
    assert kinds(page).count("link_open") == 1, "our own, to the method's paper"


@given(st.text(st.characters()))
def test_what_is_printed_is_one_line_of_plain_characters(text):
    assert printable(text).isprintable() and printable(printable(text)) == printable(text)
    printable(text).encode()


def test_hostile_names_run_through_snakemake_and_bash(clone, small):
    bad = "a b'\"$(touch pwned)`touch pwned`;touch pwned&|<>*?#!\\ \n\té"
    column, label, folder = f"text {{w}} {bad}", f"label {bad}", clone.folder / f"data {bad}"
    folder.mkdir()
    files = {}
    for name in ("train", "validation"):
        files[name] = f"{folder.name}/{name} {bad}.csv"
        with (clone.folder / files[name]).open("w", newline="") as file:
            csv.writer(file).writerows([[column, label], *([f"{name} {row}", f"{row % 2}{bad}"] for row in range(6))])
    block = MINE | files | {"text": [column], "label": label, "classes": [f"0{bad}", f"1{bad}"]}
    clone.write_config(small | {"tasks": {"mine": block}})
    before = {*clone.folder.iterdir()}
    result = clone.snakemake("--cores", "1", "--printshellcmds", "results/small/prepared/mine/task.json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert not [path for path in clone.folder.rglob("pwned*") if path.name == "pwned"]
    assert {path.name for path in {*clone.folder.iterdir()} - before} <= {"results", "logs", ".snakemake"}
    assert "\x1b" not in (clone.folder / "logs/prepare/results/small/prepared/mine.log").read_text()

    clone.write_config(small | {"tasks": {"mine": block | {"train": "a{task}.csv"}}})
    (clone.folder / "a{task}.csv").write_text("a,b\n")
    refused = clone.snakemake("--dry-run")
    assert refused.returncode and "braces are wildcards to Snakemake" in refused.stdout + refused.stderr

    tagged = yaml.safe_dump(small) + "\nx: !!python/object/apply:os.system ['touch pwned']\n"
    (clone.folder / "config.yaml").write_text(tagged)
    assert clone.snakemake("--dry-run").returncode
    assert not (clone.folder / "pwned").exists()
