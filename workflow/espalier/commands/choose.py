"""Say which model of a finished study to take, in which format, how it was measured and how to load it."""

from __future__ import annotations

import textwrap
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from espalier.config.blocks import nearest
from espalier.config.deployment.formats import FORMATS
from espalier.config.families import read_object
from espalier.config.project import LINEAR, TEACHER
from espalier.report.snippets import inputs_in, snippet
from espalier.results.choosing import (
    OFFERED,
    BestIn,
    Limit,
    MeasuredBatch,
    Recommendation,
    Step,
    best,
    default_timing,
    dense_score,
    loses_at_most,
    measured_timings,
    over_seeds,
    ranked,
    read_choices,
)
from espalier.results.summary import size_text, target_label
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json

RESULTS_FOLDER = Path("results")
TABLE = "deploy.csv"
QUESTIONS = """examples:
  espalier choose --task sst2 --max-mib 20                 the best score in 20 MiB, tokenizer included
  espalier choose --task sst2 --max-drop 0.02              the smallest model that loses at most 0.02 against the dense one
  espalier choose --task sst2 --max-ms 5 --batch 1 --length rows --runtime onnxruntime
  espalier choose --task sst2 --min-score 0.85 --aim latency

Without --aim the best model is the one with the best score; where only the score is limited, it is the smallest.
"""


def main(arguments: Sequence[str]) -> int:
    """Read the table and answer; exit status 1 where nothing keeps all limits."""
    options = _parser().parse_args(arguments)
    path = _table_of(options.project)
    models = _asked_for(over_seeds(read_choices(path)), options, path)
    timing = _timing(measured_timings(models), options, path)

    limits = _limits(options, models, timing, path)
    aim: BestIn = options.aim or ("size" if [limit.column for limit in limits] == ["score"] else "score")
    choice = best(models, limits, aim, timing)

    lines = _nothing(choice) if choice.best is None else _answer(choice, aim, timing, path.parent)
    print("\n".join([*lines, *_linear_said(models, choice, limits, aim, timing)]))
    return int(choice.best is None)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "python -m espalier choose", description=__doc__, epilog=QUESTIONS, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", required=True, metavar="TASK", help="task of the study")
    parser.add_argument("--project", metavar="PROJECT", help=f"study; may be left out where one alone has a {TABLE}")
    parser.add_argument("--base", metavar="BASE", help="models made from this base alone, and its rivals")
    parser.add_argument("--max-mib", type=float, metavar="MIB", help="largest size of all files needed, tokenizer included")
    parser.add_argument("--max-ms", type=float, metavar="MS", help="longest time of a forward pass, the median")
    parser.add_argument("--batch", type=int, metavar="ROWS", help="batch size of that pass; default: the smallest measured one")
    parser.add_argument("--length", metavar="TOKENS", help="length of its rows; default: `rows`, the task's own")
    score = parser.add_mutually_exclusive_group()
    score.add_argument("--min-score", type=float, metavar="SCORE", help="lowest score")
    score.add_argument("--max-drop", type=float, metavar="SCORE", help="largest loss of score against the dense model in fp32")
    help_text = f"runtimes or formats that can be had: {', '.join(_runtime_words())}"
    parser.add_argument("--runtime", nargs="+", metavar="NAME", help=help_text)
    parser.add_argument("--aim", choices=("score", "size", "latency"), help="what the best model is best in")
    return parser


def _runtime_words() -> dict[str, set[str]]:
    """Word for a runtime or a format → the formats that it stands for."""
    words: dict[str, set[str]] = {name: {name} for name in FORMATS}
    for name, served in FORMATS.items():
        words.setdefault(served.runtime.lower(), set()).add(name)
    words["openvino"] = words["openvino"] | {"openvino-int8"}
    return words


def _table_of(project: str | None) -> Path:
    """deploy.csv of a study; of the only one where none is named."""
    there = sorted(path.parent.name for path in RESULTS_FOLDER.glob(f"*/{TABLE}"))
    if project is None and len(there) == 1:
        return RESULTS_FOLDER / there[0] / TABLE
    if project is None:
        said = f"several studies have one: {', '.join(there)}; name one by --project" if there else "no study has one yet"
        raise UserError(f"{RESULTS_FOLDER}/*/{TABLE}: {said}; looked in {Path.cwd()}")
    if there and project not in there:
        raise UserError(f"--project {project}: no {TABLE} there{nearest(project, there)}; studies with one: {', '.join(there)}")
    return RESULTS_FOLDER / project / TABLE


