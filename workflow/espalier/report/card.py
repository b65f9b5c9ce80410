"""The model card: README.md of a compact model, from what the stages wrote about it. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jinja2
import yaml
from markupsafe import Markup

from espalier.config.job_specs import CardSpec
from espalier.config.kinds import KIND_RULES
from espalier.config.targets import Latency, Parameters, Speedup, Target
from espalier.results.table import RUNTIMES

HUB_METRICS = {
    "macro-f1": "f1",
    "squad-f1": "f1",
    "exact-match": "exact_match",
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
"""Our name of a metric → its name on the Hugging Face hub, where the two differ."""
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


class Timing(NamedTuple):
    """One line of the table of latencies."""

    runtime: str
    batch: str
    own: Mapping[str, float]
    """Milliseconds of the compact model: median, q25, q75."""
    dense: Mapping[str, float]
    """Milliseconds of the dense model: median, q25, q75."""
    speedup: float


def render(spec: CardSpec, facts: Facts) -> str:
    """The card as Markdown; the same facts give the same text."""
    front = yaml.safe_dump(front_matter(spec, facts), sort_keys=False)
    page = _environment().get_template("card.md.j2")
    return page.render(
        spec=spec,
        front_matter=Markup(front.strip()),
        aim=aim(spec.target),
        timings=timings(facts.cost),
        needs_code=facts.config["model_type"].startswith("compact-"),
        opened_by=KIND_RULES[spec.kind].auto_class,
        new_head=any(record.get("head") == "new" for record in facts.records),
        chosen_by_score=chosen_by_score(facts),
        **facts._asdict(),
    )


def front_matter(spec: CardSpec, facts: Facts) -> dict[str, Any]:
    """Metadata for the Hugging Face hub; unknown entries, such as the language, are left out."""
    data = [source["id"] for source in facts.task["sources"] if "id" in source]
    metrics = [HUB_METRICS.get(name, name) for name in (facts.scores["metric"], *_other_metrics(facts))]
    return {
        **({"license": spec.licence.lower()} if spec.licence else {}),
        "library_name": "transformers",
        "pipeline_tag": KIND_RULES[spec.kind].pipeline,
        **({"base_model": facts.source["id"]} if "id" in facts.source else {}),
        **({"datasets": data} if data else {}),
        "metrics": list(dict.fromkeys(metrics)),
        "tags": ["espalier", *(["pruning", spec.method] if spec.target else []), "onnx"],
    }


def _other_metrics(facts: Facts) -> list[str]:
    return [name for name in facts.scores["sets"][facts.scores["set"]] if name not in ("rows", "loss")]


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
