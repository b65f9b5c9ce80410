"""The model card: README.md of a compact model, from what the stages wrote about it. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jinja2
import yaml
from markupsafe import Markup

from espalier.config.deployment.formats import EXPORTED, FORMATS, Format
from espalier.config.job_specs import CardSpec
from espalier.config.kinds import KIND_RULES
from espalier.config.methods import PAPERS
from espalier.config.targets import Latency, Parameters, Speedup, Target, percent_of
from espalier.report.snippets import TextInputs, snippet
from espalier.results.formats import batch_words, passes
from espalier.results.landings import missed_target
from espalier.results.table import RUNTIMES

HUB_METRICS = {
    "macro-f1": "f1",
    "squad-f1": "f1",
    "entity-f1": "f1",
    "entity-f1-strict": "f1",
    "exact-match": "exact_match",
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
"""Our name of a metric → its name on the Hugging Face hub, where the two differ."""
HUB_TAGS = {"onnxruntime": "onnx"}
"""A runtime → the hub's tag for models in its format, where the two differ."""
ENGLISH = ("nyu-mll/glue", "rajpurkar/squad")
"""Known data sets of the hub whose rows are English."""
SPECIAL = re.compile(r"([\\`*_{}\[\]<>&#|~$])")
"""Characters that Markdown, or a table in it, would not print as they are."""


class Facts(NamedTuple):
    """Contents of the files that describe a model."""

    scores: Mapping[str, Any]
    teacher: Mapping[str, Any]
    """scores.json of the teacher."""
    cost: Mapping[str, Any]
    records: list[Mapping[str, Any]]
    """run.json of the teacher, of the stage and of its recovery, each once."""
    structure: Mapping[str, Any] | None
    """structure.json; None for a teacher."""
    source: Mapping[str, Any]
    """source.json of the base."""
    task: Mapping[str, Any]
    config: Mapping[str, Any]
    """config.json of the compact model."""
    deployment: Mapping[str, Any] | None = None
    """What `deploy` wrote of the model's formats; None where it is served in none."""
    trimmed: Mapping[str, Any] | None = None
    """trim.json of a model with smaller embeddings, whose other files tell of the model before that; else None."""


class Timing(NamedTuple):
    """One line of the table of latencies."""

    runtime: str
    batch: str
    own: Mapping[str, float]
    """Milliseconds of the compact model: median, q25, q75."""
    dense: Mapping[str, float]
    """Milliseconds of the dense model: median, q25, q75."""
    speedup: float


class FormatLine(NamedTuple):
    """One line of the table of formats."""

    name: str
    file: str
    values: Mapping[str, Any]
    """Score, loss, agreement and sizes."""
    latencies: list[float]
    """Median milliseconds, one for each kind of batch."""
    passed: bool


def render(spec: CardSpec, facts: Facts) -> str:
    """The card as Markdown; the same facts give the same text."""
    facts = _own_scores(facts)
    front = yaml.safe_dump(front_matter(spec, facts), sort_keys=False)
    page = _environment().get_template("card.md.j2")
    return page.render(
        spec=spec,
        pair=spec.pair,
        vectors=KIND_RULES[spec.kind].vectors,
        unlabelled_rows=max(record.get("unlabelled_rows", 0) for record in facts.records),
        taught_by=spec.taught_by,
        front_matter=Markup(front.strip()),
        aim=aim(spec.target),
        timings=timings(facts.cost),
        format_lines=format_lines(facts.deployment, spec.max_drop) if facts.deployment else [],
        batches=[batch_words(kind) for kind in timed_kinds(facts.deployment)] if facts.deployment else [],
        needs_code="auto_map" in facts.config,
        snippets=snippets(spec, facts),
        languages=languages(spec, facts),
        paper=PAPERS.get(spec.method),
        new_head=any(record.get("head") == "new" for record in facts.records),
        chosen_by_score=chosen_by_score(facts),
        missed=missed_target(facts.structure or {}),
        sources=[_located(source, spec.files) for source in facts.task["sources"]],
        **facts._asdict(),
    )