def _asked_for(models: pd.DataFrame, options: Namespace, path: Path) -> pd.DataFrame:
    """The models of the task, the base and the runtimes that are asked for; the dense one stays as the measure."""
    for name in ("task", "base"):
        wanted, there = getattr(options, name), list(models[name].unique())
        if wanted is not None and wanted not in there:
            raise UserError(f"--{name} {wanted}: not in {path}{nearest(wanted, there)}; it has {', '.join(there)}")
        models = models if wanted is None else models[models[name] == wanted]

    if options.runtime:
        words = _runtime_words()
        for word in options.runtime:
            if word.lower() not in words:
                raise UserError(f"--runtime {word}: not known{nearest(word, [*words])}; allowed: {', '.join(words)}")
        formats = set().union(*(words[word.lower()] for word in options.runtime))
        if not (models["format"].isin(formats) & models[OFFERED]).any():
            offered = ", ".join(models[models[OFFERED]]["format"].unique()) or "none"
            raise UserError(
                f"--runtime {' '.join(options.runtime)}: no model of {path} can be had so; formats there: {offered}"
            )
        models = models.assign(**{OFFERED: models[OFFERED] & models["format"].isin(formats)})
    return models


def _timing(measured: list[MeasuredBatch], options: Namespace, path: Path) -> MeasuredBatch:
    """The latency that counts: as asked for; the smallest batch and the task's own rows where nothing is said."""
    if not measured:
        raise UserError(f"{path}: no latency was measured; `measure: batch_sizes` in the configuration is empty")

    fitting = [
        timing for timing in measured if options.batch in (None, timing.batch) and options.length in (None, timing.length)
    ]
    chosen = default_timing(fitting)
    if chosen is None:
        there = "; ".join(f"--batch {timing.batch} --length {timing.length}" for timing in measured)
        asked = f"--batch {options.batch or 'any'} --length {options.length or 'any'}"
        raise UserError(f"{asked}: not measured; {path} has {there}")
    return chosen


def _limits(options: Namespace, models: pd.DataFrame, timing: MeasuredBatch, path: Path) -> list[Limit]:
    limits = []
    for option, column, bound in (("mib", "total_mib", options.max_mib), ("ms", timing.column, options.max_ms)):
        if bound is not None and not bound > 0:
            raise UserError(f"--max-{option}: got {bound:g}; a number above 0 is needed")
        limits += [] if bound is None else [Limit(column, bound)]

    if options.min_score is not None:
        limits.append(Limit("score", options.min_score))
    if options.max_drop is not None:
        dense = dense_score(models)
        if dense is None:
            raise UserError(f"--max-drop: {path} has no dense model for this task; use --min-score")
        limits.append(loses_at_most(options.max_drop, dense))
    return limits


def _answer(choice: Recommendation, aim: BestIn, timing: MeasuredBatch, project: Path) -> Iterator[str]:
    """What to take, how it was measured, how to load it, what comes next, and what would buy more."""
    model = choice.best
    assert model is not None  # `best` gives either a model or the closest one
    folder = _folder(model, project)
    yield f"Take {_name(model)}."
    yield f"  folder    {folder}"
    yield f"  score     {model['metric']} {model['score']:.4f} on {model['set']}{_seeds(model)}; {_drop_said(model)}"
    yield f"  size      {size_text(model['total_mib'])} MiB in all, of these {size_text(model['size_mib'])} MiB weights"
    yield f"  latency   {_ms(model, timing)} a forward pass (median): {timing}{_conditions(model, timing, project)}"
    yield ""
    yield from _runner_up(choice, timing)
    yield from _steps_said(choice.steps, aim)

    yield "How to load it:"
    yield ""
    content = read_object(folder / "config.json")
    if content is None:
        yield f"  ({folder} is not here; `dvc pull` or the same study on this machine brings it)"
        return
    yield textwrap.indent(snippet(model["format"], inputs_in(content), str(folder)), "    ")
    yield ""
    yield f'Or from the shell: espalier predict {folder} --format {model["format"]} --text "a text"'


def _runner_up(choice: Recommendation, timing: MeasuredBatch) -> Iterator[str]:
    if choice.runner_up is None:
        yield "Runner-up: none, nothing else keeps the limits."
    else:
        yield f"Runner-up: {_name(choice.runner_up)}, {_facts(choice.runner_up, timing)}."


