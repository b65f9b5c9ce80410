"""The command line of the stages follows from their signatures; the user's mistakes are said in plain words."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.distributed.run import get_args_parser

from espalier import __main__ as program
from espalier.config.job_specs import ExportSpec
from espalier.config.kinds import KINDS
from espalier.runtime.errors import UserError
from espalier.runtime.process import PROCESSES
from espalier.stages import MODULES


def run(spec: str, *, tokens: list[Path], task: Path, tokens_train: Path) -> None:
    """Do something."""
    if task.name == "bad":
        raise UserError(f"{task} is bad; allowed: good")
    ExportSpec.model_validate_json(spec)
    called.update(spec=spec, tokens=tokens, task=task, tokens_train=tokens_train)


called: dict[str, object] = {}
ROOT = Path(__file__).parents[2]
PATHS = ["--tokens", "a", "b", "--task", "c", "--tokens-train", "d"]
SPEC = '{"kind":"regression","task":"mine","text":["a"],"max_length":8}'


@pytest.fixture(autouse=True)
def stage(monkeypatch):
    called.clear()
    monkeypatch.setattr(program, "COMMANDS", {"trace": Path("trace.py")})
    monkeypatch.setattr(program, "FILES", {"export": Path("export.py")})
    monkeypatch.setattr(program, "summary", lambda file: "Do something.")
    monkeypatch.setattr(program, "import_module", lambda name: SimpleNamespace(run=run))


def test_options_come_from_the_signature():
    assert program.main(["export", "--spec", SPEC, *PATHS]) == 0
    assert called == {"spec": SPEC, "tokens": [Path("a"), Path("b")], "task": Path("c"), "tokens_train": Path("d")}


def test_a_list_may_be_empty():
    assert program.main(["export", "--spec", SPEC, "--tokens", "--task", "c", "--tokens-train", "d"]) == 0
    assert called["tokens"] == []


def test_a_mistake_of_the_user_s_is_one_line(capsys):
    assert program.main(["export", "--spec", SPEC, *[path.replace("c", "bad") for path in PATHS]]) == 1
    assert capsys.readouterr().err == "export: bad is bad; allowed: good\n"


def test_a_bad_spec_is_said_key_by_key(capsys):
    assert program.main(["export", "--spec", SPEC.replace("regression", "tags").replace("}", ',"x":1}'), *PATHS]) == 1
    kind, extra = capsys.readouterr().err.splitlines()
    *first, last = KINDS
    assert kind == f"export: --spec kind: Input should be {', '.join(map(repr, first))} or {last!r}; got 'tags'"
    assert extra == "export: --spec x: Extra inputs are not permitted; got 1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["exprt"], "invalid choice: 'exprt' (choose from 'trace', 'export')"),
        (["export", "--spec", SPEC], "the following arguments are required: --tokens, --task, --tokens-train"),
        (["export", "--spec", SPEC, *PATHS, "--more", "x"], "unrecognized arguments: --more x"),
    ],
)
def test_wrong_options_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        program.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_command_reads_its_own_arguments(monkeypatch):
    monkeypatch.setattr(
        program, "import_module", lambda name: SimpleNamespace(main=lambda rest: called.update({name: rest}) or 3)
    )
    assert program.main(["trace", "a", "--json"]) == 3
    assert called == {"espalier.commands.trace": ["a", "--json"]}


def test_what_a_stage_writes_is_recorded(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        program, "import_module", lambda name: SimpleNamespace(run=lambda spec, *, task: task.write_text("x")), raising=True
    )
    monkeypatch.setattr(
        program, "parser_of", lambda stage, run: SimpleNamespace(parse_args=lambda rest: SimpleNamespace(**given))
    )
    Path("results/mine").mkdir(parents=True)
    given = {"spec": "{}", "task": Path("results/mine/task.json")}
    assert program.main(["export"]) == 0
    assert Path("results/mine/records/export/task.json.json").is_file()


@pytest.mark.parametrize(("stage", "keeps"), [("compress", True), ("finetune", True), ("measure", False), ("latency", False)])
def test_training_keeps_what_it_frees_and_what_measures_does_not(monkeypatch, tmp_path, stage, keeps):
    kept = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "keep_freed_memory", lambda: kept.append(stage))
    monkeypatch.setattr(program, "import_module", lambda name: SimpleNamespace(run=lambda: None))
    assert program.main([stage]) == 0
    assert kept == [stage] * keeps


def test_help_lists_every_stage_and_imports_none():
    run_it = "import runpy, sys; sys.argv = ['espalier', '--help']\ntry: runpy.run_module('espalier', run_name='__main__')\n"
    look = "finally: print(sorted({'torch', 'transformers', 'pandas'} & set(sys.modules)), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", run_it + look], capture_output=True, text=True, check=False)
    stages = sorted(file.stem for file in Path(program.__file__).parent.glob("stages/*/[a-z]*.py"))
    listed = [line.split()[0] for line in result.stdout.partition("stages:\n")[2].splitlines()]
    assert listed == stages
    assert result.stderr == "[]\n"


def test_a_reader_that_has_enough_is_no_error():
    process = subprocess.Popen([sys.executable, "-m", "espalier", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 0)


def test_the_installed_program_exits_as_the_module_does(monkeypatch):
    (name, place), *others = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].items()
    assert (name, place, others) == ("espalier", "espalier.__main__:program", [])

    def interrupted(arguments):
        raise KeyboardInterrupt

    for main, status in ((lambda arguments: 75, 75), (interrupted, 130)):
        monkeypatch.setattr(program, "main", main)
        with pytest.raises(SystemExit) as stopped:
            program.program()
        assert stopped.value.code == status


@pytest.mark.parametrize("stage", program.TRAINING)
def test_several_processes_get_every_option_of_a_stage(monkeypatch, stage):
    parser = program.parser_of(stage, import_module(MODULES[stage]).run)
    arguments = [part for action in parser._actions[1:] for part in (action.option_strings[0], "value")]
    given = []
    monkeypatch.setenv(PROCESSES, "2")
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(os, "execv", lambda path, words: given.extend(words))
    program.share(stage, arguments)
    parsed = get_args_parser().parse_args(given[given.index("torch.distributed.run") + 1 :])
    assert (parsed.module, parsed.nproc_per_node, parsed.training_script) == (True, "2", "espalier")
    assert parsed.training_script_args == [stage, *arguments]
