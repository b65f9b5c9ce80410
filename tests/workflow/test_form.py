"""Every rule has the form that the project's rules have, and the tools agree."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from espalier import stages

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "workflow/rules").glob("*.smk"))
RULE = re.compile(r"^rule (\w+):\n((?:    .*\n|\n)*)", re.MULTILINE)
RULES = {name: body for file in FILES for name, body in RULE.findall(file.read_text())}
CACHEABLE = {"fetch", "prepare"}
"""Snakemake's cache between workflows refuses rules with a benchmark."""


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_everything_a_rule_needs(name):
    body = RULES[name]
    keys = set(re.findall(r"^    (\w+):", body, re.MULTILINE))
    assert keys >= {"input", "output", "log", "conda", "params", "shell"}
    assert ("benchmark" in keys) != (name in CACHEABLE)
    assert not keys & {"message", "run", "script"}
    assert re.match(r'    """[^{}]+\."""\n', body), "a docstring without placeholders"
    assert "        lock=LOCK,\n" in body
    assert "        spec=" in body and "        code=" in body
    assert "directory(" not in body
    assert body.rstrip().endswith('>{log:q} 2>&1\n        """')


@pytest.mark.parametrize("name", RULES)
def test_a_rule_calls_its_stage_with_the_stage_s_own_options(name):
    called = re.findall(r"^            --([\w-]+) \{(\w+)\.", RULES[name], re.MULTILINE)
    tree = ast.parse(stages.FILES[name].read_text())
    run = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    wanted = [argument.arg.replace("_", "-") for argument in (*run.args.args, *run.args.kwonlyargs)]
    assert f"python -m espalier {name} " in RULES[name]
    assert sorted(option for option, _ in called) == sorted(wanted)


def test_rules_that_are_quick_or_need_the_network_run_where_snakemake_was_started():
    assert {name for name, body in RULES.items() if "    localrule: True\n" in body} == {
        "fetch",
        "prepare",
        "collect",
        "card",
        "table",
        "gather",
    }


@pytest.mark.parametrize("name", sorted(RULES.keys() - CACHEABLE))
def test_a_rule_s_benchmark_file_lies_beside_its_log(name):
    log, benchmark = (re.search(rf'^    {key}:\n        f"(.*)"', RULES[name], re.MULTILINE)[1] for key in ("log", "benchmark"))
    assert benchmark == log.replace("logs/", "logs/benchmarks/", 1).removesuffix(".log") + ".tsv"


def test_rule_files_are_short():
    assert {file.name: len(file.read_text().splitlines()) for file in FILES if len(file.read_text().splitlines()) > 80} == {}


@pytest.mark.parametrize(
    "command",
    [["snakefmt", "--check", "Snakefile", "workflow/Snakefile", "workflow/rules"], ["snakemake", "--lint"]],
    ids=["snakefmt", "snakemake --lint"],
)
def test_the_tools_agree(command):
    program = Path(sys.executable).with_name(command[0])
    environment = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}  # snakefmt looks for shfmt there
    result = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr


def test_dvc_reads_its_file():
    program = Path(sys.executable).with_name("dvc")
    result = subprocess.run([program, "stage", "list"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "results/demo" in result.stdout and ".snakemake/metadata" in result.stdout