def _steps_said(steps: Sequence[Step], aim: BestIn) -> Iterator[str]:
    """What giving way would buy, a line a step."""
    for step in steps:
        bought = {"score": f"buys {step.gained:+.4f}", "size": f"saves {size_text(step.gained)} MiB"}
        gained = bought.get(aim, f"saves {step.gained:.2f} ms")
        yield f"{_more(step.limit, step.given)} {gained}: {_name(step.model)}."
    yield ""


def _nothing(choice: Recommendation) -> Iterator[str]:
    """Which model is closest, and which limits it fails."""
    if choice.closest is None:
        yield "Nothing can be offered: no format passed its guard. The column `passed` of deploy.csv says which and why."
        return

    yield "Nothing keeps all limits."
    failed = "; ".join(f"{_bound(limit)} fails by {_amount(limit, excess)}" for limit, excess in choice.failed)
    yield f"Closest: {_name(choice.closest)}: {failed}."


def _linear_said(
    models: pd.DataFrame, choice: Recommendation, limits: Sequence[Limit], aim: BestIn, timing: MeasuredBatch
) -> Iterator[str]:
    """A sentence where the linear rival would do as well: no file of it is written, but whoever chooses should know."""
    linear = models[models["plan"] == LINEAR]
    fitting = linear[sum((limit.excess(linear) for limit in limits), start=pd.Series(0.0, index=linear.index)) <= 0]
    if fitting.empty:
        return

    rival = fitting.iloc[0]
    contest = fitting.iloc[[0]] if choice.best is None else pd.DataFrame([choice.best, rival])
    order = ranked(contest, aim, timing)
    if not order.empty and order.iloc[0]["plan"] == LINEAR:
        yield ""
        yield f"Note: a linear model would do better still: {_facts(rival, timing)}. No file of it is kept."


def _folder(model: pd.Series, project: Path) -> Path:
    return project / f"{model['base']}/{model['task']}/seed{model['seed']}/{model['plan']}/{model['percent']}/{model['folder']}"


def _name(model: pd.Series) -> str:
    """A model as people say it."""
    target = "the dense teacher" if model["percent"] == "0" and model["plan"] == TEACHER else model["plan"]
    at = "" if model["percent"] == "0" else f" at {target_label(model['percent'])}"
    trimmed = " with small embeddings" if model["folder"] == "trimmed" else ""
    return f"{target}{at}{trimmed} ({model['base']}) in {model['format']}"


def _seeds(model: pd.Series) -> str:
    return f", mean of {model['seeds']} seeds; the folder is seed {model['seed']}'s" if model["seeds"] > 1 else ""


def _drop_said(model: pd.Series) -> str:
    """What the format costs."""
    if pd.isna(model["drop"]):
        return "no loss against fp32 was measured"
    lost = f"{model['drop']:.4f} lost" if model["drop"] > 0 else "nothing lost"
    agreement = "" if pd.isna(model["agreement"]) else f", agreement {model['agreement']:.3f}"
    return f"{lost} against the same model in PyTorch{agreement}"


def _facts(model: pd.Series, timing: MeasuredBatch) -> str:
    return f"{model['metric']} {model['score']:.4f}, {size_text(model['total_mib'])} MiB, {_ms(model, timing)}"


def _ms(model: pd.Series, timing: MeasuredBatch) -> str:
    return "not timed" if pd.isna(model[timing.column]) else f"{model[timing.column]:.2f} ms"


def _conditions(model: pd.Series, timing: MeasuredBatch, project: Path) -> str:
    """How fast that is beside the dense model, and on which machine, as the record beside the model has it."""
    record = _folder(model, project).parent / "deploy" / f"{model['folder']}.json"
    content: dict[str, Any] = read_json(record) if record.is_file() else {}
    speedup = model.get(timing.column.replace("ms_", "speedup_", 1))
    times = "" if pd.isna(speedup) else f", {speedup:.1f} times as fast as the dense model in PyTorch"
    return f"{times}, on {content['device']} with {content['threads']} threads" if content else times


def _unit(limit: Limit) -> str:
    return {"score": "", "total_mib": " MiB"}.get(limit.column, " ms")


def _amount(limit: Limit, value: float) -> str:
    number = size_text(value) if limit.column == "total_mib" else f"{value:.4f}" if limit.at_least else f"{value:.2f}"
    return number + _unit(limit)


def _bound(limit: Limit) -> str:
    """A limit as it was asked for."""
    return f"{'at least' if limit.at_least else 'at most'} {limit.bound:g}{_unit(limit)}"


def _more(limit: Limit, given: float) -> str:
    return f"{_amount(limit, given)} {'of score given up' if limit.at_least else 'more'}"