def _own_scores(facts: Facts) -> Facts:
    """The facts of a trimmed model with its own scores, which stand among its formats: PyTorch's, or else the first one's."""
    if facts.trimmed is None or facts.deployment is None:
        return facts
    formats = facts.deployment["formats"]
    values = formats.get("torch") or next(iter(formats.values()))
    return facts._replace(scores={**facts.scores, "score": values["score"], "sets": values["sets"]})


def _located(source: Mapping[str, str], files: Mapping[str, str]) -> dict[str, str]:
    """Where rows come from, with the path of the file."""
    path = files.get(source.get("split", ""))
    return {**({"path": path} if path else {}), **source}


def front_matter(spec: CardSpec, facts: Facts) -> dict[str, Any]:
    """Metadata for the Hugging Face hub; unknown entries are left out."""
    data = [source["id"] for source in facts.task["sources"] if "id" in source]
    measured = [name for values in facts.scores["sets"].values() for name in _metrics_of(values)]
    metrics = [HUB_METRICS.get(name, name) for name in (facts.scores["metric"], *measured)]
    base = {"base_model": facts.source["id"], "base_model_relation": "finetune"} if "id" in facts.source else {}
    paper, spoken = PAPERS.get(spec.method), languages(spec, facts)
    formats = dict.fromkeys(FORMATS[name].runtime.lower() for name in _formats(facts) if name != "torch")
    return {
        **({"license": spec.licence.lower()} if spec.licence else {}),
        **({"language": spoken} if spoken else {}),
        "library_name": "sentence-transformers" if KIND_RULES[spec.kind].vectors else "transformers",
        "pipeline_tag": KIND_RULES[spec.kind].pipeline,
        **base,
        **({"datasets": data} if data else {}),
        "metrics": list(dict.fromkeys(metrics)),
        "tags": [
            "espalier",
            *(["pruning", spec.method] if spec.target else []),
            *(HUB_TAGS.get(name, name) for name in formats),
            *([f"arxiv:{paper}"] if paper else []),
        ],
        "model-index": [{"name": _model_name(spec), "results": _results(spec, facts)}],
    }


def _model_name(spec: CardSpec) -> str:
    """A name that tells the models of a study apart."""
    place = spec.plan if spec.target is None else f"{spec.plan}-{percent_of(spec.target)}"
    return f"{spec.base}-{spec.task}-{place}"


def _results(spec: CardSpec, facts: Facts) -> list[dict[str, Any]]:
    """What the hub shows beside the model: the scores on every evaluation set, in fp32."""
    results = []
    for split, values in facts.scores["sets"].items():
        # the metric of the score first; sets of another form have other metrics
        names = [name for name in (facts.scores["metric"], *_metrics_of(values)) if name in values]
        metrics = [{"type": HUB_METRICS.get(name, name), "value": round(values[name], 6), "name": name} for name in names]
        results.append(
            {
                "task": {"type": KIND_RULES[spec.kind].pipeline},
                "dataset": _data_set(spec, facts.task) | {"split": split},
                "metrics": list({metric["name"]: metric for metric in metrics}.values()),
            }
        )
    return results


def _data_set(spec: CardSpec, task: Mapping[str, Any]) -> dict[str, str]:
    """The data set that the rows come from, in the hub's words; the task itself where they come from files."""
    known = [source for source in task["sources"] if "id" in source]
    if not known:
        return {"type": spec.task, "name": spec.task}

    source = known[0]
    part = {"config": source["name"]} if source.get("name") else {}
    fixed = {"revision": source["revision"]} if "revision" in source else {}
    return {"type": source["id"], "name": spec.task, **part, **fixed}


def languages(spec: CardSpec, facts: Facts) -> list[str]:
    """Languages of the rows: those that the task names, or else those of built-in tasks and known data sets of the hub."""
    if spec.languages:
        return list(spec.languages)
    return sorted({"en" for source in facts.task["sources"] if "builtin" in source or source.get("id") in ENGLISH})


def _metrics_of(values: Mapping[str, Any]) -> list[str]:
    """Names of the metrics of an evaluation set."""
    return [name for name in values if name not in ("rows", "loss")]


