"""One page and its pictures, which say what came out, how sure it is, and where it came from."""

from __future__ import annotations

from pathlib import Path

from espalier.config.reporting.specs import ReportSpec
from espalier.report.analysis_figures import analyses_file
from espalier.report.answer import majorities
from espalier.report.page import report_page
from espalier.report.pareto_figures import pareto_file
from espalier.report.quality_figures import quality_file, size_file
from espalier.report.structure_figures import structure_file
from espalier.report.study import Study, read_study
from espalier.report.training_figures import distance_file, training_file
from espalier.results.fractions import numbers_of
from espalier.results.places import read_fields
from espalier.results.summary import conditions
from espalier.runtime.files import atomic, write_json

TIMED = ("device", "threads", "length", "repeats", "latency_ms")
"""What the page shows of a cost.json; the rest of it stands in the table."""


def run(
    spec: str,
    *,
    table: Path,
    histories: list[Path],
    records: list[Path],
    scores: list[Path],
    costs: list[Path],
    structures: list[Path],
    analyses: list[Path],
    tasks: list[Path],
    linear: list[Path],
    formats: list[Path],
    report: Path,
    quality: Path,
    size: Path,
    structure: Path,
    training: Path,
    distance: list[Path],
    anatomy: list[Path],
    findings: list[Path],
    pareto: list[Path],
) -> None:
    """Write report.html and the standalone figures; equal inputs give equal bytes.

    Args:
        spec: a `ReportSpec` as JSON.
        table, formats: table.csv, and deploy.csv in a study that serves its models in some format.
        histories, records: history.parquet and run.json of every stage.
        scores, costs, structures, analyses, tasks, linear: files of these names, of every model or task that has one.
        report, quality, size, structure, training: where the page goes, and its figures.
        distance, anatomy, findings, pareto: where more goes in studies with text tasks, analyses or formats; else empty.
    """
    settings = ReportSpec.model_validate_json(spec)
    study = read_study(settings, table, histories, records, scores, structures, analyses, tasks, linear, formats)

    _write(report, report_page(settings, study, conditions(read_fields(path, TIMED) for path in costs)))
    _write_figures(study, quality, size, structure, training, distance, anatomy, pareto)
    for path in findings:
        write_json(path, numbers_of(study.findings, study.fractions, study.compared))


def _write_figures(
    study: Study,
    quality: Path,
    size: Path,
    structure: Path,
    training: Path,
    distance: list[Path],
    anatomy: list[Path],
    pareto: list[Path],
) -> None:
    look = study.look
    _write(quality, quality_file(study.qualities, look))
    _write(size, size_file(study.qualities, look))
    _write(structure, structure_file(study.maps, look))
    _write(training, training_file(study.curves, look))

    for path in distance:
        _write(path, distance_file(study.compared, look))
    for path in anatomy:
        _write(path, analyses_file(study.findings, study.fractions, look))
    for path in pareto:
        _write(path, pareto_file(study.answers, majorities(study.answers, study.tasks), look))


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