def _formats(facts: Facts) -> list[Format]:
    """The formats that a model has, those of the export first."""
    served = [*facts.deployment["formats"]] if facts.deployment else []
    return list(dict.fromkeys([*EXPORTED, *served]))


def snippets(spec: CardSpec, facts: Facts) -> dict[str, Markup]:
    """Runtime → lines that answer texts in it, in its fp32 format, or in the one that it has."""
    inputs = TextInputs(
        spec.kind, spec.pair, spec.max_length, spec.stride, spec.max_answer_length, needs_code="auto_map" in facts.config
    )
    lines: dict[str, Markup] = {}
    for name in _formats(facts):
        lines.setdefault(FORMATS[name].runtime, Markup(snippet(name, inputs, ".")))
    return lines


def aim(target: Target | None) -> str | None:
    """The stage's target in words; None where nothing was to be removed."""
    if not target:
        return None

    if isinstance(target, Parameters):
        return f"{target.parameters:,} weights left in the encoder's matrices"
    if isinstance(target, Speedup):
        return f"{target.speedup:g} times the dense model's speed at batch {target.batch_size}, length {target.length}"
    if isinstance(target, Latency):
        return f"{target.latency_ms:g} ms a forward pass at batch {target.batch_size}, length {target.length}"
    return f"{100 * target:g} % of the encoder's weights removed"


def timings(cost: Mapping[str, Any]) -> list[Timing]:
    """Latencies beside the dense model's in the same runtime."""
    lines = []
    for runtime, times in zip(RUNTIMES, (cost, cost["onnx"]), strict=True):
        for batch, own in times["latency_ms"].items():
            lines.append(Timing(runtime, batch, own, times["dense_latency_ms"][batch], times["speedup"][batch]))
    return lines


def format_lines(deployment: Mapping[str, Any], max_drop: float) -> list[FormatLine]:
    """Every format of a model, with what it costs and whether it loses no more score than it may."""
    lines = []
    for name, values in deployment["formats"].items():
        latencies = [values["latency_ms"][kind]["median"] for kind in timed_kinds(deployment)]
        file = FORMATS[name].weights[0]
        lines.append(FormatLine(name, file, values, latencies, passes(values["drop"], max_drop)))
    return lines


def timed_kinds(deployment: Mapping[str, Any]) -> list[str]:
    """The kinds of batches on which formats were timed, such as `b1_l64` and `b1_lrows`."""
    return list(next(iter(deployment["formats"].values()))["latency_ms"])


def chosen_by_score(facts: Facts) -> list[str]:
    """Stages whose checkpoint was selected as the best one on the same rows that give the score."""
    chosen = {record["stage"]: record["selected"] for record in facts.records}
    return [stage for stage, by in chosen.items() if by["checkpoint"] == "best" and by["set"] == facts.scores["set"]]


def _environment() -> jinja2.Environment:
    """The environment of the card's template.

    Everything that the template prints is escaped, except text that is already safe: from `code`, and the front matter.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("espalier.report"),
        finalize=lambda value: value if isinstance(value, Markup) else escaped(value),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "code": code,
        "count": _parameter_count,
        "percent": _percent_removed,
        "milliseconds": _median_and_quartiles,
    }
    return environment


def escaped(value: object) -> Markup:
    """A text with Markdown's characters escaped, on one line."""
    return Markup(SPECIAL.sub(r"\\\1", re.sub(r"\s+", " ", str(value))))


def code(value: object) -> Markup:
    """A text as inline code, on one line."""
    # without anything between them, two backticks would open code instead of enclosing it
    text = " ".join(str(value).split()).replace("|", r"\|") or " "

    # the fence is longer than any run of backticks inside; a space keeps the two apart
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return Markup(f"{fence}{space}{text}{space}{fence}")


def _parameter_count(number: int) -> str:
    """A number in three digits or so: 22.7 M, 860 k, 512."""
    for size, unit in ((1_000_000, " M"), (1_000, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}" if number < 1000 * size else f"{number / size:,.0f}{unit}"
    return str(number)


def _percent_removed(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _median_and_quartiles(times: Mapping[str, float]) -> str:
    """Median and quartiles."""
    return f"{times['median']:.1f} ({times['q25']:.1f}–{times['q75']:.1f})"
